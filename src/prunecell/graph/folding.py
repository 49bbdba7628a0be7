"""BatchNorm folded into the layer before it: fewer tensors to store, and a layer less to compute.

In evaluation a BatchNorm multiplies each channel by a number and adds another one, so the layer before it can have both
(Jacob et al. 2018, section 3.2, https://arxiv.org/abs/1712.05877).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from prunecell.graph.operations import called, is_size
from prunecell.graph.tracing import LAYERS, NORMS, TRANSPOSED, Graph, check_unwatched, graphs_of
from prunecell.names import unwrapped


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
def fold_batchnorm_(model: nn.Module) -> Folding:
    """Fold each BatchNorm into the linear layer or convolution before it, where nothing else reads that layer.

    In evaluation the model computes the same but for rounding. The BatchNorm becomes an `nn.Identity`, so the names of
    all other modules stay. The layer's weight stays the same Parameter, and zeros in it stay +0.0; a layer without bias
    gets one. It may be trained on, without statistics of a batch then; make the optimizer afterwards, because it does
    not know of the new biases.

    Args:
        model: changed in place.

    Returns:
        What was folded, and what was left, each with its reason.

    Raises:
        OptionError: torch.fx cannot trace the model, or a live Pruner watches a weight. Nothing was changed.
        OptionTypeError: it is no module.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    >>> fold_batchnorm_(net)
    Folding(folded={'1': '0'}, left={'3': "what comes before it, '2', is no linear layer or convolution"})
    """
    training, evaluating = (dict(_pairs(graph)) for graph in graphs_of(model))
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
    for name, layer in folded.items():
        _fold_(modules[layer], modules[name])
        _replace_(unwrapped(model), modules[name], nn.Identity())
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
    return "it has no running statistics" if norm.running_mean is None else _why_not_together(layer, norm)


def _why_not_together(layer: Any, norm: Any) -> str:  # noqa: ANN401
    if isinstance(layer, TRANSPOSED) and layer.groups > 1:
        return "the transposed convolution before it has groups"
    n_outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return "" if n_outputs == norm.num_features else f"it has {norm.num_features} numbers for {n_outputs} outputs"


def _fold_(layer: Any, norm: Any) -> None:  # noqa: ANN401
    numbers = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    if isinstance(layer, nn.Linear):
        weight, bias = fuse_linear_bn_weights(layer.weight, layer.bias, *numbers)
    else:
        weight, bias = fuse_conv_bn_weights(layer.weight, layer.bias, *numbers, transpose=isinstance(layer, TRANSPOSED))
    layer.weight.data.copy_(weight + 0.0)  # a zero times a negative number would be -0.0
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
