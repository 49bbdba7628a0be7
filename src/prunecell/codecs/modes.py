"""Value modes: what may be lost before a tensor is encoded. What they make is then stored without loss."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from prunecell.checks import check_count
from prunecell.choices import chosen
from prunecell.codecs.dtypes import words_of
from prunecell.codecs.encode import Scaled
from prunecell.codecs.kmeans import Clusters, cluster
from prunecell.codecs.values import distinct
from prunecell.errors import OptionError, OptionTypeError, quoted


class ValueMode(Protocol):
    """A function (name, tensor) -> what is stored instead; those of the table are frozen dataclasses."""

    def __call__(self, name: str, tensor: Tensor) -> Tensor | Scaled:
        """Return the tensor itself, a tensor of the same shape and dtype, or scaled integers."""


def is_weight(tensor: Tensor) -> bool:
    """Tell whether a lossy mode may change a tensor: biases, norms, statistics and counters stay exact."""
    return tensor.is_floating_point() and tensor.dim() > 1 and tensor.numel() > 0 and tensor.itemsize > 1


def finite(name: str, tensor: Tensor, mode: str) -> Tensor:
    """Return the tensor, detached, if every element is finite.

    Raises:
        OptionError: one is not; the message names the tensor and the mode.
    """
    if not bool(tensor.isfinite().all()):
        raise OptionError(f"values={mode!r} needs finite weights, and {name!r} holds inf or NaN")
    return tensor.detach()


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Nothing is lost, not a bit: -0.0, infinities and the payloads of NaN included."""

    def __call__(self, name: str, tensor: Tensor) -> Tensor:  # noqa: ARG002 - one signature for all modes
        """Return the tensor."""
        return tensor


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """Weights rounded to a narrower float; -0.0 becomes +0.0.

    Attributes:
        dtype: "float16" or "bfloat16".
    """

    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in ("float16", "bfloat16"):
            raise OptionError(f"dtype={quoted(self.dtype)} is illegal: it must be 'float16' or 'bfloat16'")

    def __call__(self, name: str, tensor: Tensor) -> Tensor:
        """Round a weight; refuse one that holds a number too large for the dtype."""
        narrow: torch.dtype = getattr(torch, self.dtype)
        if not is_weight(tensor) or tensor.itemsize <= narrow.itemsize:
            return tensor
        rounded = tensor.detach().to(narrow)
        if not torch.equal(rounded.isinf(), tensor.isinf()):
            raise OptionError(f"{name!r} holds a number too large for {self.dtype}; store it with another mode")
        return rounded.to(tensor.dtype) + 0.0


@dataclass(frozen=True, kw_only=True)
class ScaledIntegers:
    """Weights as int8 and a float32 scale for each output channel (the first dimension): max |w| = 127."""

    def __call__(self, name: str, tensor: Tensor) -> Tensor | Scaled:
        """Round a weight to integers of its channel."""
        if not is_weight(tensor):
            return tensor
        rows = finite(name, tensor, "int8").reshape(tensor.shape[0], -1).to(torch.float32)
        if not bool(rows.isfinite().all()):
            raise OptionError(f"{name!r} holds a number too large for float32; store it with another mode")
        scales = rows.abs().amax(dim=1) / 127
        # a row of zeros, or of numbers so small that their scale is zero, gives 0 / 0 or x / 0, which become zero
        integers = (rows / scales[:, None]).nan_to_num(0.0, 0.0, 0.0).round_().clamp_(-127, 127)
        return Scaled(integers=integers.to(torch.int8).reshape(tensor.shape), scales=scales, dtype=tensor.dtype)


@dataclass(frozen=True, kw_only=True)
class SharedValues:
    """Weights share at most 2^bits values, found by k-means among those that are not zero; zeros stay zero.

    Han et al. 2016, Deep Compression, https://arxiv.org/abs/1510.00149. To train on with shared values, see
    `prunecell.sharing.share_`.

    Attributes:
        bits: 1 to 8.
    """

    bits: int

    def __post_init__(self) -> None:
        check_count("bits", self.bits, low=1, high=8)  # an index is a byte

    def __call__(self, name: str, tensor: Tensor) -> Tensor:
        """Replace each weight by the shared value nearest to it."""
        if not is_weight(tensor):
            return tensor
        weight = finite(name, tensor, f"codebook{self.bits}").cpu()
        kept = weight != 0
        values = words_of(weight[kept])
        if (few := distinct(values)) is not None and len(few) <= 1 << self.bits:
            return weight + 0.0  # shared already
        numbers = weight[kept].to(torch.float64).numpy()
        clusters = cluster(numbers, 1 << self.bits)
        shared = torch.zeros_like(weight, memory_format=torch.contiguous_format)
        shared[kept] = rounded_centers(clusters, weight.dtype)[torch.from_numpy(clusters.assign(numbers))]
        return shared


def rounded_centers(clusters: Clusters, dtype: torch.dtype) -> Tensor:
    """Return shared values in `dtype`, rounded to the 8 significant bits of bfloat16 if it has more.

    A value of a codebook then takes two bytes; the error is far smaller than a cluster is wide.
    """
    centers = clusters.centers
    if dtype.itemsize > 2:  # noqa: PLR2004 - bytes
        fractions, exponents = np.frexp(centers)
        centers = np.ldexp(np.round(fractions * 256) / 256, exponents)
    return torch.from_numpy(centers).to(dtype)


VALUE_MODES: dict[str, ValueMode] = {
    "exact": Exact(),
    "fp16": Rounded(dtype="float16"),
    "bf16": Rounded(dtype="bfloat16"),
    "int8": ScaledIntegers(),
    **{f"codebook{bits}": SharedValues(bits=bits) for bits in range(1, 9)},
}
"""Name -> mode."""


def value_mode(mode: str | ValueMode) -> ValueMode:
    """Turn a name into a value mode; a mode is returned as it is.

    Raises:
        UnknownNameError: there is none of this name.
        OptionTypeError: it is neither a name nor callable.
    """
    if isinstance(mode, str):
        return chosen("values", mode, VALUE_MODES)
    if not callable(mode):
        raise OptionTypeError(f"values={quoted(mode)} is illegal: it must be a name or a function (name, tensor)")
    return mode
