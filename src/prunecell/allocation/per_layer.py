"""PerLayer: sparsities that were found by hand or by a search, layer by layer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunecell.allocation.shares import apportioned, sparsities
from prunecell.checks import check_number
from prunecell.choices import by_name
from prunecell.errors import OptionError, OptionTypeError, PlanError, nearest, quoted, some
from prunecell.evidence import Evidence
from prunecell.fillers import exact_count
from prunecell.patterns import matcher

_HALVINGS = 100


@by_name("sparsities", example="PerLayer(sparsities={'conv1.*': 0.5, '*': 0.95})")
@dataclass(frozen=True, kw_only=True)
class PerLayer:
    """Sparsities by name, exact in the total count that the schedule asks for.

    Where the schedule asks for their total (`total` says it), each weight gets its own. At another sparsity the
    densities are powers of the given ones, (1 - s)^x, with one x for all by which the total is met: a schedule that
    rises reaches all of them together, and those of 0 stay dense. For sparsities without a budget in common write a
    plan, with a `PruneSpec` each.

    Args:
        sparsities: a name or pattern (as in a plan) -> sparsity in [0, 1); the first that fits decides.

    Raises:
        OptionError: a sparsity is out of range; or, when masks are filled, more is asked for than all weights have
            whose sparsity is not 0.
        PlanError: (by the Pruner) a pattern fits no weight, or a weight no pattern.

    >>> PerLayer(sparsities={"conv*": 0.5, "*": 0.9}).total({"conv.weight": 100, "fc.weight": 300})
    0.8
    """

    sparsities: Mapping[str, float] | tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        pairs = self.sparsities.items() if isinstance(self.sparsities, Mapping) else self.sparsities
        if not isinstance(self.sparsities, Mapping | tuple | list) or not all(map(_is_pair, pairs)):
            raise OptionTypeError(
                f"sparsities={quoted(self.sparsities)} is illegal: it must be a mapping from names or patterns to"
                " sparsities, as {'conv1.*': 0.5, '*': 0.95}"
            )
        for key, sparsity in pairs:
            check_number(f"sparsities[{quoted(key)}]", sparsity, low=0, high=1)
            if sparsity == 1:
                raise OptionError(
                    f"sparsities[{quoted(key)}]={sparsity!r} is illegal: it must be a number in [0, 1), below 1"
                )
            matcher(key, "pattern")
        object.__setattr__(self, "sparsities", tuple((key, sparsity) for key, sparsity in pairs))

    def check_names(self, names: Sequence[str]) -> None:
        """See `Naming`."""
        self._given(names)
        for key, _ in self._pairs:
            if not any(map(matcher(key, "pattern"), names)):
                raise PlanError(
                    f"sparsities[{quoted(key)}] of PerLayer fits no weight under this spec{nearest(key, names)}"
                )

    def total(self, sizes: Mapping[str, int]) -> float:
        """The sparsity at which every weight gets its own.

        Args:
            sizes: name of a weight -> how many numbers it has.
        """
        pruned = sum(s * size for s, size in zip(self._given([*sizes]), sizes.values(), strict=True))
        return pruned / max(sum(sizes.values()), 1)

    def __call__(self, evidences: Sequence[Evidence], sparsity: float) -> Sequence[float]:
        """The sparsity of each; see the class."""
        given, sizes = self._given([e.name for e in evidences]), [e.weight.numel() for e in evidences]
        n_kept = sum(sizes) - exact_count(sparsity, sum(sizes))
        n_dense = sum(size for s, size in zip(given, sizes, strict=True) if s == 0)
        if n_kept < n_dense:
            raise OptionError(
                f"sparsity={sparsity:g} is illegal: PerLayer keeps {n_dense:,} of {sum(sizes):,} weights dense, so it"
                f" can prune {1 - n_dense / sum(sizes):.4g} at most"
            )
        return sparsities(apportioned(_powers(given, sizes, n_kept), sizes, n_kept), sizes)

    @property
    def _pairs(self) -> tuple[tuple[str, float], ...]:
        return tuple(self.sparsities.items() if isinstance(self.sparsities, Mapping) else self.sparsities)

    def _given(self, names: Sequence[str]) -> list[float]:
        fits = [(matcher(key, "pattern"), sparsity) for key, sparsity in self._pairs]
        found = [next((sparsity for fit, sparsity in fits if fit(name)), None) for name in names]
        if missing := [name for name, sparsity in zip(names, found, strict=True) if sparsity is None]:
            raise PlanError(f"no pattern of PerLayer fits {some(missing)}: add '*' and a sparsity for the rest")
        return [sparsity for sparsity in found if sparsity is not None]


def _powers(given: Sequence[float], sizes: Sequence[int], n_kept: int) -> list[float]:
    """Size (1 - s)^x of each, with the least x whose sum is not above `n_kept`."""
    logs = [math.log1p(-s) for s in given]  # 1 - s is 1 for a tiny s

    def kept(x: float) -> list[float]:
        return [size * math.exp(x * log) if log else size for log, size in zip(logs, sizes, strict=True)]

    low, high = 0.0, 1.0
    while sum(kept(high)) > n_kept:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(kept(middle)) > n_kept else (low, middle)
    return kept(high)


def _is_pair(pair: object) -> bool:
    return isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)  # noqa: PLR2004 - a pair
