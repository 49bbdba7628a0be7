"""Whether a schedule's end can be reached at all, told before the first step instead of in mid-training.

Allocations that look at sizes and names only, and bounds of others, are tried with weights that have no values. What
hangs on values is not known before they are there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prunecell.allocation import shares_of
from prunecell.bits.mask import Mask
from prunecell.described import shown
from prunecell.errors import OptionError
from prunecell.evidence import Evidence, Ranking
from prunecell.fillers import Bounded, Grouping, exact_count
from prunecell.plan.spec import PruneSpec
from prunecell.schedules import Foreseen


@dataclass(frozen=True)
class _NoKeys:
    """The keys of groups whose scores are not known."""

    shape: torch.Size


def check_end(spec: PruneSpec, shapes: dict[str, torch.Size]) -> None:
    """Refuse a schedule whose last sparsity is more than allocation or filler can give.

    Args:
        spec: of a group of weights.
        shapes: name of each of these weights -> its shape.

    Raises:
        OptionError: it is more.
    """
    if not isinstance(spec.schedule, Foreseen):
        return
    last, filler = spec.schedule.last, spec.filler
    try:
        sizes = [_group_size(filler, name, shape) for name, shape in shapes.items()]
        most = [filler.most(name, s) if isinstance(filler, Bounded) else s.numel() for name, s in shapes.items()]
        n = sum(shape.numel() for shape in shapes.values())
        if exact_count(last, n) > sum(most):
            raise OptionError(f"{shown(filler)} can prune {sum(most) / n:.4g} at most")  # noqa: TRY301 - told below
        shares = _shares(spec, [_evidence(*pair, size) for pair, size in zip(shapes.items(), sizes, strict=True)], last)
        for name, limit, share in zip(shapes, most, shares, strict=False):
            n = shapes[name].numel()
            if exact_count(share, n) > limit:
                raise OptionError(  # noqa: TRY301
                    f"{shown(spec.allocation)} asks for {share:.4g} of {name!r}, and {shown(filler)} can prune"
                    f" {limit / n:.4g} at most"
                )
    except OptionError as error:
        raise OptionError(f"the end of {shown(spec.schedule)} cannot be reached: {error}") from None


def _shares(spec: PruneSpec, evidences: list[Evidence], sparsity: float) -> Sequence[float]:
    """What the allocation will give to each weight; nothing where that hangs on values."""
    try:
        return shares_of(spec.allocation, evidences, sparsity)
    except OptionError:
        raise
    except Exception:  # noqa: BLE001 - whatever an allocation does with values that are not there
        return ()


def _group_size(filler: Any, name: str, shape: torch.Size) -> int:  # noqa: ANN401 - any filler
    try:
        return filler.group_size(shape) if isinstance(filler, Grouping) else 1
    except OptionError as error:
        raise OptionError(f"{name}: {error}") from None


def _evidence(name: str, shape: torch.Size, group_size: int) -> Evidence:
    weight: Tensor = torch.empty(shape, device="meta")
    keys: Any = _NoKeys(torch.Size([shape.numel() // max(group_size, 1)]))
    return Evidence(
        name=name,
        weight=weight,
        mask=Mask.full(torch.Size([0])),
        generator=torch.Generator(),
        rank=lambda _: Ranking(keys=keys, group_size=group_size),
    )
