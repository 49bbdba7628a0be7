"""BatchNorm folded into the layer before it: fewer tensors to store, and a layer less to compute.

In evaluation a BatchNorm multiplies each channel by a number and adds another one, so the layer before it can have both
(Jacob et al. 2018, section 3.2, https://arxiv.org/abs/1712.05877).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunecell.graph.forms import LAYERS, NORMS, TRANSPOSED, norm_axis, unit_axis
from prunecell.graph.operations import called, is_size
from prunecell.graph.tracing import Example, Graph, check_unwatched, graphs_of
from prunecell.names import check_undistributed, unwrapped


@dataclass(frozen=True, kw_only=True)
class Folding:
    """What was folded.

    Attributes:
        folded: name of a BatchNorm -> name of the layer that it was folded into.
        left: name of any other BatchNorm -> why it was not.
    """

    folded: dict[str, str]
    left: dict[str, str]


@torch.no_grad()
def fold_batchnorm_(model: nn.Module, *, example: Example = None) -> Folding:
    """Fold each BatchNorm into the linear layer or convolution before it, where nothing else reads that layer.

    In evaluation the model computes the same but for rounding. The BatchNorm becomes an `nn.Identity`, so the names of
    all other modules stay. The layer's weight stays the same Parameter, and zeros in it stay +0.0; a layer without bias
    gets one. It may be trained on, without statistics of a batch then; make the optimizer afterwards, because it does
    not know of the new biases.

    Args:
        model: changed in place.
        example: inputs of the model, by which a BatchNorm1d behind a linear layer is seen to normalize its features and
            not another dimension; see `chains_of`. Not needed behind convolutions, where the model flattens before, or
            where another BatchNorm1d on the same way has another width.

    Returns:
        What was folded, and what was left, each with its reason.

    Raises:
        OptionError: torch.fx cannot trace the model; it is wrapped for training by several processes; or a Pruner,
            Quantizer or Sharing that is in use watches a weight. Nothing was changed.
        OptionTypeError: it is no module.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    >>> fold_batchnorm_(net)
    Folding(folded={'1': '0'}, left={'3': "what comes before it, '2', is no linear layer or convolution"})
    """
    training, evaluating = (dict(_pairs(graph)) for graph in graphs_of(model, example))
    check_undistributed(model, "folded")
    modules = dict(unwrapped(model).named_modules())
    folded, left = {}, {}
    for name in (name for name, module in modules.items() if isinstance(module, NORMS)):
        layer, why = evaluating.get(name, ("", "no call of it is seen"))
        if not why and training.get(name) != (layer, ""):
            why = "in training the model computes something else"
        if why:
            left[name] = why
        else:
            folded[name] = layer
    for layer in folded.values():
        check_unwatched(f"{layer}.weight", modules[layer].weight, "folded into")
    together = [(modules[layer], modules[name]) for name, layer in folded.items()]
    numbers = [_folded(layer, norm) for layer, norm in together]
    for (layer, norm), (weight, bias) in zip(together, numbers, strict=True):
        _put_(layer, weight, bias)
        _replace_(unwrapped(model), norm, nn.Identity())
    return Folding(folded=folded, left=left)


def _pairs(graph: Graph) -> Iterator[tuple[str, tuple[str, str]]]:
    """(name of a BatchNorm, (name of the layer before it, why it cannot be folded; empty if it can))."""
    for node in graph.nodes:
        norm = graph.module_of(node)
        if isinstance(norm, NORMS):
            before = node.all_input_nodes[0]
            yield str(node.target), (str(before.target), _why_not(graph, before, node, norm))


def _why_not(graph: Graph, before: fx.Node, node: fx.Node, norm: Any) -> str:  # noqa: ANN401 - of several classes
    layer = graph.module_of(before)
    if why_not := graph.why_not_plain(norm):
        return f"it {why_not}"
    if not isinstance(layer, LAYERS):
        return f"what comes before it, {called(before)!r}, is no linear layer or convolution"
    if why_not := graph.why_not_plain(layer):
        return f"{called(before)!r} before it {why_not}"
    if any(user is not node and not is_size(user) for user in before.users):
        return f"others read {called(before)!r} before it, too"
    if norm.running_mean is None or norm.running_var is None:
        return "it has no running statistics"
    return _why_not_together(layer, norm, graph.forms[before].n_dims)


def _why_not_together(layer: Any, norm: Any, n_dims: int | None) -> str:  # noqa: ANN401
    if isinstance(layer, TRANSPOSED) and layer.groups > 1:
        return "the transposed convolution before it has groups"
    n_outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if n_outputs != norm.num_features:
        return f"it has {norm.num_features} numbers for {n_outputs} outputs"
    axis = norm_axis(norm, n_dims)
    if axis is None:
        return "which dimension it normalizes is not known: give an example"
    return "" if axis == unit_axis(layer) else "it normalizes another dimension than that of the outputs"


def _folded(layer: Any, norm: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Weight and bias of a layer that does what the BatchNorm behind it does, too."""
    gains, shifts = norm.weight, norm.bias
    scale = (norm.running_var + norm.eps).rsqrt() * (1 if gains is None else gains)
    by_rows = [1] * layer.weight.ndim
    by_rows[1 if isinstance(layer, TRANSPOSED) else 0] = -1
    bias = ((0 if layer.bias is None else layer.bias) - norm.running_mean) * scale + (0 if shifts is None else shifts)
    weight = layer.weight * scale.view(by_rows) + 0.0  # a zero times a negative number would be -0.0
    return weight.to(layer.weight.dtype), bias.to(layer.weight.dtype)


def _put_(layer: Any, weight: Tensor, bias: Tensor) -> None:  # noqa: ANN401
    layer.weight.data.copy_(weight)
    if layer.bias is None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=layer.weight.requires_grad)
    else:
        layer.bias.data.copy_(bias)


def _replace_(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in all places of another one."""
    for module in model.modules():
        for name, child in module.named_children():
            if child is old:
                module.register_module(name, new)
