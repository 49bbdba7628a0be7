"""What a criterion is: any callable from Evidence to scores.

It returns a real tensor of the weight's shape, of any sign, or exact integer `Keys`. What it needs beside the values it
declares: `@needs(Needs.GRADIENT)`, or a field `needs` of its dataclass.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from torch import Tensor

from prunecell.bits.order import Keys, Scores
from prunecell.errors import OptionTypeError
from prunecell.evidence import Evidence, Needs

Criterion = Callable[[Evidence], Tensor | Keys]
_Function = TypeVar("_Function", bound=Criterion)


@runtime_checkable
class Needy(Protocol):
    """A criterion that needs more than the values."""

    needs: Needs


@runtime_checkable
class Sampling(Protocol):
    """A criterion that needs `Needs.GRADIENT_SAMPLES`."""

    @property
    def n_gradients(self) -> int:
        """How many, >= 1: the gradients of that many steps before an update."""
        ...


@runtime_checkable
class Reviving(Protocol):
    """A criterion whose author lets pruned weights come back, or not."""

    revives: bool


def needs(what: Needs, *, revives: bool = False) -> Callable[[_Function], _Function]:
    """Declare what a criterion that is a function needs beside the values.

    Args:
        what: it needs.
        revives: whether pruned weights are judged again and may come back, where `Lowest` does not say.

    >>> @needs(Needs.GRADIENT)
    ... def sensitivity(evidence):
    ...     return evidence.gradient.abs()
    >>> needs_of(sensitivity)
    <Needs.GRADIENT: 1>
    """

    def declared(criterion: _Function) -> _Function:
        cast("Needy", criterion).needs = what
        cast("Reviving", criterion).revives = revives
        return criterion

    return declared


def needs_of(criterion: Criterion) -> Needs:
    """What a criterion declares that it needs; a plain function needs nothing."""
    return criterion.needs if isinstance(criterion, Needy) else Needs.NOTHING


def n_gradients_of(criterion: Criterion) -> int:
    """How many gradients a criterion wants, each by itself."""
    return criterion.n_gradients if isinstance(criterion, Sampling) else 0


def revives(criterion: Criterion) -> bool:
    """Whether pruned weights may come back by this criterion, where nobody says otherwise."""
    return criterion.revives if isinstance(criterion, Reviving) else False


def keys_of(criterion: Criterion, evidence: Evidence) -> Keys:
    """The scores of a criterion as keys.

    Raises:
        OptionTypeError: it returned something else than keys or a real tensor of the weight's shape.
    """
    scores: Any = criterion(evidence)
    if isinstance(scores, Tensor):
        if scores.shape == evidence.weight.shape and not scores.is_complex():
            return Scores(scores)
    elif getattr(scores, "shape", None) == evidence.weight.shape:
        return cast("Keys", scores)
    kind = f"{scores.dtype} {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
    raise OptionTypeError(
        f"the criterion returned {kind} for {evidence.name}: it must be a real tensor of shape"
        f" {tuple(evidence.weight.shape)}, or Keys"
    )
