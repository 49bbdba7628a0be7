"""Deep compression: LeNet-300-100 or LeNet-5 on MNIST becomes a file of some kilobytes.

    python examples/deep_compression.py [--network lenet-5 --lam 5e-6 --epochs 12] [--shift] [--data FOLDER]

A dense network is trained for three epochs. Then its weights are integers times a step, and training goes on under
the price of their bits: `lam` is what a bit may cost of the loss. The network is read back from the file and tested.
With --shift, images are moved by up to one pixel in training, which makes both the error and the file smaller.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import prunecell as pc
from prunecell.data import mnist
from prunecell.graph import remove_dead_, sort_units_

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--network", choices=["lenet-300-100", "lenet-5"], default="lenet-300-100", help="what is learned")
parser.add_argument("--lam", type=float, default=3e-6, help="what a bit may cost of the loss")
parser.add_argument("--dense-epochs", type=int, default=3, help="before the weights become integers")
parser.add_argument("--epochs", type=int, default=20, help="of integers under the price of their bits")
parser.add_argument("--shift", action="store_true", help="move images by up to one pixel in training")
parser.add_argument("--data", help="a folder with MNIST's IDX files; by default they are fetched")
args = parser.parse_args()


def network():
    """A network with He's first weights."""
    first = [nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100)]
    if args.network == "lenet-5":  # Caffe's shape
        first = [nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.ReLU()]
        first += [nn.Flatten(), nn.Linear(800, 500)]
    model = nn.Sequential(*first, nn.ReLU(), nn.Linear(first[-1].out_features, 10))
    for name, parameter in model.named_parameters():
        nn.init.kaiming_normal_(parameter) if "weight" in name else nn.init.zeros_(parameter)
    return model.to(memory_format=torch.channels_last)  # torch's pooling is faster so


def moved(images):
    """Each 32 of the images together by one of -1, 0, 1 pixels in each direction."""
    parts = F.pad(images, (1, 1, 1, 1)).split(32)
    corners = torch.randint(3, (len(parts), 2)).tolist()
    return torch.cat([part[..., y : y + 28, x : x + 28] for part, (y, x) in zip(parts, corners, strict=True)])


def train(model, optimizer, epochs, rate, after_step=lambda _: None):
    """Train; `rate` says what the learning rates are multiplied by when a share of the steps is done."""
    n_steps = epochs * math.ceil(len(images) / 256)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step / n_steps))
    for epoch in range(epochs):
        for chosen in torch.randperm(len(images)).split(256):
            x = moved(images[chosen]) if args.shift else images[chosen]
            loss = F.cross_entropy(model(x), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            after_step(len(chosen))
        print(f"epoch {epoch + 1:2} of {epochs}: loss of the last batch {loss.item():.4f}", flush=True)


def error(model):
    """On the test images."""
    return 1 - pc.evaluate(model, [(data.test_images[:, None] / 255, data.test_labels)])


torch.manual_seed(0)
data = mnist(args.data)
images, labels = data.train_images[:, None] / 255, data.train_labels
model = network()
dense = torch.optim.Adam(model.parameters(), lr=2e-3)
train(model, dense, args.dense_epochs, lambda done: min(1, 1.5 * (1 - done)))
dense_error = error(model)

quantizer = pc.Quantizer(model, pc.RateSpec(lam=args.lam, epochs=args.epochs), epoch_size=len(images))
optimizer = torch.optim.Adam(quantizer.param_groups(lr=1e-3))
quantizer.attach(optimizer)
train(model, optimizer, args.epochs, lambda done: (1 + math.cos(math.pi * done)) / 2, quantizer.step)
print(quantizer.finalize())

remove_dead_(model)  # both change no output, and make the file smaller
sort_units_(model)
path = Path(f"{args.network}.pcell")
pc.save(model, path)
again = network()
again.load_state_dict(pc.load(path))
n_bytes, n_weights = path.stat().st_size, sum(parameter.numel() for parameter in model.parameters())
print(f"test error {error(again):.2%} (dense {dense_error:.2%})")
print(f"{path}: {n_bytes:,} bytes, {4 * n_weights / n_bytes:.0f} times smaller than {n_weights:,} float32 weights")
