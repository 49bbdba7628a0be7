"""What is wrong with an INI file, and where."""

from dataclasses import dataclass

from prunecell.errors import PrunecellError


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


class NotYetKnownError(IniError):
    """A value hangs on something that only the built network knows, and no resolver is there yet."""


class IniWarning(UserWarning):
    """A line of an INI file that has no effect; an error instead unless the reader is lenient."""
