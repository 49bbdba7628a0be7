"""Finding whole numbers in a tensor: its own, a step times integers, or places of its few words in a book.

What training or a value mode made of integers is found again in the floats themselves, so nothing beside the weights
has to be told: a step is right if every weight is an integer times it, to the bit.
"""

from dataclasses import dataclass

import numpy as np

from prunecell.codecs.dtypes import ELEMENT_TYPES, ElementType, Numbers
from prunecell.codecs.narrowing import narrowed
from prunecell.codecs.steps import parted, steps_of
from prunecell.codecs.values import MAX_BOOK, distinct, places_in

_FEW = 1 << 12  # elements of which all may differ
_INT8 = 127
_LEAST_OF_ROW = 8  # bytes of a row that is worth a step of four


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


def few_of(words: Numbers) -> Numbers | None:
    """The distinct words, sorted; None where they are many."""
    return np.unique(words) if len(words) <= _FEW else distinct(words)


def integers_in(words: Numbers, few: Numbers | None, kind: ElementType, shape: tuple[int, ...]) -> Integers | None:
    """See the words of a tensor as whole numbers, or as such times one step, or a step for each of its rows.

    Args:
        words: at least one.
        few: the distinct ones, as `few_of` gives them.
        kind: the element type of the tensor.
        shape: its shape.
    """
    if kind.words > 1:
        return None
    if not kind.is_float:
        numbers = words.view(kind.number)
        if not -(1 << 31) < int(numbers.min()) <= int(numbers.max()) < 1 << 31:
            return None
        return Integers(numbers=numbers.astype(np.int32), meaning="words", stored=kind, prefix=words[:0])
    return _scaled_in(words, few, kind, shape)


def _scaled_in(words: Numbers, few: Numbers | None, kind: ElementType, shape: tuple[int, ...]) -> Integers | None:
    """See floats as whole numbers times one step or, where that takes less, a step for each row."""
    one = None
    if few is not None and (found := steps_of(few[None], kind)) is not None:
        one = scaled_integers(found[1][0][places_in(few, words)], "step", found[0])
        if np.abs(found[1]).min(where=found[1] != 0, initial=_INT8) == 1:
            return one  # else it may be there by chance, because coarse floats of rows have many a step together
    if len(shape) < 2 or words.nbytes < _LEAST_OF_ROW * shape[0]:  # noqa: PLR2004 - a vector is one row
        return one
    if (found := steps_of(words.reshape(shape[0], -1), kind)) is None:
        return one
    several = scaled_integers(found[1].reshape(-1), "steps", found[0])
    return several if one is None else min(one, several, key=_cost)


def _cost(found: Integers) -> tuple[bool, float]:
    """Whether the numbers are large; the bits of the steps, and those of the numbers if nothing is known of them."""
    n_bits = 32 * len(found.prefix) + float(np.log2(np.abs(found.numbers) + 1).sum())
    return found.stored.name != "int8", n_bits


def may_have_book(words: Numbers, found: Integers | None) -> bool:
    """Tell whether a book may be smaller than the integers that were found: it hardly is where they are small."""
    return len(words) <= _FEW or found is None or found.stored.name != "int8"


def book_in(words: Numbers, few: Numbers | None, kind: ElementType, limit: int) -> Integers | None:
    """See floats as places in a book, counted from zero; the smaller a number, the nearer to zero.

    The arguments are those of `integers_in`. None is returned if the words differ too much, or the book alone would
    take as many bytes as `limit`.
    """
    if few is None or not kind.is_float or kind.words > 1 or np.count_nonzero(few) > MAX_BOOK:
        return None
    book, stored = narrowed(few, kind)
    is_negative, _ = parted(few)
    is_positive = ~is_negative & (few != 0)
    prefix = np.concatenate([book[is_negative][::-1], book[is_positive]])
    if prefix.nbytes >= limit:
        return None
    numbers = np.cumsum(is_positive) * is_positive - np.cumsum(is_negative) * is_negative
    return Integers(
        numbers=numbers.astype(np.int32)[places_in(few, words)],
        meaning="book",
        stored=stored,
        prefix=prefix,
        n_before=int(is_negative.sum()),
    )
