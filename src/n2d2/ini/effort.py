"""How much work one file may make: a small text can ask for a lot of it."""

from dataclasses import dataclass, field

from n2d2.ini.errors import IniError, Place

LIMITS = {
    "characters of lines": 64 * 2**20,
    "characters of values": 64 * 2**20,
    "properties, inherited ones included": 1_000_000,
    "template steps": 500_000,
}
"""Far above what any network needs, and done within a few seconds."""


@dataclass
class Effort:
    """What has been spent on one document, its templates included."""

    spent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0))

    def spend(self, amount: int, what: str, place: Place) -> None:
        """Count an amount of work.

        Raises:
            IniError: it exceeds the limit.

        >>> Effort().spend(3_000_000, "template steps", Place("net.ini", 7))
        Traceback (most recent call last):
        n2d2.ini.errors.IniError: net.ini:7: this is too much for one file: at most 500,000 template steps are legal
        """
        self.spent[what] += amount
        if self.spent[what] > LIMITS[what]:
            raise IniError(f"this is too much for one file: at most {LIMITS[what]:,} {what} are legal", place)
