"""Which hidden units a model has: the layer that computes them, and the layers that alone read them.

A unit is a row of a linear layer or a filter of a convolution. Its layer is followed through the model's graph, as
torch.fx traces it, over what treats each unit for itself: activations, dropout, pooling, BatchNorm, flattening. Where
all that it reaches are layers that read it by columns of their own, its row and those columns belong together. What
cannot be proved is left, with the reason.

The first dimension of the model's inputs is taken for the batch.
"""

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from prunecell.errors import OptionError, OptionTypeError, quoted, typed
from prunecell.names import unwrapped

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
LAYERS = (nn.Linear, *_CONVOLUTIONS)

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

_ELEMENTWISE: set[object] = {
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Softsign, nn.LogSigmoid, nn.Sigmoid, nn.Tanh, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.Threshold),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish),
    *(F.relu, F.relu_, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus, F.softsign),
    *(F.logsigmoid, F.sigmoid, F.tanh, F.tanhshrink, F.softshrink, F.hardshrink, F.threshold, F.hardtanh),
    *(F.hardsigmoid, F.hardswish, torch.relu, torch.relu_, torch.sigmoid, torch.tanh, torch.abs, torch.square),
    *(torch.clamp, torch.clone),
    *("relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_", "abs", "square", "clamp", "clamp_", "clone"),
    "contiguous",
}
"""Modules, functions and methods of one tensor that compute each number for itself, the same in training."""

_KEEP_ZERO: set[object] = {
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, F.dropout, F.dropout1d, F.dropout2d, F.dropout3d),
}
"""What leaves the zeros of a unit zeros, and may change its other numbers."""

_POOLS: set[object] = {
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d, torch.avg_pool1d),
    *(torch.adaptive_avg_pool1d, torch.adaptive_max_pool1d),
}
"""What pools the positions of each channel for itself. Average pools count padding as zeros, so only zeros are kept."""

_FLATTEN: set[object] = {nn.Flatten, torch.flatten, "flatten"}
_MEAN: set[object] = {torch.mean, "mean"}
_VIEW: set[object] = {"view", "reshape", torch.reshape}


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
        return 0 if isinstance(self.module, _TRANSPOSED) else 1


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
        return 1 if isinstance(self.module, _TRANSPOSED) else 0

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
        steps: that were met.
        flat: whether the positions of a convolution's channels became columns.
        shared: whether others read what one of the nodes gives.
    """

    node: fx.Node
    layer: nn.Module
    steps: tuple[Step, ...] = ()
    flat: bool = False
    shared: bool = False

    @property
    def has_positions(self) -> bool:
        """Whether the units are channels, in the dimension after the batch; else they are the last dimension."""
        return isinstance(self.layer, _CONVOLUTIONS) and not self.flat

    @property
    def n_units(self) -> int:
        """How many units the layer has."""
        return _n_units(self.layer)


def _n_units(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]


class _UnknownError(Exception):
    """A path that cannot be followed; the message says why."""


def chains_of(model: nn.Module, example: Tensor | tuple[Any, ...] | None = None) -> Chains:
    """Find the hidden layers of a model, as it computes in training and in evaluation.

    Args:
        model: nothing in it is changed.
        example: inputs of the model, by which `x.view(-1, 800)` is seen to flatten; the model is run once with them.
            Not needed where it says `x.flatten(1)` or `x.view(x.size(0), -1)`.

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
    if not isinstance(model, nn.Module):
        raise OptionTypeError(f"model is {typed(model)}: it must be a torch.nn.Module")
    model = unwrapped(model)
    modes = {part: part.training for part in model.modules()}
    graphs = []
    try:
        for training in (True, False):
            for part in modes:
                part.training = training
            graphs.append(_traced(model))
        found = [_Followed(graph, model, example) for graph in graphs]
    finally:
        for part, training in modes.items():
            part.training = training
    return _in_both(*found)


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
    kept = [[step.name for step in reading.steps if step.kind == "norm"] for reading in layer.readings]
    return [(reading.name, reading.n_columns, norms) for reading, norms in zip(layer.readings, kept, strict=True)]


# ---- the graph -------------------------------------------------------------------------------------------------------


class _Tracer(fx.Tracer):
    """Torch's, which also knows where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.place: list[str] = []

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401 - as torch has it
        """See `fx.Tracer`. The place is not left if an error passes, because the error is there."""
        self.place.append(f"{self.path_of_module(m)!r} ({type(m).__name__})")
        result = super().call_module(m, forward, args, kwargs)
        self.place.pop()
        return result


def _traced(model: nn.Module) -> fx.Graph:
    tracer = _Tracer()
    try:
        return tracer.trace(model)
    except Exception as error:  # noqa: BLE001 - the model's own code, which meets no tensor here
        place = tracer.place[-1] if tracer.place else f"the model ({type(model).__name__})"
        raise OptionError(
            f"the units cannot be followed through {place}, because torch.fx cannot trace it: {quoted(str(error), 200)}"
        ) from None


class _Followed:
    """The layers of a model in one graph.

    Attributes:
        layers: name -> layer whose units are known.
        left: name of any other layer -> why not.
    """

    def __init__(self, graph: fx.Graph, model: nn.Module, example: Tensor | tuple[Any, ...] | None) -> None:
        self._modules = dict(model.named_modules())
        self._calls = Counter(id(self._modules[n.target]) for n in graph.nodes if n.op == "call_module")
        self._uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
        self._uses.update(id(_attribute(model, n.target)) for n in graph.nodes if n.op == "get_attr")
        self._shapes = _shapes(graph, model, example)
        self.layers: dict[str, HiddenLayer] = {}
        self.left = {
            name: "no call of it is seen" for name, part in self._modules.items() if isinstance(part, LAYERS) and name
        }
        for node in graph.nodes:
            if node.op == "call_module" and isinstance(self._modules[node.target], LAYERS):
                self._follow(node)

    def _follow(self, node: fx.Node) -> None:
        name = str(node.target)
        module = self._modules[name]
        try:
            self._check_layer(name, "it")
            readings = tuple(self._readings(_Way(node, module)))
            if not readings:
                raise _UnknownError("nothing reads them")  # noqa: TRY301 - one place takes all reasons
        except _UnknownError as why:
            self.left[name] = str(why)
        else:
            del self.left[name]
            self.layers[name] = HiddenLayer(name, module, readings)

    def _check_layer(self, name: str, it: str) -> None:
        """Refuse a layer or norm whose parameters are not its own, or that computes more than its class does."""
        module = self._modules[name]
        if type(module) not in {*LAYERS, *_NORMS}:
            raise _UnknownError(f"{it} is a {type(module).__name__}")
        if self._calls[id(module)] > 1:
            raise _UnknownError(f"{it} is called more than once")
        if any(self._uses[id(parameter)] > 1 for parameter in module.parameters()):
            raise _UnknownError(f"{it} shares a parameter with another place")
        if _is_changed(module):
            raise _UnknownError(f"{it} has hooks, or a forward of its own")
        if isinstance(module, _CONVOLUTIONS) and module.groups > 1:
            raise _UnknownError(f"{it} has groups of channels")

    def _readings(self, way: "_Way") -> Iterator[Reading]:
        """All ways on."""
        users = [user for user in way.node.users if not _is_size(user)]
        for user in users:
            if user.op == "output":
                raise _UnknownError("the model returns them")
            module = self._modules[str(user.target)] if user.op == "call_module" else None
            shared = way.shared or len(users) > 1
            if self._flattens(user, module, way):
                mean = () if (what := _what(user, module)) not in _MEAN else (Step("keeps zero", str(what), None, abs),)
                yield from self._readings(_Way(user, way.layer, (*way.steps, *mean), flat=True, shared=shared))
                continue
            arguments = (*user.args, *user.kwargs.values())
            if user.all_input_nodes != [way.node] or arguments[0] is not way.node or way.node in arguments[1:]:
                raise _UnknownError(f"they meet other numbers in {_called(user)!r}")
            if isinstance(module, LAYERS):
                yield self._reading(str(user.target), way)
                continue
            if shared and _is_in_place(user, module):
                raise _UnknownError(f"{_called(user)!r} changes them in place, and others read them too")
            steps = (*way.steps, self._step(user, module, way))
            yield from self._readings(_Way(user, way.layer, steps, flat=way.flat, shared=shared))

    def _reading(self, name: str, way: "_Way") -> Reading:
        self._check_layer(name, f"{name!r}, which reads them,")
        reader: Any = self._modules[name]
        reads_columns = isinstance(reader, nn.Linear)
        if reads_columns == way.has_positions:
            raise _UnknownError(f"{name!r} reads them along another dimension")
        n_inputs = reader.in_features if reads_columns else reader.in_channels
        spreads = way.flat and isinstance(way.layer, _CONVOLUTIONS)
        if n_inputs % way.n_units or (n_inputs != way.n_units and not spreads):
            raise _UnknownError(f"{name!r} has {n_inputs} inputs for {way.n_units} units")
        return Reading(name, reader, way.steps, n_inputs // way.n_units)

    def _step(self, node: fx.Node, module: nn.Module | None, way: "_Way") -> Step:
        what, name = _what(node, module), _called(node)
        if module is not None and _is_changed(module):
            raise _UnknownError(f"{name!r} has hooks, or a forward of its own")
        compute = module if module is not None else _function(node)
        if what in _ELEMENTWISE:
            return Step("elementwise", name, None, compute)
        if what in _KEEP_ZERO or (what in _POOLS and way.has_positions and not _gives_indices(node, module)):
            return Step("keeps zero", name, None, compute)
        if what in _NORMS and getattr(module, "num_features", 0) == way.n_units:
            self._check_layer(name, repr(name))
            return Step("norm", name, module, compute)
        raise _UnknownError(f"they pass {name!r}{'' if module is None else f', a {type(module).__name__}'}")

    def _flattens(self, node: fx.Node, module: nn.Module | None, way: "_Way") -> bool:
        """Whether a node makes a vector of what it takes, (batch, channels, positions ...) -> (batch, columns)."""
        what = _what(node, module)
        if what in _FLATTEN:
            if isinstance(module, nn.Flatten):
                return (module.start_dim, module.end_dim) == (1, -1)
            return (*node.args[1:], *node.kwargs.values()) in {(1,), (1, -1)}
        if what in _MEAN and way.has_positions:
            n_dims = len(way.layer.kernel_size) + 2  # type: ignore[arg-type]
            dims = _listed((*node.args[1:], *node.kwargs.values()))
            return all(type(d) is int for d in dims) and {d % n_dims for d in dims} == set(range(2, n_dims))
        if what not in _VIEW or node.args[0] is not way.node:
            return False
        if node in self._shapes:
            before, after = self._shapes[way.node], self._shapes[node]
            return len(after) == 2 and after[0] == before[0]  # noqa: PLR2004 - (batch, columns)
        sizes = _listed(node.args[1:])
        return len(sizes) == 2 and sizes[1] == -1 and _is_batch_of(sizes[0], way.node)  # noqa: PLR2004


def _attribute(model: nn.Module, path: object) -> object:
    return operator.attrgetter(str(path))(model)


def _shapes(graph: fx.Graph, model: nn.Module, example: Tensor | tuple[Any, ...] | None) -> dict[fx.Node, torch.Size]:
    """The shapes of all tensors in the graph, in evaluation; nothing without an example."""
    if example is None:
        return {}
    inputs = example if isinstance(example, tuple) else (example,)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            ShapeProp(fx.GraphModule(model, graph)).propagate(*inputs)
        except (RuntimeError, TypeError) as error:
            raise OptionError(
                f"example does not fit the model: {quoted(str(error).partition(chr(10))[0], 200)}"
            ) from None
    metas = {node: node.meta.get("tensor_meta") for node in graph.nodes}
    return {node: meta.shape for node, meta in metas.items() if hasattr(meta, "shape")}


def _is_size(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in {"size", "dim"}
    return node.op == "call_function" and node.target is getattr and node.args[1] in {"shape", "ndim"}


def _is_batch_of(size: object, node: object) -> bool:
    """Whether a number is `node.size(0)` or `node.shape[0]`."""
    if not isinstance(size, fx.Node):
        return False
    if size.op == "call_method":
        return size.target == "size" and size.args == (node, 0)
    taken = size.args[0] if size.target is operator.getitem and size.args[1] == 0 else None
    return isinstance(taken, fx.Node) and _is_size(taken) and taken.args[0] is node


def _gives_indices(node: fx.Node, module: nn.Module | None) -> bool:
    return bool(getattr(module, "return_indices", False) or node.kwargs.get("return_indices", False))


def _function(node: fx.Node) -> Callable[[Tensor], Tensor]:
    """The operation of a node, as a function of its tensor alone."""
    rest, named = node.args[1:], node.kwargs
    if node.op == "call_method":
        return lambda x: getattr(x, str(node.target))(*rest, **named)
    target: Any = node.target
    return lambda x: target(x, *rest, **named)


def _called(node: fx.Node) -> str:
    """What a node is called in a message."""
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _what(node: fx.Node, module: nn.Module | None) -> object:
    """What the tables of this file call an operation: a class, a function, or the name of a method."""
    return node.target if module is None else type(module)


def _listed(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sizes or dimensions that were given one by one, or as one list."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], Sequence) else sizes


def _is_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    named = _called(node).endswith("_") and module is None
    return named or bool(getattr(module, "inplace", False) or node.kwargs.get("inplace", False))


def _is_changed(module: nn.Module) -> bool:
    """Whether a call of it is more than the forward of its class."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))  # noqa: SLF001
