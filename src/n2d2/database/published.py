"""The published sets that come divided into training and test images."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from n2d2.database.base import PARTITIONS, Database, Folder, Stimuli, dealt, drawn, refuse_regions, shares
from n2d2.error_handler import WrongValue, check_choice
from n2d2.fields import accepted, count, flag, location, number
from prunecell.data import DataSet, cache_folder, fashion_mnist, mnist
from prunecell.data.cifar import FINE, TEN, Layout, cifar10, cifar100
from prunecell.errors import DataError, FormatError


@dataclass(frozen=True, eq=False)
class Divided:
    """The two parts of a published set: images as in `Stimuli`, labels, and the names of the labels."""

    train: Tensor | Sequence[Path]
    train_labels: Tensor
    test: Tensor | Sequence[Path]
    test_labels: Tensor
    label_names: list[str]


@dataclass(eq=False, repr=False)
class PublishedSet(Database, shared=True):
    """What sets that come divided share. Never instantiated itself.

    Args:
        data_path: the folder of its files. None: where it is kept (`prunecell.data.cache_folder`).
        validation: the fraction of the training images that is held back, in [0, 1].
        stimuli_per_label_train: keep this many of each label; 0: all.
        stimuli_per_label_test: likewise.
    """

    _: KW_ONLY
    data_path: Folder = location()
    validation: float = number(0.0, low=0, high=1)
    stimuli_per_label_train: int = count(0)
    stimuli_per_label_test: int = count(0)
    published: ClassVar[tuple[int, int]]  # how many images to train and to test

    def load(self, data_path: Folder, label_path: Folder = "", extract_ROIs: bool = False) -> None:  # noqa: FBT001, FBT002, N803
        """Take the files from this folder from now on.

        Args:
            data_path: the folder.
            label_path: where the labels are, if not there.
            extract_ROIs: only False is legal.

        Raises:
            ImplementationError: regions are asked for.
            WrongValue: this set has its labels in the same files as its images.
        """
        refuse_regions(extract_ROIs)
        self._take_labels(label_path)
        self.data_path = data_path

    def _take_labels(self, label_path: Folder) -> None:
        if label_path:
            raise WrongValue(
                f"label_path={str(label_path)!r} is illegal: {type(self).__name__} has its labels with its images"
            )

    @classmethod
    def download(cls, path: Folder = None) -> None:
        """Fetch nothing: read the set once, where it is looked for, or in `path`.

        Raises:
            DataError: it is not there; the message says which files to put where.
        """
        made = cls(data_path=path)
        made._read(made._local())

    def get_nb_stimuli(self, partition: str) -> int:
        """The number of stimuli in a partition; the published one where the files are not there (yet)."""
        check_choice("partition", partition, PARTITIONS)
        if self._stimuli is None:
            try:
                self._stimuli = self._divide(self._read(self._local()))
            except DataError:
                if self.stimuli_per_label_train or self.stimuli_per_label_test:
                    raise  # how many there are of a label is in the files
                train, test = map(torch.arange, self.published)
                return len(self._partitions(train, test).get(partition, ()))
        return super().get_nb_stimuli(partition)

    def _local(self) -> Folder:
        """Where to read so that nothing is fetched."""
        return self.data_path

    def _open(self) -> Stimuli:
        return self._divide(self._read(self.data_path))

    @abstractmethod
    def _read(self, folder: Folder, /) -> Divided:
        """The set that lies in a folder, or where it is looked for."""

    def _divide(self, found: Divided) -> Stimuli:
        labels = torch.cat((found.train_labels, found.test_labels))
        if len(labels) and int(labels.max()) >= len(found.label_names):
            raise FormatError(f"{self}: there is a label {int(labels.max())}, of {len(found.label_names)} labels")
        n_train = len(found.train_labels)
        train = drawn(n_train, by_chance=self.random_partitioning)
        test = torch.arange(n_train, len(labels))
        partitions = self._partitions(
            _kept(train, labels, self.stimuli_per_label_train), _kept(test, labels, self.stimuli_per_label_test)
        )
        return Stimuli(_joined(found.train, found.test), labels, found.label_names, partitions)

    def _partitions(self, train: Tensor, test: Tensor) -> dict[str, Tensor]:
        n_learn, n_validation, _ = shares(len(train), 1 - self.validation, self.validation, 0)
        learn, validation, _ = dealt(train, n_learn, n_validation)
        return {"Learn": learn, "Validation": validation, "Test": test}


def _divided(found: DataSet) -> Divided:
    train, test = (
        images[:, None] if images.ndim == 3 else images.flip(1)  # noqa: PLR2004 (gray; red, green, blue)
        for images in (found.train_images, found.test_images)
    )
    names = [str(label) for label in range(found.n_classes)]
    return Divided(train, found.train_labels, test, found.test_labels, names)


def _joined(train: Tensor | Sequence[Path], test: Tensor | Sequence[Path]) -> Tensor | list[Path]:
    if isinstance(train, Tensor) and isinstance(test, Tensor):
        return torch.cat((train, test))
    return [*train, *test]  # files: both parts of a set are of one kind


def _kept(order: Tensor, labels: Tensor, per_label: int) -> Tensor:
    """The first stimuli of each label in `order`, this many of each; 0: all."""
    if not per_label:
        return order
    firsts = [order[labels[order] == label][:per_label] for label in sorted(set(labels[order].tolist()))]
    return order[torch.isin(order, torch.cat(firsts))]


@dataclass(eq=False, repr=False)
class MNIST(PublishedSet):
    """Handwritten digits, 1 x 28 x 28; fetched when `data_path` is None and they are not kept yet.

    Args:
        label_path: the folder of the files with labels, if not `data_path`.
        extract_roi: has no effect: a digit is the whole image.
    """

    data_path: Folder = location()
    validation: float = number(0.0, low=0, high=1)
    _: KW_ONLY
    label_path: Folder = location(default="")
    extract_roi: bool = accepted(default=False)
    published = (60_000, 10_000)

    def load(self, data_path: Folder, label_path: Folder = "", extract_ROIs: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002, N803
        """Take the files from this folder from now on, those with labels from `label_path` if that is given."""
        self.data_path, self.label_path = data_path, label_path

    def _read(self, folder: Folder, /) -> Divided:
        return _divided(mnist(folder, labels=self.label_path or None))

    def _local(self) -> Folder:
        return self.data_path or cache_folder("mnist")


@dataclass(eq=False, repr=False)
class FashionMNIST(PublishedSet):
    """Clothes, 1 x 28 x 28."""

    data_path: Folder = location()
    validation: float = number(0.0, low=0, high=1)
    published = (60_000, 10_000)

    def _read(self, folder: Folder, /) -> Divided:
        return _divided(fashion_mnist(folder))


@dataclass(eq=False, repr=False)
class _CIFAR(PublishedSet, shared=True):
    """What the two sets share. As in N2D2, labels are numbered in the order in which the training images show them.

    Their names are read from the published file of names; without it they are the published numbers.

    Args:
        use_test_for_validation: learn from all training images; Validation has the test images too.
    """

    data_path: Folder = location()
    validation: float = number(0.0, low=0, high=1)
    _: KW_ONLY
    use_test_for_validation: bool = flag(default=False)
    published = (50_000, 10_000)

    def _numbered(self, found: DataSet, folder: Folder, layout: Layout, file: str) -> Divided:
        """The set with N2D2's numbers for its labels, named by a file of its folder."""
        folders = [Path(folder)] if folder else [cache_folder(name) for name in layout.folders]
        listed = next((path for one in folders if (path := one.expanduser() / file).is_file()), None)
        divided = _divided(found)
        names = listed.read_text(encoding="utf-8").split() if listed else divided.label_names
        if len(names) < found.n_classes:
            raise FormatError(f"{listed}: {len(names)} names for {found.n_classes} labels")
        order = list(dict.fromkeys(torch.cat((divided.train_labels, divided.test_labels)).tolist()))
        numbers = torch.zeros(found.n_classes, dtype=torch.int64)
        numbers[order] = torch.arange(len(order))
        return replace(
            divided,
            train_labels=numbers[divided.train_labels],
            test_labels=numbers[divided.test_labels],
            label_names=[names[label] for label in order],
        )

    def _partitions(self, train: Tensor, test: Tensor) -> dict[str, Tensor]:
        if self.use_test_for_validation:
            return {"Learn": train.sort().values, "Validation": test, "Test": test}
        return super()._partitions(train, test)


@dataclass(eq=False, repr=False)
class CIFAR10(_CIFAR):
    """Photographs of ten kinds of things, 3 x 32 x 32."""

    def _read(self, folder: Folder, /) -> Divided:
        return self._numbered(cifar10(folder), folder, TEN, "batches.meta.txt")


@dataclass(eq=False, repr=False)
class CIFAR100(_CIFAR):
    """Photographs of a hundred kinds of things, or of the 20 coarse ones with `use_coarse`; 3 x 32 x 32."""

    use_coarse: bool = flag(default=False)

    def _read(self, folder: Folder, /) -> Divided:
        found, kind = cifar100(folder, coarse=bool(self.use_coarse)), "coarse" if self.use_coarse else "fine"
        return self._numbered(found, folder, FINE, f"{kind}_label_names.txt")
