"""RigL (Evci 2020): a network that is sparse from its first step to its last, and moves its connections as it learns.

    python examples/rigl.py [--sparsity 0.98] [--epochs 10] [--data FOLDER]

LeNet-300-100 on MNIST three times, each with so many weights at zero from the beginning: with connections that were
drawn once, with those that move at random (SET, Mocanu 2018), and with those that grow where the gradient is largest.
"""

import argparse

import torch
from torch import nn

import prunecell as pc
from prunecell.allocation import erk
from prunecell.data import mnist
from prunecell.fillers import SET, RigL
from prunecell.schedules import Moving

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sparsity", type=float, default=0.98, help="the part of the weights that is zero")
parser.add_argument("--epochs", type=int, default=10, help="of each of the three")
parser.add_argument("--data", help="a folder with MNIST's IDX files; by default they are fetched")
args = parser.parse_args()

data = mnist(args.data)
x, y = data.train_images.flatten(1) / 255, data.train_labels
test_images, test_labels = data.test_images.flatten(1) / 255, data.test_labels
n_steps = args.epochs * -(-len(x) // 128)


def batches(epoch):
    """The same batches whenever it is asked for the same epoch."""
    for chosen in torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch)).split(128):
        yield x[chosen], y[chosen]


def learned(filler, schedule):
    """Train with one way of choosing connections; return the error on the test images, and how many moved."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    spec = pc.PruneSpec(schedule=schedule, filler=filler, allocation=erk)  # ERK spares the small layers
    pruner = pc.Pruner(model, spec, optimizer=optimizer)
    before = pruner.masks
    task = pc.Task(model=model, optimizer=optimizer, train=batches, keeper=pruner, scheduler=slower)
    pc.fit(task, args.epochs)
    moved = sum(int((mask & ~before[name]).sum()) for name, mask in pruner.masks.items())
    report = pruner.finalize()
    return 1 - pc.evaluate(model, [(test_images, test_labels)]), moved, report.sparsity


still = pc.Static(sparsity=args.sparsity)
moving = Moving(sparsity=args.sparsity, every=max(n_steps // 100, 1), steps=n_steps * 3 // 4)
print("                  sparsity   new connections   test error")
for name, filler, schedule in (
    ("drawn once", pc.Random(), still),
    ("SET", SET(), moving),
    ("RigL", RigL(), moving),
):
    error, moved, sparsity = learned(filler, schedule)
    print(f"{name:16} {sparsity:9.2%} {moved:17,} {error:12.2%}", flush=True)
