"""Layers that become smaller: tensors of other shapes, and what a layer says of itself, such as out_channels.

A smaller model is explained by the shapes of its tensors alone. So a file needs nothing else to rebuild it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList

from prunecell.archive import LIMIT_BYTES, load
from prunecell.errors import StateError, some
from prunecell.graph.tracing import check_unwatched
from prunecell.kinds import check_names
from prunecell.memory import check_ties
from prunecell.names import check_undistributed, plain_names
from prunecell.torch_checks import check_model

Shapes = Mapping[str, torch.Size]
"""Name of a tensor in its layer -> its shape."""

_Model = TypeVar("_Model", bound=nn.Module)
_HEADS = ("num_heads", "n_heads", "n_head", "nhead", "heads", "num_attention_heads")
_WIDTHS = ("inner_dim", "attn_dim", "all_head_size")
"""How modules of attention call their number of heads, and heads times the width of one."""


class _UnexplainedError(Exception):
    """Shapes that no smaller layer has; the message says why."""


def load_model(path: str | Path, model: _Model, *, limit_bytes: int = LIMIT_BYTES) -> _Model:
    """Read an archive into a model, which is made as small as the file says.

    The model is what its class makes: `load_model("small.pcell", Net())` rebuilds what `prunecell.structured.remove_`
    made of a Net and `save` wrote. No code is stored in the file, and none is run.

    Args:
        path: of a `.pcell` file.
        model: changed in place; its tensors may be as large as those in the file, or larger.
        limit_bytes: see `load`.

    Returns:
        The model.

    Raises:
        FormatError: the file is damaged, hostile or no archive.
        StateError: it has other tensors than the model, two that differ where the model ties them, or shapes that no
            smaller layers have; or the model is on the meta device. Nothing was changed.
        OptionError: a weight that would become smaller is watched by a Pruner, Quantizer or Sharing that is in use; or
            the model is wrapped for training by several processes. Nothing was changed.
        OptionTypeError: it is no module.

    >>> import tempfile
    >>> from prunecell import save
    >>> def net(width):
    ...     return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(net(5), f"{folder}/small.pcell")
    ...     load_model(f"{folder}/small.pcell", net(20))[2]
    Linear(in_features=5, out_features=2, bias=True)
    """
    check_model(model)
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise StateError("model is on the meta device, where nothing can be read into it: make it on another one")
    state = load(path, limit_bytes=limit_bytes)
    plain = plain_names(model)
    names = {plain.get(name, name): name for name in model.state_dict()}
    check_names(state, names, f"what {path} holds")
    named = {names[name]: tensor for name, tensor in state.items()}
    tensors = {name: tensor for name, tensor in named.items() if isinstance(tensor, Tensor)}
    check_ties({n: t for n, t in model.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}, tensors)
    resize_(model, {name: tensor.shape for name, tensor in tensors.items()})
    model.load_state_dict(named)
    return model


def resize_(model: nn.Module, shapes: Shapes) -> None:
    """Let the tensors of a model have other shapes, and its layers the numbers that follow from these.

    Args:
        model: changed in place. What changes its shape becomes a new Parameter, of unset values.
        shapes: name of a parameter or buffer -> its shape; others stay.

    Raises:
        StateError: a layer cannot have these shapes; the message names all such. Nothing was changed.
        OptionError: a Pruner, Quantizer or Sharing that is in use watches one of them; or the model is wrapped for
            training by several processes. Nothing was changed.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    changed: dict[str, dict[str, torch.Size]] = {}
    for name, shape in shapes.items():
        path, _, leaf = name.rpartition(".")
        tensor = getattr(modules.get(path), leaf, None)
        if isinstance(tensor, Tensor) and tensor.shape != shape:
            check_unwatched(name, tensor, "made smaller")
            changed.setdefault(path, {})[leaf] = shape
    numbers, wrong = [], []
    for path, module in modules.items():
        try:
            numbers.append((module, dict(_numbers(module, path, changed))))
        except _UnexplainedError as why:
            wrong.append(f"{path or type(module).__name__}: {why}")
    if wrong:
        raise StateError(f"the shapes cannot be those of a smaller {type(model).__name__}: {some(wrong, between='; ')}")
    if changed:
        check_undistributed(model, "made smaller")
    made: dict[int, Tensor] = {}
    for path, leaves in changed.items():
        for leaf, shape in leaves.items():
            _renew_(modules[path], leaf, shape, made)
    for module, values in numbers:
        module.__dict__.update(values)


def _renew_(module: nn.Module, leaf: str, shape: torch.Size, made: dict[int, Tensor]) -> None:
    """Put a new tensor in the place of an old one; what was tied stays tied."""
    old = getattr(module, leaf)
    if id(old) not in made:
        new = torch.empty(shape, dtype=old.dtype, device=old.device)
        made[id(old)] = nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new
    setattr(module, leaf, made[id(old)])


def _numbers(module: nn.Module, path: str, changed: Mapping[str, Shapes]) -> Iterator[tuple[str, object]]:
    """What a module says of itself after the change: (name of an attribute, its value)."""
    here = changed.get(path, {})
    if here and isinstance(module, ParametrizationList):
        raise _UnexplainedError("a parametrization computes the weight from it; remove that first")
    for leaf, shape in here.items():
        old = getattr(module, leaf).shape
        if len(shape) != len(old) or any(new > before for new, before in zip(shape, old, strict=True)):
            raise _UnexplainedError(f"{leaf} is of shape {tuple(old)}, which cannot become {tuple(shape)}")
    if here:
        kind = next((kind for kind in _LAYERS if isinstance(module, kind)), None)
        if kind is not None:
            after = {name: t.shape for name, t in _tensors(module)} | dict(here)
            if "weight" not in after and isinstance(module, nn.Linear | _ConvNd | nn.Embedding):
                raise _UnexplainedError("its weight is computed, by a parametrization or a hook; remove that first")
            yield from _LAYERS[kind](module, after)
    if not isinstance(module, nn.MultiheadAttention):
        yield from _heads(module, path, changed)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False, remove_duplicate=False)
    yield from module.named_buffers(recurse=False, remove_duplicate=False)


def _same(what: str, *sizes: int) -> int:
    """The one size that several tensors must have."""
    if len(set(sizes)) != 1:
        raise _UnexplainedError(f"its tensors are of {some(sorted(set(sizes)))} {what}")
    return sizes[0]


# ---- what layers say of themselves -----------------------------------------------------------------------------------


def _linear(_: nn.Module, after: Shapes) -> Iterator[tuple[str, object]]:
    yield "out_features", _same("outputs", *(shape[0] for shape in after.values()))
    yield "in_features", after["weight"][1]


def _convolution(layer: Any, after: Shapes) -> Iterator[tuple[str, object]]:  # noqa: ANN401
    rows, columns = (1, 0) if layer.transposed else (0, 1)
    weight = after["weight"]
    if weight[2:] != layer.weight.shape[2:]:
        raise _UnexplainedError(f"its kernels are of {tuple(layer.weight.shape[2:])}, not of {tuple(weight[2:])}")
    of_one_group = {rows: layer.out_channels // layer.groups, columns: layer.in_channels // layer.groups}
    groups = layer.groups
    if groups > 1 and of_one_group[columns] == 1 and not layer.transposed:  # depthwise: channels are groups
        if layer.out_channels != groups:
            raise _UnexplainedError("it is depthwise with several outputs for a channel")
        groups = weight[0]
    n_rows = weight[rows] * (groups if layer.transposed else 1)
    n_columns = weight[columns] * (1 if layer.transposed else groups)
    if n_rows % groups or n_columns % groups:
        raise _UnexplainedError(f"{n_rows} outputs and {n_columns} inputs cannot be split in {groups} groups")
    yield "out_channels", _same("outputs", n_rows, *(shape[0] for name, shape in after.items() if name == "bias"))
    yield "in_channels", n_columns
    yield "groups", groups


def _norm(_: nn.Module, after: Shapes) -> Iterator[tuple[str, object]]:
    yield "num_features", _same("channels", *(shape[0] for shape in after.values() if len(shape) == 1))


def _layer_norm(_: nn.Module, after: Shapes) -> Iterator[tuple[str, object]]:
    if len(set(after.values())) != 1:
        raise _UnexplainedError("its tensors have several shapes")
    yield "normalized_shape", tuple(next(iter(after.values())))


def _group_norm(norm: Any, after: Shapes) -> Iterator[tuple[str, object]]:  # noqa: ANN401
    n = _same("channels", *(shape[0] for shape in after.values()))
    if n % norm.num_groups:
        raise _UnexplainedError(f"{n} channels cannot be split in {norm.num_groups} groups")
    yield "num_channels", n


def _prelu(_: nn.Module, after: Shapes) -> Iterator[tuple[str, object]]:
    yield "num_parameters", after["weight"][0]


def _embedding(embedding: Any, after: Shapes) -> Iterator[tuple[str, object]]:  # noqa: ANN401
    if after["weight"][0] != embedding.num_embeddings:
        raise _UnexplainedError(f"it has {embedding.num_embeddings} embeddings, not {after['weight'][0]}")
    yield "embedding_dim", after["weight"][1]


def _attention(layer: Any, after: Shapes) -> Iterator[tuple[str, object]]:  # noqa: ANN401
    if "in_proj_weight" not in after:
        raise _UnexplainedError("its queries, keys and values have different widths")
    n_rows, width = after["in_proj_weight"]
    _same("outputs", n_rows, *(shape[0] for name, shape in after.items() if name == "in_proj_bias"))
    if n_rows != 3 * width or width % layer.num_heads:
        raise _UnexplainedError(f"in_proj_weight of {n_rows} x {width} is not that of {layer.num_heads} heads")
    yield from dict.fromkeys(("embed_dim", "kdim", "vdim"), width).items()
    yield "head_dim", width // layer.num_heads


def _recurrent(_: nn.Module, after: Shapes) -> Iterator[tuple[str, object]]:  # noqa: ARG001
    raise _UnexplainedError("recurrent layers have no smaller form here")
    yield


_LAYERS: dict[type[nn.Module], Callable[[Any, Shapes], Iterator[tuple[str, object]]]] = {
    nn.Linear: _linear,
    _ConvNd: _convolution,
    _NormBase: _norm,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.PReLU: _prelu,
    nn.Embedding: _embedding,
    nn.MultiheadAttention: _attention,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent,
}
"""Kind of a layer -> what it says of itself, from the shapes of its tensors. Other modules say nothing."""


def heads_of(module: nn.Module) -> tuple[str, int]:
    """What a module of attention calls its number of heads, and the number; ("", 0) if it has none."""
    return next(((name, n) for name in _HEADS if type(n := getattr(module, name, None)) is int), ("", 0))


def _heads(module: nn.Module, path: str, changed: Mapping[str, Shapes]) -> Iterator[tuple[str, object]]:
    """How many heads an attention has that is made of linear layers. Whole heads go, so each is as wide as it was."""
    before = {leaf: child.weight.shape for leaf, child in module.named_children() if isinstance(child, nn.Linear)}
    after = {leaf: changed.get(f"{path}.{leaf}".lstrip("."), {}).get("weight", s) for leaf, s in before.items()}
    name, n_heads = heads_of(module)
    old, new = _inner_width(before), _inner_width(after)
    if not n_heads or not old or not new or old == new:
        return
    if old % n_heads or new % (old // n_heads):
        raise _UnexplainedError(f"a width of {new} is none of whole heads: {n_heads} heads had {old}")
    yield name, new // (old // n_heads)
    for width in _WIDTHS:
        if getattr(module, width, None) == old:
            yield width, new


def _inner_width(weights: Shapes) -> int:
    """The number of outputs of queries, keys and values, by the linear layers of an attention; 0 if it is not known.

    Args:
        weights: name of a layer -> (outputs, inputs).
    """
    outputs, inputs = [s[0] for s in weights.values()], [s[1] for s in weights.values()]
    fused = next((n for n in inputs if 3 * n in outputs), 0)
    (width, count), *_ = Counter(outputs).most_common(1) or [(0, 0)]
    return fused or (width if count >= 3 else 0)  # noqa: PLR2004 - queries, keys and values
