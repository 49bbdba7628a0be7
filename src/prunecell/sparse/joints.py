"""The joints between the layers of a model that became sparse: what one of them can do for its neighbour."""

from itertools import pairwise

from torch import nn

from prunecell.sparse.layers import SparseConvolution, SparseLinear


def join_(sequential: nn.Sequential) -> None:
    """Do each ReLU within the sparse layer before it, and hand activations on feature-major between linear layers."""
    modules = list(sequential)
    for i, (layer, after) in enumerate(pairwise(modules)):
        if isinstance(layer, SparseLinear | SparseConvolution) and type(after) is nn.ReLU:
            layer.relu = True
            sequential[i + 1] = nn.Identity()
    layers = [module for module in sequential if not isinstance(module, nn.Identity)]
    for layer, after in pairwise(layers):
        if isinstance(layer, SparseLinear):
            layer.feature_major = isinstance(after, SparseLinear)


def keep_to_modules_(module: nn.Module) -> None:
    """Make torch's transformer layers call their modules; in evaluation they would read dense weights directly."""
    if isinstance(module, nn.TransformerEncoder):
        module.use_nested_tensor = False
    if isinstance(module, nn.TransformerEncoderLayer):
        module.activation_relu_or_gelu = 0
