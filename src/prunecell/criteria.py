"""Criteria: Evidence -> scores. How much a weight matters; higher keeps.

A criterion is any callable of that form. It returns a real tensor of the weight's shape, of any sign, or exact integer
`Keys`. What it needs beside the values it declares: `@needs(Needs.GRADIENT)`, or a field `needs` of its dataclass.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor

from prunecell.bits.order import Draws, Keys, Magnitudes, Scores
from prunecell.errors import OptionTypeError
from prunecell.evidence import Evidence, Needs

Criterion = Callable[[Evidence], Tensor | Keys]
_Function = TypeVar("_Function", bound=Criterion)


@runtime_checkable
class Needy(Protocol):
    """A criterion that needs more than the values."""

    needs: Needs


def needs(what: Needs) -> Callable[[_Function], _Function]:
    """Declare what a criterion that is a function needs beside the values.

    >>> @needs(Needs.GRADIENT)
    ... def sensitivity(evidence):
    ...     return evidence.gradient.abs()
    >>> needs_of(sensitivity)
    <Needs.GRADIENT: 1>
    """

    def declared(criterion: _Function) -> _Function:
        cast("Needy", criterion).needs = what
        return criterion

    return declared


def needs_of(criterion: Criterion) -> Needs:
    """What a criterion declares that it needs; a plain function needs nothing."""
    return criterion.needs if isinstance(criterion, Needy) else Needs.NOTHING


def keys_of(criterion: Criterion, evidence: Evidence) -> Keys:
    """The scores of a criterion as keys.

    Raises:
        OptionTypeError: it returned something else than keys or a real tensor of the weight's shape.
    """
    scores = criterion(evidence)
    if isinstance(scores, Tensor):
        if scores.shape == evidence.weight.shape and not scores.is_complex():
            return Scores(scores)
    elif getattr(scores, "shape", None) == evidence.weight.shape:
        return scores
    kind = f"{scores.dtype} {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
    raise OptionTypeError(
        f"the criterion returned {kind} for {evidence.name}: it must be a real tensor of shape"
        f" {tuple(evidence.weight.shape)}, or Keys"
    )


# ---- the criteria ----------------------------------------------------------------------------------------------------


def magnitude(evidence: Evidence) -> Magnitudes:
    """|w|, exact to the bit in every dtype; NaN and inf are the highest (Han et al. 2015, arxiv.org/abs/1506.02626)."""
    return Magnitudes(evidence.weight)


def random(evidence: Evidence) -> Draws:
    """Uniform over the weights; what is pruned already and then exact zeros come first."""
    seed = int(torch.randint(1 << 62, (), generator=evidence.generator))
    return Draws(evidence.weight, evidence.mask, seed)


def _wide(tensor: Tensor) -> Tensor:
    """In float32 at least, because products of half precision underflow."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


@needs(Needs.GRADIENT)
def taylor(evidence: Evidence) -> Tensor:
    """|w g|: the change of the loss without the weight, to first order (Molchanov 2017, arxiv.org/abs/1611.06440)."""
    return (_wide(evidence.weight) * _wide(evidence.gradient)).abs()


@needs(Needs.SQUARED_GRADIENT)
def fisher(evidence: Evidence) -> Tensor:
    """w^2 g^2: to second order, by the empirical Fisher matrix's diagonal (Theis 2018, arxiv.org/abs/1801.05787)."""
    return _wide(evidence.weight).square() * evidence.squared_gradient


@needs(Needs.INPUTS)
def wanda(evidence: Evidence) -> Tensor:
    """|w| ||x||: the magnitude times the norm of the input it multiplies (Sun 2024, arxiv.org/abs/2306.11695)."""
    return evidence.weight.abs() * evidence.input_norms


CRITERIA: dict[str, Criterion] = {
    "magnitude": magnitude,
    "random": random,
    "taylor": taylor,
    "fisher": fisher,
    "wanda": wanda,
}
"""Name -> criterion; the laws of the tests run over all of them."""
