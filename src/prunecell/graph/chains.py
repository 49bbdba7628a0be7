"""Which hidden units a model has: the layer that computes them, and the layers that alone read them.

A unit is a row of a linear layer or a filter of a convolution. Its layer is followed through the model's graph over
what treats each unit for itself: activations, dropout, pooling, BatchNorm, flattening. Where all that it reaches are
layers that read it by columns of their own, its row and those columns belong together. What cannot be proved is left,
with the reason.

The first dimension of the model's inputs is taken for the batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunecell.graph.forms import CONVOLUTIONS, LAYERS, NORMS, TRANSPOSED, norm_axis, unit_axis
from prunecell.graph.operations import (
    COPIES,
    ELEMENTWISE,
    FLATTEN,
    KEEP_ZERO,
    MEAN,
    POOLS,
    VIEW,
    averaged,
    called,
    flattened,
    function_of,
    is_batch_of,
    is_changed,
    is_in_place,
    is_size,
    viewed,
    what_of,
)
from prunecell.graph.tracing import Example, Graph, graphs_of


@dataclass(frozen=True, eq=False)
class Step:
    """What is done to every unit for itself on its way.

    Attributes:
        kind: "elementwise", "keeps zero" or "norm".
        name: of the module, or of the operation.
        module: of a norm, whose vectors have a number for each unit; else None.
        compute: the operation itself.
    """

    kind: str
    name: str
    module: nn.Module | None
    compute: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Reading:
    """One way from a layer to one that reads its units.

    Attributes:
        name, module: the layer that reads.
        steps: in order.
        n_columns: consecutive columns of the reader for each unit: H W where positions were flattened, else 1.
    """

    name: str
    module: Any
    steps: tuple[Step, ...]
    n_columns: int

    @property
    def dim(self) -> int:
        """The dimension of its weight that the units are."""
        return 0 if isinstance(self.module, TRANSPOSED) else 1


@dataclass(frozen=True, eq=False)
class HiddenLayer:
    """A layer whose outputs are hidden units that nothing but its readers sees.

    Attributes:
        name, module: the layer that computes the units.
        readings: at least one.
    """

    name: str
    module: Any
    readings: tuple[Reading, ...]

    @property
    def dim(self) -> int:
        """The dimension of its weight that the units are."""
        return 1 if isinstance(self.module, TRANSPOSED) else 0

    @property
    def n_units(self) -> int:
        """How many units it has."""
        return _n_units(self.module)

    @property
    def norms(self) -> dict[str, Any]:
        """The BatchNorms that its units pass, by their names, each once."""
        steps = [step for reading in self.readings for step in reading.steps]
        return {step.name: step.module for step in steps if step.module is not None}


@dataclass(frozen=True, kw_only=True)
class Chains:
    """What was found out about the layers of a model.

    Attributes:
        layers: those whose units are known, in the model's order.
        left: name of any other linear layer or convolution -> why its units are not.
    """

    layers: tuple[HiddenLayer, ...]
    left: dict[str, str]


@dataclass(frozen=True)
class _Way:
    """How far a layer was followed.

    Attributes:
        node: the last one.
        layer: where it began.
        axis: the dimension that the units are now, from the end.
        steps: that were met.
        spread: whether positions of a convolution's channels became columns.
        shared: whether others read what one of the nodes gives.
    """

    node: fx.Node
    layer: nn.Module
    axis: int
    steps: tuple[Step, ...] = ()
    spread: bool = False
    shared: bool = False

    @property
    def n_units(self) -> int:
        """How many units the layer has."""
        return _n_units(self.layer)


def _n_units(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]


class _UnknownError(Exception):
    """A path that cannot be followed; the message says why."""


def chains_of(model: nn.Module, example: Example = None) -> Chains:
    """Find the hidden layers of a model, as it computes in training and in evaluation.

    Args:
        model: nothing in it is changed.
        example: inputs of the model, by which `x.view(-1, 800)` is seen to flatten, and a BatchNorm1d behind a linear
            layer to normalize features; the model is run with them. Not needed where it says `x.flatten(1)` or
            `x.view(x.size(0), -1)`, nor where two BatchNorm1d of different widths follow each other. What has a default
            in the model's forward is left at that, unless the example gives it.

    Raises:
        OptionError: torch.fx cannot trace the model, and the message names the module; or the example does not fit it.
        OptionTypeError: it is no module.

    >>> net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 24 * 24, 10))
    >>> chains = chains_of(net)
    >>> [(layer.name, layer.n_units, layer.readings[0].name, layer.readings[0].n_columns) for layer in chains.layers]
    [('0', 6, '3', 576)]
    >>> chains.left
    {'3': 'the model returns them'}
    """
    return _in_both(*(_Followed(graph) for graph in graphs_of(model, example)))


def _in_both(training: "_Followed", evaluating: "_Followed") -> Chains:
    layers, left = [], dict(training.left) | evaluating.left
    for name, layer in evaluating.layers.items():
        other = training.layers.get(name)
        if other is not None and _shown(layer) == _shown(other):
            layers.append(layer)
        elif other is not None:
            left[name] = "other layers read them in training than in evaluation"
    return Chains(layers=tuple(layers), left=left)


def _shown(layer: HiddenLayer) -> list[object]:
    kept = [[step.name for step in reading.steps if step.kind != "keeps zero"] for reading in layer.readings]
    return [(reading.name, reading.n_columns, steps) for reading, steps in zip(layer.readings, kept, strict=True)]


class _Followed:
    """The layers of a model in one graph.

    Attributes:
        layers: name -> layer whose units are known.
        left: name of any other layer -> why not.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.layers: dict[str, HiddenLayer] = {}
        self.left = {
            name: "no call of it is seen" for name, part in graph.modules.items() if isinstance(part, LAYERS) and name
        }
        for node in graph.nodes:
            if isinstance(graph.module_of(node), LAYERS):
                self._follow(node)

    def _follow(self, node: fx.Node) -> None:
        name = str(node.target)
        module = self._graph.modules[name]
        try:
            self._check(module, "it")
            readings = tuple(self._readings(_Way(node, module, unit_axis(module))))
            if not readings:
                raise _UnknownError("nothing reads them")  # noqa: TRY301 - one place takes all reasons
        except _UnknownError as why:
            self.left[name] = str(why)
        else:
            del self.left[name]
            self.layers[name] = HiddenLayer(name, module, readings)

    def _check(self, module: nn.Module, it: str) -> None:
        """Refuse a layer or norm whose numbers do more than to compute or read units, once."""
        if why := self._graph.why_not_plain(module):
            raise _UnknownError(f"{it} {why}")
        if isinstance(module, CONVOLUTIONS) and module.groups > 1:
            raise _UnknownError(f"{it} has groups of channels")

    def _readings(self, way: "_Way") -> Iterator[Reading]:
        """All ways on."""
        users = [user for user in way.node.users if not is_size(user)]
        if way.node in self._graph.kept:
            raise _UnknownError("the model keeps them in an attribute")
        way = replace(way, shared=way.shared or len(users) > 1)
        for user in users:
            if user.op == "output":
                raise _UnknownError("the model returns them")
            module = self._graph.module_of(user)
            if module is not None and not isinstance(module, LAYERS) and is_changed(module):
                raise _UnknownError(f"{called(user)!r} has hooks, or a forward of its own")
            moved = self._moved(user, module, way)
            if moved is not None:
                yield from self._readings(replace(moved, node=user))
                continue
            others = (*user.args[1:], *user.kwargs.values())
            if user.all_input_nodes != [way.node] or user.args[:1] != (way.node,) or way.node in others:
                raise _UnknownError(f"they meet other numbers in {called(user)!r}")
            if isinstance(module, LAYERS):
                yield self._reading(str(user.target), way)
                continue
            if way.shared and is_in_place(user, module):
                raise _UnknownError(f"{called(user)!r} changes them in place, and others read them too")
            yield from self._readings(replace(way, node=user, steps=(*way.steps, self._step(user, module, way))))

    def _reading(self, name: str, way: "_Way") -> Reading:
        reader: Any = self._graph.modules[name]
        self._check(reader, f"{name!r}, which reads them,")
        if unit_axis(reader) != way.axis:
            raise _UnknownError(f"{name!r} reads them along another dimension")
        n_inputs = reader.in_features if isinstance(reader, nn.Linear) else reader.in_channels
        if n_inputs % way.n_units or (n_inputs != way.n_units and not way.spread):
            raise _UnknownError(f"{name!r} has {n_inputs} inputs for {way.n_units} units")
        return Reading(name, reader, way.steps, n_inputs // way.n_units)

    def _step(self, node: fx.Node, module: nn.Module | None, way: "_Way") -> Step:
        what, name = what_of(node, module), called(node)
        compute = module if module is not None else function_of(node)
        if what in ELEMENTWISE:
            return Step("elementwise", name, None, compute)
        if what in COPIES:
            return Step("elementwise", name, None, Tensor.clone)
        if what in KEEP_ZERO or POOLS.get(what, -way.axis) < -way.axis:
            return Step("keeps zero", name, None, compute)
        if module is not None and what in NORMS and module.num_features == way.n_units:
            self._check(module, repr(name))
            axis = norm_axis(module, self._graph.forms[way.node].n_dims)
            if axis is None:
                raise _UnknownError(f"which dimension {name!r} normalizes is not known: give an example")
            if axis == way.axis:
                return Step("norm", name, module, compute)
            raise _UnknownError(f"{name!r} normalizes another dimension")
        raise _UnknownError(f"they pass {name!r}{'' if module is None else f', a {type(module).__name__}'}")

    def _moved(self, node: fx.Node, module: nn.Module | None, way: "_Way") -> "_Way | None":
        """The way behind an operation that changes which dimension the units are; None if it is no such."""
        what = what_of(node, module)
        if node.args[:1] != (way.node,):
            return None
        if what in FLATTEN:
            return self._flattened(way, flattened(node, module), called(node))
        if what in VIEW and self._is_flat(node, way.node):
            return self._flattened(way, (1, -1), called(node))
        return self._averaged(way, averaged(node), called(node)) if what in MEAN else None

    def _flattened(self, way: "_Way", span: tuple[int, int] | None, name: str) -> "_Way":
        """Behind a flattening of dimensions, the first and the last of which are given."""
        if span is None:
            raise _UnknownError(f"they pass {name!r}")
        if way.axis == -1:  # columns of other dimensions before them would be more inputs than units
            return way
        n, units = self._place(way, name)
        start, end = span[0] % n, span[1] % n
        if start == units and end == n - 1:
            return replace(way, axis=-1, spread=True)
        if start <= units <= end:
            raise _UnknownError(f"they pass {name!r}")
        return replace(way, axis=way.axis + (end - start if start > units else 0))

    def _averaged(self, way: "_Way", mean: tuple[tuple[int, ...], bool] | None, name: str) -> "_Way":
        """Behind a mean over dimensions."""
        if mean is None:
            raise _UnknownError(f"they pass {name!r}")
        n, units = self._place(way, name)
        dims = {d % n for d in mean[0]}
        if units in dims:
            raise _UnknownError(f"they pass {name!r}")
        gone = 0 if mean[1] else sum(d > units for d in dims)
        return replace(way, axis=way.axis + gone, steps=(*way.steps, Step("keeps zero", name, None, abs)))

    def _place(self, way: "_Way", name: str) -> tuple[int, int]:
        """How many dimensions there are, and which one the units are, from the front."""
        n = self._graph.forms[way.node].n_dims
        if n is None:
            raise _UnknownError(f"which dimensions {name!r} takes is not known: give an example")
        return n, n + way.axis

    def _is_flat(self, view: fx.Node, node: fx.Node) -> bool:
        """Whether a view of a node has the same batch, and one dimension beside it."""
        if view in self._graph.shapes:
            before, after = self._graph.shapes[node], self._graph.shapes[view]
            is_sized = not any(isinstance(a, torch.dtype) for a in (*view.args, *view.kwargs.values()))
            return is_sized and len(after) == 2 and after[0] == before[0]  # noqa: PLR2004 - (batch, columns)
        sizes = viewed(view) or ()
        return len(sizes) == 2 and sizes[1] == -1 and is_batch_of(sizes[0], node)  # noqa: PLR2004
