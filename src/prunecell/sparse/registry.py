"""Registering our operators with torch, so that compiled and exported programs can hold them; and the way around it."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from prunecell.sparse.matrix import N_PARTS

MATRIX = "Tensor starts, Tensor indices, Tensor values, Tensor? scales, int n_columns, str format"  # see matrix.Parts

VALUES = 2  # where the values stand among the parts of a matrix

Implementation = Callable[..., Tensor]

# Kept as long as the program runs: what a library object registered goes with it.
_library: Any = torch.library.Library("prunecell", "FRAGMENT")  # type: ignore[no-untyped-call]


def register(
    schema: str,
    *,
    twin: Implementation,
    fake: Implementation,
    compiled: Implementation | None = None,
    in_onnx: Implementation | None = None,
    differentiated: Implementation | None = None,
) -> Implementation:
    """Register an operator `prunecell::name`; returns what calls it, or on plain tensors its kernel at once.

    Args:
        schema: "name(Tensor x, the matrix, Tensor? bias, ...) -> Tensor", in torch's schema language.
        twin: what runs where nothing faster does: plain torch. Forward-mode gradients are its own, as torch lets an
            operator have gradients in reverse only.
        fake: makes an empty result of the right shape and strides; for torch.compile and torch.export.
        compiled: what runs on a CPU; the twin if there is none.
        in_onnx: what runs while a tracer makes an ONNX file, in operators that such files have.
        differentiated: what torch.func and forward mode differentiate; the twin if there is none.
    """
    name = schema.partition("(")[0]
    _library.define(schema)
    _library.impl(name, twin, "CompositeExplicitAutograd")
    if compiled:
        _library.impl(name, compiled, "CPU")
    torch.library.register_fake(f"prunecell::{name}", fake, lib=_library)
    operator: Implementation = getattr(torch.ops.prunecell, name).default
    if compiled is None:
        return operator

    def call(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - the schema says what
        if is_plain(x, rest[VALUES], rest[N_PARTS]):
            return compiled(x, *rest)
        if in_onnx is not None and torch.jit.is_tracing() and torch.onnx.is_in_onnx_export():  # type: ignore[attr-defined, no-untyped-call]
            return in_onnx(x, *rest)
        is_ours = _has_no_tangents() and (torch.compiler.is_compiling() or not _is_differentiated())
        return (operator if is_ours else differentiated or twin)(x, *rest)

    return call


def constant(make: Callable[[], Tensor]) -> Tensor:
    """What `make` makes, for a tracer that is to take it as it is, and not as what it was computed from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined] # it says so
        return torch.from_numpy(make().numpy())


def _always() -> bool:
    return True


# Torch has no public names for what is asked here. Where another version lacks one of them, every call takes torch's
# own way, which is slower and always right.
_n_dispatch_modes = getattr(torch._C, "_len_torch_dispatch_stack", _always)  # noqa: SLF001
_n_function_modes = getattr(torch._C, "_len_torch_function_stack", _always)  # noqa: SLF001
_transform = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", _always)  # noqa: SLF001
_tracing = getattr(torch._C, "_get_tracing_state", _always)  # noqa: SLF001


def has_modes() -> bool:
    """Whether a mode of torch watches what is called, or may change it."""
    return bool(_n_dispatch_modes() or _n_function_modes())


def is_plain(x: Tensor, values: Tensor, bias: Tensor | None) -> bool:
    """Whether nobody has to see the operator: no compiler or tracer, no gradient, no mode, no other device.

    Then only the result counts, and torch's way to an operator in Python would take longer than a small product.
    """
    return is_plain_input(x) and values.is_cpu and are_plain_parts(values, bias)


def is_plain_input(x: Tensor) -> bool:
    """The part of `is_plain` that does not depend on the matrix."""
    return (
        type(x) is Tensor
        and not torch.compiler.is_compiling()
        and x.is_cpu
        and x.layout is torch.strided
        and not x.is_neg()  # torch's own way resolves it
        and not (x.requires_grad and torch.is_grad_enabled())
        and not (_n_dispatch_modes() or _n_function_modes())
        and _transform() is None
        and _tracing() is None
        and _has_no_tangents()
    )


def are_plain_parts(values: Tensor, bias: Tensor | None) -> bool:
    """The part of `is_plain` that depends on the matrix, but for its device."""
    return not (
        values.is_neg() or (bias is not None and (bias.is_neg() or (bias.requires_grad and torch.is_grad_enabled())))
    )


def _is_differentiated() -> bool:
    """Whether torch.func differentiates, which knows the gradients of torch's own operators only."""
    functorch = getattr(torch._C, "_functorch", None)  # noqa: SLF001 - torch has no public names for these
    stack = getattr(functorch, "get_interpreter_stack", lambda: None)()
    return any(level.key().name == "Grad" for level in stack or ())


def _has_no_tangents() -> bool:
    """Whether nobody differentiates in forward mode; False, which is always right, where torch cannot be asked."""
    return getattr(forward_ad, "_current_level", 0) < 0


def register_gradient(
    name: str,
    backward: Callable[..., tuple[Tensor | None, ...]],
    *,
    remember: Callable[..., None],
) -> None:
    """Give `prunecell::name` its gradient: `remember(ctx, inputs, output)`, later `backward(ctx, gradient)`."""
    torch.library.register_autograd(f"prunecell::{name}", backward, setup_context=remember, lib=_library)


def before_relu(gradient: Tensor, output: Tensor | None) -> Tensor:
    """The gradient before a ReLU that gave an output, as torch has it: also if one of them is not finite.

    Args:
        gradient: after the ReLU.
        output: None where there is no ReLU.
    """
    return gradient if output is None else gradient.masked_fill(output <= 0, 0)
