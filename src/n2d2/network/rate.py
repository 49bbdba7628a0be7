"""The section `[prunecell.Rate]`, which N2D2 has not: integer weights, learned under the price of their bits."""

from dataclasses import dataclass

from n2d2.fields import count, number
from n2d2.ini import Document
from n2d2.network.parameters import configured

RATE_SECTION = "prunecell.Rate"


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How the network that was learned is made small; see `prunecell.RateSpec`.

    Attributes:
        lam: `Lambda`, > 0, what a bit costs, in units of the loss.
        target_bytes: `TargetBytes`, the size of the file that is wanted; Lambda is then the price to begin with. 0:
            whatever comes out at that Lambda.
        epochs: `Epochs`, >= 1, over which the integers are learned.
    """

    lam: float = number(6e-6, low=0, open_low=True)
    target_bytes: int = count(0)
    epochs: int = count(8, low=1)


def read_rate(document: Document) -> Rate | None:
    r"""Read the section; None where it is not there.

    Raises:
        IniError: a value is illegal.

    >>> from n2d2 import ini
    >>> read_rate(ini.parse("[prunecell.Rate]\nEpochs=5"))
    Rate(lam=6e-06, target_bytes=0, epochs=5)
    """
    section = document.get(RATE_SECTION)
    return None if section is None else configured(section, Rate)
