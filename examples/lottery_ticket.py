"""Lottery tickets (Frankle & Carbin 2019; Frankle 2020): which few weights would have learned as well alone?

    python examples/lottery_ticket.py [--rounds 8] [--epochs 4] [--data FOLDER]

LeNet-300-100 on MNIST is trained, a fifth of the weights that are left is pruned, the others go back to where they
stood after the first 200 steps, and training begins again. Beside each ticket, a network with the same masks learns
from other first weights: it ends worse, the more so the sparser it is.
"""

import argparse

import torch
from torch import nn
from torch.nn import functional as F

import prunecell as pc
from prunecell.data import mnist

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=8)
parser.add_argument("--epochs", type=int, default=4, help="of each round")
parser.add_argument("--rewind", type=int, default=200, help="the step to which weights go back; 0: the first weights")
parser.add_argument("--data", help="a folder with MNIST's IDX files; by default they are fetched")
args = parser.parse_args()

BATCH, RATE, LEFT = 100, 1.2e-3, 0.8
data = mnist(args.data)
x, y = data.train_images.flatten(1) / 255, data.train_labels
test = [(data.test_images.flatten(1) / 255, data.test_labels)]


def new_network(seed):
    """LeNet-300-100 with first weights of its own."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(x[0].numel(), 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def train(model, pruner, first_step=0):
    """Train from a step on; return the weights at the step of the rewinding, and the error on the test images."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    pruner.attach(optimizer)
    order = torch.Generator().manual_seed(1)
    steps = [chosen for _ in range(args.epochs) for chosen in torch.randperm(len(x), generator=order).split(BATCH)]
    early = None
    for step, chosen in enumerate(steps):
        if step == args.rewind:
            early = {name: value.clone() for name, value in model.state_dict().items()}
        if step < first_step:
            continue
        optimizer.zero_grad()
        F.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
        pruner.step(len(chosen))
    return early, 1 - pc.evaluate(model, test)


def pruned(model, sparsity):
    """A Pruner that keeps the smallest weights of each layer at zero, in the last one half of them at most."""
    last, others = (pc.PruneSpec(schedule=pc.Static(sparsity=part)) for part in (min(sparsity, 0.5), sparsity))
    return pc.Pruner(model, {"4.weight": last, "*": others})


model = new_network(seed=0)
pruner = pruned(model, 0.0)
early, error = train(model, pruner)
print(f"weights left   error of the ticket   of other first weights\n{1:12.1%} {error:21.2%}")
for level in range(1, args.rounds + 1):
    pruner.finalize()
    pruner = pruned(model, 1 - LEFT**level)  # the smallest of the weights as they were trained
    model.load_state_dict(early)
    pruner.zero_pruned_()
    error = train(model, pruner, first_step=args.rewind)[1]

    other = new_network(seed=level)
    same_masks = pruned(other, 0.0)
    same_masks.set_masks(pruner.masks)
    print(f"{1 - pruner.sparsity:12.1%} {error:21.2%} {train(other, same_masks)[1]:24.2%}", flush=True)
