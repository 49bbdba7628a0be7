"""Structured, then sparse: filters of a ResNet-20 on Fashion-MNIST are removed, then single weights of what is left.

    python examples/structured_then_sparse.py [--flops 0.5] [--sparsity 0.8] [--epochs 10] [--data FOLDER]

The smaller network is an ordinary dense one, which any program runs, and its file holds its shapes, so that it is read
back without pickle. It needs `pip install 'prunecell[structured]'`. The data is Debian's package dataset-fashion-mnist,
or a folder with its IDX files.
"""

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.nn import functional as F

import prunecell as pc
from prunecell.allocation import lamp
from prunecell.data import fashion_mnist
from prunecell.structured import RemoveSpec, remove_

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--flops", type=float, default=0.5, help="the part of the multiplications that stays")
parser.add_argument("--sparsity", type=float, default=0.8, help="the part of the weights left that is pruned then")
parser.add_argument("--epochs", type=int, default=10, help="of dense training, and half as many after each step")
parser.add_argument("--depth", type=int, default=3, help="blocks in each of the three stages: 3 is ResNet-20")
parser.add_argument("--data", help="a folder with the IDX files of Fashion-MNIST")
args = parser.parse_args()


class Block(nn.Module):
    """Two convolutions and a shortcut (He 2016)."""

    def __init__(self, channels, out, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = nn.Identity()
        if channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        """Of (n, channels, height, width)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def network():
    """A ResNet whose first convolution halves the 28 x 28 pixels."""
    layers = [nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for stage, out in enumerate((16, 32, 64)):
        for block in range(args.depth):
            layers.append(Block(channels, out, 2 if stage and not block else 1))
            channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def train(model, epochs, rate, spec=None):
    """Train, under masks if a spec is given, while the learning rate goes to zero by a cosine."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(images) // 64))
    pruner = spec and pc.Pruner(model, spec, optimizer=optimizer, epoch_size=len(images))
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen] / 255), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
            if pruner:
                pruner.step(len(chosen))
    if pruner:
        print(pruner.finalize())


def told(name, model):
    """Save the network, and say what it takes and how wrong it is."""
    pc.save(model, f"{name}.pcell")
    batches = zip(data.test_images[:, None].div(255).split(1000), data.test_labels.split(1000), strict=True)
    error = 1 - pc.evaluate(model, batches)
    times = []
    with torch.no_grad():
        for _ in range(20):
            start = perf_counter()
            model(images[:64] / 255)
            times.append(perf_counter() - start)
    n_bytes, n_weights = Path(f"{name}.pcell").stat().st_size, sum(p.numel() for p in model.parameters())
    return (
        f"{name:12} {n_weights:9,} weights {n_bytes:10,} bytes {1e3 * median(times):7.1f} ms for 64 images {error:8.2%}"
    )


torch.manual_seed(0)
data = fashion_mnist(args.data)
images, labels = data.train_images[:, None], data.train_labels
model = network()
train(model, args.epochs, rate=0.1)
table = [told("dense", model)]

print(remove_(model, RemoveSpec(flops=args.flops), images[:1] / 255))
train(model, args.epochs // 2, rate=0.05)
table.append(told("structured", model))

again = pc.load_model("structured.pcell", network())  # a network of the old shapes takes those of the file
sparse = pc.PruneSpec(schedule=pc.Cubic(sparsity=args.sparsity, epochs=args.epochs / 4), allocation=lamp)
train(again, args.epochs // 2, rate=0.05, spec=sparse)
table.append(told("then sparse", again))
print(*table, sep="\n")
