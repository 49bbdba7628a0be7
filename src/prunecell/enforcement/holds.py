"""Holds: parameters that somebody rewrites around the steps of optimizers, so that others see it."""

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunecell.enforcement.gradients import hooks_on, on_gradient
from prunecell.errors import OptionError


@dataclass(frozen=True, eq=False)
class _Hold:
    """A hook on a parameter, by which others see who has it."""

    by: weakref.ref[Any]

    def __call__(self, parameter: Tensor) -> None:
        """Nothing is done when a gradient comes."""


class Holds:
    """The parameters that one holder has.

    >>> import torch
    >>> from torch import nn
    >>> weight, holder = nn.Parameter(torch.zeros(2)), nn.Identity()
    >>> holds = Holds()
    >>> holds.begin(holder, [weight])
    >>> list(holders_of(weight))
    [Identity()]
    >>> holds.end()
    >>> list(holders_of(weight))
    []
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self._copied = False  # from one that holds

    def begin(self, holder: object, parameters: Iterable[Tensor]) -> None:
        """Let others see that a holder has parameters, instead of those that it had."""
        self.end()
        hooks = (on_gradient(parameter, _Hold(weakref.ref(holder))) for parameter in parameters)
        self._handles = [hook for hook in hooks if hook is not None]

    def begin_again(self, holder: object, parameters: Iterable[Tensor]) -> None:
        """In a copy: have the copied parameters, if the first had its own."""
        if self._copied:
            self.begin(holder, parameters)

    def end(self) -> None:
        """Have them no longer."""
        while self._handles:
            self._handles.pop().remove()

    def __getstate__(self) -> dict[str, object]:
        return {"_handles": [], "_copied": bool(self._handles) or self._copied}


def holders_of(parameter: Tensor) -> Iterator[Any]:
    """All who have a parameter and exist."""
    holders = (hold.by() for hold in hooks_on(parameter, _Hold))
    yield from (holder for holder in holders if holder is not None)


def check_free(name: str, parameter: Tensor) -> None:
    """Refuse a parameter that somebody has.

    Raises:
        OptionError: the message says who.
    """
    for holder in holders_of(parameter):
        raise OptionError(
            f"parameter {name!r} is held by a {type(holder).__name__}, and one holder is all that it can have:"
            " finalize() that one first (in a notebook: before the cell that makes it is run again)"
        )
