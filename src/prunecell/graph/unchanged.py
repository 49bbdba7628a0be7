"""A model that is as it was after it was traced, and what its code did with its tensors meanwhile."""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_CONTAINERS = (dict, OrderedDict, list, set)
_FACTS: set[object] = {
    *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "layout", "requires_grad")),
    *(Tensor.size, Tensor.dim, Tensor.numel, Tensor.stride, Tensor.is_floating_point),
}
"""What tells nothing of the numbers in a tensor."""


class Uses(TorchFunctionMode):
    """The tensors that are computed with while a model is traced, past the graph: weights out of `parameters()`, say.

    Attributes:
        tensors: that were.
        is_paused: whether what happens now is not the model's doing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []
        self.is_paused = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - as torch has it
        """See `TorchFunctionMode`."""
        if not self.is_paused and func not in _FACTS:
            leaves = tree_leaves((args, kwargs or {}))
            if not any(isinstance(leaf, fx.Proxy) for leaf in leaves):
                self.tensors += [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Let code of a model run, and undo what it does to attributes, buffers, modes and random numbers."""
    attributes = [(vars(part), dict(vars(part))) for part in model.modules()]
    held = [value for _, before in attributes for value in before.values() if type(value) in _CONTAINERS]
    contents = [(value, value.copy()) for value in held]
    buffers = [(b, b._version, b.clone()) for b in model.buffers() if not b.is_inference()]  # noqa: SLF001
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for now, before in (*attributes, *contents):
            _refill_(now, before)
        with torch.no_grad():
            for buffer, version, values in buffers:
                if buffer._version != version:  # noqa: SLF001 - torch has no public name
                    buffer.copy_(values)


def _refill_(now: Any, before: Any) -> None:  # noqa: ANN401 - one of _CONTAINERS
    """Give a container the contents that it had."""
    if isinstance(now, list):
        now[:] = before
    else:
        now.clear()
        now.update(before)


def kept_nodes(model: nn.Module) -> set[fx.Node]:
    """The nodes whose tensors stand in attributes of a model that is being traced."""
    values = [value for part in model.modules() for value in vars(part).values()]
    return {leaf.node for leaf in tree_leaves(values) if isinstance(leaf, fx.Proxy)}
