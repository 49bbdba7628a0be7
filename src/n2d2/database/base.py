"""What all databases share: stimuli, opened when they are first asked for, and their partitions."""

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from n2d2.error_handler import WrongValue, check_choice
from n2d2.fields import check_fields, flag, printed
from prunecell.data.images import read_image

PARTITIONS = ("Learn", "Validation", "Test", "Unpartitioned")


@dataclass(eq=False, repr=False)
class Stimuli:
    """What a database holds once it is open.

    Args:
        images: uint8 or float32, (n, channels, height, width); or the files that hold them.
        labels: int64, (n,).
        label_names: by label.
        partitions: partition -> int64 indices of its stimuli.
    """

    images: Tensor | list[Path]
    labels: Tensor
    label_names: list[str]
    partitions: dict[str, Tensor]

    def image(self, index: int) -> Tensor:
        """One image, (channels, height, width)."""
        image = self.images[index]
        return read_image(image).flip(0) if isinstance(image, Path) else image


def drawn(n: int, *, by_chance: object) -> Tensor:
    """The order 0 .. n - 1 that partitions are dealt from: as it is, or by chance, always the same."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0)) if by_chance else torch.arange(n)


def dealt(order: Tensor, *sizes: int) -> list[Tensor]:
    """Cut `order` into parts of these sizes and the rest, each sorted, for files are read faster in their order."""
    cuts = torch.tensor(sizes).cumsum(0).tolist()
    return [part.sort().values for part in torch.tensor_split(order, cuts)]


@dataclass(eq=False, repr=False)
class Database:
    """What all databases share; by itself an empty one.

    Args:
        random_partitioning: draw the partitions by chance, not in the order of the data.
    """

    _: KW_ONLY
    random_partitioning: bool = flag(default=True)
    _stimuli: Stimuli | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)

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
        print(f"Number of stimuli : {total}")  # noqa: T201 (what the method is for)
        for partition in ("Learn", "Test", "Validation", "Unpartitioned"):
            share = round(100 * counts[partition] / max(1, total), 2)
            print(f"{partition:13} : {counts[partition]} stimuli ({share}%)")  # noqa: T201

    def get_label_name(self, label_idx: int) -> str:
        """The name of a label."""
        names = self.stimuli.label_names
        if not 0 <= label_idx < len(names):
            raise WrongValue(f"label_idx={label_idx} is illegal: the database has {len(names)} labels")
        return names[label_idx]

    def partition_stimuli(self, learn: float, validation: float, test: float) -> None:
        """Deal these fractions of what is Unpartitioned out to Learn, Validation and Test."""
        shares = {"Learn": learn, "Validation": validation, "Test": test}
        if min(shares.values()) < 0 or sum(shares.values()) > 1 + 1e-9:
            raise WrongValue(f"fractions {shares} are illegal: each must be >= 0, their sum at most 1")
        free = self.indices("Unpartitioned")
        order = free[drawn(len(free), by_chance=self.random_partitioning)]
        ends = torch.tensor(list(shares.values())).cumsum(0).mul(len(free)).round().long()
        parts = dealt(order, *ends.diff(prepend=torch.zeros(1, dtype=torch.int64)).tolist())
        for partition, part in zip((*shares, "Unpartitioned"), parts, strict=True):
            old = free[:0] if partition == "Unpartitioned" else self.indices(partition)
            self.stimuli.partitions[partition] = torch.cat((old, part))
