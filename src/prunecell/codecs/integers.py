"""Finding whole numbers in a tensor: its own, a step times integers, or places of its few words in a book.

What training or a value mode made of integers is found again in the floats themselves, so nothing beside the weights
has to be told: a step is right if every weight is an integer times it, to the bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from prunecell.codecs.dtypes import ELEMENT_TYPES, ElementType, Numbers, tensor_of, words_of
from prunecell.codecs.narrowing import cast_exactly, narrowed
from prunecell.codecs.records import NARROWER
from prunecell.codecs.values import MAX_BOOK, distinct

_LEAST = np.arange(1, 65)  # what the smallest number that is not zero may be, where a step is looked for
_LARGEST = 1 << 15  # of the numbers there
_FEW = 1 << 12  # elements of which all may differ
_INT8 = 127


@dataclass(frozen=True, kw_only=True, eq=False)
class Integers:
    """A tensor as whole numbers.

    Attributes:
        numbers: int32, flat, above -2^31.
        meaning, stored: as in `IntegerRecord`.
        prefix: the steps, float32, or the words of the book; empty where there are none.
        n_before: the words in the book whose numbers are below zero.
    """

    numbers: Numbers
    meaning: str
    stored: ElementType
    prefix: Numbers
    n_before: int = 0


def scaled_integers(numbers: Numbers, meaning: str, steps: Numbers) -> Integers:
    """See a tensor as integers times steps."""
    fits = not len(numbers) or int(np.abs(numbers).max()) <= _INT8
    stored = ELEMENT_TYPES["int8" if fits else "int32"]
    return Integers(numbers=numbers.astype(np.int32), meaning=meaning, stored=stored, prefix=steps.astype("<f4"))


def integers_in(words: Numbers, kind: ElementType, shape: tuple[int, ...]) -> Iterator[Integers]:
    """Give the ways to see the words of a tensor as whole numbers; none where there is no way."""
    if kind.words > 1:
        return
    if not kind.is_float:
        numbers = words.view(kind.number)
        if -(1 << 31) < int(numbers.min()) <= int(numbers.max()) < 1 << 31:
            yield Integers(numbers=numbers.astype(np.int32), meaning="words", stored=kind, prefix=words[:0])
        return
    few = _few(words)
    found = _with_step(words, few, kind) or _with_steps(words, kind, shape)
    if found is not None:
        yield found
    has_use = len(words) <= _FEW or found is None or found.stored.name != "int8"  # else it is hardly smaller
    if has_use and few is not None and np.count_nonzero(few) <= MAX_BOOK:
        yield _with_book(words, few, kind)


def _few(words: Numbers) -> Numbers | None:
    """The distinct words, sorted; None where they are many."""
    return np.unique(words) if len(words) <= _FEW else distinct(words)


def _mapped(words: Numbers, few: Numbers, numbers: Numbers) -> Numbers:
    """The number of each word, given that of each of the distinct ones."""
    if words.itemsize > 2:  # noqa: PLR2004 - a table of all words of two bytes is small
        return numbers.astype(np.int32)[np.searchsorted(few, words)]
    table = np.zeros(1 << 16, np.int32)
    table[few] = numbers
    found: Numbers = table[words]
    return found


def _parted(few: Numbers) -> tuple[Numbers, Numbers]:
    """Which of the words have the highest bit, the sign of floats, and the words without it."""
    sign = few.dtype.type(1 << (8 * few.itemsize - 1))
    return few >= sign, few & ~sign


def _with_book(words: Numbers, few: Numbers, kind: ElementType) -> Integers:
    """See words as places in a book, counted from zero; the smaller a number, the nearer to zero."""
    book, stored = narrowed(few, kind)
    is_negative, _ = _parted(few)
    is_positive = ~is_negative & (few != 0)
    numbers = np.cumsum(is_positive) * is_positive - np.cumsum(is_negative) * is_negative
    prefix = np.concatenate([book[is_negative][::-1], book[is_positive]])
    return Integers(
        numbers=_mapped(words, few, numbers),
        meaning="book",
        stored=stored,
        prefix=prefix,
        n_before=int(is_negative.sum()),
    )


def _with_step(words: Numbers, few: Numbers | None, kind: ElementType) -> Integers | None:
    if few is None or (found := step_of(few, kind)) is None:
        return None
    step, numbers = found
    return scaled_integers(_mapped(words, few, numbers), "step", np.array([step], np.float32))


def _with_steps(words: Numbers, kind: ElementType, shape: tuple[int, ...]) -> Integers | None:
    """See a tensor as integers times a step for each index of its first dimension."""
    steps, numbers = [], []
    for row in words.reshape(shape[0], -1) if len(shape) > 1 else ():
        few = _few(row)
        found = None if few is None else step_of(few, kind)
        if few is None or found is None:
            return None
        steps.append(found[0])
        numbers.append(_mapped(row, few, found[1]))
    return scaled_integers(np.concatenate(numbers), "steps", np.array(steps, np.float32)) if steps else None


@np.errstate(over="ignore", under="ignore")  # of steps that are tried, and then are no candidates
def step_of(few: Numbers, kind: ElementType) -> tuple[float, Numbers] | None:
    """Find the largest step such that each of some words is an integer times it, to the bit.

    The product is rounded to float32 and cast. Each word is right for an interval of steps, so the step lies where they
    meet; the integer of the smallest word is tried from 1 on.

    Args:
        few: distinct words, sorted.
        kind: their element type, a float.

    Returns:
        (the step, a float32; the integer of each word), or None if there is none.

    >>> step_of(words_of(torch.tensor([0.0, 0.5, 0.75])), ELEMENT_TYPES["float32"])
    (0.25, array([0, 2, 3]))
    """
    if kind.name == "float64":
        narrow = cast_exactly(few, kind, ELEMENT_TYPES["float32"])
        if narrow is None:
            return None
        few, kind = narrow, ELEMENT_TYPES["float32"]  # as sorted as before
    if "int8" not in NARROWER.get(kind.name, ()):
        return None
    is_negative, magnitudes = _parted(few)
    unique, places = np.unique(magnitudes, return_inverse=True)
    if not unique[-1]:
        return None if is_negative.any() else (0.0, np.zeros(len(few), np.int64))
    if (is_negative & (magnitudes == 0)).any() or not np.isfinite(_numbers(unique, kind)).all():
        return None
    for step, numbers in _candidates(unique[unique > 0], kind):
        if np.array_equal(
            words_of((torch.from_numpy(numbers).to(torch.float32) * step).to(kind.torch)), unique[unique > 0]
        ):
            of_unique = np.concatenate([np.zeros(len(unique) - len(numbers), np.int64), numbers])
            return step, of_unique[places] * np.where(is_negative, -1, 1)
    return None


def _numbers(words: Numbers, kind: ElementType) -> Numbers:
    """The values of words, in float64."""
    found: Numbers = tensor_of(words, kind).to(torch.float64).numpy()
    return found


def _candidates(words: Numbers, kind: ElementType) -> Iterator[tuple[float, Numbers]]:
    """Give steps that may be right for these words, positive and sorted, and the integers that they would make."""
    values = _numbers(words, kind)
    below, above = _numbers(words - 1, kind), _numbers(words + 1, kind)
    above = np.where(np.isfinite(above), above, values)
    numbers = np.rint(_LEAST[:, None] * (values / values[0]))
    low = ((values + below) / 2 / numbers).max(1)
    high = ((values + above) / 2 / numbers).min(1)
    for i in np.flatnonzero((low <= high) & (numbers[:, -1] <= _LARGEST)):
        middle = np.float32((low[i] + high[i]) / 2)
        near = [middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))]
        for step in {float(s): None for s in near if np.isfinite(s)}:
            yield step, numbers[i].astype(np.int64)
