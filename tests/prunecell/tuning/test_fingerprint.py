"""Data is told alike in every process and in any order, and other data is told differently."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from prunecell.tuning.fingerprint import fingerprint_of

X, Y = torch.arange(240.0).view(40, 6), torch.arange(40) % 4


class Augmented(Dataset):
    """Items with noise out of some generator."""

    def __init__(self, noise):
        self.noise = noise

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return X[index] + self.noise(), int(Y[index])


class Pictures(Dataset):
    """Items of other kinds than tensors."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return {"image": np.full((2, 2), index, np.uint8), "names": ["a", str(index)], "what": object()}


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(X, Y, strict=True)


class ByName(Dataset):
    """A data set that a sampler of its own asks."""

    def __len__(self):
        return 2

    def __getitem__(self, name):
        return X[{"a": 0, "b": 1}[name]], 0


class Passes:
    """A loader that can only be gone through."""

    def __iter__(self):
        yield X, Y


UNSEEDED = np.random.default_rng()
NOISES = {
    "torch": lambda: float(torch.rand(1)),
    "numpy": lambda: float(np.random.rand()),  # noqa: NPY002
    "python": random.random,
    "a generator of its own": lambda: float(UNSEEDED.random()),
    "flips of its own": lambda: float(UNSEEDED.integers(2)),
}
LOADERS = {
    "list": lambda: [(X[:20], Y[:20]), (X[20:], Y[20:])],
    "in order": lambda: DataLoader(TensorDataset(X, Y), 8),
    "shuffled": lambda: DataLoader(TensorDataset(X, Y), 8, shuffle=True, drop_last=True),
    "by a generator": lambda: DataLoader(TensorDataset(X, Y), 8, shuffle=True, generator=torch.Generator()),
    "workers": lambda: DataLoader(TensorDataset(X, Y), 8, num_workers=1),
    "pictures": lambda: DataLoader(Pictures(), 4, collate_fn=list),
    "stream": lambda: DataLoader(Stream(), 8),
    "by name": lambda: DataLoader(ByName(), sampler=["a", "b"]),
    "passes": Passes,
    **{f"augmented by {name}": lambda noise=noise: DataLoader(Augmented(noise), 8) for name, noise in NOISES.items()},
}


@pytest.mark.parametrize("name", LOADERS)
def test_the_same_data_is_told_alike_whatever_was_drawn(name):
    loader = LOADERS[name]()
    first = fingerprint_of(loader)
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    next(iter(loader))
    assert fingerprint_of(loader) == first == fingerprint_of(LOADERS[name]())


def test_shuffling_says_nothing():
    assert len({fingerprint_of(LOADERS[name]()) for name in ("in order", "shuffled", "by a generator", "workers")}) == 1


@pytest.mark.parametrize("name", LOADERS)
def test_all_random_generators_are_left_alone(name):
    def drawn():
        return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()  # noqa: NPY002, S311

    def seed():
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)

    seed()
    expected = drawn()
    seed()
    fingerprint_of(LOADERS[name]())
    assert drawn() == expected


def test_another_process_tells_the_same():
    code = (
        "import torch; from torch.utils.data import DataLoader, TensorDataset\n"
        "from prunecell.tuning.fingerprint import fingerprint_of\n"
        "data = TensorDataset(torch.arange(240.0).view(40, 6), torch.arange(40) % 4)\n"
        "print(fingerprint_of(DataLoader(data, 8, shuffle=True)))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert found == fingerprint_of(LOADERS["shuffled"]())


OTHERS = {
    "labels": DataLoader(TensorDataset(X, (Y + 1) % 4), 8),
    "inputs": DataLoader(TensorDataset(2 * X, Y), 8),
    "dtype": DataLoader(TensorDataset(X.double(), Y), 8),
    "fewer": DataLoader(TensorDataset(X[:39], Y[:39]), 8),
    "the first": DataLoader(TensorDataset(torch.cat([X[:1] + 1, X[1:]]), Y), 8),
    "the last": DataLoader(TensorDataset(torch.cat([X[:-1], X[-1:] + 1]), Y), 8),
    "batch size": DataLoader(TensorDataset(X, Y), 4),
    "list": [(X, Y)],
    "labels of a list": [(X, Y + 1)],
    "pictures": DataLoader(Pictures(), 8, collate_fn=list),
    "stream": DataLoader(Stream(), 8),
    "augmented": LOADERS["augmented by a generator of its own"](),
    "nothing": [],
}


def test_other_data_is_told_differently():
    told = [fingerprint_of(loader) for loader in (LOADERS["in order"](), *OTHERS.values())]
    assert len(set(told)) == len(told)
