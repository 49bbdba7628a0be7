"""Images: where the inputs of a linear layer come from pixels, so that neighbouring columns are alike."""

from collections.abc import Iterable, Iterator

from torch import nn
from torch.nn.modules.conv import _ConvNd

from prunecell.codecs.contexts import square_side
from prunecell.quantization.prices import Image

_COLOURS = (1, 3)


def images_of(layers: Iterable[tuple[str, nn.Module]]) -> Iterator[tuple[str, Image]]:
    """(name, image) of those linear layers whose inputs are square images, by their number.

    The first layer may take grey or coloured pixels, one behind a convolution the convolution's channels. A guess that
    is wrong costs some bits, and nothing else.

    Args:
        layers: (name of its weight, layer) in the model's order.

    >>> dict(images_of([("0.weight", nn.Linear(784, 300)), ("2.weight", nn.Linear(300, 100))]))
    {'0.weight': (1, 28, 28)}
    >>> dict(images_of([("0.weight", nn.Conv2d(1, 50, 5)), ("2.weight", nn.Linear(800, 500))]))
    {'2.weight': (50, 4, 4)}
    """
    before: nn.Module | None = None
    for name, layer in layers:
        if isinstance(layer, nn.Linear):
            channels = (before.out_channels,) if isinstance(before, _ConvNd) else () if before else _COLOURS
            sides = ((n, square_side(layer.in_features, n)) for n in channels)
            yield from ((name, (n, side, side)) for n, side in sides if side)
        before = layer
