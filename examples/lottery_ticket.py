"""Lottery tickets (Frankle & Carbin 2019; Frankle 2020): which few weights would have learned as well alone?

    python examples/lottery_ticket.py [--rounds 8] [--epochs 4] [--data FOLDER]

LeNet-300-100 on MNIST is trained, a third of the weights that are left is pruned, the others go back to where they
stood after the first 200 steps, and training begins again. Beside each ticket, a network with the same masks learns
from other first weights: it ends worse, the more so the sparser it is.
"""

import argparse

import torch
from torch import nn
from torch.nn import functional as F

import prunecell as pc
from prunecell.data import mnist
from prunecell.schedules import Iterative
from prunecell.training import Rewind

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=8, help="that end with a pruning")
parser.add_argument("--epochs", type=int, default=4, help="of each round")
parser.add_argument("--rewind", type=int, default=200, help="the step to which weights go back; 0: the first weights")
parser.add_argument("--data", help="a folder with MNIST's IDX files; by default they are fetched")
args = parser.parse_args()

BATCH, RATE, PRUNED = 100, 1.2e-3, 1 / 3
data = mnist(args.data)
x, y = data.train_images.flatten(1) / 255, data.train_labels
test = [(data.test_images.flatten(1) / 255, data.test_labels)]
n_steps = args.epochs * (len(x) // BATCH)  # of a round


def network(seed):
    """LeNet-300-100 with first weights of its own, and its optimizer."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    return model, torch.optim.Adam(model.parameters(), lr=RATE)


def train(model, optimizer, n_steps, after_step):
    """Train, and return the error on the test images as it is before the last `after_step`, which may prune."""
    for step in range(n_steps):
        chosen = torch.randint(len(x), (BATCH,))
        optimizer.zero_grad()
        F.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
        if step == n_steps - 1:
            error = 1 - pc.evaluate(model, test)
        after_step()
    return error


def rounds(sparsity, fraction):
    """A spec that prunes a fraction of what is left after each round."""
    schedule = Iterative(sparsity=sparsity, fraction=fraction, steps=n_steps, begin=args.rewind)
    return pc.PruneSpec(schedule=schedule)


model, optimizer = network(seed=0)
last = 1 - (1 - PRUNED) ** args.rounds
plan = {"4.weight": rounds(last / 2, PRUNED / 2), "*": rounds(last, PRUNED)}  # fewer of the last layer
pruner = pc.Pruner(model, plan, optimizer=optimizer)
rewind = Rewind(pruner, model=model, optimizer=optimizer, at=args.rewind)


def after_step():
    """Prune, and go back, at the end of each round."""
    pruner.step(BATCH)
    rewind.step()


train(model, optimizer, args.rewind, after_step)
print("weights left   error of the ticket   of other first weights")
for number in range(args.rounds + 1):
    left, masks = 1 - pruner.sparsity, pruner.masks
    error = train(model, optimizer, n_steps, after_step)

    other, its_optimizer = network(seed=number + 1)
    same = pc.Pruner(other, pc.PruneSpec(schedule=pc.Static(sparsity=0)), optimizer=its_optimizer)
    same.set_masks(masks)
    other_error = train(other, its_optimizer, n_steps, lambda: same.step(BATCH))  # noqa: B023 - called in this round
    print(f"{left:12.1%} {error:21.2%} {other_error:24.2%}", flush=True)
