"""Checks of arguments that are torch's: models, and batches of data."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from torch import Tensor, nn

from prunecell.errors import OptionTypeError, typed


def check_model(model: object, hint: str = "") -> None:
    """Refuse what is no module.

    Args:
        model: what the user gave.
        hint: what to do, if that is known.

    Raises:
        OptionTypeError: it is none.

    >>> check_model([])
    Traceback (most recent call last):
    prunecell.errors.OptionTypeError: model is a list: it must be a torch.nn.Module
    """
    if not isinstance(model, nn.Module):
        raise OptionTypeError(f"model is {typed(model)}: it must be a torch.nn.Module{hint}")


def are_batches(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether it may be gone through for batches; a tensor, a text, a mapping or a model may not.

    >>> are_batches([]), are_batches(nn.Sequential())
    (True, False)
    """
    return isinstance(value, Iterable) and not isinstance(value, Tensor | str | bytes | Mapping | nn.Module)
