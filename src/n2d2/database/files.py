"""A stimulus from a file: an image, or a table of numbers."""

from pathlib import Path

import numpy as np
import torch

from prunecell.data.images import list_images, read_image
from prunecell.errors import DataError, FormatError

IMAGES = (
    *("bmp", "dib", "gif", "jp2", "jpe", "jpeg", "jpg", "pbm", "pcx", "pgm", "png", "ppm", "ras", "sgi", "sr", "tga"),
    *("tif", "tiff", "webp"),
)
TABLES = ("csv", "dat", "txt")
_SPACES = str.maketrans(",;\t", "   ")


def list_stimuli(folder: Path, *, depth: int = -1, extensions: tuple[str, ...] = ()) -> list[Path]:
    """List the stimuli in a folder and `depth` levels below it (below 0: all), sorted; other files are left out.

    Raises:
        DataError: there is no such folder, or no stimulus in it.
    """
    wanted = extensions or (*IMAGES, *TABLES)
    unknown = sorted({extension.lower().lstrip(".") for extension in wanted} - {*IMAGES, *TABLES})
    if unknown:
        raise DataError(f"files .{unknown[0]} cannot be read; legal: {', '.join(sorted((*IMAGES, *TABLES)))}")
    return list_images(folder, depth=depth, extensions=wanted)


def read_stimulus(path: Path) -> torch.Tensor:
    """Read one stimulus, (channels, height, width): an image, blue first, or float32 numbers, a row in each line.

    Raises:
        FormatError: it is damaged, or too large.
    """
    if path.suffix.lower().lstrip(".") not in TABLES:
        return read_image(path).flip(0)
    try:
        lines = [line.translate(_SPACES).split() for line in path.read_text(encoding="utf-8").splitlines()]
        rows = np.array([[float(number) for number in line] for line in lines if line], dtype=np.float32)
    except ValueError as error:  # a text that is no number, rows of several lengths
        raise FormatError(f"{path}: not rows of numbers: {error}") from None
    if not rows.size:
        raise FormatError(f"{path}: there is no number in it")
    return torch.from_numpy(rows)[None]
