"""Reads the integers under contexts of .pcell files (docs/format.md) with numpy and the standard library alone."""

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Bits:
    """A stream of bits, each under a context: [the probability of a 1, of 65536; how many bits were seen]."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.low, self.high = data, 4, 0, (1 << 32) - 1
        self.code = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def bit(self, context: list[int]) -> int:
        """Read a bit, and learn from it."""
        p, n = context
        middle, rate = self.low + ((self.high - self.low) * p >> 16), 655360 // (10 * n + 16)
        if one := self.code <= middle:
            self.high, p = middle, p + ((65536 - p) * rate >> 16)
        else:
            self.low, p = middle + 1, p - (p * rate >> 16)
        context[:] = min(max(p, 16), 65520), min(n + 1, 255)
        while not (self.low ^ self.high) >> 24:
            byte = self.data[self.at] if self.at < len(self.data) else 0
            self.code, self.at = (self.code << 8 & 0xFFFFFFFF) | byte, self.at + 1
            self.low, self.high = self.low << 8 & 0xFFFFFFFF, (self.high << 8 & 0xFFFFFFFF) | 255
        if self.at > len(self.data) + 4:
            raise ValueError("a stream of contexts is cut")
        return int(one)


def _new(n: int) -> list[list[int]]:
    return [[1 << 15, 0] for _ in range(n)]


def grid_of(shape: list[int], side: int) -> tuple[int, int, int, int]:
    """See a tensor as rows of pictures: rows, columns, height and width of a picture."""
    is_matrix, shape = len(shape) == 2, shape if len(shape) > 1 else [1, *shape]
    columns, (height, width) = math.prod(shape[1:]), [side or 1] * 2 if is_matrix else [1, 1, *shape[2:]][-2:]
    if not 0 < columns <= 1 << 22 or not 0 < shape[0] * columns <= 1 << 36 or columns % (height * width):
        raise ValueError("no shape for integers")
    if side and not is_matrix:
        raise ValueError("pictures of what is no matrix")
    return shape[0], columns, height, columns if height * width == 1 else width


def read_rows(bits: Bits, n: int) -> list[int]:
    """Read which rows are alive."""
    flags, contexts = [1], _new(2)
    for i in range(n):
        flags.append(1 if i == n - 1 and not any(flags[1:]) else bits.bit(contexts[flags[-1]]))
    return flags[1:]


def read_integers(data: bytes, grid: tuple[int, int, int, int], count: int, above: list[int]) -> Array:
    """Read all numbers, flat. `above` tells which rows are alive of the tensor above, if there is one."""
    (n_rows, n_columns, height, width), bits, contexts, columns = grid, Bits(data), _new(18), list[int]()
    rows, out = read_rows(bits, n_rows), np.zeros((n_rows, n_columns), np.int64)
    for k in range(n_columns):
        left, up = columns[k - 1] if k % width else 2, columns[k - width] if k // width % height else 2
        fed = above[k * len(above) // n_columns] if above else 0
        is_sure = k == n_columns - 1 and not any(columns)
        columns.append(1 if is_sure else bits.bit(contexts[9 * fed + 3 * left + up]))
    live, counts, done, n_live_rows = [k for k in range(n_columns) if columns[k]], [0] * n_columns, 0, sum(rows)
    prior = min(1 << 17, (count << 17) // (n_live_rows * len(live)))
    near = [[[min((1 + t) * 3 << 7 + level, 39000), 1] for level in range(9)] for t in range(4)]
    signs, prefixes, suffixes = _new(9), (_new(30), _new(30)), [_new(16) for _ in range(31)]
    for i in np.flatnonzero(rows):
        row, found, total, unit = [0] * n_columns, 0, done + 2 << 17, 0
        for j, k in enumerate(live):
            if j % 16 == 0:
                unit = total // (found + 2)
            x, y, t = k % width, k // width % height, 0
            left, up = row[k - 1] if x else 0, row[k - width] if y else 0
            if height > 1:
                corners = (y and x and row[k - width - 1]), (y and x < width - 1 and row[k - width + 1])
                t = min(3, sum(number != 0 for number in (left, up, *corners)))
            density = (counts[k] << 16) + prior
            total += density
            level = sum(density >= unit << n >> 8 for n in range(1, 9))
            is_sure = (done == n_live_rows - 1 and not counts[k]) or (not found and k == live[-1])
            if is_sure or bits.bit(near[t][level]):
                is_positive = bits.bit(signs[3 * ((left > 0) - (left < 0)) + (up > 0) - (up < 0) + 4])
                size, number, prefix = 0, 1, prefixes[abs(left) > 1 or abs(up) > 1]
                while size < len(prefix) and bits.bit(prefix[size]):
                    size += 1
                for _ in range(size):
                    number = 2 * number + bits.bit(suffixes[size][number] if number < 16 else [1 << 15, 0])
                row[k], counts[k], found = number if is_positive else -number, counts[k] + 1, found + 1
        out[i], done = row, done + 1
    if bits.at < len(data) or np.count_nonzero(out) != count:
        raise ValueError("bytes are left over, or other numbers are zero than was told")
    return out.reshape(-1)
