"""What of an nn.Sequential can be a link of a chain: sparse layers, and torch's modules that need no weights.

A module is one if it is bare: a call of it is nothing but the forward of its class, and no program put something in the
place of that or of what it calls. What its forward depends on is read in every call, because it may change at any time.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunecell import native
from prunecell.sparse.layers import SparseConvolution, SparseLinear
from prunecell.sparse.plain import is_replaced, why_replaced
from prunecell.sparse.route import CONVOLUTION, FLATTEN, LINEAR, NOTHING, RELU, Link
from prunecell.sparse.values import FP32


class Kind(NamedTuple):
    """A class whose modules can be links.

    Attributes:
        read: what a bare module does; None where no chain does that.
        calls: the functions of torch that its forward calls, as they are now.
    """

    read: Callable[[Any], Link | None]
    calls: Callable[[], tuple[object, ...]] = tuple


def _activation(name: str) -> Callable[[Any], Link | None]:
    link = ("activation", native.ACTIVATIONS[name], 0.0)
    return lambda _: link


def _gelu(module: nn.GELU) -> Link | None:
    return _GELUS.get(module.approximate)


def _leaky_relu(module: nn.LeakyReLU) -> Link | None:
    return "activation", native.ACTIVATIONS["leaky_relu"], module.negative_slope


def _relu6(module: nn.ReLU6) -> Link | None:
    return _RELU6 if (module.min_val, module.max_val) == (0, 6) else None


def _max_pool(module: nn.MaxPool2d) -> Link | None:
    if module.ceil_mode or module.return_indices:
        return None
    return "largest", module.kernel_size, module.stride, module.padding, module.dilation


def _mean_pool(module: nn.AvgPool2d) -> Link | None:
    if module.ceil_mode:
        return None
    divisor = module.divisor_override
    return "mean", module.kernel_size, module.stride, module.padding, 1, bool(module.count_include_pad), divisor


def _mean_of_all(module: nn.AdaptiveAvgPool2d) -> Link | None:
    return ("mean of all",) if module.output_size in {1, (1, 1)} else None


def _flatten(module: nn.Flatten) -> Link | None:
    return FLATTEN if module.start_dim == 1 and module.end_dim == -1 else None


def _dropout(module: nn.Dropout) -> Link | None:
    return None if module.training else NOTHING


def _convolution(layer: SparseConvolution) -> Link:
    options = layer.padding, layer.padding_mode, layer.dilation, layer.groups, layer.channels_last
    return CONVOLUTION, layer.kernel_size, layer.stride, *options


_GELUS = {
    "none": ("activation", native.ACTIVATIONS["gelu"], 0.0),
    "tanh": ("activation", native.ACTIVATIONS["gelu_tanh"], 0.0),
}
_RELU6: Link = ("activation", native.ACTIVATIONS["relu6"], 0.0)
LAYERS = {SparseLinear, SparseConvolution}
_inner: Any = torch._C._nn  # noqa: SLF001 - what F calls

MODULES: Mapping[type[nn.Module], Kind] = MappingProxyType(
    {
        nn.ReLU: Kind(lambda _: RELU, lambda: (F.relu, torch.relu, torch.relu_)),
        nn.ReLU6: Kind(_relu6, lambda: (F.hardtanh, _inner.hardtanh, _inner.hardtanh_)),
        nn.LeakyReLU: Kind(_leaky_relu, lambda: (F.leaky_relu, _inner.leaky_relu, _inner.leaky_relu_)),
        nn.Hardswish: Kind(_activation("hardswish"), lambda: (F.hardswish, _inner.hardswish, _inner.hardswish_)),
        nn.Sigmoid: Kind(_activation("sigmoid"), lambda: (torch.sigmoid,)),
        nn.SiLU: Kind(_activation("silu"), lambda: (F.silu, _inner.silu, _inner.silu_)),
        nn.Tanh: Kind(_activation("tanh"), lambda: (torch.tanh,)),
        nn.GELU: Kind(_gelu, lambda: (F.gelu,)),
        nn.MaxPool2d: Kind(_max_pool, lambda: (F.max_pool2d, torch.max_pool2d)),
        nn.AvgPool2d: Kind(_mean_pool, lambda: (F.avg_pool2d,)),
        nn.AdaptiveAvgPool2d: Kind(_mean_of_all, lambda: (F.adaptive_avg_pool2d, _inner.adaptive_avg_pool2d)),
        nn.Flatten: Kind(_flatten, lambda: (Tensor.flatten,)),
        nn.Identity: Kind(lambda _: NOTHING),
        nn.Dropout: Kind(_dropout, lambda: (F.dropout,)),
    }
)


def _computing(kind: Any) -> tuple[object, ...]:  # noqa: ANN401 - a class of MODULES
    """What computes when a bare module is called."""
    return kind.forward, kind.__call__, kind._call_impl, *MODULES[kind].calls()  # noqa: SLF001 - torch's


def _is_torchs(function: Any) -> bool:  # noqa: ANN401 - of any kind
    """Whether torch wrote a function, as far as that can be seen."""
    module = getattr(function, "__module__", None)
    return module is None or (module.partition(".")[0] == "torch" and not is_replaced(function, module))


# As it was when this was imported. What a program had changed before is never a link.
_COMPUTING = {
    kind: _computing(kind) for kind in MODULES if not why_replaced(kind) and all(map(_is_torchs, MODULES[kind].calls()))
}


def link_of(module: nn.Module) -> Link | None:
    """What a bare module does; None for all others, which must be called."""
    kind = type(module)
    if kind is SparseLinear:
        return LINEAR if module.activations == FP32.name and _is_bare(module) else None
    if kind is SparseConvolution:
        return _convolution(module) if _is_bare(module) else None  # type: ignore[arg-type] # it is one
    if kind not in _COMPUTING or not _is_bare(module) or _computing(kind) != _COMPUTING[kind]:
        return None
    return MODULES[kind].read(module)


def link_for_a_compiler(module: nn.Module) -> Link | None:
    """The same for a compiler, which puts other calls in the place of torch's: layers, and what they do themselves."""
    kind = type(module)
    if kind in LAYERS:
        return LINEAR if _is_bare(module) else None
    if kind is not nn.ReLU or not _HAS_RELU or not _is_bare(module) or _relu() != _RELU:
        return None
    return RELU


def _relu() -> tuple[object, ...]:
    return nn.ReLU.forward, F.relu, torch.relu, torch.relu_


_RELU, _HAS_RELU = _relu(), nn.ReLU in _COMPUTING


def _is_bare(module: nn.Module) -> bool:
    """Whether a call of the module is nothing but the forward of its class."""
    own = module.__dict__
    return not (
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
        or "_call_impl" in own
        or module._compiled_call_impl is not None  # noqa: SLF001 - torch's
    )
