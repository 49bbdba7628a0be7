"""Which form a layer takes: dense, or which compressed format. Decided by times that were measured.

A table holds, for some layers of each kind and dtype and for each compressed form, the time of the sparse layer over
that of the dense one of this dtype, at several densities and with one sample or many. Two are shipped, one measured
with AVX-512 and one with AVX2 (`break_even_v4.json`, `break_even_v3.json`), which serves smaller CPUs too;
`tune_runtime` measures another on the machine at hand. A layer is judged between the measured ones next to it in size.
"""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from prunecell import native
from prunecell.disk.atomic import replacing
from prunecell.errors import OptionError, UnknownNameError, nearest, quoted
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.formats.format import Format
from prunecell.sparse.inputs import COMPUTED
from prunecell.sparse.values import VALUES, ValueType, check_values_wish, values_for

DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
LARGEST_RATIO = 0.9
"""Times of the dense layer that a sparse one may take; what gains less, which may be noise, stays dense."""

LARGEST = (1 << 31) - 1  # entries that the kernels count
COPY_BYTES = 6.25
"""That an entry of a packed copy for many samples takes: an offset, a float32 value, and its part of what tells the
rows."""

PLACE_BYTES = 1.25
"""That an entry of a packed copy for few samples takes beside its value, as it is stored."""

QUAD_TIME = 3
"""About how many times longer than an entry a quad (four neighbouring columns of int8 values, times quantised inputs)
takes on a CPU without VNNI; with VNNI it takes no longer."""

PREFERENCES = ("speed", "memory")
ACTIVATIONS = ("fp32", "int8")
_LAYERS = {"linear": "linear layers", "pointwise": "convolutions of kernel size 1", "convolution": "convolutions"}
"""Kind -> what a reason calls such layers; the matrices of an LSTM or attention count as linear layers."""

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in COMPUTED}
"""How `Measured` names the dtype of a layer -> the dtype."""

SHIPPED = {level: Path(__file__).with_name(f"break_even_v{level}.json") for level in (3, 4)}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One layer that was measured.

    Attributes:
        kind: "linear", "pointwise" (a convolution of kernel size 1) or "convolution".
        dtype: of the layer: "float32", "float16" or "bfloat16".
        n_samples: that it was given at once.
        n_weights: of its dense weight.
        ratios: "format values" -> its time over that of the dense layer, at each of `DENSITIES`.
    """

    kind: str
    dtype: str
    n_samples: int
    n_weights: int
    ratios: Mapping[str, list[float]]


Table = tuple[Measured, ...]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A compressed form of a matrix: how its columns, its values and what it is multiplied by are written."""

    format: Format
    values: ValueType
    activations: str = "fp32"

    def __str__(self) -> str:
        return self.name + (f", {self.activations} activations" if self.activations != "fp32" else "")

    @property
    def name(self) -> str:
        """By which a table has it."""
        return f"{self.format.name} {self.values.name}"

    def n_bytes(self, density: float) -> float:
        """Bytes for each element of the matrix, about, with the copy that the kernels read if there is one."""
        copied = density * COPY_BYTES if self.format.is_packed else 0
        return self.format.index_bytes(density) + density * self.values.itemsize + copied


@dataclass(frozen=True, kw_only=True)
class Weight:
    """What is known of the weight of a layer: its kind, as `Measured` has it, its size and dtype, and what is kept.

    Where its layer can quantise its inputs and is to do so, `n_quads` counts the quads with a kept element.
    """

    kind: str
    n_rows: int
    n_columns: int
    n_kept: int
    dtype: torch.dtype = torch.float32
    n_quads: int | None = None

    @property
    def n_weights(self) -> int:
        """Its elements."""
        return self.n_rows * self.n_columns

    @property
    def density(self) -> float:
        """The fraction of them that is kept."""
        return self.n_kept / self.n_weights


def check_wish(prefer: str, values: str) -> None:
    """Refuse what `choose` does not know.

    Raises:
        UnknownNameError: `prefer` or `values` is no such name.
    """
    if not isinstance(prefer, str) or prefer not in PREFERENCES:
        raise UnknownNameError(f"prefer={quoted(prefer)} is illegal{nearest(prefer, PREFERENCES)}")
    check_values_wish(values)


def _check_activations(activations: str, prefer: str, values: str) -> None:
    """Refuse activations that are unknown, or do not go with the other wishes, which are known.

    Raises:
        UnknownNameError: there are no such.
        OptionError: int8 activations are multiplied by other values, or by a copy that `prefer` does not want.
    """
    if not isinstance(activations, str) or activations not in ACTIVATIONS:
        raise UnknownNameError(f"activations={quoted(activations)} is illegal{nearest(activations, ACTIVATIONS)}")
    if activations == "fp32":
        return
    if values != activations:
        raise OptionError(f"activations={activations!r} needs values='int8', not {values!r}: both factors are integers")
    if prefer != "speed":
        raise OptionError(
            f"activations={activations!r} needs prefer='speed', not {prefer!r}: it reads a second copy of the matrix"
        )


def _quad_time() -> int:
    return 1 if native.has_vnni(native.library()) else QUAD_TIME


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user of `compact_` wants, and the times by which it is decided.

    Raises:
        UnknownNameError: `prefer`, `values` or `activations` is no such name.
        OptionError: int8 activations do not go with the others.
    """

    prefer: str
    values: str
    table: Table
    activations: str = "fp32"

    def __post_init__(self) -> None:
        check_wish(self.prefer, self.values)
        _check_activations(self.activations, self.prefer, self.values)

    def form(self, weight: Weight) -> Form | None:
        """See `choose`; int8 activations where they take no longer than float32 ones."""
        n_as_long = None if weight.n_quads is None else _quad_time() * weight.n_quads
        if n_as_long is not None and n_as_long <= weight.n_kept:
            form = self._choose(replace(weight, n_kept=n_as_long))
            if form is not None and form.format.is_packed:
                return replace(form, activations=self.activations)
        return self._choose(weight)

    def _choose(self, weight: Weight) -> Form | None:
        return choose(weight, prefer=self.prefer, values=self.values, table=self.table)

    def why_dense(self, weight: Weight) -> str:
        """Why `form` gave None."""
        alike = _alike(self.table, weight)
        if weight.n_kept > LARGEST:
            return f"more than {LARGEST:,} entries"
        if not alike:
            return f"the table of times has no {weight.kind} layer of {weight.dtype}"
        least = min(measured.n_weights for measured in alike)
        if self.prefer == "speed" and weight.n_weights < least:
            return f"{_LAYERS[weight.kind]} of less than {least:,} weights gain no time"
        counts = sorted({measured.n_samples for measured in alike})
        judged = [f"{n:,}" for n in (counts if self.prefer == "speed" else counts[-1:])]
        what = "faster" if self.prefer == "speed" else "as small and fast"
        samples = f"{' or '.join(judged)} sample{'s' * (judged != ['1'])} at once"
        return f"with {samples} dense is {what} at {100 * (1 - weight.density):.0f} % zeros"


def choose(weight: Weight, *, prefer: str, values: str, table: Table) -> Form | None:
    """Choose the compressed form of a weight, or None where it had better stay dense.

    Args:
        weight: what is known of it.
        prefer: "speed": the fastest, if it is faster than dense with one sample and with many, as nobody knows
            beforehand how many there will be. What is smaller than the smallest layer that was measured stays dense.
            "memory": the smallest, if it is smaller than dense and not slower with many samples.
        values: "exact", "fp32", "fp16", "bf16" or "int8".
        table: the measured times.

    Raises:
        UnknownNameError: `prefer` or `values` is no such name.

    >>> table = (Measured(kind="linear", dtype="float32", n_samples=1, n_weights=100, ratios={"gaps8 fp32": [0.2] * 7,
    ...     "columns16 fp32": [0.1] * 5 + [0.9, 1.5], "bitmask fp32": [1.3] * 7}),)
    >>> weight = Weight(kind="linear", n_rows=20, n_columns=20, n_kept=40)
    >>> [choose(weight, prefer=prefer, values="exact", table=table).format.name for prefer in PREFERENCES]
    ['columns16', 'gaps8']
    """
    check_wish(prefer, values)
    sizes = [measured.n_weights for measured in _alike(table, weight)]
    if not sizes or (prefer == "speed" and weight.n_weights < min(sizes)) or weight.n_kept > LARGEST:
        return None
    stored_as = values_for(values, weight.dtype)
    rank: dict[Form, float] = {}
    for format in FORMATS.values():  # noqa: A001 - what it is
        candidate = Form(format=format, values=stored_as)
        ratios = _ratios(table, weight, candidate)
        ratio = max(ratios.values()) if prefer == "speed" else ratios[max(ratios)]
        if ratio <= LARGEST_RATIO and (format.max_columns is None or weight.n_columns <= format.max_columns):
            rank[candidate] = ratio if prefer == "speed" else candidate.n_bytes(weight.density)
    best = min(rank, key=lambda form: rank[form], default=None)
    if best is None or (prefer == "memory" and best.n_bytes(weight.density) >= weight.dtype.itemsize):
        return None
    return best


def _alike(table: Table, weight: Weight) -> list[Measured]:
    """The measured layers of its kind and dtype."""
    return [m for m in table if m.kind == weight.kind and DTYPES[m.dtype] == weight.dtype]


def _ratios(table: Table, weight: Weight, form: Form) -> dict[int, float]:
    """Number of samples -> the time over dense, between the sizes that were measured."""
    alike = _alike(table, weight)
    ratios = {}
    for n_samples in {measured.n_samples for measured in alike}:
        rows = sorted((m for m in alike if m.n_samples == n_samples), key=lambda m: m.n_weights)
        at_sizes = [np.interp(weight.density, DENSITIES, _times(m, form), right=np.inf) for m in rows]
        sizes = np.log([measured.n_weights for measured in rows])
        ratios[n_samples] = float(np.interp(np.log(weight.n_weights), sizes, at_sizes))
    return ratios


def _times(measured: Measured, form: Form) -> list[float]:
    return measured.ratios[form.name]


# ---- the table -------------------------------------------------------------------------------------------------------


def break_even_table() -> Table:
    """The times measured on this machine if there are any, else the shipped ones.

    Raises:
        OptionError: the file of this machine is no such table.
    """
    path = own_table()
    return read_table(path if path.exists() else SHIPPED[max(native.cpu_level(), min(SHIPPED))])


def own_table() -> Path:
    """Where this machine's table is kept: one for each CPU and kernel level."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cpu = f"{platform.machine()} v{native.cpu_level()} {platform.node()}"
    return cache / "prunecell" / f"break_even {cpu}.json".replace(" ", "-")


def read_table(path: Path) -> Table:
    """Read a table that `write_table` wrote.

    Raises:
        OptionError: the file is no such table, or one of another version.
    """
    try:
        table = tuple(Measured(**row) for row in json.loads(path.read_text()))
        sound = all(
            {*row.ratios} == {f"{name} {values}" for name in FORMATS for values in VALUES}
            and all(len(ratios) == len(DENSITIES) for ratios in row.ratios.values())
            and row.dtype in DTYPES
            and all(isinstance(time, int | float) and time >= 0 for ratios in row.ratios.values() for time in ratios)
            and isinstance(row.n_weights, int)
            and row.n_weights > 0
            and isinstance(row.n_samples, int)
            for row in table
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise OptionError(f"{path} cannot be read as a table of times: {error}; remove it or tune again") from error
    if not sound:
        raise OptionError(f"{path} is damaged or of another version; remove it or tune again")
    return table


def write_table(path: Path, table: Table) -> None:
    """Write a table, one line for each form of a layer; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for measured in table:
        of = json.dumps({name: value for name, value in asdict(measured).items() if name != "ratios"})
        ratios = ",\n    ".join(f"{json.dumps(form)}: {json.dumps(times)}" for form, times in measured.ratios.items())
        rows.append(f'  {of[:-1]}, "ratios": {{\n    {ratios}\n  }}}}')
    with replacing(path) as file:
        file.write(("[\n" + ",\n".join(rows) + "\n]\n").encode())
