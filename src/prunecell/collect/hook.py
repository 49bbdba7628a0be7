"""A hook on a module that does not keep alive what it works for, and does not stay in a copy of the module alone."""

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from torch import nn

_Subject = TypeVar("_Subject")


class Hook(Generic[_Subject]):
    """Calls `act(subject, module, *what torch gives to the hook)`. Where the subject is gone, it removes itself.

    Args:
        subject: what it works for; in a copy of the module that was made with it, the copy of it.
        act: a function of a module or a class, by which it can be pickled.
    """

    def __init__(self, subject: _Subject | None, act: Callable[..., None]) -> None:
        self._subject: Callable[[], _Subject | None] = (lambda: None) if subject is None else weakref.ref(subject)
        self._act = act

    def __call__(self, module: nn.Module, *given: Any) -> None:  # noqa: ANN401 - torch's arguments
        """See the class."""
        if (subject := self._subject()) is not None:
            self._act(subject, module, *given)
            return
        for hooks in (module._forward_pre_hooks, module._forward_hooks):  # noqa: SLF001 - no public name
            for number in [number for number, hook in hooks.items() if hook is self]:
                del hooks[number]

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (self._subject(), self._act)
