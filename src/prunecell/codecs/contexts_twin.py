"""The context coder in plain Python: the reference of native/contexts.h, and what runs where nothing was compiled.

A binary range coder of 32 bits without carries. Every bit has a context, which knows how probable a 1 is and learns
from each bit; rare and frequent bits then take little room. The arithmetic is of whole numbers only, so the bytes are
the same on every machine. docs/format.md says it in full.
"""

from collections.abc import Sequence

HALF = 1 << 15  # the probability 1/2
RATE = [655360 // (10 * n + 16) for n in range(256)]  # how much the n-th bit of a context changes it, of 65536
MOST_BITS = 30  # of a magnitude, its highest bit not counted
AHEAD = 16  # columns whose levels are of one moment


class Bit:
    """A context: the probability of a 1, of 65536, and how many bits it has seen, up to 255."""

    __slots__ = ("n", "p")

    def __init__(self, p: int = HALF, n: int = 0) -> None:
        self.p, self.n = p, n

    def learn(self, bit: bool) -> None:  # noqa: FBT001 - a bit
        """Move the probability towards a bit."""
        self.p += (65536 - self.p) * RATE[self.n] >> 16 if bit else -(self.p * RATE[self.n] >> 16)
        self.p = min(max(self.p, 16), 65520)
        self.n = min(self.n + 1, 255)


class Encoder:
    """Turns bits into bytes."""

    def __init__(self) -> None:
        self._low, self._high, self._out = 0, 0xFFFFFFFF, bytearray()

    def bit(self, context: Bit, bit: bool) -> bool:  # noqa: FBT001 - a bit
        """Code a bit that is known; the same bit."""
        middle = self._low + ((self._high - self._low) * context.p >> 16)
        self._low, self._high = (self._low, middle) if bit else (middle + 1, self._high)
        while not (self._low ^ self._high) >> 24:
            self._out.append(self._high >> 24)
            self._low, self._high = self._low << 8 & 0xFFFFFFFF, (self._high << 8 & 0xFFFFFFFF) | 255
        context.learn(bit)
        return bit

    def finish(self) -> bytes:
        """Return the bytes: as few as tell the last bits, because a reader sees zeros after them."""
        for kept in (32, 24, 16, 8, 0):
            last = -(-self._low >> kept) << kept
            if last <= self._high:
                return bytes(self._out) + last.to_bytes(4, "big")[: 4 - kept // 8]
        raise AssertionError("the last number always does")


class Decoder:
    """Turns bytes into bits; behind the last byte it reads zeros."""

    def __init__(self, data: bytes) -> None:
        self._low, self._high, self._data, self._at = 0, 0xFFFFFFFF, data, 4
        self._code = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def bit(self, context: Bit, _: bool = False) -> bool:  # noqa: FBT001, FBT002 - a bit
        """Read a bit."""
        middle = self._low + ((self._high - self._low) * context.p >> 16)
        bit = self._code <= middle
        self._low, self._high = (self._low, middle) if bit else (middle + 1, self._high)
        while not (self._low ^ self._high) >> 24:
            byte = self._data[self._at] if self._at < len(self._data) else 0
            self._low, self._high = self._low << 8 & 0xFFFFFFFF, (self._high << 8 & 0xFFFFFFFF) | 255
            self._code, self._at = (self._code << 8 & 0xFFFFFFFF) | byte, self._at + 1
        context.learn(bit)
        return bit

    @property
    def left(self) -> int:
        """How many bytes were not read; below 0 as many as were read behind the end, up to 4 if all is well."""
        return len(self._data) - self._at

    @property
    def is_cut(self) -> bool:
        """Whether more was read than a stream of these bytes can hold."""
        return self.left < -4  # noqa: PLR2004 - so many bytes are read ahead


class Model:
    """The contexts of one tensor, and what of it was coded so far.

    Args:
        coder: an encoder or a decoder.
        rows, planes, height, width: the tensor is so many rows of pictures.
        count: its numbers that are not zero; at least one.
    """

    def __init__(self, coder: Encoder | Decoder, rows: int, planes: int, height: int, width: int, count: int) -> None:
        self._coder = coder
        self._n_rows, self._n_columns, self._height, self._width = rows, planes * height * width, height, width
        self._count = count
        self._near = [[Bit(min((1 + t) * 3 << 7 + level, 39000), 1) for level in range(9)] for t in range(4)]
        self._signs = [Bit() for _ in range(9)]
        self._prefix = [[Bit() for _ in range(MOST_BITS)] for _ in range(2)]
        self._suffix = [[Bit() for _ in range(16)] for _ in range(MOST_BITS + 1)]
        self._row = self._done = self.n_coded = 0

    def code_rows(self, given: Sequence[int]) -> list[int]:
        """Code which rows are alive. One is: where none was before the last, that one."""
        contexts, last = [Bit(), Bit()], 1
        self._rows: list[int] = []
        for row in range(self._n_rows):
            is_sure = row == self._n_rows - 1 and not any(self._rows)
            last = 1 if is_sure else int(self._coder.bit(contexts[last], bool(given[row])))
            self._rows.append(last)
        return self._rows

    def code_columns(self, given: Sequence[int], above: Sequence[int]) -> None:
        """Code which columns are alive. `above` tells for each of its equal parts whether what feeds it is."""
        contexts = [Bit() for _ in range(18)]
        alive: list[int] = []
        part = self._n_columns // len(above) if above else 1
        for k in range(self._n_columns):
            y, x = divmod(k % (self._height * self._width), self._width)
            left, up = alive[k - 1] if x else 2, alive[k - self._width] if y else 2
            context = contexts[9 * (above[k // part] if above else 0) + 3 * left + up]
            is_sure = k == self._n_columns - 1 and not any(alive)
            alive.append(1 if is_sure else int(self._coder.bit(context, bool(given[k]))))
        self._live = [k for k in range(self._n_columns) if alive[k]]
        self._counts = [0] * self._n_columns
        self._prior = min(1 << 17, (self._count << 17) // (sum(self._rows) * len(self._live)))

    def code_row(self, row: list[int]) -> None:
        """Code the next row; a decoder is given zeros, and fills them."""
        self._row += 1
        if not self._rows[self._row - 1]:
            return
        is_last, found, total = self._done == sum(self._rows) - 1, 0, self._done + 2 << 17
        for i, k in enumerate(self._live):
            if i % AHEAD == 0:
                unit = total // (found + 2)
            left, up, near = self._neighbours(row, k)
            density = (self._counts[k] << 16) + self._prior
            total += density
            is_sure = (is_last and not self._counts[k]) or (not found and k == self._live[-1])
            level = sum(density >= unit << j >> 8 for j in range(1, 9))
            if not is_sure and not self._coder.bit(self._near[near][level], row[k] != 0):
                continue
            found += 1
            self._counts[k] += 1
            is_positive = self._coder.bit(self._signs[3 * _sign(left) + _sign(up) + 4], row[k] > 0)
            magnitude = self._magnitude(int(abs(left) > 1 or abs(up) > 1), abs(row[k]))
            row[k] = magnitude if is_positive else -magnitude
        self._done += 1
        self.n_coded += found

    def _neighbours(self, row: list[int], k: int) -> tuple[int, int, int]:
        """The numbers to the left and above, and how many of the four around are not zero, up to 3, in a picture."""
        y, x = divmod(k % (self._height * self._width), self._width)
        left, up = row[k - 1] if x else 0, row[k - self._width] if y else 0
        if self._height == 1:
            return left, up, 0
        corners = (
            row[k - self._width - 1] if y and x else 0,
            row[k - self._width + 1] if y and x < self._width - 1 else 0,
        )
        return left, up, min(3, sum(number != 0 for number in (left, up, *corners)))

    def _magnitude(self, context: int, given: int) -> int:
        """Code a number of 1 or more: how many bits it has, then these bits."""
        size = 0
        while size < MOST_BITS and self._coder.bit(self._prefix[context][size], given >> size + 1 > 0):
            size += 1
        found = 1
        for place in range(size - 1, -1, -1):
            bit = self._suffix[size][found] if found < 16 else Bit()  # noqa: PLR2004 - the first four bits learn
            found = 2 * found + self._coder.bit(bit, bool(given >> place & 1))
        return found


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
