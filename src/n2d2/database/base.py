"""What all databases share: stimuli, opened when they are first asked for, and their partitions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from n2d2.checked import Checked, printed
from n2d2.checks import check_flag, check_path
from n2d2.database.files import read_stimulus
from n2d2.error_handler import ImplementationError, WrongValue, check_choice, n2d2_errors
from n2d2.fields import accepted, flag
from prunecell.checks import check_count, check_number
from prunecell.errors import DataError

Folder = str | Path | None
PARTITIONS = ("Learn", "Validation", "Test", "Unpartitioned")
LARGEST = {torch.uint8: 255, torch.int8: 127, torch.int16: 32767}


_REGIONS = "stimuli are taken whole: cut them by transform.SliceExtraction"
_ONE_FOLDER = "a stimulus is one file of one folder"


@dataclass(eq=False, repr=False)
class Stimuli:
    """What a database holds once it is open.

    Args:
        images: (n, channels, height, width), integers or float32; or one by one, images or files that hold them.
        labels: int64, (n,).
        label_names: by label.
        partitions: partition -> int64 indices of its stimuli.
        wide: the largest value that an int32 stands for: of 16 bits without a sign, as in files, or of its own.
    """

    images: Tensor | Sequence[Tensor | Path]
    labels: Tensor
    label_names: list[str]
    partitions: dict[str, Tensor]
    wide: int = 2**16 - 1

    def image(self, index: int) -> Tensor:
        """One image, (channels, height, width)."""
        image = self.images[index]
        return read_stimulus(image) if isinstance(image, Path) else image

    def largest(self, dtype: torch.dtype) -> int:
        """The largest value of an integer type of the images, which reaches the network as 1."""
        return LARGEST.get(dtype, self.wide)


def drawn(n: int, *, by_chance: object) -> Tensor:
    """The order 0 .. n - 1 that partitions are dealt from: as it is, or by chance, always the same."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0)) if by_chance else torch.arange(n)


def dealt(order: Tensor, *sizes: int) -> list[Tensor]:
    """Cut `order` into parts of these sizes and the rest, each sorted, for files are read faster in their order."""
    cuts = torch.tensor(sizes).cumsum(0).tolist()
    return [part.sort().values for part in torch.tensor_split(order, cuts)]


def shares(n: int, learn: float, validation: float, test: float) -> tuple[int, int, int]:
    """How many of `n` stimuli these fractions are. Halves go to Learn first, then to Validation, as in N2D2.

    >>> shares(5, 0.5, 0.5, 0.0), shares(123, 0.4, 0.2, 0.4)
    ((3, 2, 0), (49, 25, 49))
    """
    n_learn = math.floor(n * learn + 0.5)
    n_others = min(n - n_learn, math.ceil(n * (validation + test) - 0.5))
    n_validation = math.floor(n_others * validation / (validation + test) + 0.5) if validation else 0
    return n_learn, n_validation, n_others - n_validation


@dataclass(eq=False, repr=False)
class Database(Checked):
    """What all databases share; by itself an empty one.

    Args:
        random_partitioning: draw the partitions by chance, not in the order of the data.
        load_data_in_memory: has no effect (a provider keeps what it has room for).
    """

    REFUSED: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("composite_label", "data_file_label", "default_label", "rois_margin"), _REGIONS),
        **dict.fromkeys(("multi_channel_match", "multi_channel_replace", "target_data_path"), _ONE_FOLDER),
    }

    _: KW_ONLY
    random_partitioning: bool = flag(default=True)
    load_data_in_memory: bool = accepted(default=False)
    _stimuli: Stimuli | None = field(default=None, init=False, repr=False)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if not name.startswith("_"):
            self._stimuli = None  # what is in it depends on it

    def __repr__(self) -> str:
        return printed(self)

    @property
    def stimuli(self) -> Stimuli:
        """Everything in it; opens the data.

        Raises:
            DataError: the data is not there; the message says what to do.
            FormatError: a file is damaged.
        """
        if self._stimuli is None:
            self._stimuli = self._open()
        return self._stimuli

    def _open(self) -> Stimuli:
        return Stimuli([], torch.zeros(0, dtype=torch.int64), [], {})

    def load(self, data_path: Folder, label_path: Folder = "", extract_ROIs: bool = False) -> None:  # noqa: FBT001, FBT002, N803
        """Take the names of the labels from the lines of the file `label_path`; an empty database has nothing else.

        Raises:
            DataError: there is no such file, or nothing in it.
        """
        refuse_regions(extract_ROIs)
        check_path("data_path", data_path or "")
        check_path("label_path", label_path or "")
        if data_path:
            raise WrongValue(f"data_path={str(data_path)!r} is illegal: DIR takes folders, Numpy takes arrays")
        path = Path(label_path or "").expanduser()
        names = path.read_text(encoding="utf-8").splitlines() if label_path and path.is_file() else []
        if not names:
            raise DataError(f"label_path={str(label_path)!r} must be a file with the name of a label in each line")
        self._stimuli = Stimuli([], torch.zeros(0, dtype=torch.int64), names, {})

    @classmethod
    def is_downloadable(cls) -> bool:
        """False: no class fetches files when it is asked to."""
        return False

    @classmethod
    def download(cls, path: Folder = None) -> None:  # noqa: ARG003 (N2D2's signature)
        """Refuse, because there is nothing to fetch; see the sets that are published."""
        raise ImplementationError(f"{cls.__name__}.download is refused: this database is made of your own files")

    def indices(self, partition: str) -> Tensor:
        """Which stimuli are in a partition, int64."""
        check_choice("partition", partition, PARTITIONS)
        return self.stimuli.partitions.get(partition, torch.zeros(0, dtype=torch.int64))

    def get_nb_stimuli(self, partition: str) -> int:
        """The number of stimuli in a partition."""
        return len(self.indices(partition))

    def get_partition_summary(self) -> None:
        """Print the number of stimuli in each partition."""
        counts = {partition: self.get_nb_stimuli(partition) for partition in PARTITIONS}
        total = sum(counts.values())
        if not total:
            print("No stimuli in the database")  # noqa: T201 (what the method is for)
            return
        print(f"Number of stimuli : {total}")  # noqa: T201 (what the method is for)
        for partition in ("Learn", "Test", "Validation", "Unpartitioned"):
            share = round(100 * counts[partition] / total, 2)
            print(f"{partition:13} : {counts[partition]} stimuli ({share}%)")  # noqa: T201

    def get_label_name(self, label_idx: int) -> str:
        """The name of a label."""
        with n2d2_errors():
            check_count("label_idx", label_idx)
        names = self.stimuli.label_names
        if label_idx >= len(names):
            raise WrongValue(f"label_idx={label_idx} is illegal: the database has {len(names)} labels")
        return names[label_idx]

    def partition_stimuli(self, learn: float, validation: float, test: float) -> None:
        """Deal these fractions of what is Unpartitioned out to Learn, Validation and Test."""
        fractions = {"learn": learn, "validation": validation, "test": test}
        for name, fraction in fractions.items():
            with n2d2_errors():
                check_number(name, fraction, low=0, high=1)
        if sum(fractions.values()) > 1 + 1e-9:
            raise WrongValue(f"fractions {fractions} are illegal: their sum must be at most 1")
        free = self.indices("Unpartitioned")
        order = free[drawn(len(free), by_chance=self.random_partitioning)]
        for partition, part in zip(PARTITIONS, dealt(order, *shares(len(free), learn, validation, test)), strict=True):
            old = free[:0] if partition == "Unpartitioned" else self.indices(partition)
            self.stimuli.partitions[partition] = torch.cat((old, part))


def refuse_regions(extract: object) -> None:
    """Refuse `extract_ROIs`, unless it says no."""
    check_flag("extract_ROIs", extract)
    if extract:
        raise ImplementationError(f"extract_ROIs is refused: {_REGIONS}")
