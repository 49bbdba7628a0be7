"""What an epoch of the INI LeNet costs beside the loop that one writes by hand in torch, one thread.

    python benchmarks/ini_epoch.py [ROUNDS] [STEPS]

Loops that take turns, on batches from the same data: each round is STEPS mini-batches of 128; medians over ROUNDS.
"""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from n2d2.experiment.experiment import read
from prunecell import Pruner
from prunecell.data import mnist
from prunecell.training.accuracy import Batches
from prunecell.training.fitting import Task, fit

JOB = read(Path(__file__).parents[1] / "examples" / "n2d2" / "lenet.ini")


class ByHand:
    """A network, an optimizer and a loop of torch alone; the batches are indexed out of a tensor."""

    def __init__(self) -> None:
        self.images, self.labels = F.pad(mnist().train_images[:54_000, None], (2, 2, 2, 2)), mnist().train_labels
        self.model = nn.Sequential(
            *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.05, momentum=0.9, weight_decay=0.0005)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch of its own."""
        for where in torch.randperm(len(self.images)).split(128):
            yield self.images[where].float().div_(255), self.labels[where]

    def train(self, batches: Batches) -> None:
        """Learn from these batches."""
        for images, labels in batches:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            loss.item()


class FromIni:
    """The network of the file in the loop of `prunecell run`."""

    def __init__(self, *, pruned: bool) -> None:
        self.model = JOB.fresh()
        self.optimizer = JOB.optimizer(self.model)
        size = JOB.provider.epoch_size
        self.pruner = Pruner(self.model, JOB.plan, optimizer=self.optimizer, epoch_size=size) if pruned else None

    def train(self, batches: Batches) -> None:
        """Learn from these batches."""
        fit(Task(**vars(self), train=lambda _: batches, loss=JOB.network.loss), 1)


def main(rounds: int = 15, steps: int = 100) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    hand, dense, pruned = ByHand(), FromIni(pruned=False), FromIni(pruned=True)
    loops = {
        "by hand": lambda _: hand.train(islice(hand.batches(), steps)),
        "by hand, batches of the INI": lambda n: hand.train(islice(JOB.train(n), steps)),
        "INI, dense": lambda n: dense.train(islice(JOB.train(n), steps)),
        "INI, pruned": lambda n: pruned.train(islice(JOB.train(n), steps)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds + 1):
        for name, loop in loops.items():
            started = perf_counter()
            loop(number)
            if number:  # the first round warms up
                seconds[name].append(perf_counter() - started)
    for name, taken in seconds.items():
        ratio = median(mine / theirs for mine, theirs in zip(taken, seconds["by hand"], strict=True))
        print(f"{name:28} {median(taken) / steps * 1e3:6.2f} ms a step   {ratio:5.2f} of by hand")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
