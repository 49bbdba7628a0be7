"""n2d2.provider: batches of a database's stimuli, transformed, for N2D2's scripts and for torch's loops."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import torch

from n2d2 import global_variables
from n2d2.database import PARTITIONS, Database
from n2d2.database.reading import Images, applied, flat, in_parts, through
from n2d2.error_handler import WrongInputType, WrongValue, check_choice, n2d2_errors
from n2d2.tensor import Tensor
from n2d2.transform import Composite, Transformation
from prunecell.errors import check_count


class DataProvider:
    """Batches of a database's stimuli.

    Transformations are applied once and their results kept (of files as far as there is room); on-the-fly
    transformations are applied at each reading. Values are 0..255 unless a transformation makes them otherwise, or
    `normalize_stimuli()` is called: it scales to [0, 1] what is still integer after the transformations.

    Args:
        database: where the stimuli are; it is opened when the first one is read.
        size: [width, height, channels] after all transformations.
        batch_size: stimuli in a batch; the last one of a partition may be smaller.
        composite_stimuli: labels per pixel: only False is legal.
        random_read: iterating gives random batches, not the partition in its order.
        name: what it is called when printed.

    Raises:
        WrongValue, WrongInputType: an argument is illegal.
    """

    def __init__(
        self,
        database: Database,
        size: Sequence[int],
        batch_size: int = 1,
        *,
        composite_stimuli: bool = False,
        random_read: bool = False,
        name: str = "sp",
    ) -> None:
        if not isinstance(database, Database):
            raise WrongInputType(f"database={database!r} is illegal: it must be one of n2d2.database")
        if composite_stimuli:
            raise WrongValue("composite_stimuli=True is illegal: labels per pixel are for segmentation")
        if len(size) != 3:  # noqa: PLR2004 (as the message says)
            raise WrongValue(f"size={size!r} is illegal: it must be [width, height, channels]")
        with n2d2_errors():
            for what, value in zip(("width", "height", "channels", "batch_size"), (*size, batch_size), strict=True):
                check_count(what, value, low=1)
        self.database, self.size, self.batch_size, self.name = database, list(size), batch_size, name
        self.partition = "Learn"
        self.transformations: list[Transformation] = []
        self.on_the_fly_transformations: list[Transformation] = []
        self._normalized, self._random_read = False, random_read
        self._kept: dict[str, Images] = {}  # partition -> its images, transformed once
        self._batch = torch.zeros(0, *self.shape()[1:])
        self._labels = torch.zeros(0, dtype=torch.int64)
        self._waiting = torch.zeros(0, dtype=torch.int64)  # what read_random_batch has not yet given of this epoch
        self._index = 0

    @property
    def epoch_size(self) -> int:
        """The number of stimuli in Learn."""
        return self.database.get_nb_stimuli("Learn")

    def add_transformation(self, transformation: Transformation | Composite) -> None:
        """Transform every stimulus with this too, once."""
        self.transformations += flat(transformation)
        self._kept.clear()

    def add_on_the_fly_transformation(self, transformation: Transformation | Composite) -> None:
        """Transform every stimulus with this too, at each reading, after all that are done once."""
        self.on_the_fly_transformations += flat(transformation)

    def normalize_stimuli(self) -> None:
        """Scale stimuli that are integers after their transformations from 0..255 to [0, 1]."""
        self._normalized = True

    def set_partition(self, partition: str) -> None:
        """Read from Learn, Validation, Test or Unpartitioned from now on."""
        check_choice("partition", partition, PARTITIONS)
        self.partition, self._waiting, self._index = partition, self._waiting[:0], 0

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
        parts = in_parts(order, self.batch_size)
        if drop_last and n % self.batch_size:
            parts.pop()
        yield from self._read(partition, parts, generator)

    def epoch(self, number: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Give the batches of an epoch of learning: for the same number (from 0) and seed, the same ones."""
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{number}".encode()))
        return self.batches("Learn", shuffle=True, generator=generator)

    def read_random_batch(self) -> Tensor:
        """Read a batch by chance: each stimulus of the partition once before any comes again."""
        n = self._n_in_partition()
        while len(self._waiting) < self.batch_size:
            self._waiting = torch.cat((self._waiting, torch.randperm(n)))
        here, self._waiting = self._waiting.tensor_split([self.batch_size])
        return self._read_one(here)

    def read_batch(self, idx: int) -> Tensor:
        """Read the stimuli of the partition from number `idx` on."""
        n = self._n_in_partition()
        if not 0 <= idx < n:
            raise WrongValue(f"idx={idx} is illegal: {self.partition} has stimuli 0 to {n - 1}")
        return self._read_one(torch.arange(idx, min(idx + self.batch_size, n)))

    def images(self, partition: str) -> Images:
        """The images of a partition after the transformations that are done once."""
        indices = self.database.indices(partition)
        if partition not in self._kept or self._kept[partition].indices is not indices:
            chain = applied(self.transformations, partition)
            self._kept[partition] = Images(self.database.stimuli, indices, chain)
        return self._kept[partition]

    def get_labels(self) -> torch.Tensor:
        """The labels of the batch that was read last, int64 (n,)."""
        return self._labels

    def get_data(self) -> Tensor:
        """The batch that was read last."""
        return Tensor.from_torch(self._batch, source=self)

    def global_value(self, name: str, partition: str = "Learn") -> "GlobalValue":
        """Stand for the "mean" or the "stdDev" of a partition after the transformations added so far.

        Nothing is computed (and no data opened) before the value is called: RangeAffine takes it as it is.
        """
        check_choice("name", name, ("mean", "stdDev"))
        check_choice("partition", partition, PARTITIONS)
        seen = DataProvider(self.database, self.size)
        seen.transformations = list(self.transformations)
        return GlobalValue(seen, name, partition)

    def __next__(self) -> Tensor:
        """Give the next batch of the partition, or a random one with `random_read`."""
        first = self._index * self.batch_size
        if first >= len(self.database.indices(self.partition)):
            raise StopIteration
        self._index += 1
        return self.read_random_batch() if self._random_read else self.read_batch(first)

    def __iter__(self) -> "DataProvider":
        self._index = 0
        return self

    def __repr__(self) -> str:
        arguments = f"database={self.database}, size={self.size}, batch_size={self.batch_size}"
        lists = {"Transformations": self.transformations, "OnTheFlyTransformations": self.on_the_fly_transformations}
        added = "".join(f"[{title}={', '.join(map(str, given))}]" for title, given in lists.items() if given)
        return f"'{self.name}' DataProvider({arguments}){added}"

    def _n_in_partition(self) -> int:
        n = len(self.database.indices(self.partition))
        if not n:
            raise WrongValue(f"partition {self.partition} of {self.database} is empty: set_partition chooses another")
        return n

    def _read_one(self, where: torch.Tensor) -> Tensor:
        self._batch, self._labels = next(self._read(self.partition, [where], None))
        return self.get_data()

    def _read(
        self, partition: str, parts: Iterable[torch.Tensor], generator: torch.Generator | None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Give the finished batches of these positions in a partition."""
        labels, indices = self.database.stimuli.labels, self.database.indices(partition)
        chain = applied(self.on_the_fly_transformations, partition)
        device = global_variables.device()
        for where, images in self.images(partition).read(parts):
            done = torch.cat([self._finished(through(chain, one, generator)) for one in images])
            yield done.to(device), labels[indices[where]].to(device)

    def _finished(self, x: torch.Tensor) -> torch.Tensor:
        if list(x.shape[1:]) != self.shape()[1:]:
            raise WrongValue(
                f"stimuli have shape {list(x.shape[1:])} after their transformations, the provider's size "
                f"{self.size} (width, height, channels) asks for {self.shape()[1:]}: add a Rescale, a PadCrop or a "
                "ChannelExtraction, or change the size"
            )
        if x.dtype != torch.uint8:
            return x
        return x.float().div_(255) if self._normalized else x.float()

    # What N2D2 calls them.

    def set_reading_randomly(self, random_read: bool) -> None:  # noqa: FBT001 (N2D2's signature)
        """Iterate over random batches, or over the partition in its order."""
        self._random_read = random_read

    def get_name(self) -> str:
        """The name."""
        return self.name

    def get_size(self) -> list[int]:
        """[width, height, channels]."""
        return list(self.size)

    def shape(self) -> list[int]:
        """[batch, channels, height, width]."""
        return [self.batch_size, *reversed(self.size)]

    def dims(self) -> list[int]:
        """[width, height, channels, batch]."""
        return [*self.size, self.batch_size]

    def get_batch_size(self) -> int:
        """The number of stimuli in a batch."""
        return self.batch_size

    def get_database(self) -> Database:
        """The database."""
        return self.database

    def get_partition(self) -> str:
        """The partition that is read."""
        return self.partition

    def batch_number(self) -> int:
        """How many batches this iteration has given."""
        return self._index


class GlobalValue:
    """A number that is computed from the stimuli when it is first called for."""

    def __init__(self, provider: DataProvider, name: str, partition: str) -> None:
        self.provider, self.name, self.partition = provider, name, partition

    def __call__(self) -> float:
        """Return it; the first call opens the data and goes through all of it.

        Raises:
            DataError: the data is not there.
        """
        return self._value

    @cached_property
    def _value(self) -> float:
        n, total, squares = 0, 0.0, 0.0
        places = torch.arange(len(self.provider.database.indices(self.partition)))
        for _, images in self.provider.images(self.partition).read(in_parts(places)):
            values = torch.cat([image.flatten() for image in images]).double()
            n, total, squares = n + len(values), total + values.sum().item(), squares + values.square().sum().item()
        mean = total / max(1, n)
        return float(mean if self.name == "mean" else max(0.0, squares / max(1, n) - mean**2) ** 0.5)

    def __repr__(self) -> str:
        return f"GlobalValue({self.name} of {self.partition})"
