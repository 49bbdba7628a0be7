"""Reads .pcell files of versions 2 and 3 (docs/format.md) with numpy; bfloat16 and float8 come as their bits."""

import math
import sys
import zlib
from io import BytesIO
from typing import Any

import numpy as np

KINDS = "<f4 <f2 <u2 <f8 i1 u1 ? <i2 <i4 <i8 <u2 <u4 <u8 <c8 <c16 u1 u1 u1 u1 u1 u1".split()  # noqa: SIM905 - by number
FLOATS, BF16, INT8, INT32 = (0, 1, 2, 3, 13, 14), 2, 4, 8
MARKS, STEPS = (b"\xf0pc\x02", b"\xf0pc\x03"), np.array([b + 1 if b < 240 else 240 << (b - 240) for b in range(256)])
ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"  # the same, from the package index
WORDS = (
    "layers.0.self_attn.in_proj_weight out_proj.linear1.norm1.features.0.classifier.layer1.0.downsample.1.bn1.weight "
    "bn1.bias bn1.running_mean bn1.running_var bn1.num_batches_tracked 0.weight 0.bias 2.weight 2.bias 4.weight 4.bias "
    "conv1.weight conv1.bias conv2.weight conv2.bias fc1.weight fc1.bias fc2.weight fc2.bias fc3.weight fc3.bias "
).replace(" ", "\n")


def varint(data: BytesIO) -> int:
    """Read a number of seven bits in each byte, the lowest first."""
    return byte if (byte := data.read(1)[0]) < 128 else byte - 128 + 128 * varint(data)


class Tensor:
    """What the list says about a tensor; its `streams` are pairs of a coder and a number of bytes."""

    def __init__(self, how: int, kind: int, data: BytesIO, before: list["Tensor"]) -> None:
        self.form, self.kind, self.rows = how & 31, data.read(1)[0] if how & 128 else kind, list[bool]()
        self.stored = data.read(1)[0] if how & 64 else INT8 if self.form in (4, 5) else self.kind
        self.shape = [varint(data) for _ in range(min(varint(data), 65))]
        self.dtype, self.number = np.dtype(KINDS[self.kind]), np.empty(0, KINDS[self.stored]).real.dtype
        self.n_words, size = math.prod(self.shape) * (1 + (self.dtype.kind == "c")), self.number.itemsize
        self.is_scaled, is_whole = self.stored != self.kind and self.stored in (INT8, INT32), 2 < self.form < 7
        self.count = varint(data) if is_whole or self.form > 11 else self.n_words if self.form != 2 else 0
        self.side, above = (varint(data), varint(data)) if how & 32 else (0, 0)
        self.above = before[-above].rows if above else [False]
        self.zero, n_book = (varint(data), varint(data)) if self.form == 6 else (0, 0)
        self.values = self.form % 4 if self.form > 7 else 2 if self.form == 6 else 1
        n_before = 4 * (1 if self.form == 4 else self.shape[0]) if is_whole and self.is_scaled else size * n_book
        n_streams = (self.form > 11) + self.is_scaled + [size, 1, 2][self.values] if self.form > 7 else 0
        plain = [(0, n_before), (4, varint(data))] if is_whole else [(0, size * self.count)] * (self.form < 3)
        self.streams = plain + [(n & 3, n >> 2) for n in (varint(data) for _ in range(n_streams))]

    @np.errstate(all="ignore")
    def read(self, data: BytesIO) -> Any:  # noqa: ANN401 - an array
        """Read the tensor, whose bytes are next."""
        found, at, word = list[Any](), np.arange(min(self.count, self.n_words)), f"<u{self.number.itemsize}"
        for coder, n_bytes in self.streams:
            if coder == 4:
                at, numbers = self.integers(data.read(n_bytes))
                found.append(numbers + self.zero - (numbers > 0) if self.values == 2 else numbers.astype(word))
            elif coder == 2:
                found.append(np.zeros(self.count, "<u4" if self.form > 11 and not found else self.number))
                for frame in np.split(found[-1], range(1 << 18, self.count, 1 << 18)):
                    part = data.read(int.from_bytes(data.read(4), "little"))
                    __import__("pcodec").standalone.simple_decompress_into(part, frame)
            else:
                part, most = data.read(n_bytes), self.n_words * self.number.itemsize + 1
                unzip = __import__(ZSTD, fromlist=["zstd"]).ZstdDecompressor() if coder > 1 else zlib.decompressobj(-15)
                found.append(np.frombuffer(unzip.decompress(part, most) if coder else part, "u1"))
        if self.form > 11:
            gaps = found.pop(0).view("<u4" if 15 < self.form < 20 else "u1")
            sums = np.cumsum(STEPS[gaps])[gaps < 240] if self.form < 16 else np.cumsum(gaps + np.int64(1))
            at = sums - 1 if self.form < 20 else np.flatnonzero(np.unpackbits(gaps, bitorder="little"))
        scales = found.pop(0).view("<f4") if self.is_scaled else np.ones(1)
        words = found[-1] if self.values else np.stack(found, 1).view(word)[:, 0]
        words = found[0].view(word)[words] if self.values == 2 else words.view(word)
        words = words >> 1 | words << (8 * words.itemsize - 1) if not self.values and self.stored in FLOATS else words
        if self.stored != self.kind:
            words = (words.astype("<u4") << 16).view("<f4") if self.stored == BF16 else words.view(self.number)
        if self.is_scaled:
            words = words.astype("<f4") * scales.repeat(self.n_words // len(scales))[at]
        if self.is_scaled and self.kind == BF16:
            words = (words.view("<u4") + 0x7FFF + (words.view("<u4") >> 16 & 1)) >> 16
        out = np.zeros(self.n_words, word if self.stored == self.kind else self.dtype)
        out[at] = words
        return out.view(self.dtype).reshape(self.shape)

    def integers(self, data: bytes) -> tuple[Any, Any]:
        """Read where numbers are not zero, and those; and into `rows` which rows are not zero."""
        low, high, full, rest = 0, 0xFFFFFFFF, 0xFFFFFFFF, BytesIO(data + bytes(4))
        code, contexts = int.from_bytes(rest.read(4), "big"), dict[Any, tuple[int, int]]()

        def bit(*context: object) -> bool:
            nonlocal low, high, code
            p, n = contexts.get(context, (1 << 15, 0))
            middle, rate = low + ((high - low) * p >> 16), 655360 // (10 * n + 16)
            low, high = (low, middle) if (is_one := code <= middle) else (middle + 1, high)
            p += (65536 - p) * rate >> 16 if is_one else -(p * rate >> 16)
            contexts[context] = min(max(p, 16), 65520), min(n + 1, 255)
            while low >> 24 == high >> 24:
                low, high, code = low << 8 & full, high << 8 & full | 255, code << 8 & full | rest.read(1)[0]
            return is_one

        n_rows, *shape = self.shape if len(self.shape) > 1 else [1, *self.shape]
        n, (height, width) = self.n_words // n_rows, [self.side] * 2 if self.side else [1, 1, *shape[1:]][-2:]
        places = [*np.ndindex((1, 1, n) if height * width == 1 else (n // (height * width), height, width))]
        columns, counts, out = dict[Any, bool](), [0] * n, np.zeros((n_rows, n), np.int64)
        for k in range(n_rows):
            self.rows.append((k == n_rows - 1 and not any(self.rows)) or bit("row", k == 0 or self.rows[-1]))
        for k, (p, y, x) in enumerate(places):
            context = self.above[k * len(self.above) // n], columns.get((p, y, x - 1), 2), columns.get((p, y - 1, x), 2)
            columns[p, y, x] = (k == n - 1 and not any(columns.values())) or bit("column", *context)
        live, living = [k for k in range(n) if columns[places[k]]], [k for k in range(n_rows) if self.rows[k]]
        prior = min(1 << 17, (self.count << 17) // (len(living) * len(live)))
        contexts |= {("zero", t, e): (min(3 * (1 + t) << 7 + e, 39000), 1) for t in range(4) for e in range(9)}
        for done, i in enumerate(living):
            row, total, unit = dict[Any, int](), done + 2 << 17, 0
            for j, k in enumerate(live):
                unit, (p, y, x) = unit if j % 16 else total // (len(row) + 2), places[k]
                near = [row.get((p, y + dy, x + dx), 0) for dy, dx in ((0, -1), (-1, 0), (-1, -1), (-1, 1))]
                t, density = min(3, 4 - near.count(0)) if height > 1 else 0, (counts[k] << 16) + prior
                total, level = total + density, sum(density >= unit << m >> 8 for m in range(1, 9))
                if (i == living[-1] and not counts[k]) or (k == live[-1] and not row) or bit("zero", t, level):
                    is_positive, is_large = bit("sign", *np.sign(near[:2])), max(map(abs, near[:2])) > 1
                    size, number = next(n for n in range(31) if n == 30 or not bit("size", is_large, n)), 1
                    for _ in range(size):
                        number = 2 * number + bit("lower", size, number if number < 16 else object())
                    row[p, y, x] = out[i, k] = number if is_positive else -number
                    counts[k] += 1
        return np.flatnonzero(out), out[out != 0]


def read(path: str, limit_bytes: int = 1 << 36) -> dict[str, Any]:
    """Read a file whose tensors take at most `limit_bytes`; raise ValueError if anything is wrong with it."""
    file, tensors, sizes, kind = BytesIO(data := np.fromfile(path, "u1").tobytes()), list[Tensor](), [0], 0
    try:
        mark, packed = file.read(4), file.read(varint(file))
        is_right = mark in MARKS and zlib.crc32(data[: file.tell()]) == int.from_bytes(file.read(4), "little")
        listed = BytesIO(zlib.decompressobj(-15, WORDS.encode()).decompress(packed, max(len(data), 1 << 24)))
        names = [listed.readline()[:-1].decode() for _ in range(min(varint(listed), len(listed.getvalue())))]
        for how in (listed.read(1)[0] for _ in names):
            tensors.append(Tensor(how, kind, listed, tensors) if how else tensors[-varint(listed)])
            kind = tensors[-1].kind if how else kind
        for n_bytes in (sum(n for _, n in tensor.streams) for tensor in dict.fromkeys(tensors)):
            sizes += [0] * (n_bytes > 0 and sizes[-1] + n_bytes > 1 << 16)
            sizes[-1] += n_bytes
        ends = np.cumsum([*filter(None, sizes)], dtype=int)
        blocks = np.split(np.frombuffer(data[file.tell() + 4 * len(ends) :], "u1"), ends)
        is_right &= [zlib.crc32(block.data) for block in blocks] == [*np.frombuffer(file.read(4 * len(ends)), "<u4"), 0]
        if not is_right or sum(math.prod(t.shape) * t.dtype.itemsize for t in {*tensors}) > limit_bytes:
            raise ValueError("it is damaged, of another version, or larger than limit_bytes")  # noqa: TRY301 - one message for all
        arrays = {tensor: tensor.read(file) for tensor in dict.fromkeys(tensors)}
        return {name: arrays[tensor] for name, tensor in zip(names, tensors, strict=True)}
    except BaseException as e:  # noqa: BLE001 - a panic of pcodec is no Exception
        raise (e if isinstance(e, KeyboardInterrupt) else ValueError(f"{path}: {type(e).__name__}: {e}")) from None
