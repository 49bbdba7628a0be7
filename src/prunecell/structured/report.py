"""What became smaller: each group of units, the parameters, and the multiplications with weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunecell.errors import quoted

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What `remove_` did.

    Attributes:
        units: name of a layer, by which a group of units is called -> (units before, units after).
        left: name of a layer -> why no unit of it could be removed.
        n_parameters: (before, after), tied ones once.
        flops: (before, after): multiplications of a sample's numbers with weights of linear layers, convolutions and
            attentions, two operations each. Products within an attention are not counted.
        left_behind: classes of the optimizers that exist and hold old parameters, which the model has no more.
    """

    units: Mapping[str, tuple[int, int]]
    left: Mapping[str, str]
    n_parameters: tuple[int, int]
    flops: tuple[int, int]
    left_behind: tuple[str, ...] = ()

    def __rich__(self) -> "Group":
        """A table of the units, and the totals."""
        from prunecell.console.terminal import listed  # noqa: PLC0415
        from prunecell.report.table import rendered  # noqa: PLC0415 - only a printed report needs rich

        columns = [
            ("units of", list(self.units), "total"),
            ("before", [f"{before:,}" for before, _ in self.units.values()], f"{_sum(self.units, 0):,}"),
            ("after", [f"{after:,}" for _, after in self.units.values()], f"{_sum(self.units, 1):,}"),
        ]
        notes = [f"parameters: {self.n_parameters[0]:,} before, {self.n_parameters[1]:,} after"]
        notes += [f"FLOPs of a sample with weights: {self.flops[0]:,} before, {self.flops[1]:,} after"]
        if self.left_behind:
            notes.append(
                f"optimizers that hold the old parameters still, so they do not train this model: "
                f"{listed(self.left_behind)}: give one to remove_ as optimizer=, or make a new one"
            )
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left.items():
            reasons.setdefault(reason, []).append(quoted(name))
        notes += [f"left ({reason}): {listed(names)}" for reason, names in reasons.items()]
        return rendered(columns, notes, caption="filters, channels, heads and hidden units")

    def __str__(self) -> str:
        """The same as plain text."""
        from prunecell.report.table import plain  # noqa: PLC0415

        return plain(self.__rich__())


def _sum(units: Mapping[str, tuple[int, int]], which: int) -> int:
    return sum(pair[which] for pair in units.values())
