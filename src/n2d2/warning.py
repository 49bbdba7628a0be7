"""Warnings that name the user's line, however deep in this package they arise."""

import sys
import warnings
from types import FrameType

PACKAGES = ("n2d2", "pytorch_to_n2d2")


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the nearest line outside of the package that led here."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the one way to it
    level = 2
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in PACKAGES:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
