"""The way of an input of one shape through a chain: which links take it, and what each gives.

A link that does not fit, or is no link for such an input, ends the way: then its module is called, and says what is
wrong if something is.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch

from prunecell import native
from prunecell.errors import OptionError
from prunecell.sparse.convolution_op import LARGEST, geometry_of
from prunecell.sparse.ready import Layer, Ready

PICTURE_BYTES = 1 << 19  # of input and output of a link, for the samples that go through at once


Link = tuple[Any, ...]
"""What a module does: its name, then all that it depends on (links.py). A linear layer has nothing more."""

CONVOLUTION = "convolution"
LINEAR: Link = ("linear",)
RELU: Link = ("activation", native.ACTIVATIONS["relu"], 0.0)
FLATTEN: Link = ("flatten",)
NOTHING: Link = ("nothing",)

NO_ACTIVATION = (0, 0.0)


def is_of_layer(link: Link | None) -> bool:
    """Whether it is what a sparse layer does."""
    return link is not None and (link == LINEAR or link[0] == CONVOLUTION)


class Stop(NamedTuple):
    """A link that computes more than an activation, with the activation behind it.

    Attributes:
        place: among the links.
        kind: native.LINEAR, CONVOLUTION or POOLING.
        member: of the layer; None for a pooling.
        picture: a native.Geometry or Pooling; None for a linear layer.
        shape: of a sample of what it gives.
        activation: the code of what comes behind it, or 0, and its slope.
    """

    place: int
    kind: int
    member: Ready | None
    picture: Any
    shape: tuple[int, ...]
    activation: tuple[int, float] = NO_ACTIVATION

    @property
    def work(self) -> int:
        """Products of an entry with a sample."""
        if self.member is None:
            return 0
        return self.member.n_entries * (math.prod(self.shape[1:]) if self.kind == native.CONVOLUTION else 1)

    def link(self, form: int | None) -> native.Link:
        """It as a kernel takes it, with the address of the packed matrix."""
        picture, member = self.picture and self.picture.address, self.member
        if member is None:
            return native.Link(None, None, None, 0, picture, self.kind, 0, 0, *self.activation)
        sizes = member.n_columns, member.n_rows
        return native.Link(form, *member.epilogue, picture, self.kind, *sizes, *self.activation)


class Route(NamedTuple):
    """The stops of a way, the shape of a sample that comes out, and how many links were taken."""

    stops: list[Stop]
    shape: tuple[int, ...]
    n_links: int

    @property
    def n_at_once(self) -> int:
        """Samples whose pictures stay in the second-level cache."""
        floats = [math.prod(stop.shape) for stop in self.stops if stop.kind != native.LINEAR]
        return max(1, PICTURE_BYTES // 4 // (2 * max(floats, default=1)))

    @property
    def work(self) -> int:
        """Products of an entry with a sample."""
        return sum(stop.work for stop in self.stops)

    @property
    def is_lone_convolution(self) -> bool:
        """Whether it does no more than a convolution alone can do (convolved.py)."""
        first = self.stops[0]
        return (
            first.kind == native.CONVOLUTION and len(self.stops) == 1 and first.activation in {NO_ACTIVATION, RELU[1:]}
        )


def route(links: Sequence[Link], layers: Iterable[Layer], members: Iterable[Ready], shape: tuple[int, ...]) -> Route:
    """The way of samples of a shape: (features,), or pictures, (channels, *size).

    Args:
        links: of which the first is a sparse layer.
        layers: those of them that are sparse.
        members: the same, as they are now.
        shape: of a sample.
    """
    stops: list[Stop] = []
    sparse = iter(zip(layers, members, strict=False))  # the way may have been cut
    for n_links, link in enumerate(links):
        name, *options = link
        stop = None
        if link == LINEAR or name == CONVOLUTION:
            layer, member = next(sparse)
            stop = _linear(member, shape) if link == LINEAR else _convolution(layer, member, shape)
        elif name in _POOLINGS:
            stop = _POOLINGS[name](shape, *options)
        elif name == "flatten":
            shape = (math.prod(shape),)
            continue
        elif name == "activation" and stops[-1].activation == NO_ACTIVATION:
            stops[-1] = stops[-1]._replace(activation=(options[0], options[1]))
            continue
        elif name == "nothing":
            continue
        if stop is None:
            return Route(stops, shape, n_links)
        stops.append(stop._replace(place=n_links))
        shape = stop.shape
    return Route(stops, shape, len(links))


def _linear(member: Ready, shape: tuple[int, ...]) -> Stop | None:
    return (
        Stop(0, native.LINEAR, member, None, (member.n_rows,))
        if shape == (member.n_columns,) and member.n_rows
        else None
    )


def _are_pictures(shape: tuple[int, ...]) -> bool:
    """Whether it is clear that channels come first in memory, as of single points it is not."""
    return math.prod(shape[1:]) > 1


def _convolution(layer: Layer, member: Ready, shape: tuple[int, ...]) -> Stop | None:
    around, (*kernel, groups) = layer.kernel()
    if around or layer.channels_last or not _are_pictures(shape):
        return None
    try:
        geometry, out = geometry_of(
            torch.Size((1, *shape)), member.n_rows, member.n_columns, *map(tuple, kernel), groups
        )
    except OptionError:
        return None
    return Stop(0, native.CONVOLUTION, member, geometry, (member.n_rows, *out))


def _mean_of_all(shape: tuple[int, ...]) -> Stop | None:
    return _mean(shape, shape[1:], None, 0, 1, True, None)  # noqa: FBT003 - no padding, so all is one


def _mean(shape: tuple[int, ...], *rest: Any) -> Stop | None:  # noqa: ANN401 - options of the module
    *kernel, with_padding, divisor = rest
    if (geometry := _pooled(shape, *kernel)) is None or divisor == 0 or not (divisor is None or _is_size(divisor)):
        return None
    of_real = divisor is None and not with_padding
    n_elements = math.prod(geometry.kernel) if divisor is None else divisor
    return _pooling(native.Pooling(geometry, 1, of_real, n_elements))


def _largest(shape: tuple[int, ...], *kernel: Any) -> Stop | None:  # noqa: ANN401 - options of the module
    return None if (geometry := _pooled(shape, *kernel)) is None else _pooling(native.Pooling(geometry, 0, 0, 1))


_POOLINGS: dict[str, Callable[..., Stop | None]] = {"mean": _mean, "mean of all": _mean_of_all, "largest": _largest}


def _pooling(pooling: native.Pooling) -> Stop:
    geometry = pooling.geometry
    return Stop(0, native.POOLING, None, pooling, (geometry.out_channels, *geometry.out[1:]))


def _pooled(shape: tuple[int, ...], *options: Any) -> native.Geometry | None:  # noqa: ANN401 - see above
    """The geometry of a pooling of pictures; None where torch has to say what it does."""
    kernel_size, stride, padding, dilation = options
    given = map(_two, (kernel_size, kernel_size if stride is None else stride, padding, dilation))
    kernel = [numbers for numbers in given if numbers is not None]
    if len(shape) != 3 or not _are_pictures(shape) or len(kernel) < 4:  # noqa: PLR2004 - channels, height, width
        return None
    channels, *size = shape
    if any(2 * p > k for p, k in zip(kernel[2], kernel[0], strict=True)):
        return None
    try:
        geometry, _ = geometry_of(torch.Size((1, 1, *size)), 1, math.prod(kernel[0]), *kernel, 1)
    except OptionError:
        return None
    fields = {name: getattr(geometry, name) for name, *_ in geometry._fields_}
    return native.Geometry(**{**fields, "in_channels": channels, "out_channels": channels})


def _two(numbers: Any) -> tuple[int, int] | None:  # noqa: ANN401 - one number, or one an axis
    two = tuple(numbers) if isinstance(numbers, tuple | list) else (numbers, numbers)
    return two if len(two) == 2 and all(map(_is_size, two)) else None  # noqa: PLR2004 - height, width


def _is_size(number: object) -> bool:
    return type(number) is int and 0 <= number <= LARGEST
