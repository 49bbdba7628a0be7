"""The facts of a conversion: what each weight became, or why it stayed dense. They print as a table, and give JSON."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from torch import nn

from prunecell.errors import OptionError, quoted, some
from prunecell.torch_checks import check_model

if TYPE_CHECKING:
    from rich.console import Group

_ATTRIBUTE = "_compact_report"  # of the model: deepcopy and pickle take it along


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """One weight of two dimensions or more.

    Attributes:
        name: of the weight.
        layer: the class of the layer that it was in.
        sparsity: the fraction that is zero, in [0, 1]; None where nobody counted, because the layer has no sparse form.
        form: format and values, "columns16 fp32"; None where it is dense.
        reason: why it is dense; empty where it is sparse.
        bytes_before, bytes_after: of memory, before the call of `compact_` and after it; so of a layer that was sparse
            already they are the same.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    sparsity: float | None
    form: str | None
    reason: str
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, kw_only=True)
class CompactReport:
    """What `compact_` made of a model.

    Attributes:
        layers: the weights in the model's order, tied ones once.
        bytes_before, bytes_after: all parameters and buffers of the model; those on the meta device as if they had been
            in memory.
        missing: tensors of the model that the file did not have (`strict=False`); they stayed as they were.
        left_over: tensors of the file that the model does not have (`strict=False`); they were ignored.
        remarks: what else is worth knowing, a sentence each.
    """

    layers: tuple[LayerFacts, ...]
    bytes_before: int
    bytes_after: int
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def n_sparse(self) -> int:
        """How many weights are sparse."""
        return sum(layer.form is not None for layer in self.layers)

    @property
    def reasons(self) -> str:
        """Why the dense weights stayed so, the most frequent reason first, with one weight that it is of."""
        first = {layer.reason: layer.name for layer in reversed(self.layers) if layer.form is None}
        counted = Counter(layer.reason for layer in self.layers if layer.form is None).most_common()
        if len(counted) <= 1:
            return counted[0][0] if counted else "it has no weight of two dimensions or more"
        told = (f"{first[why]}{f' and {n - 1:,} more' if n > 1 else ''}: {why}" for why, n in counted)
        return some(told, 3, between="; ")

    def to_json(self) -> str:
        """All facts, readable by machines."""
        return json.dumps(asdict(self) | {"n_sparse": self.n_sparse}, indent=1)

    def columns(self) -> list[tuple[str, list[str], str]]:
        """What is printed of the weights: (title, one cell a weight, the total)."""
        layers = self.layers
        before, after = sum(x.bytes_before for x in layers), sum(x.bytes_after for x in layers)
        return [
            ("weight", [x.name for x in layers], f"total: {self.n_sparse} of {len(layers)} sparse"),
            ("form", [x.form or "dense" for x in layers], "-"),
            ("shape", ["x".join(map(str, x.shape)) for x in layers], "-"),
            ("zeros", ["-" if x.sparsity is None else f"{x.sparsity:.1%}" for x in layers], "-"),
            ("before", [f"{x.bytes_before:,}" for x in layers], f"{before:,}"),
            ("after", [f"{x.bytes_after:,}" for x in layers], f"{after:,}"),
        ]

    def notes(self) -> list[str]:
        """The whole model's bytes, a line for each reason to stay dense, and what a file lacked or had left over."""
        from prunecell.console.terminal import listed  # noqa: PLC0415 - only a printed report needs rich

        reasons: dict[str, list[str]] = {}
        for layer in self.layers:
            if layer.form is None:
                reasons.setdefault(f"dense ({layer.reason})", []).append(layer.name)
        names = {**reasons, "not in the file": list(self.missing), "not in the model": list(self.left_over)}
        lines = [f"{title}: {listed([quoted(name) for name in of])}" for title, of in names.items() if of]
        formats = ", with biases and a byte in each sparse layer for its format" if self.n_sparse else ""
        total = f"all parameters and buffers{formats}: {self.bytes_before:,} bytes before, {self.bytes_after:,} after"
        return [total, *lines, *self.remarks]

    def __rich__(self) -> "Group":
        """The columns as a table, and the notes."""
        from prunecell.report.table import rendered  # noqa: PLC0415 - only a printed report needs rich

        return rendered(self.columns(), self.notes(), caption="before, after: bytes in memory")

    def __str__(self) -> str:
        """The same as plain text."""
        from prunecell.report.table import plain  # noqa: PLC0415

        return plain(self.__rich__())


def compact_report(model: nn.Module) -> CompactReport:
    """Say what `compact_` made of a model: each weight, its form or why it is dense, and the bytes before and after.

    Args:
        model: what `compact_` returned; the report travels with it through deepcopy and pickle.

    Raises:
        OptionError: `compact_` did not return this module.
        OptionTypeError: it is no module.

    >>> from prunecell import compact_
    >>> net = nn.Sequential(nn.Linear(512, 512), nn.GRU(512, 8))
    >>> _ = nn.init.sparse_(net[0].weight, sparsity=0.95)
    >>> report = compact_report(compact_(net, prefer="memory"))
    >>> [(layer.name, layer.form) for layer in report.layers][:2]
    [('0.weight', 'gaps8 fp32'), ('1.weight_ih_l0', None)]
    """
    check_model(model)
    report = vars(model).get(_ATTRIBUTE)
    if not isinstance(report, CompactReport):
        raise OptionError(
            f"this {type(model).__name__} has no report: compact_ did not return it. Call compact_ first, and give"
            " what it returns"
        )
    return report


def keep_report_(model: nn.Module, report: CompactReport) -> None:
    """Let the model have its report."""
    vars(model)[_ATTRIBUTE] = report


@contextmanager
def without_reports(model: nn.Module) -> Iterator[None]:
    """Take earlier reports off all modules meanwhile, because a layer with attributes of its own stays dense."""
    reports = [(module, vars(module).pop(_ATTRIBUTE)) for module in model.modules() if _ATTRIBUTE in vars(module)]
    try:
        yield
    finally:
        for module, report in reports:
            vars(module)[_ATTRIBUTE] = report
