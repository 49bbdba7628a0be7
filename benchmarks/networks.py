"""The networks and images on which accuracy per byte is measured, and how they are trained.

Everything is a function of the seed: the first weights, the order of the images, their shifts.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from prunecell import evaluate
from prunecell.data import DataSet, digits, fashion_mnist, mnist

BATCH, SHIFTED_TOGETHER = 256, 32
N_VALIDATION = 5_000  # the last training images

# ---- networks --------------------------------------------------------------------------------------------------------


def lenet_300_100() -> nn.Sequential:
    """266,610 weights and biases."""
    layers = (nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    return nn.Sequential(nn.Flatten(), *layers)


def lenet_5() -> nn.Sequential:
    """Caffe's shape, with ReLU after the convolutions: 431,080 weights and biases."""
    first = (nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU())
    second = (nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.ReLU())
    dense = (nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))
    return nn.Sequential(*first, *second, *dense)


class Residual(nn.Module):
    """Two convolutions and a shortcut, which is a convolution of 1 x 1 where shapes change."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - torch's
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet(stride: int = 2, depth: int = 3) -> nn.Sequential:
    """ResNet-20 (`depth` 3 of He 2016) for gray images, which works on 14 x 14 pixels, or with stride 1 on all."""
    blocks = [
        Residual(old if first else new, new, stride if first else 1)
        for old, new, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        for first in (True, *(False,) * (depth - 1))
    ]
    stem = (nn.Conv2d(1, 16, 3, stride, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {
    "lenet-300-100": lenet_300_100,
    "lenet-5": lenet_5,
    "resnet-20": resnet,
    "resnet-20-fine": partial(resnet, stride=1),
}


def new_network(name: str, seed: int) -> nn.Sequential:
    """A network with He's first weights (2015), and biases of zero.

    Its kernels are channels last, with which torch's pooling is several times faster on CPUs.
    """
    torch.manual_seed(seed)
    model = NETWORKS[name]()
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's


# ---- images ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Course:
    """A data set whose last training images are the validation set, and how it is shown to a network.

    Attributes:
        train, validation, test: images, uint8, (n, 1, 28, 28), and labels, (n,).
        shift: whether each 32 images of a batch are moved together by one of -1, 0, 1 pixels in each direction.
        seed: of the order and the shifts.
        bfloat16: whether training computes in bfloat16 where torch's autocast does: half as long on CPUs that have it.
    """

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    shift: bool
    seed: int
    bfloat16: bool

    @property
    def n_train(self) -> int:
        """How many images an epoch has."""
        return len(self.train[0])

    @property
    def n_batches(self) -> int:
        """How many batches an epoch has."""
        return -(-self.n_train // BATCH)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The training images of an epoch as numbers in [0, 1], and their labels."""
        generator = torch.Generator().manual_seed(1000 * self.seed + epoch)
        x, y = self.train
        for chosen in torch.randperm(len(x), generator=generator).split(BATCH):
            batch = x[chosen] / 255
            yield moved(batch, generator) if self.shift else batch, y[chosen]


def padded_digits() -> DataSet:
    """Scikit-learn's digits in the size of MNIST's: for a trial of seconds."""
    small = digits()
    large = [
        F.pad(images.repeat_interleave(3, 1).repeat_interleave(3, 2), (2, 2, 2, 2))
        for images in (small.train_images, small.test_images)
    ]
    return DataSet("digits", large[0], small.train_labels, large[1], small.test_labels)


DATA: dict[str, Callable[[], DataSet]] = {"mnist": mnist, "fashion": fashion_mnist, "digits": padded_digits}


def course_of(name: str, *, shift: bool, seed: int, bfloat16: bool) -> Course:
    """Read a data set and split its training images."""
    data = DATA[name]()
    x, y = data.train_images[:, None], data.train_labels
    n = len(x) - min(N_VALIDATION, len(x) // 5)
    test = (data.test_images[:, None], data.test_labels)
    return Course((x[:n], y[:n]), (x[n:], y[n:]), test, shift=shift, seed=seed, bfloat16=bfloat16)


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each 32 of the images, moved together by at most one pixel; zeros come in."""
    height, width = images.shape[-2:]
    parts = F.pad(images, (1, 1, 1, 1)).split(SHIFTED_TOGETHER)
    corners = torch.randint(3, (len(parts), 2), generator=generator).tolist()
    return torch.cat([p[..., y : y + height, x : x + width] for p, (y, x) in zip(parts, corners, strict=True)])


def error_of(model: nn.Module, images: tuple[Tensor, Tensor]) -> float:
    """The fraction of the images that a model gets wrong."""
    x, y = images
    return 1 - evaluate(
        model, ((part / 255, labels) for part, labels in zip(x.split(1000), y.split(1000), strict=True))
    )


# ---- training --------------------------------------------------------------------------------------------------------


def cosine(done: float) -> float:
    """From 1 to 0 with the share of the training that is done."""
    return 0.5 * (1 + math.cos(math.pi * done))


def late(done: float) -> float:
    """1 for a third of the training, then linear to 0."""
    return min(1.0, 1.5 * (1 - done))


def train(
    model: nn.Module,
    optimizer: Optimizer,
    course: Course,
    *,
    epochs: int,
    rate: Callable[[float], float] = cosine,
    after_step: Callable[[int], object] = lambda _: None,
) -> None:
    """Train to the last step.

    Args:
        model: gives scores.
        optimizer: of its parameters, with the first learning rates.
        course: what is shown, and how.
        epochs: how many.
        rate: the share of the training that is done -> what the first learning rates are multiplied by.
        after_step: called with the number of samples of each step.
    """
    n_steps = epochs * course.n_batches
    schedule = LambdaLR(optimizer, lambda step: rate(step / max(n_steps, 1)))
    model.train()
    for epoch in range(epochs):
        for x, y in course.batches(epoch):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=course.bfloat16):
                scores = model(x)
            F.cross_entropy(scores.float(), y).backward()
            optimizer.step()
            schedule.step()
            after_step(len(x))
