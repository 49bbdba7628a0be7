"""Folders of images: any, and the layouts of two published sets. Images are read when they are needed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor

from n2d2.database.base import Database, Stimuli, dealt, drawn
from n2d2.database.published import Divided, Folder, PublishedSet
from n2d2.error_handler import WrongValue, n2d2_errors
from n2d2.fields import count, flag, number, texts
from prunecell.data import cache_folder
from prunecell.data.images import list_images
from prunecell.errors import DataError, FormatError, check_number


@dataclass(eq=False, repr=False)
class DIR(Database):
    """Images in folders; the name of the folder is the label.

    Args:
        data_path: where they are.
        learn: the fraction to learn from; with `per_label_partitioning` off the number of images.
        test: likewise; None: what is left.
        validation: likewise.
        depth: how many levels of sub-folders to enter; below 0: all.
        label_depth: how many levels of folder names make the label; 0: all images have the label `label_name`.
        label_name: what the labels start with.
        per_label_partitioning: fractions of each label; off: numbers of images, whatever their label.
        equiv_label_partitioning: the same number of each label, the fraction being that of the rarest label's. What
            is left is Test.
        ignore_mask: patterns (`*`, `?`) of paths to leave out.
        valid_extensions: file name endings to take; none: all.
        load_data_in_memory: has no effect (a provider keeps what it has room for).
    """

    data_path: str | Path | None = None
    learn: float = number(1.0, low=0)
    test: float | None = None
    validation: float = number(0.0, low=0)
    depth: int = 1
    label_depth: int = count(1)
    label_name: str = ""
    per_label_partitioning: bool = flag(default=True)
    equiv_label_partitioning: bool = flag(default=True)
    ignore_mask: Sequence[str] = texts()
    valid_extensions: Sequence[str] = texts()
    load_data_in_memory: bool = flag(default=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.test is not None:
            with n2d2_errors():
                check_number("test", self.test, low=0)
        if self.per_label_partitioning and self.learn + self.validation + (self.test or 0) > 1 + 1e-9:
            raise WrongValue(
                f"learn={self.learn}, validation={self.validation}, test={self.test} are illegal: fractions of each "
                "label must not sum to more than 1 (numbers of images need per_label_partitioning=False)"
            )

    def load(self, data_path: str | Path, depth: int = 1, label_path: str = "", label_depth: int = 1) -> None:
        """Take the images of this folder, all of them Unpartitioned: `partition_stimuli` deals them out."""
        if label_path:
            raise WrongValue(f"label_path={label_path!r} is illegal: the labels are the names of the folders")
        self.data_path, self.depth, self.label_depth = data_path, depth, label_depth
        self._stimuli = self._open()
        self._stimuli.partitions = {"Unpartitioned": torch.arange(len(self._stimuli.labels))}

    def _open(self) -> Stimuli:
        if self.data_path is None:
            raise DataError("a DIR database has no images yet: give data_path, the folder that has them")
        root = Path(self.data_path).expanduser()
        found = list_images(root, depth=self.depth, extensions=self.valid_extensions)
        files = [path for path in found if not any(fnmatch(str(path), mask) for mask in self.ignore_mask)]
        if not files:
            raise DataError(f"no images in {root}: ignore_mask={self.ignore_mask!r} leaves none of {len(found)}")
        names = ["/".join((*self._prefix, *path.relative_to(root).parts[:-1][: self.label_depth])) for path in files]
        label_names = sorted(set(names))
        ids = {name: label for label, name in enumerate(label_names)}
        labels = torch.tensor([ids[name] for name in names])
        return Stimuli(files, labels, label_names, self._partitions(labels))

    @property
    def _prefix(self) -> tuple[str, ...]:
        return (self.label_name,) if self.label_name else ()

    def _partitions(self, labels: Tensor) -> dict[str, Tensor]:
        order = drawn(len(labels), by_chance=self.random_partitioning)
        if self.per_label_partitioning:
            learn, validation, test = _dealt_by_label(order, labels, self)
            return {"Learn": learn, "Validation": validation, "Test": test}
        left = len(order) - self.learn - self.validation
        test_size = left if self.test is None else self.test
        if left < 0 or test_size > left:
            raise WrongValue(
                f"learn={self.learn}, validation={self.validation}, test={self.test} are illegal: "
                f"{len(order)} images are in {self.data_path}"
            )
        parts = dealt(order, int(self.learn), int(self.validation), int(test_size))
        return dict(zip(("Learn", "Validation", "Test", "Unpartitioned"), parts, strict=True))


def _dealt_by_label(order: Tensor, labels: Tensor, shares: DIR) -> tuple[Tensor, ...]:
    of_label = [order[labels[order] == label] for label in sorted(set(labels.tolist()))]
    rarest = min(map(len, of_label))
    parts = []
    for one in of_label:
        size = rarest if shares.equiv_label_partitioning else len(one)
        parts.append(dealt(one, round(shares.learn * size), round(shares.validation * size)))
    return tuple(torch.cat(kind).sort().values for kind in zip(*parts, strict=True))


@dataclass(eq=False, repr=False)
class GTSRB(PublishedSet):
    """German traffic signs (Stallkamp 2012), 43 kinds, of 15 to 250 pixels.

    `Final_Training/Images/<label>/*.ppm`, `Final_Test/Images/*.ppm` and `GT-final_test.csv` beside the latter.
    """

    published = (39_209, 12_630)

    def _read(self, folder: Folder, /) -> Divided:
        root = Path(folder or cache_folder("GTSRB")).expanduser()
        train = list_images(root / "Final_Training" / "Images", extensions=("ppm",))
        names = sorted({path.parent.name for path in train})
        label_of = {name: label for label, name in enumerate(names)}
        truth = root / "Final_Test" / "Images" / "GT-final_test.csv"
        rows = [line.split(";") for line in _lines(truth)[1:]]  # Filename;Width;Height;Roi.X1;...;ClassId
        test = [truth.parent / row[0] for row in rows]
        test_label_of = {row[0]: _number(row[-1], truth) for row in rows}
        return Divided(train, _labels(train, label_of, _folder), test, _labels(test, test_label_of, _file), names)


@dataclass(eq=False, repr=False)
class ILSVRC2012(PublishedSet):
    """ImageNet's thousand kinds of things (Russakovsky 2015), photographs of all sizes.

    `train/<synset>/*`, and either `val/<synset>/*`, or `val/*` and a line "file label" for each in `val.txt`. Labels
    number the lines of `synsets.txt`, or, without it, the sorted folders. The contest's validation images are Test
    here: its own test images have no labels.

    Args:
        learn: the fraction of the training images to learn from; the rest is Validation.
        label_path: where synsets.txt is, if not in `data_path`.
        use_validation_for_test: has no effect.
        background_class: the first label is "background", which no image has; all others are one higher, those of
            `val.txt` too.
    """

    validation: float = field(default=0.0, init=False, repr=False)
    learn: float = number(1.0, low=0, high=1)
    label_path: Folder = None
    use_validation_for_test: bool = flag(default=False)
    background_class: bool = flag(default=False)
    published = (1_281_167, 50_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.validation = 1 - self.learn

    def load(self, data_path: str | Path, label_path: Folder = None) -> None:
        """Take the files from these places from now on."""
        super().load(data_path)
        self.label_path = label_path

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
