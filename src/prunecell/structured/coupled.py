"""Units that go together, because layers that have them are added, or read each other.

Torch-pruning's dependency graph tells which (Fang et al. 2023, DepGraph, https://arxiv.org/abs/2301.12900). It changes
the model that it is of, so here it is of a copy.
"""

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
from prunecell.structured.alike import unlike_groups
from prunecell.structured.places import Coupled, Place, places_in, tensors_of
from prunecell.structured.resizing import heads_of
from prunecell.structured.running import copied, shapes_of, tensors_in, unrandom

_Convolution = nn.modules.conv._ConvNd  # noqa: SLF001 - torch has no public name
LAYERS = (nn.Linear, _Convolution, nn.MultiheadAttention)
_LAST = (1 << 64) - 1  # how torch's splits save the dimension -1
_N_PROJECTIONS = 3  # queries, keys and values
_MOST_TURNS = 64  # at a node, for the units of one layer


class _KeptError(Exception):
    """Units that cannot be removed; the message says why."""


class _Bounded(list[Any]):
    """What depends on a node. Torch-pruning goes in circles where halves of a tensor change places, as in RoPE."""

    n_turns = 0

    def __iter__(self) -> Iterator[Any]:
        self.n_turns += 1
        if self.n_turns > _MOST_TURNS:
            raise _KeptError("how they go on is not known")
        return super().__iter__()


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
        self._model = copied(model).eval()
        self._model.zero_grad()
        self._names = {module: name for name, module in self._model.named_modules()}
        for parameter in self._model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        self.groups: list[Coupled] = []
        self.left: dict[str, str] = {}
        self._ends: set[object] = set()
        with unrandom(self._model), _quiet(), _as_option_errors(), torch.enable_grad():
            self.n_positions = self._counted(inputs)
            self._graph = pruning.DependencyGraph()
            self._graph.build_dependency(self._model, inputs, output_transform=self._note, verbose=False)
            self._follow_splits(pruning)
            for node in self._graph.module2node.values():
                node.dependencies = _Bounded(node.dependencies)
            self._find_groups()
        with unrandom(self._model), _quiet():
            unlike = unlike_groups(self._model, inputs, self.groups)
        self.left |= {
            root: f"the model computes something else when they change places{w}" for root, w in unlike.items()
        }
        self.groups = [group for group in self.groups if group.root not in unlike]

    def remove(self, units: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Which elements stay when units go.

        Args:
            units: root of a group -> int64, which of its units go.

        Returns:
            Name of each parameter and buffer that becomes smaller, tied ones under all names -> int64, of its new
            shape: the elements that stay, as indices into the old one, flattened.
        """
        stays: dict[int, dict[int, Tensor]] = {}
        for group in self.groups:
            for place in group.places if group.root in units else ():
                all_of_it = torch.ones(place.tensor.shape[place.dim], dtype=torch.bool)
                here = stays.setdefault(id(place.tensor), {}).setdefault(place.dim, all_of_it)
                here[place.positions[units[group.root]].flatten()] = False
        kept = {}
        for name, tensor in tensors_of(self._model).items():
            index = torch.arange(tensor.numel()).view(tensor.shape)
            for dim, here in stays.get(id(tensor), {}).items():
                index = index.index_select(dim, here.nonzero().flatten())
            if index.shape != tensor.shape:
                kept[name] = index
        return kept

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

    def _note(self, outputs: object) -> list[Tensor]:
        """Remember what the model returns, and let torch-pruning see the tensors of it that can be followed."""
        tensors = [tensor for tensor in tensors_in(outputs) if tensor.grad_fn is not None]
        self._ends = {tensor.grad_fn for tensor in tensors}
        return tensors

    def _follow_splits(self, pruning: Any) -> None:  # noqa: ANN401
        """Let splits of the last dimension be followed; torch-pruning follows none behind a table of positions."""
        for node in self._graph.module2node.values():
            if node.type == pruning.ops.OPTYPE.SPLIT and getattr(node.grad_fn, "_saved_dim", 0) in {2, _LAST}:
                node.enable_index_mapping = True
        pruning.dependency.index_mapping.update_index_mapping(self._graph)

    def _find_groups(self) -> None:
        """Follow the units of each layer, or say why they cannot be removed."""
        done: set[object] = set()
        for module in [module for module in self._graph.module2node if isinstance(module, nn.Linear | _Convolution)]:
            if module in done:
                continue
            for node in self._graph.module2node.values():
                node.dependencies.n_turns = 0
            pruner = self._graph.get_pruner_of_module(module)
            root, n_rows = self._names[module], self._graph.get_out_channels(module)
            try:
                group = self._graph.get_pruning_group(module, pruner.prune_out_channels, [*range(n_rows)])
                done |= {i.dep.target.module for i in group if self._graph.is_out_channel_pruning_fn(i.dep.handler)}
                self.groups.append(self._coupled(root, group))
            except _KeptError as why:
                self.left[root] = str(why)
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
                self.left[root] = f"torch-pruning cannot follow them: {type(error).__name__}: {quoted(str(error), 100)}"

    def _coupled(self, root: str, group: Any) -> Coupled:  # noqa: ANN401
        if any(index is None for item in group for index in (*item.idxs, *item.root_idxs)):
            raise _KeptError("which of them go together is not known")
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
        blocks = {m.num_heads: m.embed_dim for m in others if isinstance(m, nn.MultiheadAttention)}
        blocks |= {m.num_groups: m.num_channels for m in others if isinstance(m, nn.GroupNorm)}
        n_blocks = n_heads or math.lcm(*blocks)
        if n_units % n_blocks or (n_heads and blocks) or set(blocks.values()) - {n_units}:
            raise _KeptError(f"{n_units} units cannot go from {n_blocks} blocks alike")
        rows: dict[str, Tensor] = {}
        first = {id(parameter): name for name, parameter in self._model.named_parameters()}
        for member in writers:
            if not isinstance(member.module, nn.MultiheadAttention):
                rows[first[id(member.module.weight)]] = torch.stack([member.index, member.root % n_units], 1)
        shares = {(m.name, m.is_input): len(m.index) / n_units / m.width for m in members}
        places = tuple(place for item in group for place in self._places(item, n_units))
        return Coupled(
            root=root,
            n_units=n_units,
            rows=rows,
            shares=shares,
            n_blocks=n_blocks,
            whole=bool(n_heads),
            places=places,
        )

    def _places(self, item: Any, n_units: int) -> Iterator[Place]:  # noqa: ANN401
        """The places in one layer, norm or parameter of a group."""
        node, index, unit = item.dep.target, torch.tensor([*item.idxs]), torch.tensor([*item.root_idxs]) % n_units
        if not isinstance(node.module, nn.Parameter) and not tensors_of(node.module):
            if isinstance(node.module, nn.LayerNorm):  # no tensor of a file would tell its size
                raise _KeptError(f"{self._names[node.module]!r} has a size, and no weights")
            return
        each = len(index) // n_units
        places = []
        if len(set(item.idxs)) == len(index) and bool((unit.bincount(minlength=n_units) == each).all()):
            positions = index[unit.argsort(stable=True)].view(n_units, each)
            places = [*places_in(node.module, item.dep.handler, node.pruning_dim, positions)]
        if not places or any(int(place.positions.max()) >= place.tensor.shape[place.dim] for place in places):
            raise _KeptError(f"what becomes of them in {self._names.get(node.module, 'a parameter')!r} is not known")
        yield from places

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


@contextmanager
def _as_option_errors() -> Iterator[None]:
    """Whatever torch-pruning raises is an OptionError that says so."""
    try:
        yield
    except OptionError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise OptionError(f"torch-pruning cannot follow the units of this model: {quoted(what, 300)}") from error


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
