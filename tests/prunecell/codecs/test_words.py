"""Words made of bytes and put in their places, by the kernels of every level and by what stands in for them."""

import numpy as np
import pytest

from prunecell.codecs.words import join_bytes, scatter_, split_bytes

pytestmark = pytest.mark.usefixtures("level")

WORDS = [np.dtype(f"<u{size}") for size in (1, 2, 4, 8)]
LENGTHS = [0, 1, 7, 31, 33, 1000]


def random_words(word, n):
    return np.random.default_rng(n).integers(0, 1 << 63, n, dtype=np.uint64, endpoint=True).astype(word)


def rotated_left(words):
    top = words >> (8 * words.itemsize - 1)
    return (words << 1 | top).astype(words.dtype)


def test_bytes_make_the_words_that_they_were_taken_from(for_every):
    for_every(made_of_bytes, WORDS, LENGTHS, [False, True])


def made_of_bytes(word, n, sign_below):
    words = random_words(word, n)
    rows = (rotated_left(words) if sign_below else words).view(np.uint8).reshape(n, word.itemsize)
    planes = [rows[:, j].copy() for j in range(word.itemsize)]
    for found, plane in zip(split_bytes(words, sign_below=sign_below), planes, strict=True):
        assert np.array_equal(found, plane)
    joined = join_bytes(planes, word, sign_below=sign_below)
    assert joined.dtype == word
    assert np.array_equal(joined, words)


def test_words_are_written_where_they_belong_and_nowhere_else(for_every):
    for_every(written, WORDS, LENGTHS)


def written(word, n):
    kept = random_words(word, n)
    positions = np.sort(np.random.default_rng(1).permutation(3 * n + 5)[:n])
    words = np.full(3 * n + 5, 77, word)
    scatter_(words, positions, kept)
    assert np.array_equal(words[positions], kept)
    assert (np.delete(words, positions) == 77).all()
