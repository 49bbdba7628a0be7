"""Kept words, masks and gaps, by the kernels of every level and by what stands in for them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prunecell.codecs.kept import count_of, places_of, put_kept_, read_gaps, take_kept, write_gaps

pytestmark = pytest.mark.usefixtures("level")

WORDS = [np.dtype(f"<u{size}") for size in (1, 2, 4, 8)]
LENGTHS = [0, 1, 7, 8, 63, 64, 65, 128, 1000]
DENSITIES = [0.0, 0.05, 0.5, 0.95, 1.0]


def random_words(word, n, density):
    made = np.random.default_rng(n)
    words = made.integers(1, 1 << 63, n, dtype=np.uint64).astype(word)
    words[words == 0] = 1 << (8 * word.itemsize - 1)  # -0.0 of floats is kept
    return np.where(made.random(n) < density, words, 0).astype(word)


def test_kept_words_are_taken_and_put_back(for_every):
    for_every(taken_and_put_back, WORDS, LENGTHS, DENSITIES)


def taken_and_put_back(word, n, density):
    words = random_words(word, n, density)
    bits, kept = take_kept(words)
    assert kept.dtype == word
    assert np.array_equal(kept, words[words != 0])
    assert np.array_equal(bits, np.packbits(words != 0, bitorder="little"))
    assert count_of(bits) == len(kept)
    assert np.array_equal(places_of(bits, n), np.flatnonzero(words))
    back = np.full(n + 3, 77, word)
    put_kept_(back[:n], bits, np.ascontiguousarray(kept))
    assert np.array_equal(back[:n], words)
    assert (back[n:] == 77).all()


def gaps_reference(gaps):
    symbols = []
    for gap in gaps:
        long, rest = divmod(gap, 240 << 16)
        symbols += [255] * 2 * long + [240 + k for k in range(16) if rest // 240 >> k & 1] + [rest % 240]
    return symbols


@given(gaps=st.lists(st.integers(0, 300), max_size=50), behind=st.integers(0, 600), carried=st.integers(0, 1 << 26))
@example(gaps=[0, 239, 240, 241, 479, 480], behind=0, carried=(240 << 16) - 1)
@example(gaps=[5], behind=0, carried=(240 << 16) - 5)
@example(gaps=[240 << 12, (240 << 12) - 1], behind=1, carried=0)
def test_gaps_are_written_and_read(gaps, behind, carried):
    places = np.cumsum(np.array(gaps, np.int64) + 1) - 1
    size = int(places[-1]) + 1 + behind if len(gaps) else behind
    is_kept = np.zeros(size, bool)
    is_kept[places] = True
    symbols, left = write_gaps(np.packbits(is_kept, bitorder="little"), size, carried)
    assert left == behind + (0 if gaps else carried)
    assert symbols.tolist() == gaps_reference([gaps[0] + carried, *gaps[1:]] if gaps else [])
    found, at = read_gaps(symbols, 1000)
    assert found.tolist() == [1000 + carried + place for place in places]
    assert at == (found[-1] + 1 if gaps else 1000)
