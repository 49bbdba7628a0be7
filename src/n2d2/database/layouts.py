"""Published sets that come as folders of images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from n2d2.database.base import Folder, dealt, shares
from n2d2.database.published import Divided, PublishedSet
from n2d2.fields import flag, location, number
from prunecell.data import cache_folder
from prunecell.data.images import list_images
from prunecell.errors import DataError, FormatError


@dataclass(eq=False, repr=False)
class GTSRB(PublishedSet):
    """German traffic signs (Stallkamp 2012), 43 kinds, of 15 to 250 pixels.

    `Final_Training/Images/<label>/*.ppm`, `Final_Test/Images/*.ppm` and `GT-final_test.csv`, beside the latter or in
    the folder itself.
    """

    validation: float = number(0.0, low=0, high=1)
    published = (39_209, 12_630)

    def _read(self, folder: Folder, /) -> Divided:
        root = Path(folder or cache_folder("GTSRB")).expanduser()
        train = list_images(root / "Final_Training" / "Images", extensions=("ppm",))
        names = sorted({path.parent.name for path in train})
        label_of = {name: label for label, name in enumerate(names)}
        images = root / "Final_Test" / "Images"
        truth = images / "GT-final_test.csv"
        if not truth.is_file() and (root / truth.name).is_file():
            truth = root / truth.name
        rows = [line.split(";") for line in _lines(truth)[1:]]  # Filename;Width;Height;Roi.X1;...;ClassId
        test = [images / row[0] for row in rows]
        test_label_of = {row[0]: _number(row[-1], truth) for row in rows}
        names = [str(int(name)) if name.isdecimal() else name for name in names]  # 00001 is label "1"
        return Divided(train, _labels(train, label_of, _folder), test, _labels(test, test_label_of, _file), names)


@dataclass(eq=False, repr=False)
class ILSVRC2012(PublishedSet):
    """ImageNet's thousand kinds of things (Russakovsky 2015), photographs of all sizes.

    `train/<synset>/*`, and either `val/<synset>/*`, or `val/*` and a line "file label" for each in `val.txt`. Labels
    number the lines of `synsets.txt`, or, without it, the sorted folders. The contest's validation images are
    Validation; its own test images have no labels.

    Args:
        learn: the fraction of the training images to learn from; the rest is Test.
        label_path: where synsets.txt is, if not in `data_path`.
        use_validation_for_test: the validation images are in Test too.
        background_class: the first label is "background", which no image has; all others are one higher, those of
            `val.txt` too.
    """

    REFUSED: ClassVar[Mapping[str, str]] = {
        **PublishedSet.REFUSED,
        "validation": "the contest's validation images are Validation; learn < 1 puts training images into Test",
    }

    learn: float = number(1.0, low=0, high=1)
    validation: float = field(default=0.0, init=False, repr=False)
    _: KW_ONLY
    label_path: Folder = location()
    use_validation_for_test: bool = flag(default=True)
    background_class: bool = flag(default=False)
    published = (1_281_167, 50_000)

    def _take_labels(self, label_path: Folder) -> None:
        self.label_path = label_path

    def _partitions(self, train: Tensor, test: Tensor) -> dict[str, Tensor]:
        n_learn, _, n_test = shares(len(train), self.learn, 0, 1 - self.learn)
        learn, rest, _ = dealt(train, n_learn, n_test)
        tested = torch.cat((rest, test)) if self.use_validation_for_test else rest
        return {"Learn": learn, "Validation": test, "Test": tested}

    def _read(self, folder: Folder, /) -> Divided:
        root = Path(folder or cache_folder("ILSVRC2012")).expanduser()
        train, test = list_images(root / "train"), list_images(root / "val")
        listed = Path(self.label_path or root / "synsets.txt")
        names = [line.split()[0] for line in _lines(listed)] if listed.is_file() else sorted(set(map(_folder, train)))
        names = [*["background"] * self.background_class, *names]
        label_of = {name: label for label, name in enumerate(names)}
        train_labels = _labels(train, label_of, _folder)
        if _folder(test[0]) != "val":
            return Divided(train, train_labels, test, _labels(test, label_of, _folder), names)
        rows = [line.split() for line in _lines(root / "val.txt")]
        given = {row[0]: _number(row[-1], root / "val.txt") + self.background_class for row in rows}
        return Divided(train, train_labels, test, _labels(test, given, _file), names)


def _folder(path: Path) -> str:
    return path.parent.name


def _file(path: Path) -> str:
    return path.name


def _labels(files: Sequence[Path], label_of: Mapping[str, int], name: Callable[[Path], str]) -> Tensor:
    for path in files:
        if name(path) not in label_of:
            raise FormatError(f"{path}: no label is given for {name(path)!r}")
    return torch.tensor([label_of[name(path)] for path in files])


def _number(text: str, path: Path) -> int:
    if not text.isdecimal():
        raise FormatError(f"{path}: {text!r} is no label")
    return int(text)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"there is no {path}: it has the labels of the images; put it there")
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
