"""Copies: something is done when a copy, by deepcopy or pickle, is whole.

`__setstate__` is too early for it: where objects refer to each other in a circle, those with which the copying began
get their attributes last. Nothing calls anybody at the end. But who copies keeps all that was made until then, so an
object that nobody else holds goes at that moment. Where the copier itself stays (an `Unpickler` in a variable), it is
done when the first gradient comes.
"""

import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress

from torch import Tensor

from prunecell.enforcement.gradients import on_gradient


class CopyEnd:
    """Stands in the state of what is copied; in the copy, nothing else may hold it.

    It must stand there twice: an optimized pickle tells the reader to keep what comes again, and nothing more.
    """


class WhenWhole:
    """Something that is done once: when a copy is whole, when a gradient comes, or when it is called.

    Args:
        end: of the copy.
        do: what; if it fails, it is done again at the next occasion.
        parameters: of whose gradients one will come.
    """

    def __init__(self, end: CopyEnd, do: Callable[[], None], parameters: Iterable[Tensor]) -> None:
        self._do: Callable[[], None] | None = do
        self._hooks = [on_gradient(parameter, self) for parameter in parameters]
        self._at_end = weakref.finalize(end, self._quietly)
        self._at_end.atexit = False

    def __call__(self, *_: object) -> None:
        """Do it now, if it was not done."""
        if self._do is not None:
            self._do()
            self.end()

    def end(self) -> None:
        """Do it no more."""
        self._do = None
        self._at_end.detach()
        for hook in self._hooks:
            if hook is not None:
                hook.remove()
        self._hooks.clear()

    def _quietly(self) -> None:
        with suppress(Exception):  # nobody would hear it here; it comes again with the first gradient
            self()
