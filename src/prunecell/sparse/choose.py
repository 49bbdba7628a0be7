"""Which form a layer takes: dense, or which compressed format. Decided by times that were measured (break_even.py).

A layer is judged between the measured ones next to it in size.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from prunecell import native
from prunecell.errors import OptionError, UnknownNameError, nearest, quoted
from prunecell.sparse.break_even import DENSITIES, DTYPES, Measured, Table
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.formats.format import Format
from prunecell.sparse.values import ValueType, check_values_wish, values_for

GAIN = 0.9
"""Times of the dense layer that a sparse one may take; what gains less, which may be noise, stays dense."""

NO_LOSS = 1.0
"""The same where one sample and many are judged, for the one of them that gains less."""

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
ATTENTION = "attention"
"""The kind of the matrices of attention: linear layers that are hardly ever given one sample alone."""

_LAYERS = {
    "linear": "linear layers",
    ATTENTION: "linear layers",
    "pointwise": "convolutions of kernel size 1",
    "strided pointwise": "convolutions of kernel size 1 with a stride",
    "convolution": "convolutions",
}
"""Kind -> what a reason calls such layers; the matrices of an LSTM count as linear layers."""


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
    """What is known of the weight of a layer: its kind, its size and dtype, and what is kept.

    The kind is `ATTENTION` or as `Measured` has it. Where its layer can quantise its inputs and is to do so, `n_quads`
    counts the quads with a kept element.
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
        judged = [f"{n:,}" for n in _judged(alike, weight, self.prefer)]
        what = "faster" if self.prefer == "speed" else "as small and fast"
        samples = f"{' or '.join(judged)} sample{'s' * (judged != ['1'])} at once"
        return f"with {samples} dense is {what} at {100 * (1 - weight.density):.0f} % zeros"


def choose(weight: Weight, *, prefer: str, values: str, table: Table) -> Form | None:
    """Choose the compressed form of a weight, or None where it had better stay dense.

    Args:
        weight: what is known of it.
        prefer: "speed": the fastest, if it is faster than dense with one sample or with many and slower with neither,
            as nobody knows beforehand how many there will be. What is smaller than the smallest layer that was
            measured stays dense.
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
    alike = _alike(table, weight)
    if not alike or weight.n_kept > LARGEST:
        return None
    if prefer == "speed" and weight.n_weights < min(measured.n_weights for measured in alike):
        return None
    stored_as = values_for(values, weight.dtype)
    rank: dict[Form, float] = {}
    for format in FORMATS.values():  # noqa: A001 - what it is
        candidate = Form(format=format, values=stored_as)
        ratios = _ratios(alike, weight, candidate)
        judged = [ratios[n] for n in _judged(alike, weight, prefer)]
        ratio, gains = max(judged), max(judged) <= NO_LOSS and min(judged) <= GAIN
        if gains and (format.max_columns is None or weight.n_columns <= format.max_columns):
            rank[candidate] = ratio if prefer == "speed" else candidate.n_bytes(weight.density)
    best = min(rank, key=lambda form: rank[form], default=None)
    if best is None or (prefer == "memory" and best.n_bytes(weight.density) >= weight.dtype.itemsize):
        return None
    return best


def _alike(table: Table, weight: Weight) -> list[Measured]:
    """The measured layers of its kind and dtype."""
    kind = "linear" if weight.kind == ATTENTION else weight.kind
    return [m for m in table if m.kind == kind and DTYPES[m.dtype] == weight.dtype]


def _judged(alike: list[Measured], weight: Weight, prefer: str) -> list[int]:
    """The numbers of samples whose times count, ascending."""
    counts = sorted({measured.n_samples for measured in alike})
    return counts[-1:] if prefer == "memory" or weight.kind == ATTENTION else counts


def _ratios(alike: list[Measured], weight: Weight, form: Form) -> dict[int, float]:
    """Number of samples -> the time over dense, between the sizes that were measured."""
    ratios = {}
    for n_samples in {measured.n_samples for measured in alike}:
        rows = sorted((m for m in alike if m.n_samples == n_samples), key=lambda m: m.n_weights)
        at_sizes = [np.interp(weight.density, DENSITIES, _times(m, form), right=np.inf) for m in rows]
        sizes = np.log([measured.n_weights for measured in rows])
        ratios[n_samples] = float(np.interp(np.log(weight.n_weights), sizes, at_sizes))
    return ratios


def _times(measured: Measured, form: Form) -> list[float]:
    return measured.ratios[form.name]
