"""Sharing: keeps the weights of a model at few values, by hooks around the steps of optimizers."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunecell.enforcement.holds import Holds, check_free
from prunecell.enforcement.levels import parameters_of
from prunecell.enforcement.stepping import Watches
from prunecell.errors import OptionError, StateError, UnfinishedWarning, nearest, quoted, some
from prunecell.kinds import COUNT, MAPPING, TENSOR, check_fields, check_names, check_version
from prunecell.sharing.weight import MAX_BITS, SharedWeight, with_cluster

_VERSION = 1
_STATE_OF = "the sharing's state"
_STATE = {"version": COUNT, "clusters": MAPPING}
_INDEX_TYPES = (torch.uint8, torch.int16)


class Sharing:
    """Keeps the weights of a model shared, by hooks around the steps of optimizers. `share_` makes it.

    Before a step, the gradients of the weights of a cluster are replaced by their mean (or sum), so that the optimizer
    moves the weights together. After the step, and if it fails, the weights are replaced by their mean, whatever
    momentum or decay did. It may be copied or pickled together with the model and the optimizers.
    """

    def __init__(self, weights: Mapping[str, SharedWeight], *, sum_gradients: bool) -> None:
        self._weights = dict(weights)
        self._sum_gradients = sum_gradients
        self._watches = Watches("shared weights")
        self._finalized = False
        self._holds = Holds()
        for name, weight in self._weights.items():
            check_free(name, weight.parameter)
        self._holds.begin(self, self._parameters)

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
            OptionError: it holds none of the shared weights, or is attached already. Nothing was changed.
            StateError: this sharing was finalized.
        """
        if self._finalized:
            raise StateError("this Sharing was finalized and has let go of the model: share_() it anew")
        self._watches.add(self, optimizer, self._parameters)

    def finalize(self) -> None:
        """Stop watching; the weights keep their shared values. A second call changes nothing.

        Warns:
            UnfinishedWarning: weights share their values no longer, because an optimizer that is not attached, or
                anything else, has moved them.
        """
        moved = [] if self._finalized else [name for name, weight in self._weights.items() if not weight.is_shared]
        if moved:
            attached = "one that is not attached" if self._watches.levels else "and none is attached"
            warnings.warn(
                f"the sharing is lost: {some(moved)} moved since, by an optimizer, say, {attached}: attach() it before"
                " the training, as share_(model, optimizer=optimizer) does",
                UnfinishedWarning,
                stacklevel=2,
            )
        self._finalized = True
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
            self._weights[name] = with_cluster(parameter, index.to(parameter.device, copy=True))
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

    def _held_by(self, optimizer: object) -> list[SharedWeight]:
        held = parameters_of(optimizer)
        return [weight for weight in self._weights.values() if id(weight.parameter) in held]

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._watches.begin_again(self, self._parameters)
        self._holds.begin_again(self, self._parameters)


def _checked(state: object, weights: Mapping[str, SharedWeight]) -> Mapping[str, Tensor]:
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
