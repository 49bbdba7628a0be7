"""Folders of images: which files there are, and one image as a tensor."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from prunecell.checks import check_texts
from prunecell.errors import DataError, FormatError

GRAY_MODES = {"1": "L", "L": "L", "LA": "L", "F": "F"}  # how Pillow's modes of one channel are read; others: RGB


def list_images(folder: str | Path, *, depth: int = -1, extensions: Collection[str] = ()) -> list[Path]:
    """List the files in `folder`, sorted by path, hidden ones left out.

    Args:
        folder: where to start.
        depth: how many levels of sub-folders to enter; below 0: all.
        extensions: the file name endings to keep, without the dot, in any case; none: every file.

    Raises:
        DataError: there is no such folder, or nothing in it.
        OptionTypeError: `extensions` is one text.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: give the folder that has the images")
    wanted = {extension.lower().lstrip(".") for extension in check_texts("extensions", extensions)}
    found = [
        path
        for path in folder.rglob("*")
        if (depth < 0 or len(path.relative_to(folder).parts) <= depth + 1)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and (not wanted or path.suffix.lower().lstrip(".") in wanted)
        and path.is_file()
    ]
    if not found:
        raise DataError(f"no images in {folder} (depth {depth}, extensions {sorted(wanted) or 'any'})")
    return sorted(found)


def read_image(path: str | Path) -> torch.Tensor:
    """Read one image with Pillow: (1, height, width) when it is gray, else (3, height, width), red first.

    It is uint8; a gray image of 16 bits is int32, in 0..65535, and one of floats float32.

    Raises:
        FormatError: it is damaged, no image, too large to be one (Pillow's limit), or has 32-bit integers.
        OSError: it cannot be opened.
    """
    from PIL import Image  # noqa: PLC0415 (it takes 0.1 s, which only folders of images need)

    try:
        with Image.open(path) as image:
            mode = image.mode
            deep = mode.startswith("I;16")
            pixels = np.array(image).astype(np.int32) if deep else np.array(image.convert(GRAY_MODES.get(mode, "RGB")))
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # noqa: BLE001 - Pillow's many parsers raise what they stumble over
        raise FormatError(f"{path}: not an image that can be read: {type(error).__name__}: {error}") from None
    if mode == "I":
        raise FormatError(f"{path}: mode I has 32-bit integers: save it with 8 or 16 bits, or as floats")
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1).contiguous()
