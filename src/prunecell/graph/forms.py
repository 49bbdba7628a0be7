"""How many dimensions the tensors of a graph have, and along which of them a layer or norm works.

Sizes alone do not tell it: a Linear and the BatchNorm behind it have as many numbers, and a batch of sequences may be
normalized along its time. Channels stand before the positions and features last, so both are counted from the end,
where it does not matter whether there is a batch. What must be counted from the front, like BatchNorm's channels, needs
the number of dimensions. An example tells it, or what is certain of it without one: a flattening, say, or two
BatchNorm1d of different widths, because no time is of two lengths. A single BatchNorm1d behind a linear layer proves
nothing: of (16, 8) numbers a sample, Linear(8, 16) makes (16, 16), and BatchNorm1d(16) takes the rows for its channels.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from prunecell.graph.operations import (
    CAT,
    COPIES,
    ELEMENTWISE,
    FLATTEN,
    KEEP_ZERO,
    MEAN,
    MIXING,
    POOLS,
    SUMS,
    VIEW,
    averaged,
    bound,
    flattened,
    is_changed,
    viewed,
    what_of,
)

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
LAYERS = (nn.Linear, *CONVOLUTIONS)

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

_N_DIMS: dict[type[nn.Module], int] = {nn.BatchNorm2d: 4, nn.BatchNorm3d: 5}
"""Norms that take tensors of so many dimensions only."""


@dataclass(frozen=True)
class Form:
    """What is certain of a tensor.

    Attributes:
        n_dims: None where it is not known.
        has_batch: whether the first dimension is the batch, as of the model's inputs.
    """

    n_dims: int | None = None
    has_batch: bool = False


def unit_axis(layer: Any) -> int:  # noqa: ANN401 - of several classes
    """The dimension of a layer's inputs and outputs that its units are, from the end: -1 is the last."""
    return -1 if isinstance(layer, nn.Linear) else -1 - len(layer.kernel_size)


def norm_axis(norm: nn.Module, n_dims: int | None) -> int | None:
    """The dimension that a BatchNorm has numbers for, from the end; None where that hangs on what is not known."""
    n_dims = _N_DIMS.get(type(norm), n_dims)
    return None if n_dims is None else 1 - n_dims


def forms_of(
    nodes: Sequence[fx.Node],
    modules: Mapping[str, nn.Module],
    tensors: Mapping[fx.Node, object],
    shapes: Mapping[fx.Node, torch.Size],
) -> dict[fx.Node, Form]:
    """What is certain of the tensor that each node gives.

    Args:
        nodes: in order.
        modules: name -> module.
        tensors: what nodes read from the model.
        shapes: by an example, as far as there is one.
    """
    forms: dict[fx.Node, Form] = {}
    flat = _flat_ones(nodes, modules)
    for node in nodes:
        module = modules[str(node.target)] if node.op == "call_module" else None
        form = Form() if module is not None and is_changed(module) else _form(node, module, forms)
        if node in shapes:
            forms[node] = Form(len(shapes[node]), form.has_batch)
        elif node in tensors:
            forms[node] = Form(getattr(tensors[node], "ndim", None))
        else:
            forms[node] = Form(2, form.has_batch) if node in flat else form
    return forms


def _flat_ones(nodes: Sequence[fx.Node], modules: Mapping[str, nn.Module]) -> set[fx.Node]:
    """Tensors that must have two dimensions, because they pass BatchNorm1d of different widths.

    A BatchNorm1d takes two dimensions, or three with its width for the second one, which linear layers and activations
    leave as it is.
    """
    first: dict[fx.Node, fx.Node] = {}  # with the same number of dimensions, and the same second one if there are three
    widths: dict[fx.Node, set[int]] = {}
    for node in nodes:
        module = modules[str(node.target)] if node.op == "call_module" else None
        what, taken = what_of(node, module), node.all_input_nodes
        keeps = isinstance(module, nn.Linear | nn.BatchNorm1d) or any(
            what in t for t in (ELEMENTWISE, COPIES, KEEP_ZERO)
        )
        is_plain = len(taken) == 1 and not (module is not None and is_changed(module))
        first[node] = first[taken[0]] if keeps and is_plain else node
        if isinstance(module, nn.BatchNorm1d) and is_plain and _has_a_width(module):
            widths.setdefault(first[node], set()).add(module.num_features)
    return {node for node in nodes if len(widths.get(first[node], ())) > 1}


def _has_a_width(norm: nn.BatchNorm1d) -> bool:
    """Whether torch compares what it takes with its numbers, in training too."""
    return norm.weight is not None or (norm.track_running_stats and norm.running_mean is not None)


def _form(node: fx.Node, module: nn.Module | None, forms: Mapping[fx.Node, Form]) -> Form:
    if node.op == "placeholder":
        return Form(has_batch=True)
    what = what_of(node, module)
    if what in SUMS or what in CAT:
        form, dim = _together(node.all_input_nodes, forms), (bound(node, dim=0) or {}).get("dim")
        return Form(form.n_dims, form.has_batch and (what in SUMS or (type(dim) is int and dim > 0)))
    taken = node.args[0] if node.args else None
    before = forms[taken] if isinstance(taken, fx.Node) else Form()
    if isinstance(module, CONVOLUTIONS) and before.has_batch:
        return Form(before.n_dims or len(module.kernel_size) + 2, has_batch=True)
    if module is not None and type(module) in _N_DIMS:
        return Form(_N_DIMS[type(module)], before.has_batch)
    if isinstance(module, LAYERS + NORMS) or any(what in t for t in (ELEMENTWISE, COPIES, KEEP_ZERO, POOLS, MIXING)):
        return before
    return _of_another_form(node, module, before)


def _together(nodes: Sequence[fx.Node], forms: Mapping[fx.Node, Form]) -> Form:
    """The form of tensors that are added, or joined."""
    given = [forms[node] for node in nodes]
    known = [form.n_dims for form in given if form.n_dims is not None]
    return Form(max(known) if known and len(known) == len(given) else None, all(f.has_batch for f in given))


def _of_another_form(node: fx.Node, module: nn.Module | None, before: Form) -> Form:
    what, n = what_of(node, module), before.n_dims
    if what in FLATTEN and (span := flattened(node, module)):
        start, end = span
        if n is None:
            return Form(start + 1, before.has_batch and start > 0) if start >= 0 and end == -1 else Form()
        return Form(n - (end % n - start % n), before.has_batch and start % n > 0)
    if what in VIEW and (sizes := viewed(node)):
        return Form(len(sizes))
    if what in MEAN and (mean := averaged(node)):
        dims, stay = {d % n if n else d for d in mean[0]}, mean[1]
        rest = n if stay or n is None else n - len(dims)
        return Form(rest, before.has_batch and (min(dims) > 0 or stay))
    if what in {"unsqueeze", torch.unsqueeze} and type(dim := (bound(node, dim=None) or {}).get("dim")) is int:
        return Form(None if n is None else n + 1, before.has_batch and dim > 0)
    return Form(n) if what in {"permute", "transpose", torch.permute, torch.transpose, operator.neg} else Form()
