"""The ways that a model's code may go: where it decides by the numbers in a tensor, it goes the other way, too.

An example shows one way. What its code asks of a tensor (`if x.sum() > 0`, `x.max().item()`) is therefore answered
otherwise in further runs: no for yes; for a number, 0, the number with the other sign, and a greater one or small
integers. What the code gets of `item()` and `tolist()` are numbers that ask, too: each comparison has two answers.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Answer = bool | int | float
Way = tuple[Answer, ...]
"""The answers to all that is asked, in order."""

MOST = 64
"""Ways that are tried."""
_QUESTIONS = {
    *("__bool__", "__int__", "__float__", "__index__", "__contains__"),
    *("item", "is_nonzero", "equal", "allclose"),
}
_COMPARISONS = ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__bool__")
_ARITHMETIC = (
    *("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__"),
    *("__floordiv__", "__rfloordiv__", "__mod__", "__rmod__", "__pow__", "__rpow__", "__neg__", "__abs__", "__round__"),
)
_INTEGERS = range(8)
"""What an integer is tried as, because it may be the index of an expert."""
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
        name = getattr(func, "__name__", "")
        if name == "tolist":
            return _map(found, self._asking)
        if name not in _QUESTIONS or not isinstance(found, bool | int | float):
            return found
        answer = self.answer(found)
        return self._asking(answer) if name == "item" else answer  # Python makes plain numbers of the others

    def answer(self, found: Answer) -> Answer:
        """The answer to what is asked: as told, or else what was found."""
        answer = self._told[len(self.way)] if len(self.way) < len(self._told) else found
        self.way = (*self.way, answer)
        return answer

    def _asking(self, number: Any) -> Any:  # noqa: ANN401 - what tolist() has
        return number if type(number) not in _ASKING else _ASKING[type(number)](number, self)


def _map(numbers: Any, function: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - what tolist() has
    return [_map(part, function) for part in numbers] if isinstance(numbers, list) else function(numbers)


def _asking_kind(plain: type) -> Any:  # noqa: ANN401 - a class that is made here
    """A kind of number whose comparisons are questions, and which arithmetic keeps."""

    def new(kind: type, number: Any, going: Going) -> Any:  # noqa: ANN401
        made: Any = plain.__new__(kind, number)
        made.going = going
        return made

    def compared(name: str) -> Callable[..., Any]:
        def compare(self: Any, *other: Any) -> Any:  # noqa: ANN401
            found = _computed(plain, name, self, other)
            return found if found is NotImplemented else self.going.answer(found)

        return compare

    def computed(name: str) -> Callable[..., Any]:
        def compute(self: Any, *other: Any) -> Any:  # noqa: ANN401
            found = _computed(plain, name, self, other)
            return _ASKING[type(found)](found, self.going) if type(found) in _ASKING else found

        return compute

    methods = {name: compared(name) for name in _COMPARISONS} | {name: computed(name) for name in _ARITHMETIC}
    return type(plain.__name__, (plain,), {"__new__": new, "__hash__": plain.__hash__, **methods})


def _computed(plain: type, name: str, number: Any, other: tuple[Any, ...]) -> Any:  # noqa: ANN401
    """What a plain number would compute; an integer with a float as a float."""
    if plain is int and other and isinstance(other[0], float):
        return getattr(float, name)(float(number), *other)
    return getattr(plain, name)(number, *other)


_ASKING: dict[type, Any] = {kind: _asking_kind(kind) for kind in (int, float)}


def ways_of(run: Callable[[], _Given], most: int = MOST) -> Iterator[tuple[Way, _Given]]:
    """Run a model in all ways, `most` at most: (way, what it gave). Ways in which it fails are left out.

    Args:
        run: the model. What its first run raises is raised.
        most: the first is as it comes.
    """
    waiting: list[Way] = [()]
    for _ in range(most):
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
        way = going.way
        yield way, given
        new = [(rank, i, other) for i in range(len(told), len(way)) for rank, other in enumerate(_others(way[i]))]
        waiting += [(*way[:i], other) for _, i, other in sorted(new, key=lambda n: n[:2])]  # each question in turn


def _others(answer: Answer) -> list[Answer]:
    if isinstance(answer, bool):
        return [not answer]
    if isinstance(answer, int):
        return [n for n in dict.fromkeys((0, -answer, *_INTEGERS)) if n != answer]
    return [0.0, -answer, 100 * answer] if answer else [1.0]


def are_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors have numbers that can be compared."""
    return all(bool(tensor.isfinite().any()) for tensor in tensors)
