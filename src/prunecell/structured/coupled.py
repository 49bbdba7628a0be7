"""Units that go together, because layers that have them are added, or read each other.

Torch-pruning's dependency graph tells which (Fang et al. 2023, DepGraph, https://arxiv.org/abs/2301.12900). It changes
the model that it is of, so here it is of a copy.
"""

import copy
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from prunecell.errors import OptionError, quoted
from prunecell.graph.tracing import Example
from prunecell.resizing import heads_of

_Convolution = nn.modules.conv._ConvNd  # noqa: SLF001 - torch has no public name
LAYERS = (nn.Linear, _Convolution, nn.MultiheadAttention)
_LAST = (1 << 64) - 1  # how torch's splits save the dimension -1
_N_PROJECTIONS = 3  # queries, keys and values


class _KeptError(Exception):
    """Units that cannot be removed; the message says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Coupled:
    """N units, each of which stands in several layers.

    Attributes:
        root: the name of one of the layers that compute them, by which they are called.
        n_units: N.
        rows: name of a weight -> int64, (rows, 2): (row, the unit that it is of).
        shares: (name of a layer, whether of its inputs) -> which part of these one unit is.
        n_blocks: the units stand in so many blocks, one after the other;
        whole: and go as whole blocks, as heads do; or else as many from each, as channels of groups do.
    """

    root: str
    n_units: int
    rows: Mapping[str, Tensor]
    shares: Mapping[tuple[str, bool], float]
    n_blocks: int
    whole: bool

    def choices(self, scores: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What can be removed, step by step: float64, (choices,), the scores; int64, (choices, units of each).

        Args:
            scores: name of a weight -> of its shape, the scores of its criterion.
        """
        total, count = torch.zeros(self.n_units, dtype=torch.float64), torch.zeros(self.n_units, dtype=torch.float64)
        for name, pairs in self.rows.items():
            of_rows = scores[name].double().cpu()
            of_rows = of_rows.flatten(1).mean(1)[pairs[:, 0]]
            total.index_add_(0, pairs[:, 1], of_rows)
            count.index_add_(0, pairs[:, 1], torch.ones_like(of_rows))
        blocks = (total / count).view(self.n_blocks, -1)
        units = torch.arange(self.n_units).view(self.n_blocks, -1)
        if self.whole:
            return blocks.mean(1), units
        order = blocks.argsort(dim=1, stable=True)
        return blocks.gather(1, order).mean(0), units.gather(1, order).T


@dataclass(frozen=True, kw_only=True, eq=False)
class _Member:
    """A layer in a group of torch-pruning's: indices of its outputs or inputs, and those of the root that they are."""

    name: str
    module: Any
    is_input: bool
    index: Tensor
    root: Tensor
    width: int


class Twin:
    """A copy of a model, and which of its units go together.

    Attributes:
        groups: in the model's order.
        n_positions: name of a layer -> how often each of its weights is multiplied, in all samples together.
        left: name of a layer -> why no unit of it can be removed.
    """

    def __init__(self, model: nn.Module, example: Example) -> None:
        pruning = _torch_pruning()
        inputs = example if isinstance(example, tuple) else (example,)
        self._model = copy.deepcopy(model).eval()
        self._model.zero_grad()
        self._names = {module: name for name, module in self._model.named_modules()}
        for parameter in self._model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        self.groups: list[Coupled] = []
        self.left: dict[str, str] = {}
        self._roots: dict[str, Any] = {}
        self._ends: set[object] = set()
        with _quiet(), torch.enable_grad():
            self.n_positions = self._counted(inputs)
            self._graph = pruning.DependencyGraph()
            self._graph.build_dependency(self._model, inputs, output_transform=self._note, verbose=False)
            self._follow_splits(pruning)
            for group in self._graph.get_all_groups():
                self._take(group)

    def remove(self, units: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Remove units; the copy is of no use afterwards.

        Args:
            units: root of a group -> int64, which of its units go.

        Returns:
            Name of each parameter and buffer that becomes smaller, tied ones under all names -> int64, of its new
            shape: the elements that stay, as indices into the old one, flattened.
        """
        shapes = {name: tensor.shape for name, tensor in tensors_of(self._model).items()}
        self._model.double()  # so that whole numbers are exact
        for tensor in tensors_of(self._model).values():
            tensor.data.copy_(torch.arange(tensor.numel()).view(tensor.shape))
        n_units = {group.root: group.n_units for group in self.groups}
        for root, which in units.items():
            module, function, n_indices = self._roots[root]
            repeated = which + torch.arange(0, n_indices, n_units[root]).unsqueeze(1)  # queries, keys and values
            self._graph.get_pruning_group(module, function, repeated.flatten().tolist()).prune()
        left = {name: tensor.detach().long() for name, tensor in tensors_of(self._model).items()}
        return {name: index for name, index in left.items() if index.shape != shapes[name]}

    def _counted(self, inputs: tuple[Any, ...]) -> dict[str, int]:
        """Run the copy and count the positions of its layers."""
        counts: dict[str, int] = {}

        def count(module: Any, inputs: Any, outputs: Any) -> None:  # noqa: ANN401 - as torch has it
            if getattr(module, "transposed", False):
                n = inputs[0].numel() // module.in_channels
            else:
                width = getattr(module, "embed_dim", 0) or getattr(module, "out_features", 0) or module.out_channels
                n = (outputs[0] if isinstance(outputs, tuple) else outputs).numel() // width
            counts[self._names[module]] = counts.get(self._names[module], 0) + n

        hooks = [module.register_forward_hook(count) for module in self._model.modules() if isinstance(module, LAYERS)]
        try:
            shapes_of(self._model, inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return counts

    def _note(self, outputs: object) -> object:
        """Remember what the model returns."""
        self._ends = {tensor.grad_fn for tensor in tensors_in(outputs)}
        return outputs

    def _follow_splits(self, pruning: Any) -> None:  # noqa: ANN401
        """Let splits of the last dimension be followed; torch-pruning follows none behind a table of positions."""
        for node in self._graph.module2node.values():
            if node.type == pruning.ops.OPTYPE.SPLIT and getattr(node.grad_fn, "_saved_dim", 0) in {2, _LAST}:
                node.enable_index_mapping = True
        pruning.dependency.index_mapping.update_index_mapping(self._graph)

    def _take(self, group: Any) -> None:  # noqa: ANN401 - torch-pruning has no types
        """Take a group, or say why its units cannot be removed."""
        module = group[0].dep.target.module
        root = self._names[module]
        try:
            self.groups.append(self._coupled(root, group))
            self._roots[root] = module, group[0].dep.handler, len(group[0].idxs)
        except _KeptError as why:
            self.left[root] = str(why)

    def _coupled(self, root: str, group: Any) -> Coupled:  # noqa: ANN401
        if any(item.dep.target.grad_fn in self._ends and not self._reads(item) for item in group):
            raise _KeptError("the model returns them")
        others = [item.dep.target.module for item in group]
        if any(isinstance(module, nn.RNNBase) for module in others):
            raise _KeptError("a recurrent layer reads them, or computes them")
        members = [member for item in group for member in self._members(item)]
        if not any(member.is_input for member in members):
            raise _KeptError("nothing reads them")
        writers = [member for member in members if not member.is_input]
        n_units = self._n_units(group, members)
        n_heads = self._n_heads(writers, len(group[0].idxs) // n_units)
        attentions = [module.num_heads for module in others if isinstance(module, nn.MultiheadAttention)]
        n_groups = [module.num_groups for module in others if isinstance(module, nn.GroupNorm)]
        n_blocks = n_heads or math.lcm(*attentions, *n_groups)
        if n_units % n_blocks or (n_heads and (attentions or n_groups)):
            raise _KeptError(f"{n_units} units cannot go from {n_blocks} blocks alike")
        rows: dict[str, Tensor] = {}
        for member in writers:
            if not isinstance(member.module, nn.MultiheadAttention):
                rows[f"{member.name}.weight"] = torch.stack([member.index, member.root % n_units], 1)
        shares = {(m.name, m.is_input): len(m.index) / n_units / m.width for m in members}
        return Coupled(root=root, n_units=n_units, rows=rows, shares=shares, n_blocks=n_blocks, whole=bool(n_heads))

    def _reads(self, item: Any) -> bool:  # noqa: ANN401
        """Whether a layer only reads the units."""
        return isinstance(item.dep.target.module, LAYERS) and not self._graph.is_out_channel_pruning_fn(
            item.dep.handler
        )

    def _members(self, item: Any) -> Iterator[_Member]:  # noqa: ANN401
        node, module = item.dep.target, item.dep.target.module
        if not isinstance(module, LAYERS):
            return
        name = self._names[module]
        is_depthwise = (
            isinstance(module, _Convolution) and module.groups == module.out_channels and not module.transposed
        )
        if getattr(module, "groups", 1) > 1 and not is_depthwise:
            raise _KeptError(f"{name!r} has groups of channels")
        if not isinstance(module, nn.MultiheadAttention) and "weight" not in dict(module.named_parameters()):
            raise _KeptError(f"the weight of {name!r} is computed, by a parametrization or a hook")
        is_input = self._reads(item)
        width = self._graph.get_in_channels(node) if is_input else self._graph.get_out_channels(node)
        index, root = torch.tensor([*item.idxs]), torch.tensor([*item.root_idxs])
        if index.shape != root.shape or len(set(item.idxs)) < len(index) or int(index.max()) >= width:
            raise _KeptError(f"what becomes of them in {name!r} is not known")
        for side in (False, True) if isinstance(module, nn.MultiheadAttention) else (is_input,):
            yield _Member(name=name, module=module, is_input=side, index=index, root=root, width=width)

    def _n_units(self, group: Any, members: list[_Member]) -> int:  # noqa: ANN401
        """How many units there are: fewer than rows where parts of these meet, as queries and keys of one layer do."""
        n_indices, n_units = len(group[0].idxs), min(len(member.index) for member in members)
        if n_units < n_indices:
            module, function = group[0].dep.target.module, group[0].dep.handler
            for unit in {0, n_units - 1}:
                partners = self._graph.get_pruning_group(module, function, [unit])[0].idxs
                if sorted(partners) != list(range(unit, n_indices, n_units)):
                    raise _KeptError("which of them go together is not known")
        return n_units

    def _n_heads(self, writers: list[_Member], n_parts: int) -> int:
        """How many heads the units are, if they are queries, keys and values; else 0."""
        parents = {member.name.rpartition(".")[0] for member in writers}
        if len(parents) > 1 or isinstance(writers[0].module, nn.MultiheadAttention):
            return 0
        parent = parents.pop()
        _, n_heads = heads_of(self._model.get_submodule(parent))
        if not n_heads or len(writers) == n_parts == 1:
            return 0
        if max(len(writers), n_parts) < _N_PROJECTIONS:
            raise _KeptError(f"how the heads of {parent or 'the model'} are made is not known")
        return n_heads


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers of a model by name, tied ones under all of theirs."""
    parameters = model.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(model.named_buffers(remove_duplicate=False))}


def tensors_in(outputs: object) -> Iterator[Tensor]:
    """The tensors in what a model returns."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        yield from tensors_in(tuple(outputs.values()))
    elif isinstance(outputs, tuple | list):
        for part in outputs:
            yield from tensors_in(part)


def shapes_of(model: nn.Module, inputs: tuple[Any, ...]) -> list[torch.Size]:
    """The shapes of what a model returns in evaluation.

    Raises:
        OptionError: it cannot be run.
    """
    try:
        return [tensor.shape for tensor in tensors_in(model.eval()(*inputs))]
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise OptionError(f"the model cannot be run with example: {quoted(str(error), 300)}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of torch-pruning, and torch's fused layers, which have no graph."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _torch_pruning() -> Any:  # noqa: ANN401
    try:
        return import_module("torch_pruning")
    except ImportError:
        raise OptionError("removing units needs torch-pruning: pip install 'prunecell[structured]'") from None
