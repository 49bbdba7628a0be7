"""The data of a search: loaders that are gone through again and again, in an order that depends on the seed alone."""

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, Subset

from prunecell.errors import OptionError, OptionTypeError, typed
from prunecell.torch_checks import are_batches
from prunecell.training.accuracy import Batches

HELD_OUT = 10
"""One sample, or one batch, of so many is held out for validation where no validation data is given."""

CPU = torch.device("cpu")

_LEGAL = "it must give batches (inputs, labels), as a DataLoader or a list does"


@dataclass(frozen=True, eq=False, kw_only=True)
class Stream:
    """A loader with its own stream of random numbers, so that a run that goes on sees the same batches.

    Shuffling and augmentation that draw from torch's random generator are the same whenever the same epoch is asked
    for; what draws from elsewhere (numpy, a generator of the loader's own, worker processes of a shared pool) is not.

    Attributes:
        loader: gives batches (inputs, labels).
        seed: >= 0.
        device: where the batches are moved.
    """

    loader: Batches
    seed: int
    device: torch.device = CPU

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, from 0."""
        own = torch.Generator().manual_seed(self.seed * 1_000_003 + number).get_state()
        batches: Iterator[tuple[Tensor, Tensor]] | None = None
        while True:
            outside = torch.get_rng_state()
            torch.set_rng_state(own)
            try:
                batches = iter(self.loader) if batches is None else batches  # a DataLoader's may have no truth
                inputs, labels = next(batches)
            except StopIteration:
                return
            finally:
                own = torch.get_rng_state()
                torch.set_rng_state(outside)
            yield inputs.to(self.device), labels.to(self.device)

    @property
    def is_sized(self) -> bool:
        """Whether len() of the loader tells its batches; that of an IterableDataset is a guess, where it has one."""
        streamed = isinstance(self.loader, DataLoader) and isinstance(self.loader.dataset, IterableDataset)
        try:
            return not streamed and len(self.loader) >= 0  # type: ignore[arg-type] # asked just now
        except (TypeError, NotImplementedError):  # of a sampler without a length
            return False

    @cached_property
    def n_batches(self) -> int:
        """The batches of one epoch, counted by going through it where the loader does not know."""
        return len(self.loader) if self.is_sized else sum(1 for _ in self.epoch(0))  # type: ignore[arg-type]


def check_loader(name: str, loader: object) -> None:
    """Refuse, by name, what does not give batches (inputs, labels) each time that it is asked.

    Raises:
        OptionTypeError: it is no iterable, or its first batch is no pair of tensors with as many labels as inputs.
        OptionError: it is used up after one epoch, or has no batch.
    """
    if not are_batches(loader):
        raise OptionTypeError(f"{name} is {typed(loader)}: {_LEGAL}")
    if isinstance(loader, Iterator):
        raise OptionError(f"{name} is {typed(loader)}, which can be gone through only once: {_LEGAL}")
    state = torch.get_rng_state()
    first = next(iter(loader), None)
    torch.set_rng_state(state)
    if first is None:
        raise OptionError(f"{name} has no batch: {_LEGAL}")
    pair = isinstance(first, list | tuple) and len(first) == 2 and all(isinstance(part, Tensor) for part in first)  # noqa: PLR2004
    if not pair:
        raise OptionTypeError(f"{name} gives {typed(first)} that is no pair of tensors: {_LEGAL}")
    inputs, labels = first
    if not labels.dim() or len(inputs) != len(labels):
        raise OptionTypeError(
            f"{name} gives inputs of shape {tuple(inputs.shape)} with labels of shape {tuple(labels.shape)}: there must"
            " be a label for each input"
        )


def are_same(train: Batches, validation: Batches) -> bool:
    """Whether both are one object, or loaders that go through all of one data set.

    >>> batches = [(torch.zeros(2, 3), torch.zeros(2))]
    >>> are_same(batches, batches), are_same(batches, list(batches))
    (True, False)
    """
    if not (isinstance(train, DataLoader) and isinstance(validation, DataLoader)):
        return train is validation
    samplers = (train.sampler, validation.sampler)
    whole = all(isinstance(sampler, RandomSampler | SequentialSampler) for sampler in samplers)
    return train is validation or (whole and train.dataset is validation.dataset)


def split(train: Batches) -> tuple[Batches, Batches]:
    """Hold out a tenth of the training data: samples of a DataLoader's data set, or batches of a list.

    Returns:
        What is left for training, and what is held out, in a fixed order.

    Raises:
        OptionError: it cannot be told which sample is which, or there is too little.
    """
    if isinstance(train, DataLoader):
        return _split_loader(train)
    if isinstance(train, Sequence):
        n = max(len(train) // HELD_OUT, 1)
        if len(train) > n:
            return train[:-n], train[-n:]
    raise OptionError(
        f"validation=None is illegal with {typed(train)} of so few or unknown samples: give the validation data"
    )


def _split_loader(train: "DataLoader[Any]") -> tuple[Batches, Batches]:
    data, sampler = train.dataset, train.sampler
    known = isinstance(sampler, RandomSampler | SequentialSampler) and train.batch_size is not None
    n = len(data) // HELD_OUT if isinstance(data, Sized) else 0
    if isinstance(data, IterableDataset) or not known or not n:
        raise OptionError(
            "validation=None is illegal with this DataLoader, whose samples are unknown, drawn by a sampler of its own,"
            " or too few: give the validation data"
        )
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()  # type: ignore[arg-type]
    same: dict[str, Any] = {
        "collate_fn": train.collate_fn,
        "num_workers": train.num_workers,
        "pin_memory": train.pin_memory,
    }
    shuffled = isinstance(sampler, RandomSampler)
    rest: DataLoader[Any] = DataLoader(
        Subset(data, order[n:]), train.batch_size, shuffle=shuffled, drop_last=train.drop_last, **same
    )
    return rest, DataLoader(Subset(data, sorted(order[:n])), train.batch_size, **same)


def some_batches(batches: Batches, n_samples: int) -> list[tuple[Tensor, Tensor]]:
    """The first batches, until there are so many samples."""
    taken, n = [], 0
    for inputs, labels in batches:
        taken.append((inputs, labels))
        n += len(labels)
        if n >= n_samples:
            break
    return taken
