"""Finding the step of each row of floats that are integers times it, to the bit.

The product is rounded to float32 and cast. So each float is right for an interval of steps, once its integer is known,
and the step lies where all intervals meet. The integer of the smallest float of a row is tried from 1 on. It limits the
step, hence the integers of the other floats. Each that has one integer left limits the step further, and where none
does, because the floats are coarse, all that are left are followed. So small integers are found whatever the dtype.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from prunecell.codecs.dtypes import ELEMENT_TYPES, ElementType, Numbers, words_of
from prunecell.codecs.narrowing import FRACTION, cast_exactly
from prunecell.codecs.records import NARROWER

_SMALL = 127  # a row of numbers up to this one is found for certain
_LARGEST = 1 << 15  # of the numbers, where the smallest one that is not zero is at most 64
_TRIED = (  # what the smallest one may be, and the largest one then
    (range(1, 2), _SMALL),
    (range(2, 9), _SMALL),
    (range(9, _SMALL + 1), _SMALL),
    (range(1, 2), _LARGEST),
    (range(2, 65), _LARGEST),
)
_ANY = np.arange(1, _SMALL + 1)[:, None]
_GLANCE = 8  # floats of a row that are looked at first
_FEW = 1 << 12  # floats that are looked at without a glance
_AT_ONCE = 1 << 16  # floats that are looked at at once, so that they stay in the cache
_SLACK = 1e-13  # of rounding in float64
_TWICE_ROUNDED = 2.0**-24  # by which a product in float32 may lie beside that of which a narrower float is the nearest


def parted(words: Numbers) -> tuple[Numbers, Numbers]:
    """Tell which words have the highest bit, the sign of floats; and return the words without it."""
    sign = words.dtype.type(1 << (8 * words.itemsize - 1))
    return words >= sign, words & ~sign


def steps_of(words: Numbers, kind: ElementType) -> tuple[Numbers, Numbers] | None:
    """Find for each row the largest step such that each of its floats is an integer times it, to the bit.

    Args:
        words: of floats, (rows, columns), at least one of each.
        kind: their element type.

    Returns:
        (the steps, float32; the integers, int32, of the shape of the words), or None if a row has none.

    >>> steps_of(words_of(torch.tensor([0.0, -0.5, 0.75])).reshape(1, 3), ELEMENT_TYPES["float32"])
    (array([0.25], dtype=float32), array([[ 0, -2,  3]], dtype=int32))
    """
    if "int8" not in NARROWER.get(kind.name, ()):
        return None
    steps, numbers = np.empty(len(words), np.float32), np.empty(words.shape, np.int32)
    for begin, end in _blocks(*words.shape):
        found = _of_block(words[begin:end], kind)
        if found is None:
            return None
        steps[begin:end], numbers[begin:end] = found
    return steps, numbers


def _blocks(n_rows: int, n_columns: int) -> Iterator[tuple[int, int]]:
    """Give the first row, because it mostly tells, and then the others, more and more at once."""
    begin = 0
    while begin < n_rows:
        end = min(1 + 4 * begin, n_rows, begin + max(1, _AT_ONCE // n_columns))
        yield begin, end
        begin = end


@np.errstate(over="ignore", under="ignore")  # of steps that are tried, and then are not right
def _of_block(words: Numbers, kind: ElementType) -> tuple[Numbers, Numbers] | None:
    if kind.name == "float64":
        narrow, kind = cast_exactly(words.reshape(-1), kind, ELEMENT_TYPES["float32"]), ELEMENT_TYPES["float32"]
        if narrow is None:
            return None
        words = narrow.reshape(words.shape)
    is_negative, magnitudes = parted(words)
    is_zero = magnitudes == 0
    if (is_negative & is_zero).any() or int(magnitudes.max()) >= _infinity(kind):
        return None
    if len(words) == 1 and not _may_have_step(magnitudes[~is_zero], kind):
        return None
    steps, numbers = np.zeros(len(words), np.float32), np.zeros(words.shape, np.float32)
    counts = np.count_nonzero(magnitudes, axis=1)
    lives = counts > 0
    if not lives.any():
        return steps, numbers.astype(np.int32)
    if is_dense := 2 * int(counts.max()) > words.shape[1]:
        magnitudes = magnitudes[lives]
        least = np.where(magnitudes == 0, magnitudes.max(), magnitudes).min(1, keepdims=True)
        kept = np.where(magnitudes == 0, least, magnitudes)  # what stands twice tells nothing
    else:
        rows, columns = np.nonzero(magnitudes)
        places = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
        kept = magnitudes.max(1, keepdims=True).repeat(counts.max(), 1)
        kept[rows, places] = magnitudes[rows, columns]
        kept = kept[lives]
    floats = _Floats(kept, kind)
    if not floats.find():
        return None
    steps[lives] = floats.steps
    if is_dense:
        numbers[lives] = floats.numbers
        numbers[is_zero] = 0
    else:
        numbers[rows, columns] = floats.numbers[(np.cumsum(lives) - 1)[rows], places]
    np.negative(numbers, out=numbers, where=is_negative)
    return steps, numbers.astype(np.int32)


def _infinity(kind: ElementType) -> int:
    """The word that means infinity; those above it mean NaN."""
    return int((1 << 8 * kind.itemsize - 1) - (1 << FRACTION[kind.name]))


def _numbers(words: Numbers, kind: ElementType) -> Numbers:
    """The values of words, in float64."""
    wide = words.astype(np.uint32) << 16 if kind.name == "bfloat16" else words
    found: Numbers = wide.view("<f4" if kind.name == "bfloat16" else kind.number).astype(np.float64)
    return found


def _may_have_step(words: Numbers, kind: ElementType) -> bool:
    """Tell whether some floats above zero, if there are any, are near to integers for any number of the smallest."""
    if len(words) < 2 or int(least := words.min()) < 1 << FRACTION[kind.name]:  # noqa: PLR2004 - those have fewer bits
        return True
    ratios = _ANY * (_numbers(words[:_GLANCE], kind) / _numbers(least[None], kind))
    return bool((np.abs(ratios - np.rint(ratios)) <= ratios * 1.01 * 2.0 ** -FRACTION[kind.name]).all(1).any())


@dataclass(frozen=True, eq=False, kw_only=True)
class _Fork:
    """A float of each interval whose number is in doubt, if there is one.

    Attributes:
        low, high: where its product begins and ends.
        least: its smallest number.
        n_ways: how many it may be; 1 where there is no doubt, or where it is not followed.
    """

    low: Numbers
    high: Numbers
    least: Numbers
    n_ways: Numbers

    @classmethod
    def at_first_doubt(cls, low: Numbers, high: Numbers, least: Numbers, most: Numbers) -> "_Fork":
        """All of them (intervals, columns). The ways of a float lie apart, or it would stay in doubt."""
        is_doubtful = (least != most) & (low * most > high * (most - 1) * (1 + _SLACK))
        rows, columns = np.arange(len(least)), is_doubtful.argmax(1)
        is_followed = is_doubtful.any(1) & (least.max(1) <= _SMALL)
        low, high, first, last = (of[rows, columns] for of in (low, high, least, most))
        n_ways = np.where(is_followed, last - first + 1, 1).astype(np.int64)
        return cls(low=low, high=high, least=first, n_ways=n_ways)

    @property
    def has_ways(self) -> bool:
        """Whether there is any to follow."""
        return bool((self.n_ways > 1).any())


@dataclass(eq=False)
class _Ways:
    """Intervals in which the step of a row may lie: the row of each, its begin and its end."""

    rows: Numbers
    begin: Numbers
    end: Numbers

    def some(self, which: Numbers | slice) -> "_Ways":
        """Some of them."""
        return _Ways(self.rows[which], self.begin[which], self.end[which])

    def forked(self, fork: _Fork) -> "_Ways":
        """Narrow each interval by each number that a float may be; one that has one way stays as it is."""
        which = np.repeat(np.arange(len(self.rows)), fork.n_ways)
        number = fork.least[which] + np.arange(len(which)) - (np.cumsum(fork.n_ways) - fork.n_ways)[which]
        is_forked = fork.n_ways[which] > 1
        forked = self.some(which)
        forked.begin = np.where(is_forked, np.maximum(forked.begin, fork.low[which] / number), forked.begin)
        forked.end = np.where(is_forked, np.minimum(forked.end, fork.high[which] / number), forked.end)
        return forked


class _Floats:
    """Rows of floats above zero, and the steps and numbers that were found.

    Attributes:
        steps: float32, one for each row.
        numbers: float32, of the shape of the words.
    """

    def __init__(self, words: Numbers, kind: ElementType) -> None:
        self._words, self._kind = words, kind
        self._values = _numbers(words, kind)
        above = _numbers(words + 1, kind)
        above = np.where(np.isfinite(above), above, self._values)
        slack = _SLACK if kind.name == "float32" else _SLACK + _TWICE_ROUNDED
        self._low = (self._values + _numbers(words - 1, kind)) * ((1 - slack) / 2)
        self._high = (self._values + above) * ((1 + slack) / 2)
        self._least = self._low.min(1), self._high.min(1)
        self._most = self._low.max(1)
        self._is_found = np.zeros(len(words), bool)
        self.steps, self.numbers = np.zeros(len(words), np.float32), np.zeros(words.shape, np.float32)

    def find(self) -> bool:
        """Find the steps; tell whether there is one for every row."""
        for tried, largest in _TRIED:
            left = np.flatnonzero(~self._is_found)
            at_once = max(1, _AT_ONCE // len(tried) // min(_GLANCE, self._words.shape[1]))
            for i in range(0, len(left), at_once):
                self._find_some(left[i : i + at_once], np.array(tried), largest)
            if self._is_found.all():
                return True
        return False

    def _find_some(self, rows: Numbers, tried: Numbers, largest: int) -> None:
        """Find the steps of some rows, for numbers that the smallest float of each may be, the smallest first."""
        low, high = (np.divide.outer(of[rows], tried).reshape(-1) for of in self._least)
        of_row = np.repeat(rows, len(tried))
        low = np.maximum(low, self._most[of_row] / largest)
        ways = _Ways(of_row, low, high).some(low <= high)
        n_columns = self._words.shape[1]
        if len(ways.rows) * n_columns > _FEW:
            ways = self._narrowed(ways, _GLANCE)
        at_once = max(1, _AT_ONCE // n_columns)
        for i in range(0, len(ways.rows), at_once):
            some = ways.some(slice(i, i + at_once))
            some = self._narrowed(some.some(~self._is_found[some.rows]))
            while len(some.rows):
                first = np.flatnonzero(np.diff(some.rows, prepend=-1))
                self._take(some.rows[first], (some.begin[first] + some.end[first]) / 2)
                is_left = ~self._is_found[some.rows]
                is_left[first] = False
                some = some.some(is_left)

    def _narrowed(self, ways: "_Ways", n_columns: int | None = None) -> "_Ways":
        """Narrow intervals of steps by the first floats of their rows; those in which nothing can be are left out."""
        is_open = True
        while is_open and len(ways.rows):
            low, high = self._low[ways.rows, :n_columns], self._high[ways.rows, :n_columns]
            least, most = np.ceil(low / ways.end[:, None]), np.floor(high / ways.begin[:, None])
            is_sure = least == most
            if is_sure.all():
                begin, end = (low / least).max(1), (high / least).min(1)
            else:
                begin = (low / least).max(1, where=is_sure, initial=0)
                end = (high / least).min(1, where=is_sure, initial=np.inf)
            narrow = _Ways(ways.rows, np.maximum(ways.begin, begin), np.minimum(ways.end, end))
            alive = (least <= most).all(1) & (narrow.begin <= narrow.end)
            is_doubtful = alive & ~is_sure.all(1)
            is_open = bool((is_doubtful & ((narrow.begin > ways.begin) | (narrow.end < ways.end))).any())
            ways = narrow.some(alive)
            if not is_open and is_doubtful.any():
                fork = _Fork.at_first_doubt(low[alive], high[alive], least[alive], most[alive])
                if is_open := fork.has_ways:
                    ways = ways.forked(fork)
        return ways

    def _take(self, rows: Numbers, middle: Numbers) -> None:
        """Take the steps that are right, of rows and the middles of their intervals."""
        middle = middle.astype(np.float32)
        for n_away in (0, -1, 1, -2, 2):  # floats from the middle
            near = middle
            for _ in range(abs(n_away)):
                near = np.nextafter(near, np.float32(np.inf if n_away > 0 else 0))
            at = np.flatnonzero(~self._is_found[rows] & np.isfinite(near) & (near > 0))
            if not len(at):
                continue
            step, chosen = near[at], rows[at]
            numbers = np.rint(self._values[chosen] / step[:, None]).astype(np.float32)
            products = torch.from_numpy(numbers * step[:, None]).to(self._kind.torch)
            is_right = (words_of(products).reshape(numbers.shape) == self._words[chosen]).all(1)
            right = chosen[is_right]
            self._is_found[right] = True
            self.steps[right], self.numbers[right] = step[is_right], numbers[is_right]
