"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html) in their published files.

The binary version and the Python version are read. A pickle is a program: it is run here with stand-ins that keep
bytes and can do nothing else, so a hostile one ends in a FormatError.
"""

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from prunecell.data.sets import DataSet, cache_folder
from prunecell.errors import DataError, FormatError

SHAPE = (3, 32, 32)  # planes of red, green and blue
N_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Layout:
    """Where the published files of one of the two sets are, and where an image's label is in them."""

    title: str
    folders: tuple[str, str]  # of the binary version and of the Python version
    train: tuple[str, ...]
    test: str
    label_bytes: int  # how many are before each image of the binary version
    label_byte: int  # which of them is the label
    label_key: bytes  # of the Python version


TEN = _Layout(
    "CIFAR-10",
    ("cifar-10-batches-bin", "cifar-10-batches-py"),
    tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test_batch",
    label_bytes=1,
    label_byte=0,
    label_key=b"labels",
)
FINE = _Layout(
    "CIFAR-100",
    ("cifar-100-binary", "cifar-100-python"),
    ("train",),
    "test",
    label_bytes=2,
    label_byte=1,
    label_key=b"fine_labels",
)
COARSE = _Layout("CIFAR-100 coarse", FINE.folders, FINE.train, FINE.test, 2, 0, b"coarse_labels")


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


def _read(layout: _Layout, folder: str | Path | None) -> DataSet:
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


def _read_binary(path: Path, layout: _Layout) -> tuple[torch.Tensor, torch.Tensor]:
    content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    size = layout.label_bytes + N_PIXELS
    if not content.numel() or content.numel() % size:
        raise FormatError(f"{path}: {content.numel():,} bytes are no whole number of {size}-byte records")
    records = content.reshape(-1, size)
    images = records[:, layout.label_bytes :].reshape(-1, *SHAPE)
    return images, records[:, layout.label_byte].long()


def _read_pickle(path: Path, layout: _Layout) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        with path.open("rb") as stream:
            content = _Unpickler(stream, encoding="bytes").load()
        pixels = torch.frombuffer(bytearray(content[b"data"].content), dtype=torch.uint8)
        images = pixels.reshape(-1, *SHAPE)
        labels = torch.tensor(content[layout.label_key], dtype=torch.int64)
    except Exception as error:  # noqa: BLE001 (a hostile pickle may raise anything)
        raise FormatError(f"{path}: not a batch of {layout.title}: {type(error).__name__}: {error}") from None
    if labels.shape != images.shape[:1]:
        raise FormatError(f"{path}: {len(images)} images, labels of shape {tuple(labels.shape)}")
    return images, labels


class _Array:
    """Stands in for numpy's array: keeps the bytes."""

    def __init__(self, *_: object) -> None:
        self.content = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.content = bytes(state[-1])


class _Dtype:
    """Stands in for numpy's dtype; refuses all but bytes."""

    def __init__(self, name: object, *_: object) -> None:
        if name not in (b"u1", "u1"):
            raise FormatError(f"pixels of type {name!r}, not unsigned bytes")

    def __setstate__(self, state: object) -> None:
        """Bytes have no byte order to set."""


def _encode(text: str, _: str) -> bytes:
    return text.encode("latin1")  # protocol 2 writes bytes so


STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 (the base's signature)
        return STAND_INS.get((module, name)) or _refuse(module, name)


def _refuse(module: str, name: str) -> NoReturn:
    raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch of CIFAR needs")
