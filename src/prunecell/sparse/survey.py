"""What each weight of a model is to become, and why some stay dense: decided before anything is changed.

The converters are asked with a run that only listens, so that they alone know which weights a layer has.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from prunecell.errors import OptionError
from prunecell.sparse.aside import layers_aside
from prunecell.sparse.choose import Form, Weight, Wish
from prunecell.sparse.compress import CHUNK, check_values, count_quads
from prunecell.sparse.converters import Rows, converter, why_dense
from prunecell.sparse.inputs import COMPUTED
from prunecell.sparse.places import first_names, places_of
from prunecell.sparse.sources import Own, Weights
from prunecell.sparse.values import INT8


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a weight is to become.

    Attributes:
        name: the first of its names.
        layer: the class of the layer that it is in.
        weight: what is known of it; None where nobody looked.
        form: its form; None where it stays dense.
        reason: why it stays dense; empty where it does not.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    n_bytes: int
    weight: Weight | None = None
    form: Form | None = None
    reason: str = ""


NOT_TAKEN = "a sparse layer keeps it dense"

Decisions = dict[int, Decision]
"""The id of a parameter -> what it is to become, in the model's order."""


class _Listener:
    """A run in which every weight stays dense, and is noted with its kind."""

    def __init__(self) -> None:
        self.kinds: dict[int, str] = {}
        self.quantise: dict[int, bool] = {}  # whether all layers of a weight can quantise what they multiply by it

    def matrix(self, kind: str, weight: Tensor, *, quantises: bool = False) -> None:
        """See `converters.Run`."""
        self.kinds.setdefault(id(weight), kind)
        self.quantise[id(weight)] = quantises and self.quantise.get(id(weight), True)

    def activations(self, weight: Tensor) -> str:  # noqa: ARG002
        """See `converters.Run`."""
        return "fp32"

    def layer(self, matrix: object, weight: Tensor, rows: Rows, bias: Tensor | None) -> nn.Module:  # noqa: ARG002
        """See `converters.Run`."""
        return nn.Identity()

    def dense(self, tensor: Tensor) -> Tensor:
        """See `converters.Run`."""
        return tensor

    def bias(self, tensor: Tensor | None) -> Tensor | None:
        """See `converters.Run`."""
        return tensor


def layers_of(model: nn.Module) -> Iterator[nn.Module]:
    """The modules of a model, once each, but for the parts of a layer that is converted as a whole."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if id(module) not in seen:
            seen.add(id(module))
            yield module
            if not is_whole(module):
                waiting.extend(reversed([child for child in module._modules.values() if child is not None]))  # noqa: SLF001


def is_whole(module: nn.Module) -> bool:
    """Whether a layer uses the weights of its parts itself, or is converted with them."""
    return isinstance(module, nn.MultiheadAttention | torch.jit.ScriptModule) or converter(module) is not None


def survey(model: nn.Module, source: Weights, wish: Wish) -> Decisions:
    """Decide what each parameter of two dimensions or more becomes.

    Raises:
        OptionError: the values of a weight cannot be stored as wished.
    """
    listener = _Listener()
    owners = _owners(model, listener)
    decisions: Decisions = {}
    for name, tensor in _matrices(model):
        held_by = owners.get(id(tensor), [])
        reason = _why_lazy(tensor) or _why_dense(held_by) or _why_never(tensor)
        weight = None if reason else _weight(listener.kinds[id(tensor)], name, tensor, source, wish)
        if weight and wish.activations == INT8.name and listener.quantise[id(tensor)]:
            weight = replace(weight, n_quads=count_quads(source.chunks(name, tensor), weight.n_columns))
        form = None if weight is None else wish.form(weight)
        if form and isinstance(source, Own):  # a file's values are read before anything is changed: they can wait
            _check_values(name, tensor, form)
        decisions[id(tensor)] = Decision(
            name=name,
            layer=type(held_by[0][0]).__name__ if held_by else "-",
            shape=() if is_lazy(tensor) else tuple(tensor.shape),
            n_bytes=0 if is_lazy(tensor) else tensor.nbytes,
            weight=weight,
            form=form,
            reason=wish.why_dense(weight) if weight and not form else reason,
        )
    return decisions


def _matrices(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters of two dimensions or more, or of none yet (lazy modules); tied ones once."""
    places = places_of(model)
    names = first_names(places)
    for tensor in {id(place.tensor): place.tensor for place in places}.values():
        if is_lazy(tensor) or (isinstance(tensor, nn.Parameter) and tensor.ndim > 1):
            yield names[id(tensor)], tensor


def _owners(model: nn.Module, listener: _Listener) -> dict[int, list[tuple[nn.Module, str]]]:
    """The id of each parameter -> the layers that use it, each with why it needs the parameter dense, or nothing."""
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    aside = layers_aside(model)
    for module in layers_of(model):
        reason = f"{aside[id(module)]} holds it too" if id(module) in aside else ""
        convert = converter(module)
        if convert is not None and not reason:
            convert(listener, module)
        for parameter in module.parameters(recurse=is_whole(module)):
            taken = convert is not None and not reason and id(parameter) in listener.kinds
            why = "" if taken else reason or why_dense(module) or NOT_TAKEN
            owners.setdefault(id(parameter), []).append((module, why))
    return owners


def _why_dense(owners: list[tuple[nn.Module, str]]) -> str:
    """Why the layers that use a weight need it dense; empty if none does."""
    dense = [(type(module).__name__, why) for module, why in owners if why]
    if not dense:
        return "" if owners else "no layer uses it"
    kind, why = dense[0]
    return why if len(dense) == len(owners) else f"shared with a dense {kind}"


def _why_lazy(tensor: Tensor) -> str:
    return "it has no shape yet: run the lazy module once" if is_lazy(tensor) else ""


def _why_never(weight: Tensor) -> str:
    """Why no layer has a sparse form for this weight, whatever is in it; empty if one may have."""
    if weight.dtype not in COMPUTED:
        return f"{str(weight.dtype).removeprefix('torch.')}: sparse layers are float32, bfloat16 or float16"
    if weight.device.type not in ("cpu", "meta"):
        return f"on {weight.device}: sparse layers are for the CPU"
    return "" if weight.numel() else "empty"


def _weight(kind: str, name: str, tensor: Tensor, source: Weights, wish: Wish) -> Weight:
    """What is known of a weight; where a file seems to keep too much to be sparse, it is counted."""
    shape = tensor.shape
    n_kept = source.n_kept(name, tensor)
    weight = Weight(kind=kind, n_rows=shape[0], n_columns=shape[1:].numel(), n_kept=n_kept, dtype=tensor.dtype)
    if weight.n_kept and not isinstance(source, Own) and wish.form(weight) is None:  # it may count -0.0 as kept
        weight = replace(weight, n_kept=sum(len(chunk.positions) for chunk in source.chunks(name, tensor)))
    return weight


def _check_values(name: str, weight: Tensor, form: Form) -> None:
    if form.values.dtype == weight.dtype:
        return
    try:
        for values in torch.split(weight.detach().flatten(), CHUNK):
            check_values(values, form.values)
    except OptionError as error:
        raise OptionError(f"{name}: {error}") from None
