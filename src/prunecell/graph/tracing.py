"""A model as torch.fx traces it, once in training and once in evaluation."""

import inspect
import io
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.utils._pytree import tree_map_only

from prunecell.errors import OptionError, quoted
from prunecell.graph.answers import Answers
from prunecell.graph.forms import LAYERS, NORMS, forms_of
from prunecell.graph.operations import is_changed
from prunecell.graph.unchanged import Uses, kept_nodes, unchanged
from prunecell.memory import overlapping
from prunecell.names import unwrapped
from prunecell.torch_checks import check_model

Example = Tensor | tuple[Any, ...] | None
"""One input of a model, or a tuple of all."""


class Graph:
    """A model's graph, and what is known of its modules.

    Args:
        graph: of the model.
        model: it stands in evaluation.
        example: see `graphs_of`.
        uses: tensors that the model's code computed with, past the graph.

    Attributes:
        nodes: in the order of the computation.
        modules: name -> module.
        shapes: node -> the shape of its tensor; nothing without an example.
        forms: node -> what is certain of its tensor.
        kept: nodes whose tensors the model writes to its attributes, where others may read them.
    """

    def __init__(self, graph: fx.Graph, model: nn.Module, example: Example, uses: Sequence[Tensor]) -> None:
        self.nodes = tuple(graph.nodes)
        self.modules = dict(model.named_modules())
        self.kept = kept_nodes(model)
        self.shapes = _shapes(graph, model, example)
        read = {node: operator.attrgetter(node.target)(model) for node in self.nodes if node.op == "get_attr"}
        self.forms = forms_of(self.nodes, self.modules, read, self.shapes)
        self._calls = Counter(id(self.modules[n.target]) for n in self.nodes if n.op == "call_module")
        owned = [tensor for part in model.modules() for tensor in _tensors(part)]
        self._shared = overlapping([*owned, *uses, *(value for value in read.values() if isinstance(value, Tensor))])

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
        if any(id(tensor) in self._shared for tensor in _tensors(module)):
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
    check_model(model)
    model = unwrapped(model)
    return _graph(model, example, training=True), _graph(model, example, training=False)


def _graph(model: nn.Module, example: Example, *, training: bool) -> Graph:
    with unchanged(model):
        for part in model.modules():
            part.training = training
        uses = Uses()
        graph = _traced(model, example, uses)
        for part in model.modules():
            part.training = False
        return Graph(graph, model, example, uses.tensors)


class _Tracer(fx.Tracer):
    """Torch's, which also knows where it is, and the shapes of an example."""

    def __init__(self, example: Example, uses: Uses) -> None:
        super().__init__()
        self.place: list[str] = []
        self._inputs = example if isinstance(example, tuple) else (example,)
        self._answers: Answers | None = None
        self._uses = uses

    def create_args_for_root(
        self,
        root_fn: Callable[..., Any],  # noqa: ARG002 - the form is torch's
        is_module: bool,  # noqa: ARG002, FBT001
        concrete_args: Any = None,  # noqa: ANN401
    ) -> tuple[Callable[..., Any], list[Any]]:
        """See `fx.Tracer`. Of what has a default the model gets as much as the example has, and `*more` never.

        What is traced is a call of the model, so that its hooks and a forward of its own are in the graph too.
        """
        forward = self.root.forward
        function, has_self = inspect.unwrap(getattr(forward, "__func__", forward)), inspect.ismethod(forward)
        if not inspect.isfunction(function):
            raise TypeError(f"its forward is a {type(function).__name__}")
        _, arguments = super().create_args_for_root(function, has_self, concrete_args)
        n_positional = function.__code__.co_argcount
        n_needed = n_positional - len(function.__defaults__ or ())
        n_given = max(n_needed, min(len(self._inputs) + has_self, n_positional))
        return self.root._call_impl, list(arguments)[has_self:n_given]  # noqa: SLF001 - __call__ may be compiled

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401 - as torch has it
        """See `fx.Tracer`. The place is not left if an error passes, because the error is there."""
        if self._uses.is_paused:
            return forward(*args, **kwargs)
        self.place.append(f"{self.path_of_module(m)!r} ({type(m).__name__})")
        result = super().call_module(m, forward, args, kwargs)
        self.place.pop()
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:  # noqa: ANN401
        """See `fx.Tracer`."""
        return attr_val if self._uses.is_paused else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """See `fx.Tracer`. What follows from shapes is decided by the example."""
        answer = self._answer(obj.node)
        return super().to_bool(obj) if isinstance(answer, Tensor | None) else bool(answer)

    def _answer(self, node: fx.Node) -> Any:  # noqa: ANN401
        """What a node gives for the example; None without one."""
        if self._inputs == (None,):
            return None
        self._uses.is_paused = True
        try:
            self._answers = self._answers or Answers(self.root, self.graph, self._inputs)
            return self._answers.value(node)
        finally:
            self._uses.is_paused = False


def _traced(model: nn.Module, example: Example, uses: Uses) -> fx.Graph:
    tracer = _Tracer(example, uses)
    try:
        with uses:
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
    inputs = tree_map_only(Tensor, Tensor.clone, example if isinstance(example, tuple) else (example,))
    # torch prints the traceback of what it raises
    with torch.no_grad(), torch.random.fork_rng(devices=[]), redirect_stderr(io.StringIO()):
        try:
            ShapeProp(fx.GraphModule(model, graph)).propagate(*inputs)
        except (RuntimeError, TypeError) as error:
            raise OptionError(
                f"example does not fit the model: {quoted(str(error).partition(chr(10))[0], 200)}"
            ) from None
    metas = {node: node.meta.get("tensor_meta") for node in graph.nodes}
    return {node: meta.shape for node, meta in metas.items() if hasattr(meta, "shape")}


def _tensors(module: nn.Module) -> list[Tensor]:
    """The parameters and buffers of a module itself, each as often as it has it."""
    own = {**module._parameters, **module._buffers}  # noqa: SLF001 - tied ones too
    return [tensor for tensor in own.values() if tensor is not None]


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
