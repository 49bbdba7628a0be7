"""What is wrong with an INI file, and where."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from itertools import takewhile

from prunecell.errors import PrunecellError, nearest

MAX_SHOWN = 100
MAX_LISTED = 10
MAX_COMPARED = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, as editors and compilers write it.

    >>> str(Place("net.ini", 12))
    'net.ini:12'
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class IniError(PrunecellError, ValueError):
    """An INI file, or a template that it uses, breaks the dialect; the message starts with `file:line`."""

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.place = place


class IllegalValueError(IniError):
    """The value of a key is none of the legal ones."""


class NotYetKnownError(IniError):
    """A value hangs on something that only the built network knows, and no resolver is there yet."""


class IniWarning(UserWarning):
    """A line of an INI file that has no effect; an error instead unless the reader is lenient."""


def shown(text: str) -> str:
    """Cut a text down to what fits into a message.

    >>> shown("1 0 " * 50)[-20:]
    '0 1 0 1 0 1 0 1 0...'
    """
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN].rstrip() + "..."


def choices(name: str, legal: Iterable[str]) -> str:
    """Say which of some legal texts is meant, and list all of them. An ending that all share tells nothing.

    >>> choices("DIRS_Database", ["DIR_Database", "MNIST_IDX_Database"])
    "; did you mean 'DIR_Database'? Legal: DIR_Database, MNIST_IDX_Database"
    >>> choices("COCO_Database", ["DIR_Database", "MNIST_IDX_Database"])
    '; legal: DIR_Database, MNIST_IDX_Database'
    """
    names = sorted(legal)
    endings = zip(*(reversed(one) for one in names), strict=False)
    n = len([*takewhile(lambda letters: len({*letters}) == 1, endings)]) if len(names) > 1 else 0
    shared = names[0][len(names[0]) - n :]
    stems = {one.removesuffix(shared).lower(): one for one in names}
    close = get_close_matches(name[:MAX_SHOWN].lower().removesuffix(shared.lower()), stems, n=1)
    return f";{f' did you mean {stems[close[0]]!r}? Legal' if close else ' legal'}: {', '.join(names)}"


def hint(name: str, known: Iterable[str]) -> str:
    """Say which known name is meant; list all of them only where they are few.

    >>> hint("Strid", ["Stride", "Padding"])
    "; did you mean 'Stride'? Legal: Padding, Stride"
    """
    return _hint(name[:MAX_SHOWN], tuple(known)[:MAX_COMPARED])


@lru_cache  # hasattr asks thousands of cells for the same few attributes, and throws the message away
def _hint(name: str, names: tuple[str, ...]) -> str:
    if len(names) <= MAX_LISTED:
        return nearest(name, names) if names else ""
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
