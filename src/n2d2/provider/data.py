"""DataProvider: batches of a database's stimuli, transformed."""

import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import ClassVar

import torch

from n2d2 import global_variables
from n2d2.checks import check_counts, check_flag
from n2d2.database import PARTITIONS, Database
from n2d2.database.reading import Images, applied, flat, in_parts, through
from n2d2.error_handler import WrongInputType, WrongValue, check_choice, n2d2_errors
from n2d2.provider.base import Provider
from n2d2.provider.global_value import GlobalValue
from n2d2.tensor import Tensor
from n2d2.transform import Transformation
from prunecell.checks import check_count

FIXED = ("batch_size", "composite_stimuli", "database", "size")  # parameters that a provider keeps


class DataProvider(Provider):
    """Batches of a database's stimuli.

    Transformations are applied once and their results kept (of files as far as there is room); on-the-fly
    transformations are applied at each reading. Both work on the stimuli's own type. What is still integer after them
    reaches the network divided by the largest value of its type (8-bit images: 255), so in [0, 1]; floats as they are.

    Args:
        database: where the stimuli are; it is opened when the first one is read.
        size: [width, height, channels] after all transformations.
        random_read: iterating gives random batches, not the partition in its order.
        batch_size: stimuli in a batch; the last one of a partition may be smaller.
        composite_stimuli: labels per pixel: only False is legal.
        name: what it is called when printed.

    Raises:
        WrongValue, WrongInputType: an argument is illegal.
    """

    REFUSED: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        database: Database,
        size: Sequence[int],
        random_read: bool = False,  # noqa: FBT001, FBT002 (N2D2's signature)
        *,
        batch_size: int = 1,
        composite_stimuli: bool = False,
        name: str = "sp",
    ) -> None:
        super().__init__(name)
        if not isinstance(database, Database):
            raise WrongInputType(f"database={database!r} is illegal: it must be one of n2d2.database")
        check_flag("composite_stimuli", composite_stimuli)
        if composite_stimuli:
            raise WrongValue("composite_stimuli=True is illegal: labels per pixel are for segmentation")
        if not isinstance(size, list | tuple) or len(size) not in (2, 3):
            raise WrongValue(f"size={size!r} is illegal: it must be [width, height, channels]")
        check_counts(batch_size=batch_size, **dict(zip(("width", "height", "channels"), size, strict=False)))
        self.database, self.size, self.batch_size = database, list(size), batch_size
        self.composite_stimuli, self.random_read = False, random_read
        self._size, self._batch_size, self._partition = self.size, batch_size, "Test"
        self._once: list[Transformation] = []
        self._on_the_fly: list[Transformation] = []
        self._kept: dict[str, Images] = {}  # partition -> its images, transformed once
        self._batch = torch.zeros(self.shape())
        self._labels = torch.zeros(batch_size, dtype=torch.int64)
        self._waiting = torch.zeros(0, dtype=torch.int64)  # what read_random_batch has not yet given of this epoch
        self._set: dict[str, deque[torch.Tensor]] = {}  # partition -> the batches that set_batch laid out
        self._index = 0

    def __setattr__(self, name: str, value: object) -> None:
        if name in FIXED and name in self.__dict__:
            raise WrongValue(f"{name} of a DataProvider cannot change any more: make another one")
        if name == "random_read":
            check_flag(name, value)
        super().__setattr__(name, value)

    @property
    def transformations(self) -> tuple[Transformation, ...]:
        """Those that are done once, in order."""
        return tuple(self._once)

    @property
    def on_the_fly_transformations(self) -> tuple[Transformation, ...]:
        """Those that are done at each reading, in order."""
        return tuple(self._on_the_fly)

    @property
    def epoch_size(self) -> int:
        """The number of stimuli in Learn."""
        return self.database.get_nb_stimuli("Learn")

    def add_transformation(self, transformation: Transformation) -> None:
        """Transform every stimulus with this too, once. What is changed in it later has no effect here."""
        self._once += map(copy, flat(transformation))
        self._kept.clear()

    def add_on_the_fly_transformation(self, transformation: Transformation) -> None:
        """Transform every stimulus with this too, at each reading, after all that are done once."""
        self._on_the_fly += map(copy, flat(transformation))

    def get_transformations(self) -> list[Transformation]:
        """The transformations of the current partition: those that are done at each reading, then the others."""
        return applied([*self._on_the_fly, *self._once], self._partition)

    def normalize_stimuli(self) -> None:
        """Nothing to do: integers are scaled to [0, 1] anyway when they reach the network."""

    def set_partition(self, partition: str) -> None:
        """Read from Learn, Validation, Test or Unpartitioned from now on."""
        super().set_partition(partition)
        self._waiting, self._index = self._waiting[:0], 0

    def batches(
        self, partition: str, *, shuffle: bool, generator: torch.Generator | None = None, drop_last: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Give every stimulus of a partition once.

        The order, and what on-the-fly transformations draw, depend on the state of `generator` alone (None: torch's
        own): seeded from the run's seed and the epoch, an epoch is the same after a resumption.

        Yields:
            float32 (n, channels, height, width) and int64 labels (n,); n is `batch_size`, but for a smaller last
            batch, which `drop_last` leaves out.
        """
        n = len(self.database.indices(partition))
        order = torch.randperm(n, generator=generator) if shuffle else torch.arange(n)
        parts = in_parts(order, self._batch_size)
        if drop_last and n % self._batch_size:
            parts.pop()
        yield from self._read(partition, parts, generator)

    def epoch(self, number: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Give the batches of an epoch of learning: for the same number (from 0) and seed, the same ones."""
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{number}".encode()))
        return self.batches("Learn", shuffle=True, generator=generator)

    def read_random_batch(self) -> Tensor:
        """Read a batch by chance: each stimulus of the partition once before any comes again."""
        n = self._n_in_partition()
        while len(self._waiting) < self._batch_size:
            self._waiting = torch.cat((self._waiting, torch.randperm(n)))
        here, self._waiting = self._waiting.tensor_split([self._batch_size])
        return self._read_one(here)

    def read_batch(self, idx: int | None = None) -> Tensor:
        """Read the stimuli of the partition from number `idx` on; without it, the next batch of `set_batch`.

        Raises:
            WrongValue: there is no such stimulus, or no batch is left.
        """
        return self._read_one(self._next_set()) if idx is None else self.read_stimuli(idx, self._batch_size)

    def read_stimuli(self, idx: int, n: int) -> Tensor:
        """Read the `n` stimuli of the partition from number `idx` on, or as many as there are.

        Raises:
            WrongValue: there is none.
        """
        last = self._n_in_partition() - 1
        with n2d2_errors():
            check_count("idx", idx)
        if idx > last:
            raise WrongValue(f"idx={idx} is illegal: {self._partition} has stimuli 0 to {last}")
        return self._read_one(torch.arange(idx, min(idx + n, last + 1)))

    def set_batch(self, shuffle: bool = True) -> None:  # noqa: FBT001, FBT002 (N2D2's signature)
        """Lay out the batches of the current partition for `read_batch()`: each stimulus once, by chance or not."""
        check_flag("shuffle", shuffle)
        n = self._n_in_partition()
        self._set[self._partition] = deque(
            in_parts(torch.randperm(n) if shuffle else torch.arange(n), self._batch_size)
        )

    def all_batchs_provided(self) -> bool:
        """Whether `read_batch()` has given all batches of the current partition that `set_batch` laid out."""
        return not self._set.get(self._partition)

    def _next_set(self) -> torch.Tensor:
        if self._partition not in self._set:
            raise WrongValue("read_batch() needs set_batch() first, or the number of a stimulus: read_batch(idx)")
        if not self._set[self._partition]:
            raise WrongValue(f"all batches of {self._partition} have been read: set_batch() lays them out again")
        return self._set[self._partition].popleft()

    def images(self, partition: str) -> Images:
        """The images of a partition after the transformations that are done once."""
        indices = self.database.indices(partition)
        if partition not in self._kept or self._kept[partition].indices is not indices:
            chain = applied(self._once, partition)
            self._kept[partition] = Images(self.database.stimuli, indices, chain)
        return self._kept[partition]

    def get_labels(self) -> Tensor:
        """The labels of the batch that was read last: integers, shape [batch, 1, 1, 1]; `labels` has them for torch."""
        return Tensor.from_torch(self._labels.int().reshape(-1, 1, 1, 1))

    def get_data(self) -> Tensor:
        """The batch that was read last; zeros before the first."""
        return Tensor.from_torch(self._batch, source=self)

    def global_value(self, name: str, partition: str = "Learn") -> "GlobalValue":
        """Stand for the "mean" or the "stdDev" of a partition after the transformations added so far.

        Nothing is computed (and no data opened) before the value is called: RangeAffine takes it as it is.
        """
        check_choice("name", name, ("mean", "stdDev"))
        check_choice("partition", partition, PARTITIONS)
        chain = applied(self._once, partition)
        return GlobalValue(
            lambda: Images(self.database.stimuli, self.database.indices(partition), chain), name, partition
        )

    def __next__(self) -> Tensor:
        """Give the next batch of the partition, or a random one with `random_read`."""
        first = self._index * self._batch_size
        if first >= len(self.database.indices(self._partition)):
            raise StopIteration
        self._index += 1
        return self.read_random_batch() if self.random_read else self.read_batch(first)

    def __iter__(self) -> "DataProvider":
        self._index = 0
        return self

    def __repr__(self) -> str:
        arguments = f"database={self.database}, size={self.size}, batch_size={self._batch_size}"
        lists = {"Transformations": self._once, "OnTheFlyTransformations": self._on_the_fly}
        added = "".join(f"[{title}={', '.join(map(str, given))}]" for title, given in lists.items() if given)
        return f"'{self.name}' DataProvider({arguments}){added}"

    def _n_in_partition(self) -> int:
        n = len(self.database.indices(self._partition))
        if not n:
            raise WrongValue(f"partition {self._partition} of {self.database} is empty: set_partition chooses another")
        return n

    def _read_one(self, where: torch.Tensor) -> Tensor:
        self._batch, self._labels = next(self._read(self._partition, [where], None))
        return self.get_data()

    def _read(
        self, partition: str, parts: Iterable[torch.Tensor], generator: torch.Generator | None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Give the finished batches of these positions in a partition."""
        labels, indices = self.database.stimuli.labels, self.database.indices(partition)
        chain = applied(self._on_the_fly, partition)
        device = global_variables.device()
        for where, images in self.images(partition).read(parts):
            done = torch.cat([self._finished(through(chain, one, generator)) for one in images])
            yield done.to(device), labels[indices[where]].to(device)

    def _finished(self, x: torch.Tensor) -> torch.Tensor:
        wanted = self.shape()[1:]
        if list(x.shape[1:]) != [1] * (3 - len(wanted)) + wanted:
            raise WrongValue(
                f"stimuli have shape {list(x.shape[1:])} after their transformations, the provider's size "
                f"{self.size} (width, height, channels) asks for {wanted}: add a Rescale, a PadCrop or a "
                "ChannelExtraction, or change the size"
            )
        x = x.reshape(len(x), *wanted)
        return x.float() if x.is_floating_point() else x.float().div_(self.database.stimuli.largest(x.dtype))

    def set_reading_randomly(self, random_read: bool) -> None:  # noqa: FBT001 (N2D2's signature)
        """Iterate over random batches, or over the partition in its order."""
        self.random_read = random_read

    def get_database(self) -> Database:
        """The database."""
        return self.database

    def batch_number(self) -> int:
        """How many batches this iteration has given."""
        return self._index
