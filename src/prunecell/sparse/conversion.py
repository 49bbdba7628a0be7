"""One conversion of a model: the sparse layers are made as was decided, and put in place of the dense ones."""

import ctypes
from contextlib import suppress
from dataclasses import replace

from torch import Tensor, nn

from prunecell.errors import OptionError
from prunecell.sparse.choose import Form, Weight, Wish
from prunecell.sparse.compress import Shape, compress_chunks
from prunecell.sparse.converters import Rows, converter
from prunecell.sparse.facts import CompactReport, LayerFacts
from prunecell.sparse.layers import SparseLinear, SparseMatrix
from prunecell.sparse.matrix import Compressed
from prunecell.sparse.places import first_names, paths_of, places_of
from prunecell.sparse.sources import Weights
from prunecell.sparse.survey import NOT_TAKEN, Decision, Decisions, is_whole, layers_of, survey
from prunecell.sparse.values import VALUES_OF


class Conversion:
    """One conversion of a model: what each weight becomes, and the layers that are made of them.

    Raises:
        OptionError: the values of a weight cannot be stored as wished.
    """

    def __init__(self, model: nn.Module, source: Weights, wish: Wish) -> None:
        self._names = first_names(places_of(model))
        self._order = {path: n for n, (path, _) in enumerate(paths_of(model))}
        self._source, self._wish = source, wish
        self._sparse_before = [_facts_before(path, m) for path, m in paths_of(model) if isinstance(m, SparseMatrix)]
        self._decisions: Decisions = survey(model, source, wish)
        self._made: dict[str, Compressed] = {}
        self._forms: dict[str, Form] = {}  # of these
        self._replaced: dict[int, nn.Module] = {}

    def make_layers(self, model: nn.Module) -> set[int]:
        """Make all sparse layers and change nothing of the model; the ids of the modules that they will replace."""
        for module in layers_of(model):
            if converter(module) is not None:
                self.replaced(module)
        return {id(module) for module in layers_of(model) if self._replaced.get(id(module), module) is not module}

    def replaced(self, module: nn.Module) -> nn.Module:
        """The module with sparse layers in it, or the layer in its place; the same at all places where it is."""
        if id(module) not in self._replaced:
            self._replaced[id(module)] = self._converted(module)
        return self._replaced[id(module)]

    def _converted(self, module: nn.Module) -> nn.Module:
        if (convert := converter(module)) is not None:
            new = convert(self, module)
            return new if new is module else new.train(module.training)
        if not is_whole(module):
            for name, child in module._modules.items():  # noqa: SLF001 - named_children leaves out what comes twice
                if child is not None and (new := self.replaced(child)) is not child:
                    module._modules[name] = new  # noqa: SLF001
        return module

    def matrix(self, kind: str, weight: Tensor, *, quantises: bool = False) -> Compressed | None:  # noqa: ARG002 - the survey asked
        """The weight compressed; None where it stays dense. Tied weights share theirs."""
        decision = self._decisions.get(id(weight))
        if decision is None or decision.form is None:
            return None
        if decision.name not in self._made:
            try:
                self._made[decision.name] = self._compressed(decision, weight)
            except OptionError as error:
                raise OptionError(f"{decision.name}: {error}") from None
        return self._made[decision.name]

    def activations(self, weight: Tensor) -> str:
        """How the activations of a weight that was compressed are written."""
        return self._forms[self._decisions[id(weight)].name].activations

    def _compressed(self, decision: Decision, tensor: Tensor) -> Compressed:
        weight, form = decision.weight, decision.form
        if weight is None or form is None:
            raise AssertionError("only what was decided is made")
        made = self._in_form(form, weight, decision.name, tensor)
        n_kept = int(made.values.count_nonzero())
        better = (self._wish.form(_with_fewer(weight, n_kept)) if n_kept < weight.n_kept else None) or form
        if (better.format, better.values) != (form.format, form.values):
            made = self._in_form(better, weight, decision.name, tensor)
        self._forms[decision.name] = better
        _give_back_memory()
        return made

    def _in_form(self, form: Form, weight: Weight, name: str, tensor: Tensor) -> Compressed:
        """A weight in this form; what an archive has as int8 with scales is taken over as it is."""
        shape = Shape(n_rows=weight.n_rows, n_columns=weight.n_columns, n_kept=weight.n_kept)
        codes = self._source.codes(name) if form.values.is_scaled else None
        scales, chunks = codes or (None, self._source.chunks(name, tensor))
        return compress_chunks(chunks, shape, format=form.format, values=form.values, scales=scales)

    def layer(self, matrix: Compressed | None, weight: Tensor, rows: Rows, bias: Tensor | None) -> nn.Module:
        """Some rows of a weight as a layer of their own, sparse or dense."""
        if matrix is not None:
            return SparseLinear(matrix, bias, dtype=weight.dtype)
        dense = nn.Linear(weight.shape[1], rows[1] - rows[0], bias=bias is not None, device="meta")
        dense.weight = nn.Parameter(self.dense(weight)[slice(*rows)].clone(), weight.requires_grad)
        if bias is not None:
            dense.bias = nn.Parameter(bias, bias.requires_grad)
        return dense

    def dense(self, tensor: Tensor) -> Tensor:
        """A tensor of the model as it is to be."""
        return self._source.dense(self._names[id(tensor)], tensor)

    def bias(self, tensor: Tensor | None) -> Tensor | None:
        """A bias of the model as it is to be, if there is one; frozen if it is frozen in the model."""
        return None if tensor is None else nn.Parameter(self.dense(tensor).detach(), tensor.requires_grad)

    def report(self) -> CompactReport:
        """What became of each weight; the bytes of the whole model are not known here."""
        layers = [*(self._facts(decision) for decision in self._decisions.values()), *self._sparse_before]
        layers.sort(key=lambda facts: self._place(facts.name))
        return CompactReport(layers=tuple(layers), bytes_before=0, bytes_after=0)

    def _place(self, name: str) -> int:
        """Where the layer of a weight stands in the model."""
        module, dot, _ = name.rpartition(".")
        return self._order.get(module + dot, len(self._order))

    def _facts(self, decision: Decision) -> LayerFacts:
        made = self._made.get(decision.name)
        return LayerFacts(
            name=decision.name,
            layer=decision.layer,
            shape=decision.shape,
            sparsity=None if decision.weight is None else 1 - decision.weight.density,
            form=None if made is None else str(self._forms[decision.name]),
            reason="" if made else decision.reason or NOT_TAKEN,
            bytes_before=decision.n_bytes,
            bytes_after=decision.n_bytes if made is None else made.n_bytes,
        )


def _facts_before(path: str, layer: SparseMatrix) -> LayerFacts:
    """The facts of a layer that was sparse before."""
    matrix = layer.matrix
    form = Form(format=matrix.format, values=VALUES_OF[matrix.values.dtype], activations=layer.activations)
    return LayerFacts(
        name=path + "weight",
        layer=type(layer).__name__,
        shape=tuple(layer.weight_shape),
        sparsity=1 - len(matrix.values) / max(layer.weight_shape.numel(), 1),
        form=str(form),
        reason="",
        bytes_before=matrix.n_bytes,
        bytes_after=matrix.n_bytes,
    )


def _with_fewer(weight: Weight, n_kept: int) -> Weight:
    """What is known of a weight of which some elements became zeros."""
    return replace(weight, n_kept=n_kept, n_quads=weight.n_quads and min(weight.n_quads, n_kept))


def _give_back_memory() -> None:
    """Let the operating system have what was needed on the way, which glibc would keep between the layers."""
    with suppress(AttributeError, OSError, TypeError):  # elsewhere there is no such function
        ctypes.CDLL(None).malloc_trim(0)
