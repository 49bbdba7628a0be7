"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html) in their published files.

The binary version and the Python version are read; a hostile pickle ends in a FormatError (see `pickles`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from prunecell.data.pickles import Array, read_pickle
from prunecell.data.sets import DataSet, cache_folder
from prunecell.errors import DataError, FormatError

SHAPE = (3, 32, 32)  # planes of red, green and blue
N_PIXELS = 3 * 32 * 32
_MAX_LABEL = 255  # a byte in the binary version


@dataclass(frozen=True)
class Layout:
    """Where the published files of one of the two sets are, and where an image's label is in them."""

    title: str
    folders: tuple[str, str]  # of the binary version and of the Python version
    train: tuple[str, ...]
    test: str
    label_bytes: int  # how many are before each image of the binary version
    label_byte: int  # which of them is the label
    label_key: bytes  # of the Python version


TEN = Layout(
    "CIFAR-10",
    ("cifar-10-batches-bin", "cifar-10-batches-py"),
    tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test_batch",
    label_bytes=1,
    label_byte=0,
    label_key=b"labels",
)
FINE = Layout(
    "CIFAR-100",
    ("cifar-100-binary", "cifar-100-python"),
    ("train",),
    "test",
    label_bytes=2,
    label_byte=1,
    label_key=b"fine_labels",
)
COARSE = Layout("CIFAR-100 coarse", FINE.folders, FINE.train, FINE.test, 2, 0, b"coarse_labels")


def cifar10(folder: str | Path | None = None) -> DataSet:
    """CIFAR-10: 50,000 + 10,000 photographs, 3 x 32 x 32, in red, green, blue; 10 classes.

    Args:
        folder: where the published files are (`data_batch_1.bin` ... or `data_batch_1` ...). None: the published
            folder name under `cache_folder()`.

    Raises:
        DataError: the files are not there.
        FormatError: a file is damaged or hostile.
    """
    return _read(TEN, folder)


def cifar100(folder: str | Path | None = None, *, coarse: bool = False) -> DataSet:
    """CIFAR-100: 50,000 + 10,000 photographs, 3 x 32 x 32; 100 classes, or the 20 coarse ones.

    Args:
        folder: as in `cifar10` (`train.bin` and `test.bin`, or `train` and `test`).
        coarse: label with the 20 superclasses.

    Raises:
        DataError: the files are not there.
        FormatError: a file is damaged or hostile.
    """
    return _read(COARSE if coarse else FINE, folder)


def _read(layout: Layout, folder: str | Path | None) -> DataSet:
    folders = [cache_folder(name) for name in layout.folders] if folder is None else [Path(folder)]
    for looked_in in folders:
        for end, read in ((".bin", _read_binary), ("", _read_pickle)):
            train = [looked_in / (name + end) for name in layout.train]
            test = looked_in / (layout.test + end)
            if all(path.is_file() for path in (*train, test)):
                images, labels = _joined(read(path, layout) for path in train)
                return DataSet(layout.title, images, labels, *read(test, layout))
    files = ", ".join((*layout.train, layout.test))
    raise DataError(
        f"{layout.title} is not in {' or '.join(map(str, folders))}: put {files} there, "
        "with .bin (the published binary version) or without (the Python version), or give the folder that has them"
    )


def _joined(batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def _read_binary(path: Path, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    size = layout.label_bytes + N_PIXELS
    if not content.numel() or content.numel() % size:
        raise FormatError(f"{path}: {content.numel():,} bytes are no whole number of {size}-byte records")
    records = content.reshape(-1, size)
    images = records[:, layout.label_bytes :].reshape(-1, *SHAPE)
    return images, records[:, layout.label_byte].long()


def _read_pickle(path: Path, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        content = read_pickle(path.read_bytes())
    except FormatError as error:
        raise FormatError(f"{path}: not a batch of {layout.title}: {error}") from None
    pixels, given = (content.get(key) if isinstance(content, dict) else None for key in (b"data", layout.label_key))
    if not isinstance(pixels, Array) or not isinstance(given, list) or len(pixels.content) % N_PIXELS:
        raise FormatError(f"{path}: not a batch of {layout.title}: it lacks an array of images, or a list of labels")
    if not all(type(label) is int and 0 <= label <= _MAX_LABEL for label in given):
        raise FormatError(f"{path}: not a batch of {layout.title}: a label is no number in [0, {_MAX_LABEL}]")
    images = torch.frombuffer(bytearray(pixels.content), dtype=torch.uint8).reshape(-1, *SHAPE)
    labels = torch.tensor(given, dtype=torch.int64)
    if labels.shape != images.shape[:1]:
        raise FormatError(f"{path}: {len(images)} images, labels of shape {tuple(labels.shape)}")
    return images, labels
