"""The ways that a model's code may go: where it decides by the numbers in a tensor, it goes the other way, too.

An example shows one way. What its code asks of a tensor (`if x.sum() > 0`, `x.max().item()`) is therefore answered
otherwise in further runs: no for yes; for a number, 0 and the number with the other sign, or 1 for 0.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Answer = bool | int | float
Way = tuple[Answer, ...]
"""The answers to all that is asked, in order."""

MOST = 32
"""Ways that are tried."""
_QUESTIONS = {
    *("__bool__", "__int__", "__float__", "__index__", "__contains__"),
    *("item", "is_nonzero", "equal", "allclose"),
}
_DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)

_Given = TypeVar("_Given")


class Going(TorchFunctionMode):
    """Lets the code of a model go a way, as far as that is told, and drop no units at random.

    Attributes:
        way: all answers, also those that are true because nothing was told.

    >>> import torch
    >>> with Going([False]) as going:
    ...     bool(torch.ones(()) > 0), bool(torch.ones(()) > 0)
    (False, True)
    >>> going.way
    (False, True)
    """

    def __init__(self, told: Sequence[Answer] = ()) -> None:
        super().__init__()
        self._told = told
        self.way: Way = ()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - as torch has it
        """See `TorchFunctionMode`."""
        kwargs = kwargs or {}
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention and "dropout_p" in kwargs:
            kwargs = kwargs | {"dropout_p": 0.0}
        found = func(*args, **kwargs)
        if getattr(func, "__name__", "") not in _QUESTIONS or not isinstance(found, bool | int | float):
            return found
        answer = self._told[len(self.way)] if len(self.way) < len(self._told) else found
        self.way = (*self.way, answer)
        return answer


def ways_of(run: Callable[[], _Given]) -> Iterator[tuple[Way, _Given]]:
    """Run a model in all ways, `MOST` at most: (way, what it gave). Ways in which it fails are left out.

    Args:
        run: the model. What its first run raises is raised.
    """
    waiting: list[Way] = [()]
    for _ in range(MOST):
        if not waiting:
            return
        told = waiting.pop(0)
        with Going(told) as going:
            try:
                given = run()
            except Exception:
                if not told:
                    raise
                continue
        yield going.way, given
        new = range(len(told), len(going.way))
        waiting += [(*going.way[:i], other) for i in new for other in _others(going.way[i])]


def _others(answer: Answer) -> list[Answer]:
    if isinstance(answer, bool):
        return [not answer]
    zero = type(answer)(0)
    return [zero, -answer] if answer else [zero + 1]


def are_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors have numbers that can be compared."""
    return all(bool(tensor.isfinite().any()) for tensor in tensors)
