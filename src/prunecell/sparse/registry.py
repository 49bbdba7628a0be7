"""Registering our operators with torch, so that compiled and exported programs can hold them."""

from collections.abc import Callable
from typing import Any

import torch

MATRIX = "Tensor starts, Tensor indices, Tensor values, Tensor? scales, int n_columns"  # its five parts, see checked.py

Implementation = Callable[..., torch.Tensor]

# Kept as long as the program runs: what a library object registered goes with it.
_library: Any = torch.library.Library("prunecell", "FRAGMENT")  # type: ignore[no-untyped-call]


def register(
    schema: str, *, twin: Implementation, fake: Implementation, compiled: Implementation | None = None
) -> Implementation:
    """Register an operator `prunecell::name` and return it.

    Args:
        schema: "name(Tensor x, ...) -> Tensor", in torch's schema language.
        twin: what runs where nothing faster does: plain torch.
        fake: makes an empty result of the right shape and strides; for torch.compile and torch.export.
        compiled: what runs on a CPU; the twin if there is none.
    """
    name = schema.partition("(")[0]
    _library.define(schema)
    _library.impl(name, twin, "CompositeExplicitAutograd")
    if compiled:
        _library.impl(name, compiled, "CPU")
    torch.library.register_fake(f"prunecell::{name}", fake, lib=_library)
    operator: Implementation = getattr(torch.ops.prunecell, name).default
    return operator


def register_gradient(
    name: str,
    backward: Callable[..., tuple[torch.Tensor | None, ...]],
    *,
    remember: Callable[..., None],
) -> None:
    """Give `prunecell::name` its gradient: `remember(ctx, inputs, output)`, later `backward(ctx, gradient)`."""
    torch.library.register_autograd(f"prunecell::{name}", backward, setup_context=remember, lib=_library)
