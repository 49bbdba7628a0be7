"""What a Pruner and a Quantizer ask alike: samples in an epoch, and whether weights are still the model's."""

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor, nn

from prunecell.checks import check_count
from prunecell.errors import OptionError, StateError


def checked_epoch_size(epoch_size: int | None, counting: Iterable[str]) -> int | None:
    """The samples in one epoch, as they were given.

    Args:
        epoch_size: >= 1, or None.
        counting: what counts epochs, in words.

    Raises:
        OptionError: it is no such number; or it is missing though something counts epochs.
    """
    if epoch_size is not None:
        check_count("epoch_size", epoch_size, low=1)
        return epoch_size
    for what in counting:
        raise OptionError(
            f"epoch_size=None is illegal: {what} counts epochs; give the number of samples in one epoch, a whole number"
            " >= 1"
        )
    return None


def missing_in(model: nn.Module, parameters: Mapping[str, Tensor]) -> Iterator[str]:
    """The names of the parameters that a model does not have. FSDP swaps DTensors back and forth: these count as there.

    >>> net = nn.Linear(2, 2)
    >>> list(missing_in(net, {"weight": net.weight, "old": nn.Parameter(net.weight.detach())}))
    ['old']
    """
    present = {id(parameter) for parameter in model.parameters()}
    for name, parameter in parameters.items():
        if id(parameter) not in present and type(parameter) is nn.Parameter:
            yield name


def check_still_there(model: nn.Module, parameters: Mapping[str, Tensor], keeper: str) -> None:
    """Notice that parameters were replaced.

    Raises:
        StateError: one is no longer the model's; the message tells the keeper, a Pruner, say.
    """
    for name in missing_in(model, parameters):
        raise StateError(
            f"parameter {name!r} of the {keeper} is no longer one of the model's: it was removed, or replaced (by"
            f" load_state_dict(assign=True), by tying, by a new layer?); make a new {keeper} of the model"
        )
