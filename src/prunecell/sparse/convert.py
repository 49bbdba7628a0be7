"""compact_: the layers of a model become sparse where that pays, from its own weights or from an archive.

which tensor of a file is for which of the model (matching) -> what each weight becomes (survey, by `choose`) -> its
form, from weights that are dense in the model or never dense in a file (sources, `compress`) -> layers (converters)
that a `Conversion` puts in place, and the rest of a file by the model's own load_state_dict (loading); what others hold
of the model gets its values too (aside); at last its containers are told of the layers (joints).

Whatever cannot be done is found before the model is changed: a file is read to its end before, and a model's own values
are looked at.
"""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from prunecell.archive import Archive
from prunecell.checks import check_path
from prunecell.errors import NothingSparseWarning, OptionError, OptionTypeError, typed
from prunecell.sparse.aside import Before
from prunecell.sparse.break_even import break_even_table
from prunecell.sparse.choose import COPY_BYTES, PLACE_BYTES, Wish
from prunecell.sparse.conversion import Conversion
from prunecell.sparse.facts import CompactReport, keep_report_, without_reports
from prunecell.sparse.joints import join_
from prunecell.sparse.layers import SparseMatrix
from prunecell.sparse.loading import load_all_, load_some_, own_way, unchanged_if_refused
from prunecell.sparse.matching import fit, is_counter
from prunecell.sparse.places import first_names, n_bytes, places_of, refuse_without_values
from prunecell.sparse.sources import Own, Stored
from prunecell.sparse.values import EXACT, INT8
from prunecell.torch_checks import check_model

Module = TypeVar("Module", bound=nn.Module)


def compact_(
    model: Module,
    path: str | Path | None = None,
    *,
    prefer: str = "speed",
    values: str = EXACT,
    activations: str = "fp32",
    strict: bool = True,
) -> Module | nn.Module:
    """Make a model small in memory and fast on a CPU: its layers become sparse in place, where that pays.

    Linear, Conv1d, Conv2d, Conv3d, LSTM and MultiheadAttention with float32, bfloat16 or float16 weights are looked at;
    each becomes the compressed form that is best by measured times, or stays dense where none is (see `tune_runtime`);
    `compact_report` says which and why. The model is for inference then: gradients reach its inputs, not its sparse
    weights.

    What is refused is refused before the model is changed.

    Args:
        model: trained, or, with `path`, of the architecture that was saved: built within `meta_weights()` it is never
            dense on the way.
        path: an archive that `save` wrote; None: the model's own weights. It is loaded as `load_state_dict` loads: cast
            to the model's dtypes, with hooks and extra states; a tensor that is tied to one in the file may lack.
        prefer: "speed": the fastest form; "memory": the smallest that is not slower than dense on many samples.
        values: "exact": sparse layers store values in the dtype of their weight, so the outputs are the same up to
            rounding; "fp32", "bf16", "fp16" or "int8" (one scale a row): all layers store them so, rounded.
        activations: "fp32"; or "int8", with `values="int8"`: Linear layers quantise each sample and multiply integers,
            where that takes less time. Other layers compute in float32 all the same.
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
        OptionError: a weight cannot be stored in such `values`; int8 `activations` without int8 `values` or with
            `prefer="memory"`; or `strict=False` without a file.
        UnknownNameError: `prefer`, `values` or `activations` is no such name.

    >>> net = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    >>> _ = torch.nn.init.sparse_(net[0].weight, sparsity=0.95)
    >>> x = torch.randn(3, 512)
    >>> before = net(x)
    >>> torch.allclose(compact_(net)(x), before, atol=1e-5)
    True
    """
    _check(model, path, strict=strict)
    wish = Wish(prefer=prefer, values=values, activations=activations, table=break_even_table())
    bytes_before = n_bytes(model)
    with torch.device("cpu"), without_reports(model):  # whatever device the caller makes tensors on
        root, report = _from_itself(model, wish) if path is None else _from_file(model, path, wish, strict=strict)
    for module in root.modules():
        join_(module)
    remarks = (*report.remarks, *_of_copies(root), *_of_activations(root, activations))
    report = replace(report, bytes_before=bytes_before, bytes_after=n_bytes(root), remarks=remarks)
    keep_report_(root, report)
    if not report.n_sparse:
        why = f"compact_ made not one weight sparse: {report.reasons}; compact_report(model) says more"
        warnings.warn(why, NothingSparseWarning, stacklevel=2)
    return root


def _of_copies(root: nn.Module) -> Iterator[str]:
    """What the kernels' copies of matrices will take."""
    packed = [m.values for m in root.modules() if isinstance(m, SparseMatrix) and m.format.is_packed]
    many = round(sum(len(values) * COPY_BYTES for values in packed))
    few = round(sum(len(values) * (PLACE_BYTES + values.itemsize) for values in packed))
    if packed:
        yield (
            f"the kernels keep copies of matrices, made at the first call: about {many:,} bytes more for many samples"
            f" at once, and {few:,} for few"
        )


def _of_activations(root: nn.Module, wished: str) -> Iterator[str]:
    """Which layers do not compute as was wished."""
    n = sum(isinstance(m, SparseMatrix) and m.activations != wished for m in root.modules())
    if n and wished == INT8.name:
        why = "they are in no Linear layer, or int8 takes no less time"
        yield f"sparse matrices with fp32 activations: {n:,}; {why}"


def _check(model: object, path: object, *, strict: bool) -> None:
    check_model(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise OptionTypeError(f"the model is {typed(model)} of torch.jit: call compact_ before torch.jit")
    if path is not None:
        check_path("path", path)
    if path is None and not strict:
        raise OptionError("strict=False is for loading a file: give its path")


def _from_itself(model: nn.Module, wish: Wish) -> tuple[nn.Module, CompactReport]:
    """Convert a model layer by layer, so that one layer at a time is there twice."""
    refuse_without_values(model, places_of(model), {})
    run = Conversion(model, Own(), wish)
    root = run.replaced(model)
    return root, run.report()


def _from_file(model: nn.Module, path: str | Path, wish: Wish, *, strict: bool) -> tuple[nn.Module, CompactReport]:
    before = Before(model)
    with Archive.open(path) as archive:
        if not (loader := own_way(model)):
            root, report, source = _from_archive(model, archive, wish, strict=strict)
            # Where the model is a single layer, the caller still holds it; on the meta device it takes no memory then.
            before.settle_(root, source.dense, source.names, on_meta=root is model)
            return root, report
        with unchanged_if_refused(model, values=True):
            loaded = load_all_(model, archive, strict=strict)
            run = Conversion(model, Own(), wish)
    before.settle_(model, Own().dense, ())
    root = run.replaced(model)
    remark = f"{loader.__name__} has its own way to load, so the whole model was dense on the way"
    remarks = () if issubclass(loader, SparseMatrix) else (remark,)
    return root, replace(run.report(), missing=loaded.missing, left_over=loaded.left_over, remarks=remarks)


def _from_archive(
    model: nn.Module, archive: Archive, wish: Wish, *, strict: bool
) -> tuple[nn.Module, CompactReport, Stored]:
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
    return run.replaced(model), report, source
