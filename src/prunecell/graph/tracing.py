"""A model as torch.fx traces it, once in training and once in evaluation."""

import inspect
import operator
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from prunecell.errors import OptionError, OptionTypeError, quoted, typed
from prunecell.graph.answers import Answers
from prunecell.names import unwrapped

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
LAYERS = (nn.Linear, *CONVOLUTIONS)

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

Example = Tensor | tuple[Any, ...] | None
"""One input of a model, or a tuple of all."""


class Graph:
    """A model's graph, and what is known of its modules.

    Attributes:
        nodes: in the order of the computation.
        modules: name -> module.
        shapes: node -> the shape of its tensor; nothing without an example.
    """

    def __init__(self, graph: fx.Graph, model: nn.Module, example: Example) -> None:
        self.nodes = tuple(graph.nodes)
        self.modules = dict(model.named_modules())
        self.shapes = _shapes(graph, model, example)
        self._calls = Counter(id(self.modules[n.target]) for n in self.nodes if n.op == "call_module")
        owned = [part.named_parameters(recurse=False, remove_duplicate=False) for part in model.modules()]
        self._uses = Counter(id(parameter) for parameters in owned for _, parameter in parameters)
        self._uses.update(id(operator.attrgetter(n.target)(model)) for n in self.nodes if n.op == "get_attr")

    def module_of(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls; None if it calls none."""
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def why_not_plain(self, module: nn.Module) -> str:
        """Why a layer or norm is more, or used more, than one call of its class says; empty if it is not."""
        if type(module) not in {*LAYERS, *NORMS}:
            return f"is a {type(module).__name__}"
        if self._calls[id(module)] > 1:
            return "is called more than once"
        if isinstance(module, LAYERS) and (beside := next(iter(module._buffers), None)):  # noqa: SLF001 - its own
            return f"has {beside!r} beside its weight"
        if any(self._uses[id(parameter)] > 1 for parameter in module.parameters()):
            return "shares a parameter with another place"
        return "has hooks, or a forward of its own" if is_changed(module) else ""


def graphs_of(model: nn.Module, example: Example = None) -> tuple[Graph, Graph]:
    """Trace a model without its wrappers, in training and in evaluation, as it is called with what it must get.

    Args:
        model: nothing in it is changed.
        example: inputs, with which the model is run once each in evaluation for the shapes. Where its forward asks for
            a shape, to decide by it, it gets that of the example.

    Raises:
        OptionError: torch.fx cannot trace the model, and the message names the module; or the example does not fit it.
        OptionTypeError: it is no module.
    """
    if not isinstance(model, nn.Module):
        raise OptionTypeError(f"model is {typed(model)}: it must be a torch.nn.Module")
    model = unwrapped(model)
    modes = {part: part.training for part in model.modules()}
    traced = []
    try:
        for training in (True, False):
            for part in modes:
                part.training = training
            traced.append(_traced(model, example))
        return Graph(traced[0], model, example), Graph(traced[1], model, example)
    finally:
        for part, training in modes.items():
            part.training = training


class _Tracer(fx.Tracer):
    """Torch's, which also knows where it is, and the shapes of an example."""

    def __init__(self, example: Example) -> None:
        super().__init__()
        self.place: list[str] = []
        self._inputs = example if isinstance(example, tuple) else (example,)
        self._answers: Answers | None = None
        self._is_answering = False

    def create_args_for_root(
        self,
        root_fn: Callable[..., Any],
        is_module: bool,  # noqa: FBT001 - as torch has it
        concrete_args: Any = None,  # noqa: ANN401
    ) -> tuple[Callable[..., Any], list[Any]]:
        """See `fx.Tracer`. Of what has a default the model gets as much as the example has, and `*more` never."""
        _, arguments = super().create_args_for_root(root_fn, is_module, concrete_args)
        function = inspect.unwrap(root_fn)
        n_positional = function.__code__.co_argcount
        n_needed = n_positional - len(function.__defaults__ or ())
        n_given = max(n_needed, min(len(self._inputs) + 1, n_positional))  # and the model itself
        return function, list(arguments)[:n_given]

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401 - as torch has it
        """See `fx.Tracer`. The place is not left if an error passes, because the error is there."""
        if self._is_answering:
            return forward(*args, **kwargs)
        self.place.append(f"{self.path_of_module(m)!r} ({type(m).__name__})")
        result = super().call_module(m, forward, args, kwargs)
        self.place.pop()
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:  # noqa: ANN401
        """See `fx.Tracer`."""
        return attr_val if self._is_answering else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """See `fx.Tracer`. What follows from shapes is decided by the example."""
        answer = self._answer(obj.node)
        return super().to_bool(obj) if isinstance(answer, Tensor | None) else bool(answer)

    def _answer(self, node: fx.Node) -> Any:  # noqa: ANN401
        """What a node gives for the example; None without one."""
        if self._inputs == (None,):
            return None
        self._answers = self._answers or Answers(self.root, self.graph, self._inputs)
        self._is_answering = True
        try:
            return self._answers.value(node)
        finally:
            self._is_answering = False


def _traced(model: nn.Module, example: Example) -> fx.Graph:
    tracer = _Tracer(example)
    try:
        return tracer.trace(model)
    except Exception as error:  # noqa: BLE001 - the model's own code, which meets no tensor here
        place = tracer.place[-1] if tracer.place else f"the model ({type(model).__name__})"
        raise OptionError(
            f"the model cannot be followed through {place}, because torch.fx cannot trace it: {quoted(str(error), 200)}"
        ) from None


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


def is_changed(module: nn.Module) -> bool:
    """Whether a call of it is more than the forward of its class."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))  # noqa: SLF001


def check_unwatched(name: str, parameter: Tensor, verb: str) -> None:
    """Refuse to move or change a parameter, behind the back of what waits for its gradients.

    Raises:
        OptionError: it has a hook; the message says that the parameter cannot be what the verb says.
    """
    if getattr(parameter, "_post_accumulate_grad_hooks", None):
        raise OptionError(
            f"{name!r} cannot be {verb}: it has a hook, as of a Pruner, Quantizer or Sharing, which would not follow;"
            " finalize that first"
        )
