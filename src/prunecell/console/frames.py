"""An error in a user's file as its author wants to see it: the frames of that file and of what lies beside it."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from traceback import StackSummary, TracebackException

_INSTALLED = tuple({Path(path).resolve() for path in sysconfig.get_paths().values()} | {Path(__file__).parents[1]})


def own_frames(error: BaseException, folder: Path) -> str | None:
    """A traceback without the frames of libraries; None where no frame is of a file in the folder.

    Args:
        error: that was raised.
        folder: of the user's files.
    """
    told = TracebackException.from_exception(error)
    own = False
    for one in _chain(told):
        one.stack = StackSummary.from_list([frame for frame in one.stack if _is_own(frame.filename, folder)])
        own |= bool(one.stack) or (
            one is told and isinstance(error, SyntaxError) and _is_own(str(error.filename), folder)
        )
    return "".join(told.format()) if own else None


def _chain(told: TracebackException | None) -> Iterator[TracebackException]:
    """An error, and those that it came of."""
    if told is not None:
        yield told
        yield from _chain(told.__cause__)
        yield from _chain(told.__context__)


def _is_own(name: str, folder: Path) -> bool:
    path = Path(name)
    return path.is_file() and path.resolve().is_relative_to(folder.resolve()) and not _is_installed(path.resolve())


def _is_installed(path: Path) -> bool:
    return any(path.is_relative_to(one) for one in _INSTALLED)
