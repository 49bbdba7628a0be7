"""Floats in narrower types that hold every one of them exactly."""

from collections.abc import Iterator

import numpy as np

from prunecell.codecs.dtypes import ELEMENT_TYPES, ElementType, Numbers, tensor_of, words_of
from prunecell.codecs.positions import CHUNK
from prunecell.codecs.records import NARROWER

FRACTION = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}  # bits


def chunks_of(words: Numbers) -> Iterator[Numbers]:
    """Give the words some at a time."""
    for start in range(0, len(words), CHUNK):
        yield words[start : start + CHUNK]


def is_zero(words: Numbers) -> bool:
    """Tell whether all words are zero; the first chunk that is not tells."""
    return not any(chunk.any() for chunk in chunks_of(words))


def narrowed(words: Numbers, kind: ElementType) -> tuple[Numbers, ElementType]:
    """Store floats in the first narrower type that holds every one of them exactly, if there is any."""
    for narrow in map(ELEMENT_TYPES.__getitem__, NARROWER.get(kind.name, ())):
        found = []
        for chunk in chunks_of(words) if narrow.is_float else ():
            cast = cast_exactly(chunk, kind, narrow)
            if cast is None:
                break
            found.append(cast)
        else:
            if found:
                return np.concatenate(found), narrow
    return words, kind


def cast_exactly(words: Numbers, kind: ElementType, narrow: ElementType) -> Numbers | None:
    """Cast words to a narrower float; None if a bit would change, or if there is a NaN, whose bits casts may change."""
    lost = FRACTION[kind.name] - FRACTION[narrow.name]
    if np.bitwise_or.reduce(words) & words.dtype.type((1 << lost) - 1):  # far faster than the cast, and mostly enough
        return None
    wide = tensor_of(words, kind)
    cast = wide.to(narrow.torch)
    exact = np.array_equal(words_of(cast.to(kind.torch)), words) and not bool(wide.isnan().any())
    return words_of(cast) if exact else None
