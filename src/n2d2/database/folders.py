"""Folders of images, or of tables of numbers, which are read when they are needed."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from n2d2.checks import check_path
from n2d2.database.base import Database, Folder, Stimuli, dealt, drawn, shares
from n2d2.database.files import list_stimuli
from n2d2.database.labels import labels_by_file, merged
from n2d2.error_handler import WrongValue, n2d2_errors
from n2d2.fields import count, flag, location, number, texts
from prunecell.checks import check_count, check_number
from prunecell.errors import DataError


def _check_test(name: str, value: object) -> None:
    if value is not None:
        check_number(name, value, low=0)


@dataclass(eq=False, repr=False)
class DIR(Database):
    """Stimuli in folders, images or tables of numbers; the name of the folder is the label.

    Args:
        data_path: where they are.
        learn: the fraction to learn from; with `per_label_partitioning` off the number of stimuli.
        test: likewise; None: what is left.
        validation: likewise.
        depth: how many levels of sub-folders to enter; -1: all.
        label_path: a file with a line `name number` for each folder (or each file) below `data_path`, which gives the
            labels in place of the names of the folders; `label_depth` has no effect then.
        label_depth: how many levels of folder names make the label; 0: all stimuli have the label `label_name`.
        label_name: what the labels start with.
        per_label_partitioning: fractions of each label; off: numbers of stimuli, whatever their label.
        equiv_label_partitioning: the same number of each label, the fraction being that of the rarest label's. What
            is left is Test.
        ignore_mask: patterns (`*`, `?`) of paths to leave out.
        valid_extensions: file name endings to take; none: all that can be read.
    """

    REFUSED: ClassVar[Mapping[str, str]] = {
        **Database.REFUSED,
        **dict.fromkeys(("roi_dir", "roi_extension", "roi_file"), "stimuli are taken whole"),
        "ignore_masks": "its name is ignore_mask",
    }

    data_path: str | Path | None = location()
    learn: float = number(1.0, low=0)
    test: float | None = field(default=None, metadata={"check": _check_test})
    validation: float = number(0.0, low=0)
    depth: int = count(1, low=-1)
    label_path: str | Path | None = location(default="")
    label_depth: int = count(1)
    _: KW_ONLY
    label_name: str = ""
    per_label_partitioning: bool = flag(default=True)
    equiv_label_partitioning: bool = flag(default=True)
    ignore_mask: Sequence[str] = texts()
    valid_extensions: Sequence[str] = texts()

    def __post_init__(self) -> None:
        if self.per_label_partitioning and self.learn + self.validation + (self.test or 0) > 1 + 1e-9:
            raise WrongValue(
                f"learn={self.learn}, validation={self.validation}, test={self.test} are illegal: fractions of each "
                "label must not sum to more than 1 (numbers of stimuli need per_label_partitioning=False)"
            )

    def load(  # type: ignore[override] # N2D2's signature
        self, data_path: str | Path, depth: int = 1, label_path: Folder = "", label_depth: int = 1
    ) -> None:
        """Add the stimuli of this folder, all of them Unpartitioned: `partition_stimuli` deals them out.

        Raises:
            DataError: there is no such folder, no stimulus in it, or no such file of labels.
            WrongValue: the numbers that `label_path` gives do not go with the labels that are there.
        """
        check_path("data_path", data_path)
        check_path("label_path", label_path or "")
        for name, value, low in (("depth", depth, -1), ("label_depth", label_depth, 0)):
            with n2d2_errors():
                check_count(name, value, low=low)
        old = Database().stimuli if self._stimuli is None and self.data_path is None else self.stimuli
        files, labels, names = self._found(data_path, depth, label_path, label_depth)
        labels, names = merged(old.label_names, labels, names, fixed=bool(label_path))
        added = torch.arange(len(old.labels), len(old.labels) + len(files))
        free = torch.cat((old.partitions.get("Unpartitioned", added[:0]), added))
        self._stimuli = Stimuli(
            [*old.images, *files],
            torch.cat((old.labels, torch.tensor(labels))),
            names,
            {**old.partitions, "Unpartitioned": free},
        )

    def _open(self) -> Stimuli:
        if self.data_path is None:
            raise DataError("a DIR database has no images yet: give data_path, the folder that has them")
        files, labels, names = self._found(self.data_path, self.depth, self.label_path, self.label_depth)
        return Stimuli(files, torch.tensor(labels), names, self._partitions(torch.tensor(labels)))

    def _found(
        self, data_path: str | Path, depth: int, label_path: Folder, label_depth: int
    ) -> tuple[list[Path], list[int], list[str]]:
        """Files, the label of each, and the names of the labels."""
        root = Path(data_path).expanduser()
        found = list_stimuli(root, depth=depth, extensions=tuple(self.valid_extensions or ()))
        files = [path for path in found if not any(fnmatch(str(path), mask) for mask in self.ignore_mask or ())]
        if not files:
            raise DataError(f"no images in {root}: ignore_mask={self.ignore_mask!r} leaves none of {len(found)}")
        if label_path:
            return files, *labels_by_file(Path(label_path).expanduser(), root, files)
        prefix = (self.label_name,) if self.label_name else ()
        paths = [(*prefix, *path.relative_to(root).parts[:-1][:label_depth]) for path in files]
        kinds = sorted(set(paths))
        of_kind = {kind: label for label, kind in enumerate(kinds)}
        return files, [of_kind[path] for path in paths], ["/".join(kind) for kind in kinds]

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


def _dealt_by_label(order: Tensor, labels: Tensor, asked: DIR) -> tuple[Tensor, ...]:
    of_label = [order[labels[order] == label] for label in sorted(set(labels.tolist()))]
    rarest = min(map(len, of_label))
    parts = []
    for one in of_label:
        size = rarest if asked.equiv_label_partitioning else len(one)
        test = max(0.0, 1 - asked.learn - asked.validation) if asked.test is None else asked.test
        n_learn, n_validation, _ = shares(size, asked.learn, asked.validation, test)
        parts.append(dealt(one, n_learn, n_validation))
    return tuple(torch.cat(kind).sort().values for kind in zip(*parts, strict=True))
