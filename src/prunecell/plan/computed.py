"""Weights that a layer computes from parameters: by weight norm, spectral norm, or a parametrization.

Such a layer has no parameter of the name `weight`. Which of its parameters stands for the weight is found out by trial:
the one whose zeros become zeros of the weight. A trial also tells where the layer divides by a norm, which must not
become 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrize import ParametrizationList

_MAGNITUDE, _DIRECTION, _ORIGINAL = "_g", "_v", "_orig"
"""How the hooks of torch.nn.utils (weight_norm, spectral_norm, prune) call what they compute a weight from."""

_IS_A_MAGNITUDE = "a magnitude of weight norm"
_ZEROS_ARE_LOST = "what a parametrization computes the weight from: zeros in it are no zeros of the weight"


@dataclass(frozen=True)
class Origin:
    """What a parameter is to the weight that its layer computes from it.

    Attributes:
        weight: the name of that weight in the layer.
        reason: why the parameter does not stand for the weight; empty if it does, zeros in it being zeros there.
        normed: dimensions of the parameter; the layer divides each slice along them by its norm, so none may become
            all zeros. () is the whole parameter, None: it divides by nothing.
    """

    weight: str
    reason: str = ""
    normed: tuple[int, ...] | None = None


def origin_of(owner: nn.Module, name: str, parameter: nn.Parameter) -> Origin | None:
    """What a parameter that `owner` has under `name` is to a computed weight; None if it is none of its origins.

    Args:
        owner: a layer, or the `ParametrizationList` of one, whose weight's name is then unknown here and left empty.
        name: in the owner, without dots.
        parameter: initialized, not empty, of floating point, with values.
    """
    if isinstance(owner, ParametrizationList):
        if type(owner[0]).__name__ == "_WeightNorm" and name == "original0":
            return Origin("", _IS_A_MAGNITUDE)  # of a layer with one input it has the shape of the weight
        return _origin_by_trial(_computed_by(owner, name), parameter)
    return _origin_of_a_hook(owner, name, parameter)


def _origin_of_a_hook(owner: nn.Module, name: str, parameter: Tensor) -> Origin | None:
    """Weight norm and spectral norm as hooks, or written by hand with the same names."""
    if not name.endswith((_MAGNITUDE, _DIRECTION, _ORIGINAL)):
        return None
    stem, _, kind = name.rpartition("_")
    others = dict(owner.named_parameters(recurse=False)) | dict(owner.named_buffers(recurse=False))
    if f"_{kind}" == _ORIGINAL and stem not in others and hasattr(owner, stem):
        return Origin(stem, normed=() if f"{stem}_u" in others else None)
    if f"_{kind}" == _MAGNITUDE and stem + _DIRECTION in others:
        return Origin(stem, _IS_A_MAGNITUDE)
    if f"_{kind}" == _DIRECTION and stem + _MAGNITUDE in others:
        return Origin(stem, normed=_slices(others[stem + _MAGNITUDE], parameter))
    return None


def _slices(magnitude: Tensor, direction: Tensor) -> tuple[int, ...]:
    """The dimensions of a direction that its magnitude has too: (out, 1, 1) and (out, in, k) give (0,)."""
    sizes = [*magnitude.shape, *[1] * (direction.ndim - magnitude.ndim)]
    return tuple(dim for dim, size in enumerate(sizes) if size > 1)


def _computed_by(parametrization: ParametrizationList, name: str) -> Callable[[Tensor], Tensor]:
    """A function from the parameter to the weight; it draws and changes nothing.

    All other parameters are noise, so that the answer does not depend on what they were trained to.
    """
    noise = _Noise()
    others = {other: noise.like(p) for other, p in parametrization.named_parameters() if other != name}

    def compute(values: Tensor) -> Tensor:
        buffers = {other: b.clone() for other, b in parametrization.named_buffers()}
        devices = [values.device] if values.is_cuda else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            weight = functional_call(parametrization, others | buffers | {name: values}, ())
        if not isinstance(weight, Tensor) or weight.shape != values.shape:
            raise ValueError("the weight has another shape")
        return weight

    return compute


class _Noise:
    """Normal numbers that are the same in every run."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)

    def like(self, tensor: Tensor) -> Tensor:
        """Of a tensor's shape, dtype and device; no number is 0."""
        drawn = torch.randn(tensor.shape, generator=self._generator)
        return drawn.where(drawn != 0, 1.0).to(tensor)


def _origin_by_trial(compute: Callable[[Tensor], Tensor], parameter: Tensor) -> Origin:
    noise = _Noise()
    values, other = noise.like(parameter), noise.like(parameter)
    half = other <= other.flatten().median()
    try:
        if not bool(compute(values).any()) or not all(_keeps_zeros(compute, values, zeros) for zeros in (half, ~half)):
            return Origin("", _ZEROS_ARE_LOST)
        return Origin("", normed=_normed_by_trial(compute, values))
    except (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError):
        return Origin("", _ZEROS_ARE_LOST)  # it does not take any values, so it need not take those with zeros


def _keeps_zeros(compute: Callable[[Tensor], Tensor], values: Tensor, zeros: Tensor) -> bool:
    """Whether the weight is zero there too, or NaN or inf, because a whole slice is zero by chance."""
    weight = compute(values.masked_fill(zeros, 0.0))[zeros]
    return not bool(weight[weight.isfinite()].any())


def _normed_by_trial(compute: Callable[[Tensor], Tensor], values: Tensor) -> tuple[int, ...] | None:
    """The finest slices that turn the weight into NaN or inf when they are all zeros."""

    def breaks(dims: tuple[int, ...]) -> bool:
        index = tuple(slice(0, 1) if dim in dims else slice(None) for dim in range(values.ndim))
        tried = values.clone()
        tried[index] = 0.0
        return not bool(compute(tried).isfinite().all())

    if not breaks(()):
        return None
    dims: tuple[int, ...] = ()
    for dim in range(values.ndim):
        if breaks((*dims, dim)):
            dims = (*dims, dim)
    return dims
