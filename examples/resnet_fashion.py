"""A ResNet-20 on Fashion-MNIST: trained densely, BatchNorm folded, then integers under the price of their bits.

    python examples/resnet_fashion.py [--epochs 10] [--lam 3e-6] [--data FOLDER]

The data is Debian's package dataset-fashion-mnist, or a folder with its IDX files. A run that was stopped goes on from
its checkpoints when it is started again.
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import prunecell as pc
from prunecell.data import fashion_mnist
from prunecell.graph import fold_batchnorm_

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=10, help="of dense training, and as many of compression")
parser.add_argument("--lam", type=float, default=3e-6, help="what a bit may cost of the loss")
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


def batches(epoch):
    """The images of an epoch, each 64 mirrored or not: the same whenever it is asked for the same epoch."""
    generator = torch.Generator().manual_seed(epoch)
    for chosen in torch.randperm(len(images), generator=generator).split(64):
        x = images[chosen] / 255
        yield x.flip(3) if torch.rand(1, generator=generator).round() else x, labels[chosen]


def test():
    """The test images, in batches."""
    return zip(data.test_images[:, None].div(255).split(1000), data.test_labels.split(1000), strict=True)


def fit(model, optimizer, checkpoint, quantizer=None):
    """Train while the learning rates go to zero by a cosine."""
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * -(-len(images) // 64))
    task = pc.Task(model=model, optimizer=optimizer, train=batches, keeper=quantizer, scheduler=slower)
    progress = pc.fit(task, args.epochs, checkpoint=pc.Checkpoint(path=Path(checkpoint)))
    print(f"{progress.epochs[-1].seconds:.0f} s for the last epoch, test error {1 - pc.evaluate(model, test()):.2%}")


torch.manual_seed(0)
data = fashion_mnist(args.data)
images, labels = data.train_images[:, None], data.train_labels
model = network()
fit(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4), "dense.checkpoint")
torch.save(model.state_dict(), "resnet.pt")

print(f"{len(fold_batchnorm_(model).folded)} BatchNorms folded")
quantizer = pc.Quantizer(model, pc.RateSpec(lam=args.lam, epochs=args.epochs), epoch_size=len(images))
optimizer = torch.optim.Adam(quantizer.param_groups(lr=1e-3))
quantizer.attach(optimizer)
fit(model, optimizer, "integers.checkpoint", quantizer)
quantizer.finalize()

pc.save(model, "resnet.pcell")
again = network()
fold_batchnorm_(again)  # the names of a folded network
again.load_state_dict(pc.load("resnet.pcell"))
dense, small = Path("resnet.pt").stat().st_size, Path("resnet.pcell").stat().st_size
print(f"resnet.pcell: {small:,} bytes, {dense / small:.0f} times smaller than the state_dict ({dense:,})")
print(f"test error {1 - pc.evaluate(again, test()):.2%}")
