"""An optimizer that goes on with smaller parameters."""

import gc
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from prunecell.errors import OptionError, OptionTypeError, some, typed

Change = Mapping[nn.Parameter, tuple[nn.Parameter, Tensor]]
"""Old parameter -> the new one, and which elements of the old one it has (see `Twin.remove`)."""


def check_optimizer(optimizer: object, changing: Mapping[nn.Parameter, str]) -> None:
    """Refuse an optimizer whose state cannot become smaller.

    Args:
        optimizer: torch's, or a subclass.
        changing: parameters -> their names.

    Raises:
        OptionTypeError: it is no torch optimizer.
        OptionError: a state of it is neither of its parameter's shape nor one number.
    """
    if not isinstance(optimizer, Optimizer):
        raise OptionTypeError(f"optimizer is {typed(optimizer)}: it must be a torch.optim.Optimizer")
    for parameter, name in changing.items():
        state: Mapping[str, Any] = optimizer.state.get(parameter, {})
        if wrong := [key for key, value in state.items() if not _is_of(value, parameter)]:
            raise OptionError(
                f"the state {some(wrong)} that {type(optimizer).__name__} has of {name!r} cannot become smaller: it is"
                " not of the parameter's shape; make a new optimizer afterwards instead"
            )


def holding(parameters: Iterable[Tensor]) -> tuple[str, ...]:
    """The classes of all optimizers that exist and hold one of these.

    An optimizer is not told when a model's parameters are replaced, and torch does not say who holds a tensor; so the
    objects of the process are looked through, which takes a tenth of a second.
    """
    gc.collect()  # an optimizer and its schedule refer to each other, and live on when nobody has them
    wanted = {id(parameter) for parameter in parameters}
    optimizers = [thing for thing in gc.get_objects() if issubclass(type(thing), Optimizer)]
    held = [(type(one).__name__, {id(p) for g in one.param_groups for p in g["params"]}) for one in optimizers]
    return tuple(name for name, parameters in held if parameters & wanted)


def carry_over_(optimizer: Optimizer, change: Change) -> None:
    """Let an optimizer hold the new parameters, with the state of the elements that they have."""
    for group in optimizer.param_groups:
        group["params"][:] = [change[p][0] if p in change else p for p in group["params"]]
    for old, (new, index) in change.items():
        if old in optimizer.state:
            state = optimizer.state.pop(old)
            optimizer.state[new] = {key: _part(value, old, index) for key, value in state.items()}


def _is_of(value: object, parameter: Tensor) -> bool:
    return not isinstance(value, Tensor) or value.numel() == 1 or value.shape == parameter.shape


def _part(value: object, old: Tensor, index: Tensor) -> object:
    if not isinstance(value, Tensor) or value.shape != old.shape:
        return value
    return value.flatten()[index.to(value.device)]
