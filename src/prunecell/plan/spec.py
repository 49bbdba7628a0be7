"""PruneSpec: how weights are pruned, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prunecell.allocation import ALLOCATIONS, Allocation, uniform
from prunecell.checks import check_count
from prunecell.choices import by_name, check_callable, example_of
from prunecell.criteria import CRITERIA
from prunecell.described import described, rebuilt, shown
from prunecell.errors import StateError, quoted
from prunecell.evidence import Needs
from prunecell.fillers import FILLERS, Filler, Lowest, traits_of
from prunecell.granularity import GRANULARITIES
from prunecell.schedules import SCHEDULES, Schedule, moves

_VERSION = 1


@by_name("schedule", "filler", "allocation", example="PruneSpec(schedule=Static(sparsity=0.9))")
@dataclass(frozen=True, kw_only=True, repr=False)
class PruneSpec:
    """How weights are pruned.

    Args:
        schedule: when: (Clock) -> sparsity in [0, 1]; see `prunecell.schedules.Timed` for more.
        filler: which weights of a tensor: (Evidence, sparsity) -> mask.
        allocation: how one sparsity is shared by the tensors that have this spec.
        seed: >= 0, for fillers that draw.

    >>> from prunecell import Static
    >>> PruneSpec(schedule=Static(sparsity=0.9)).allocation.__name__
    'uniform'
    """

    schedule: Schedule
    filler: Filler = field(default_factory=Lowest)
    allocation: Allocation = uniform
    seed: int = 0

    def __post_init__(self) -> None:
        for name, calls in _CALLS.items():
            check_callable(name, getattr(self, name), calls)
        check_count("seed", self.seed)

    def __repr__(self) -> str:
        return shown(self)

    @property
    def parks(self) -> bool:
        """Whether hidden values must be kept, because the filler may revive a weight later."""
        return traits_of(self.filler).revives and moves(self.schedule)

    @property
    def n_gradients(self) -> int:
        """Of how many steps before an update the gradients are needed, each by itself."""
        return traits_of(self.filler).n_gradients

    @property
    def needs(self) -> Needs:
        """What must be collected before the masks can be filled."""
        return traits_of(self.filler).needs

    def to_data(self) -> dict[str, Any]:
        """All its fields as plain data, for a state or a report; the same for the same spec in every process."""
        return {"version": _VERSION, **described(self)["fields"]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "PruneSpec":
        """The spec that `to_data` wrote; only functions and classes of prunecell can be made again.

        Raises:
            StateError: it is of another version, or its fields do not fit.
            UnknownNameError: a function or class in it is none of ours.

        >>> from prunecell import Cubic
        >>> spec = PruneSpec(schedule=Cubic(sparsity=0.9, steps=5), seed=3)
        >>> PruneSpec.from_data(spec.to_data()) == spec
        True
        """
        if data.get("version") != _VERSION:
            raise StateError(f"version={quoted(data.get('version'))} of a spec is unknown: it must be {_VERSION}")
        values = {name: rebuilt(value, _known()) for name, value in data.items() if name != "version"}
        try:
            return cls(**values)
        except TypeError as error:
            raise StateError(f"the fields of the spec do not fit: {error}") from None


_CALLS = {
    "schedule": {name: example_of(kind, "prunecell.schedules") for name, kind in SCHEDULES.items()},
    "filler": {name: f"Lowest(criterion={example_of(value, 'prunecell.criteria')})" for name, value in CRITERIA.items()}
    | {name: example_of(kind, "prunecell.fillers") for name, kind in FILLERS.items()},
    "allocation": {name: example_of(kind, "prunecell.allocation") for name, kind in ALLOCATIONS.items()},
}
"""Field -> what users may call its values -> how these are written."""


def _known() -> dict[str, Any]:
    """All that a description may name."""
    tables = (SCHEDULES, FILLERS, ALLOCATIONS, CRITERIA, GRANULARITIES)
    values = (value if hasattr(value, "__qualname__") else type(value) for table in tables for value in table.values())
    return {f"{value.__module__}.{value.__qualname__}": value for value in values}
