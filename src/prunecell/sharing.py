"""Weight sharing: the weights of a tensor take few values, and training goes on with them.

Han et al. 2016, Deep Compression, https://arxiv.org/abs/1510.00149. An archive finds the few values by itself and
stores a codebook and entropy-coded indices, without loss.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunecell.codecs.kmeans import cluster
from prunecell.enforcement.gradients import Stamp
from prunecell.enforcement.holds import Holds, check_free
from prunecell.enforcement.levels import parameters_of
from prunecell.enforcement.stepping import Watches
from prunecell.errors import OptionError, StateError, check_count, check_number, check_texts, nearest, quoted, some
from prunecell.kinds import COUNT, MAPPING, TENSOR, check_fields, check_names, check_version
from prunecell.plan.candidates import Candidate, candidates

MAX_BITS = 8
_VERSION = 1
_STATE_OF = "the sharing's state"
_STATE = {"version": COUNT, "clusters": MAPPING}
_INDEX_TYPES = (torch.uint8, torch.int16)


@dataclass(eq=False)
class _SharedWeight:
    """One parameter whose weights share values.

    Attributes:
        parameter: (...) floats.
        cluster: (...) of the parameter's shape and device: 0 where the weight is zero for good, else 1 + the
            index of its shared value. uint8, or int16 where 8 bits and the zero need 257 numbers.
        sizes: float64, (1 + n_clusters,), the weights in each cluster, at least 1.
        reduced: the gradient that was reduced last, as it was then.
    """

    parameter: nn.Parameter
    cluster: Tensor
    sizes: Tensor
    reduced: Stamp | None = None

    def follow(self) -> None:
        """Look at the weights of now: they may have moved to another device, and a Pruner may have pruned some more."""
        if self.cluster.device != self.parameter.device:
            self.cluster, self.sizes = self.cluster.to(self.parameter.device), self.sizes.to(self.parameter.device)
        newly = (self.parameter.data == 0) & (self.cluster != 0)
        if bool(newly.any()):
            self.cluster = self.cluster.masked_fill(newly, 0)
            counts = torch.bincount(self.cluster.flatten(), minlength=len(self.sizes))
            self.sizes = counts.double().clamp(min=1)

    def reduce_gradient_(self, *, sum_gradients: bool) -> None:
        """Replace the gradients of each cluster by their mean or sum, once."""
        gradient = self.parameter.grad
        if gradient is None or (self.reduced is not None and self.reduced.still_holds(gradient)):
            return
        if gradient.layout is not torch.strided:  # optimizers that take sparse gradients take no others
            return
        totals = self.totals(gradient)
        self.spread_(gradient, totals if sum_gradients else totals / self.sizes)
        self.reduced = Stamp.of(gradient)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"reduced": None}  # a copy has a gradient of its own

    def totals(self, numbers: Tensor) -> Tensor:
        """Sum numbers, of the parameter's shape, over each cluster; float64; 0 for the weights that are zero."""
        sums = torch.bincount(self.cluster.flatten(), numbers.flatten().double(), minlength=len(self.sizes))
        sums[0] = 0.0
        return sums

    def spread_(self, numbers: Tensor, per_cluster: Tensor) -> None:
        """Give every weight the number of its cluster."""
        numbers.copy_(per_cluster.to(numbers.dtype)[self.cluster.int()])

    def project_(self) -> None:
        """Replace the weights of each cluster by their mean; what is zero now stays zero."""
        self.follow()
        self.spread_(self.parameter.data, self.totals(self.parameter.data) / self.sizes)


def share_(
    model: nn.Module,
    bits: int = 5,
    *,
    optimizer: Optimizer | None = None,
    names: Iterable[str] | None = None,
    sum_gradients: bool = False,
    entropy: float = 1.0,
) -> "Sharing":
    """Let the weights of each matrix and kernel share at most 2^bits values; zeros stay zero.

    The shared values minimise the squared error and the bits that the indices take (see `prunecell.codecs.kmeans`). The
    parameters stay the same objects. Prune before sharing. Where a Pruner prunes more weights afterwards, these leave
    their shared values for good.

    Args:
        model: changed in place.
        bits: 1 to 8.
        optimizer: the optimizer of the weights, or what wraps it; more by `attach`.
        names: which parameters, as the model or the model without its wrappers calls them; by default those that a
            `Pruner` prunes by default.
        sum_gradients: whether a shared value moves by the sum of the gradients of its weights, which is its derivative
            (Deep Compression), or by their mean. With the sum, the learning rate must be smaller by about the number of
            weights that share a value; with the mean, the learning rate that the model was trained with is right.
        entropy: >= 0, what a bit of an index weighs against the squared error; see `prunecell.codecs.kmeans`. With 0
            only the error counts; with more than 1 the file is smaller and the weights change more, as with fewer bits.

    Returns:
        The object that keeps the weights shared while training goes on.

    Raises:
        OptionError: bits or entropy out of range; a name that no parameter has, or whose parameter is no float or is
            computed by a parametrization that loses its zeros (name what is stored); inf or NaN in a weight; nothing
            to share; or another Sharing or a Quantizer is at work on a weight.
        OptionTypeError: bits or entropy is no number, the model no module, or names no list of texts. Nothing was
            changed.

    >>> net = nn.Linear(50, 20)
    >>> optimizer = torch.optim.Adam(net.parameters())
    >>> sharing = share_(net, bits=2, optimizer=optimizer)
    >>> net(torch.randn(8, 50)).square().mean().backward()
    >>> optimizer.step()
    >>> len(net.weight.unique()) <= 4
    True
    """
    check_count("bits", bits, low=1)
    if bits > MAX_BITS:
        raise OptionError(f"bits={bits!r} is illegal: it must be a whole number in [1, {MAX_BITS}]")
    check_number("entropy", entropy, low=0)
    weights = {name: _clustered(name, parameter, bits, entropy) for name, parameter in _chosen(model, names).items()}
    sharing = Sharing(weights, sum_gradients=sum_gradients)
    if optimizer is not None:
        sharing.attach(optimizer)
    for weight in weights.values():  # last, so that what is refused leaves the model as it was
        weight.project_()
    return sharing


def _chosen(model: nn.Module, names: Iterable[str] | None) -> dict[str, nn.Parameter]:
    """Name without the prefixes of wrappers -> parameter, each parameter once."""
    found = candidates(model)
    if names is None:
        chosen = {candidate.name: candidate.parameter for candidate in found if not candidate.reason}
    else:
        chosen = dict(_named(check_texts("names", names), found))
    if not chosen:
        what = "no weight is shared by default, so name what is" if names is None else "names is empty"
        raise OptionError(f"nothing to share in {type(model).__name__}: {what}")
    return chosen


def _named(names: Iterable[str], found: Iterable[Candidate]) -> Iterator[tuple[str, nn.Parameter]]:
    by_name = {name: candidate for candidate in found for name in candidate.names}
    for name in names:
        if name not in by_name:
            raise OptionError(f"there is no parameter {quoted(name)}{nearest(name, by_name)}")
        if why_not := by_name[name].why_not_under(name):
            raise OptionError(f"parameter {name!r} cannot be shared: {why_not}")
        yield by_name[name].name, by_name[name].parameter


def _clustered(name: str, parameter: nn.Parameter, bits: int, entropy: float) -> _SharedWeight:
    weight = parameter.data
    if not bool(weight.isfinite().all()):
        raise OptionError(f"parameter {name!r} cannot be shared: it holds inf or NaN")
    kept = weight != 0
    values = weight[kept].double().cpu().numpy()
    clusters = cluster(values, 1 << bits, entropy=entropy)
    index = torch.zeros(weight.shape, dtype=torch.uint8 if bits < MAX_BITS else torch.int16, device=weight.device)
    index[kept] = torch.from_numpy(clusters.assign(values) + 1).to(index)
    return _with_cluster(parameter, index)


def _with_cluster(parameter: nn.Parameter, index: Tensor) -> _SharedWeight:
    sizes = torch.bincount(index.flatten()).double().clamp(min=1)
    return _SharedWeight(parameter=parameter, cluster=index, sizes=sizes)


class Sharing:
    """Keeps the weights of a model shared, by hooks around the steps of optimizers. `share_` makes it.

    Before a step, the gradients of the weights of a cluster are replaced by their mean (or sum), so that the optimizer
    moves the weights together. After the step, and if it fails, the weights are replaced by their mean, whatever
    momentum or decay did. It may be copied or pickled together with the model and the optimizers.
    """

    def __init__(self, weights: Mapping[str, _SharedWeight], *, sum_gradients: bool) -> None:
        self._weights = dict(weights)
        self._sum_gradients = sum_gradients
        self._watches = Watches("shared weights")
        self._holds = Holds()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters that are shared."""
        return tuple(self._weights)

    def values(self, name: str) -> Tensor:
        """Return the shared values of a parameter as they are now, in the order of their clusters.

        Raises:
            OptionError: it is not shared.
        """
        if name not in self._weights:
            raise OptionError(f"parameter {name!r} is not shared{nearest(name, self._weights)}")
        weight = self._weights[name]
        means = weight.totals(weight.parameter.data) / weight.sizes
        return means[1:].to(weight.parameter.dtype)

    def __repr__(self) -> str:
        sizes = (f"{quoted(name)}: {len(weight.sizes) - 1}" for name, weight in self._weights.items())
        return f"<Sharing with so many values in each weight: {some(sizes)}>"

    def attach(self, optimizer: Optimizer) -> None:
        """Watch the steps of an optimizer, and of all that it wraps.

        Raises:
            OptionTypeError: it is no torch optimizer.
            OptionError: it holds none of the shared weights, or is attached already; or another Sharing that watches an
                optimizer, or a Quantizer, has one of the weights. Nothing was changed.
        """
        if not self._watches.levels:
            for name, weight in self._weights.items():
                check_free(name, weight.parameter)
        self._watches.add(self, optimizer, self._parameters)
        self._holds.begin(self, self._parameters)

    def finalize(self) -> None:
        """Stop watching; the weights keep their shared values."""
        self._watches.end()
        self._holds.end()

    def state_dict(self) -> dict[str, Any]:
        """Return which weight belongs to which cluster; the values are in the model's own state_dict."""
        return {"version": _VERSION, "clusters": {name: w.cluster.clone() for name, w in self._weights.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the clusters of another run. The model's weights must be loaded before.

        Raises:
            StateError: it is no state of a sharing, or of other parameters.
        """
        clusters = _checked(state, self._weights)
        for name, index in clusters.items():
            parameter = self._weights[name].parameter
            self._weights[name] = _with_cluster(parameter, index.to(parameter.device, copy=True))
            self._weights[name].project_()

    # ---- around a step, as `stepping.Watcher` says

    @torch.no_grad()
    def before_step(self, optimizer: Any) -> None:  # noqa: ANN401 - optimizers come in wrappers
        """Reduce the gradients."""
        for weight in self._held_by(optimizer):
            weight.follow()
            weight.reduce_gradient_(sum_gradients=self._sum_gradients)

    @torch.no_grad()
    def after_step(self, optimizer: Any) -> None:  # noqa: ANN401
        """Share the values again."""
        for weight in self._held_by(optimizer):
            weight.project_()

    def around_closure(self, optimizer: Any, closure: Callable[..., Any]) -> Callable[..., Any]:  # noqa: ANN401
        """A closure whose gradients are reduced."""

        @functools.wraps(closure)
        def evaluate(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            with torch.enable_grad():
                loss = closure(*args, **kwargs)
            self.before_step(optimizer)
            return loss

        return evaluate

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return [weight.parameter for weight in self._weights.values()]

    def _held_by(self, optimizer: object) -> list[_SharedWeight]:
        held = parameters_of(optimizer)
        return [weight for weight in self._weights.values() if id(weight.parameter) in held]

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._watches.begin_again(self, self._parameters)
        self._holds.begin_again(self, self._parameters)


def _checked(state: object, weights: Mapping[str, _SharedWeight]) -> Mapping[str, Tensor]:
    """Check all of a state before any of it is taken."""
    check_version(state, _VERSION, _STATE_OF)
    clusters: Mapping[str, Tensor] = check_fields(state, _STATE, _STATE_OF)["clusters"]
    check_names(clusters, weights, _STATE_OF)
    check_fields(clusters, dict.fromkeys(weights, TENSOR), f"the clusters in {_STATE_OF}")
    for name, weight in weights.items():
        index, shape = clusters[name], weight.cluster.shape
        if index.shape != shape or index.dtype not in _INDEX_TYPES:
            raise StateError(f"the clusters of {name!r} must be integers of shape {tuple(shape)}")
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) <= 1 << MAX_BITS:
            raise StateError(f"the clusters of {name!r} must be in [0, {1 << MAX_BITS}]")
    return clusters
