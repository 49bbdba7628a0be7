"""share_: which parameters share values, and the first of these."""

from collections.abc import Iterable, Iterator

from torch import nn
from torch.optim import Optimizer

from prunecell.checks import check_count, check_number, check_texts
from prunecell.errors import OptionError, nearest, quoted
from prunecell.memory import check_apart
from prunecell.plan.candidates import Candidate, candidates
from prunecell.sharing.sharing import Sharing
from prunecell.sharing.weight import MAX_BITS, clustered


def share_(
    model: nn.Module,
    bits: int = 5,
    *,
    optimizer: Optimizer | None = None,
    names: Iterable[str] | None = None,
    sum_gradients: bool = False,
    entropy: float = 1.0,
) -> Sharing:
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
            to share; a weight lies in memory that another parameter has too; or another Sharing or a Quantizer is at
            work on a weight.
        OptionTypeError: bits or entropy is no number, the model no module, or names no list of texts. Nothing was
            changed.

    >>> import torch
    >>> net = nn.Linear(50, 20)
    >>> optimizer = torch.optim.Adam(net.parameters())
    >>> sharing = share_(net, bits=2, optimizer=optimizer)
    >>> net(torch.randn(8, 50)).square().mean().backward()
    >>> optimizer.step()
    >>> len(net.weight.unique()) <= 4
    True
    """
    check_count("bits", bits, low=1, high=MAX_BITS)
    check_number("entropy", entropy, low=0)
    weights = {name: clustered(name, parameter, bits, entropy) for name, parameter in _chosen(model, names).items()}
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
    check_apart({candidate.name: candidate.parameter for candidate in found}, chosen)
    return chosen


def _named(names: Iterable[str], found: Iterable[Candidate]) -> Iterator[tuple[str, nn.Parameter]]:
    by_name = {name: candidate for candidate in found for name in candidate.names}
    for name in names:
        if name not in by_name:
            raise OptionError(f"there is no parameter {quoted(name)}{nearest(name, by_name)}")
        if why_not := by_name[name].why_not_under(name):
            raise OptionError(f"parameter {name!r} cannot be shared: {why_not}")
        yield by_name[name].name, by_name[name].parameter
