"""compact_: the layers of a model become sparse where that pays, from its own weights or from an archive.

which tensor of a file is for which of the model (fit) -> what each weight becomes (survey, by `choose`) -> its form,
from weights that are dense in the model or never dense in a file (sources, `compress`) -> layers (converters), and the
rest of a file by the model's own load_state_dict (loading); at last the layers of an nn.Sequential are joined (joints).

Whatever cannot be done is found before the model is changed: a file is read to its end before, and a model's own values
are looked at.
"""

import ctypes
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from prunecell.archive import Archive
from prunecell.errors import NothingSparseWarning, OptionError, OptionTypeError
from prunecell.sparse.choose import Form, Weight, Wish, break_even_table
from prunecell.sparse.compress import Shape, compress_chunks
from prunecell.sparse.converters import Rows, converter
from prunecell.sparse.facts import CompactReport, LayerFacts, keep_report_, without_reports
from prunecell.sparse.fit import fit, is_counter
from prunecell.sparse.joints import join_, keep_to_modules_
from prunecell.sparse.layers import SparseLinear, SparseMatrix
from prunecell.sparse.loading import load_all_, load_some_, own_way, unchanged_if_refused
from prunecell.sparse.matrix import Compressed
from prunecell.sparse.places import first_names, n_bytes, paths_of, places_of, refuse_without_values
from prunecell.sparse.sources import Own, Stored, Weights
from prunecell.sparse.survey import NOT_TAKEN, Plan, Planned, is_whole, layers_of, survey
from prunecell.sparse.values import VALUES_OF

Module = TypeVar("Module", bound=nn.Module)


def compact_(
    model: Module,
    path: str | Path | None = None,
    *,
    prefer: str = "speed",
    values: str = "fp32",
    strict: bool = True,
) -> Module | nn.Module:
    """Make a model small in memory and fast on a CPU: its layers become sparse in place, where that pays.

    Linear, Conv1d, Conv2d, Conv3d, LSTM and MultiheadAttention with float32 weights are looked at; each becomes the
    compressed form that is best by measured times, or stays dense where none is (see `tune_runtime`); `compact_report`
    says which and why. The model is for inference then: gradients reach its inputs, not its sparse weights.

    What is refused is refused before the model is changed.

    Args:
        model: trained, or, with `path`, of the architecture that was saved: built within `meta_weights()` it is never
            dense on the way.
        path: an archive that `save` wrote; None: the model's own weights. It is loaded as `load_state_dict` loads: cast
            to the model's dtypes, with hooks and extra states; a tensor that is tied to one in the file may lack.
        prefer: "speed": the fastest form; "memory": the smallest that is not slower than dense on many samples.
        values: "fp32" (the same outputs up to rounding), "fp16" or "int8" (one scale a row) in sparse layers.
        strict: whether the file must have all tensors of the model and no others; False: those that are missing stay
            as they are, others are left out, and the report names both.

    Returns:
        The model; where the model itself is such a layer, the layer in its place.

    Warns:
        NothingSparseWarning: not one weight became sparse; the message says why.

    Raises:
        StateError: the archive does not fit the model: a tensor is missing, left over or of another shape; or nothing
            gives values to what is on the meta device.
        FormatError: the archive is damaged.
        OptionError: a weight cannot be stored in such `values`; or `strict=False` without a file.
        UnknownNameError: `prefer` or `values` is no such name.

    >>> net = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    >>> _ = torch.nn.init.sparse_(net[0].weight, sparsity=0.95)
    >>> x = torch.randn(3, 512)
    >>> before = net(x)
    >>> torch.allclose(compact_(net)(x), before, atol=1e-5)
    True
    """
    _check(model, path, strict=strict)
    wish = Wish(prefer=prefer, values=values, table=break_even_table())
    bytes_before = n_bytes(model)
    with torch.device("cpu"), without_reports(model):  # whatever device the caller makes tensors on
        root, report = _from_itself(model, wish) if path is None else _from_file(model, path, wish, strict=strict)
    for module in root.modules():
        if type(module) is nn.Sequential:
            join_(module)
        keep_to_modules_(module)
    report = replace(report, bytes_before=bytes_before, bytes_after=n_bytes(root))
    keep_report_(root, report)
    if not report.n_sparse:
        why = f"compact_ made not one weight sparse: {report.most_frequent_reason}; compact_report(model) says more"
        warnings.warn(why, NothingSparseWarning, stacklevel=2)
    return root


def _check(model: object, path: object, *, strict: bool) -> None:
    if not isinstance(model, nn.Module):
        raise OptionTypeError(f"model must be a torch.nn.Module, not a {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise OptionTypeError(f"the model is a {type(model).__name__} of torch.jit: call compact_ before torch.jit")
    if path is not None and not isinstance(path, str | Path):
        raise OptionTypeError(f"path must be the name of a file that save wrote, not a {type(path).__name__}")
    if path is None and not strict:
        raise OptionError("strict=False is for loading a file: give its path")


def _from_itself(model: nn.Module, wish: Wish) -> tuple[nn.Module, CompactReport]:
    """Convert a model layer by layer, so that one layer at a time is there twice."""
    refuse_without_values(model, places_of(model), {})
    run = Conversion(model, Own(), wish)
    root = run.replaced(model)
    return root, run.report()


def _from_file(model: nn.Module, path: str | Path, wish: Wish, *, strict: bool) -> tuple[nn.Module, CompactReport]:
    with Archive.open(path) as archive:
        if not (loader := own_way(model)):
            return _from_archive(model, archive, wish, strict=strict)
        with unchanged_if_refused(model, values=True):
            loaded = load_all_(model, archive, strict=strict)
            run = Conversion(model, Own(), wish)
    root = run.replaced(model)
    remark = f"{loader.__name__} has its own way to load, so the whole model was dense on the way"
    remarks = () if issubclass(loader, SparseMatrix) else (remark,)
    return root, replace(run.report(), missing=loaded.missing, left_over=loaded.left_over, remarks=remarks)


def _from_archive(model: nn.Module, archive: Archive, wish: Wish, *, strict: bool) -> tuple[nn.Module, CompactReport]:
    """Make all sparse layers and read all other tensors, then put them into the model."""
    places = places_of(model)
    fitted = fit(model, places, archive, strict=strict)
    refuse_without_values(model, (place for place in places if not is_counter(place)), fitted.stored)
    names = first_names(places)
    stored = {names[tensor]: name for tensor, name in fitted.stored.items()}
    source = Stored(archive, stored)
    run = Conversion(model, source, wish)
    kept = places_of(model, without=run.make_layers(model))
    wanted = {id(place.tensor): place.tensor for place in kept if id(place.tensor) in fitted.stored}
    rest = {key: source.dense(names[key], tensor) for key, tensor in wanted.items()}
    extra = {key: archive[name] for key, name in fitted.extra.items()}
    may_fail = bool(extra) or torch.__future__.get_swap_module_params_on_conversion()
    with unchanged_if_refused(model, values=may_fail):
        load_some_(model, kept, rest, extra)
    report = replace(run.report(), missing=fitted.missing, left_over=fitted.left_over, remarks=fitted.remarks)
    return run.replaced(model), report


class Conversion:
    """One conversion of a model: what each weight becomes, and the layers that are made of them.

    Raises:
        OptionError: the values of a weight cannot be stored as wished.
    """

    def __init__(self, model: nn.Module, source: Weights, wish: Wish) -> None:
        self._names = first_names(places_of(model))
        self._source, self._wish = source, wish
        self._sparse_before = [_facts_before(path, m) for path, m in paths_of(model) if isinstance(m, SparseMatrix)]
        self._plan: Plan = survey(model, source, wish)
        self._made: dict[str, Compressed] = {}
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

    def matrix(self, kind: str, weight: Tensor) -> Compressed | None:  # noqa: ARG002 - the survey asked for the kind
        """The weight compressed; None where it stays dense. Tied weights share theirs."""
        planned = self._plan.get(id(weight))
        if planned is None or planned.form is None:
            return None
        if planned.name not in self._made:
            try:
                self._made[planned.name] = self._compressed(planned, weight)
            except OptionError as error:
                raise OptionError(f"{planned.name}: {error}") from None
        return self._made[planned.name]

    def _compressed(self, planned: Planned, tensor: Tensor) -> Compressed:
        weight, form = planned.weight, planned.form
        if weight is None or form is None:
            raise AssertionError("only what was planned is made")
        made = self._in_form(form, weight, planned.name, tensor)
        n_kept = int(made.values.count_nonzero())
        better = self._wish.form(replace(weight, n_kept=n_kept)) if n_kept < weight.n_kept else form
        if better is not None and better != form:
            made = self._in_form(better, weight, planned.name, tensor)
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
            return SparseLinear(matrix, bias)
        dense = nn.Linear(weight.shape[1], rows[1] - rows[0], bias=bias is not None, device="meta")
        dense.weight = nn.Parameter(self.dense(weight)[slice(*rows)].clone(), weight.requires_grad)
        if bias is not None:
            dense.bias = nn.Parameter(bias, weight.requires_grad)
        return dense

    def dense(self, tensor: Tensor) -> Tensor:
        """A tensor of the model as it is to be."""
        return self._source.dense(self._names[id(tensor)], tensor)

    def bias(self, tensor: Tensor | None) -> Tensor | None:
        """A bias of the model as it is to be, if there is one."""
        return None if tensor is None else self.dense(tensor)

    def report(self) -> CompactReport:
        """What became of each weight; the bytes of the whole model are not known here."""
        layers = (*(self._facts(planned) for planned in self._plan.values()), *self._sparse_before)
        return CompactReport(layers=layers, bytes_before=0, bytes_after=0)

    def _facts(self, planned: Planned) -> LayerFacts:
        made = self._made.get(planned.name)
        return LayerFacts(
            name=planned.name,
            layer=planned.layer,
            shape=planned.shape,
            sparsity=None if planned.weight is None else 1 - planned.weight.density,
            form=None if made is None else _form(made),
            reason="" if made else planned.reason or NOT_TAKEN,
            bytes_before=planned.n_bytes,
            bytes_after=planned.n_bytes if made is None else made.n_bytes,
        )


def _facts_before(path: str, layer: SparseMatrix) -> LayerFacts:
    """The facts of a layer that was sparse before."""
    matrix = layer.matrix
    return LayerFacts(
        name=path + "weight",
        layer=type(layer).__name__,
        shape=tuple(layer.weight_shape),
        sparsity=1 - len(matrix.values) / max(layer.weight_shape.numel(), 1),
        form=_form(matrix),
        reason="",
        bytes_before=matrix.n_bytes,
        bytes_after=matrix.n_bytes,
    )


def _form(matrix: Compressed) -> str:
    return str(Form(format=matrix.format, values=VALUES_OF[matrix.values.dtype]))


def _give_back_memory() -> None:
    """Let the operating system have what was needed on the way, which glibc would keep between the layers."""
    with suppress(AttributeError, OSError, TypeError):  # elsewhere there is no such function
        ctypes.CDLL(None).malloc_trim(0)
