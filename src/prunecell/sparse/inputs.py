"""What a sparse layer and its operator take: the dtypes, devices and shapes that the dense layer takes, no others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prunecell.errors import OptionError, OptionTypeError, StateError, typed
from prunecell.sparse.values import VALUES_OF

REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The dtypes that a layer may have. Whichever it is, it computes in float32."""

COMPUTED = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes of inputs and of a bias that an operator takes, and of weights that become sparse."""

HALVES = COMPUTED[1:]

_CODES = {dtype: VALUES_OF[dtype].code for dtype in COMPUTED}


def code_of(tensor: Tensor | None) -> int:
    """The code by which kernels know the dtype of an input, output or bias; that of float32 where there is none."""
    return _CODES[torch.float32 if tensor is None else tensor.dtype]


_NOT_UNDER_AUTOCAST = torch.float64  # autocast leaves it as it is


def result_dtype(x: object, dtype: torch.dtype) -> torch.dtype:
    """The dtype of what a layer of `dtype` makes of `x`, as for the dense layer: that of both, or that of autocast.

    Raises:
        OptionTypeError: x is no tensor.
        OptionError: x has another dtype than the layer, or is sparse, of MKL-DNN or nested.

    >>> result_dtype(torch.ones(1, dtype=torch.uint8), torch.float32)
    Traceback (most recent call last):
    prunecell.errors.OptionError: x and the layer must have the same dtype, but they have torch.uint8 and torch.float32
    """
    if not isinstance(x, Tensor):
        raise OptionTypeError(f"x must be a tensor, not {typed(x)}")
    if x.layout is not torch.strided:
        raise OptionError(f"x must be a dense tensor, not one of layout {x.layout}")
    given = x.dtype
    if may_autocast() and given in REAL and _NOT_UNDER_AUTOCAST not in {given, dtype}:
        return _autocast_dtype(x) or _the_same(given, dtype)
    return _the_same(given, dtype)


def _the_same(given: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    if given is not dtype:
        raise OptionError(f"x and the layer must have the same dtype, but they have {given} and {dtype}")
    return dtype


# Whether autocast is on for any device. Torch has no public name for it; where a version lacks it, the device is asked.
may_autocast = getattr(torch._C, "_is_any_autocast_enabled", lambda: True)  # noqa: SLF001


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    device = x.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):  # of meta, torch refuses to say it
        return None
    return torch.get_autocast_dtype(device)


def check_features(x: Tensor, n_features: int) -> None:
    """Refuse what is no (..., n_features).

    Raises:
        OptionError: its shape is another.
    """
    if x.ndim == 0 or x.shape[-1] != n_features:
        raise OptionError(f"x must have the shape (..., {n_features}), not {tuple(x.shape)}")


def check_channels(x: Tensor, n_channels: int, n_axes: int) -> None:
    """Refuse what is no (batch, n_channels, *size), nor the same without the batch.

    Raises:
        OptionError: its shape is another.
    """
    if x.ndim not in {n_axes + 1, n_axes + 2} or x.shape[-n_axes - 1] != n_channels:
        axes = ", ".join(f"size{i}" for i in range(n_axes))
        raise OptionError(f"x must have the shape ([batch,] {n_channels}, {axes}), not {tuple(x.shape)}")


def is_channels_last(x: Tensor) -> bool:
    """Whether torch's convolutions would take x, (batch, channels, 2 or 3 axes), as one whose channels come last.

    Their result lies as their input or weight does. What is no such tensor, or could lie so or otherwise, does not.
    """
    strides = x.stride()
    if len(strides) not in {4, 5} or not 0 < strides[1] <= strides[-1]:
        return False
    least = 0
    for axis in (1, *range(len(strides) - 1, 1, -1), 0):
        if x.shape[axis] == 0 or strides[axis] < least or (axis == 0 and least == strides[1]):
            return False
        least = strides[axis] * x.shape[axis]
    return True


def as_channels_last(y: Tensor) -> Tensor:
    """The same values, channels last in memory."""
    last = torch.channels_last if y.ndim == 4 else torch.channels_last_3d  # noqa: PLR2004
    return y.clone(memory_format=last)  # contiguous() leaves the strides of one channel as they are


def check_one_device(parts: Sequence[Tensor | None]) -> Tensor:
    """The first of the arrays of a matrix, where all are on one device.

    Raises:
        StateError: they are not.
    """
    starts, *others = parts
    if starts is None or any(part is not None and part.device != starts.device for part in others):
        raise StateError("starts, indices, values and scales must be on one device")
    return starts


def check_operands(x: Tensor, parts: Sequence[Tensor | None], bias: Tensor | None, *, name: str = "x") -> None:
    """Refuse an input or bias that does not go with a matrix of these parts: its device, dtype, or number of rows.

    Args:
        x: the input, or the gradient of an output.
        parts: starts, indices, values and scales.
        bias: if there is one.
        name: of x, for messages.

    Raises:
        OptionError: what does not fit.
        StateError: the parts are not on one device.
    """
    starts = check_one_device(parts)
    _check_operand(x, name, starts.device)
    if bias is not None:
        check_bias(bias, starts.shape[0] - 1, starts.device)


def check_bias(bias: Tensor, n_rows: int, device: torch.device) -> None:
    """Refuse a bias that does not go with a matrix of `n_rows` on `device`.

    Raises:
        OptionError: it is of another dtype, or not on that device, one for every row, and contiguous.
    """
    _check_operand(bias, "bias", device)
    wish = f"bias must be {n_rows} numbers in a row"
    if bias.shape != (n_rows,):
        raise OptionError(f"{wish}, not of shape {tuple(bias.shape)}")
    if not bias.is_contiguous():
        raise OptionError(f"{wish}, not with a stride of {bias.stride(0)}: call bias.contiguous()")


def _check_operand(tensor: Tensor, name: str, device: torch.device) -> None:
    if tensor.device != device:
        raise OptionError(f"{name} is on {tensor.device}, the sparse matrix on {device}: move one of them")
    if tensor.dtype not in COMPUTED:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in COMPUTED)
        raise OptionError(f"{name} must be {names}, not {tensor.dtype}")
