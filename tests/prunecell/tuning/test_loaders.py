"""Loaders: the same batches whenever the same epoch is asked for, and a part held out."""

from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from prunecell.errors import OptionError, OptionTypeError
from prunecell.tuning.loaders import Stream, check_loader, some_batches, split

CPU = torch.device("cpu")
DATA = TensorDataset(torch.arange(100.0).view(50, 2), torch.arange(50))


class Noisy(TensorDataset):
    """Augmentation that draws from torch's generator."""

    def __getitem__(self, index):
        inputs, labels = super().__getitem__(index)
        return inputs + torch.randn(2), labels


class Samples(IterableDataset):
    """A data set without a length."""

    def __iter__(self):
        yield from DATA


class Guessing(Samples):
    """One with a length that is wrong."""

    def __len__(self):
        return 5000


class Passes:
    """A loader that can only be gone through."""

    def __iter__(self):
        yield from zip(*(part.split(9) for part in DATA.tensors), strict=True)


LOADERS = {
    "list": [(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))] * 3,
    "in order": DataLoader(DATA, 8),
    "shuffled": DataLoader(DATA, 8, shuffle=True),
    "augmented": DataLoader(Noisy(*DATA.tensors), 8, shuffle=True),
    "stream": DataLoader(Samples(), 8),
    "stream with a guess": DataLoader(Guessing(), 8),
    "pass": Passes(),
}


def same(batches, others):
    return all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(batches, others, strict=True))


@pytest.mark.parametrize("name", LOADERS)
def test_an_epoch_has_the_same_batches_whatever_was_drawn_outside(name):
    stream = Stream(loader=LOADERS[name], seed=3, device=CPU)
    first = [*stream.epoch(2)]
    assert len(first) == stream.n_batches
    assert not stream.is_sized or len(first) == len(stream.loader)
    torch.manual_seed(123)
    again = []
    for batch in stream.epoch(2):
        before = torch.get_rng_state()
        torch.rand(5)
        again.append(batch)
        torch.set_rng_state(before)
    assert same(first, again)


@pytest.mark.parametrize("name", LOADERS)
def test_torch_s_random_generator_is_left_alone(name):
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    batches = Stream(loader=LOADERS[name], seed=0, device=CPU).epoch(0)
    drawn = [torch.rand(1) for _ in islice(batches, 2)]
    drawn += [torch.rand(1) for _ in range(2)]
    assert torch.equal(torch.cat(drawn), expected)


def test_epochs_and_seeds_differ():
    orders = [
        torch.cat([y for _, y in Stream(loader=LOADERS["shuffled"], seed=seed, device=CPU).epoch(epoch)]).tolist()
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == list(range(50)) for order in orders)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_tenth_of_a_data_set_is_held_out(shuffle):
    train, held_out = split(DataLoader(DATA, 8, shuffle=shuffle))
    labels = [[int(y) for _, batch in loader for y in batch] for loader in (train, held_out)]
    assert [len(some) for some in labels] == [45, 5]
    assert sorted(labels[0] + labels[1]) == list(range(50))
    assert labels[1] == [int(y) for _, batch in split(DataLoader(DATA, 4))[1] for y in batch]  # the same every time


def test_the_last_tenth_of_a_list_is_held_out():
    batches = [(torch.zeros(1), torch.tensor([n])) for n in range(20)]
    train, held_out = split(batches)
    assert [int(y) for _, y in train] == list(range(18))
    assert [int(y) for _, y in held_out] == [18, 19]


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield torch.zeros(2), torch.tensor(0)


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(Endless()),
        DataLoader(DATA, 8, sampler=WeightedRandomSampler(torch.ones(50), 50)),
        DataLoader(DATA, batch_size=None),
        DataLoader(TensorDataset(torch.zeros(3, 2), torch.arange(3))),
        [(torch.zeros(1), torch.zeros(1))],
        {"a": 1}.items(),
    ],
    ids=["endless", "sampler", "no batches", "three samples", "one batch", "items"],
)
def test_what_cannot_be_split_is_refused(loader):
    with pytest.raises(OptionError, match="validation=None is illegal with"):
        split(loader)


PAIR = (torch.zeros(2, 3), torch.zeros(2))


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (3, "train is an int: it must give batches"),
        ("abc", "train is a str"),
        (torch.zeros(3), "train is a Tensor"),
        (iter([PAIR]), "which can be gone through only once"),
        ((batch for batch in [PAIR]), "which can be gone through only once"),
        ([], "train has no batch"),
        ([torch.zeros(3)], "train gives a Tensor that is no pair"),
        ([(torch.zeros(3), [1, 2, 3])], "train gives a tuple that is no pair"),
        ([{"inputs": 1}], "train gives a dict that is no pair"),
        ([(torch.zeros(3, 2), torch.zeros(2))], r"inputs of shape \(3, 2\) with labels of shape \(2,\)"),
        ([(torch.zeros(3), torch.tensor(1))], "there must be a label for each input"),
    ],
)
def test_what_is_no_loader_is_refused_by_name(loader, message):
    with pytest.raises((OptionError, OptionTypeError), match=message):
        check_loader("train", loader)


def test_a_check_draws_nothing():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    check_loader("train", LOADERS["augmented"])
    assert torch.equal(torch.rand(1), expected)


def test_some_batches_are_as_few_as_hold_the_samples():
    assert [len(some_batches(LOADERS["in order"], n)) for n in (1, 8, 9, 1000)] == [1, 1, 2, 7]
