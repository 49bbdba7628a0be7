"""Reads .pcell files of version 2 (docs/format.md) with numpy and the standard library alone.

`read("model.pcell")` gives a dict of numpy arrays; as a script: `read_pcell.py IN.pcell OUT.npz`. bfloat16 and float8
tensors come as their bits (uint16, uint8). Only files written with pcodec need pcodec. read_integers.py belongs to it.
"""

import json
import math
import sys
import unicodedata
import zlib
from typing import Any

import numpy as np
from read_integers import Array, Bits, grid_of, read_integers, read_rows

KINDS = "<f4 <f2 <u2 <f8 i1 u1 ? <i2 <i4 <i8 <u2 <u4 <u8 <c8 <c16 u1 u1 u1 u1 u1 u1".split()  # noqa: SIM905 - by number
FLOATS, BF16, INT8, BOOL, INT32, COMPLEX = (0, 1, 2, 3, 13, 14), 2, 4, 6, 8, (13, 14)
NARROWER = {0: (1, 2, INT8, INT32), 1: (INT8, INT32), 2: (INT8, INT32), 3: (0, 1, 2, INT8, INT32)}
WORDS = (
    b"layers.0.self_attn.in_proj_weight\nout_proj.linear1.norm1.features.0.classifier.layer1.0.downsample.1.bn1.weight\n"
    b"bn1.bias\nbn1.running_mean\nbn1.running_var\nbn1.num_batches_tracked\n0.weight\n0.bias\n2.weight\n2.bias\n4.weight\n"
    b"4.bias\nconv1.weight\nconv1.bias\nconv2.weight\nconv2.bias\nfc1.weight\nfc1.bias\nfc2.weight\nfc2.bias\nfc3.weight\n"
    b"fc3.bias\n"
)
STEPS = np.array([b + 1 if b < 240 else 240 << (b - 240) for b in range(256)], np.int64)


def need(condition: object, fact: str) -> Any:  # noqa: ANN401 - nothing
    """Refuse the file unless the condition holds."""
    if not condition:
        raise ValueError(fact)


class Bytes:
    """Bytes that are read from their start on."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, n: int) -> bytes:
        """Read so many bytes."""
        self.at += n
        return need(self.at <= len(self.data), "it ends early") or self.data[self.at - n : self.at]

    def number(self) -> int:
        """Read a number of seven bits in each byte."""
        found = shift = 0
        while (byte := self.take(1)[0]) >= 128 and shift < 56:
            found, shift = found | (byte & 127) << shift, shift + 7
        return need(byte < 128 and found | byte << shift < 1 << 62, "2^62 or more") or found | byte << shift


def entry(data: Bytes, before: list[dict[str, Any]]) -> dict[str, Any]:
    """Read and check what the list says about a tensor; `plan` tells its streams: type, least, most, coder, bytes."""
    how, real = data.take(1)[0], [e for e in before if e["form"]]
    if how == 0:
        at = len(before) - data.number()
        return need(0 <= at < len(before) and before[at]["form"], "a wrong alias") or {"form": 0, "of": at}
    form, kind = how & 31, data.take(1)[0] if how & 128 else real[-1]["kind"] if real else 0
    need(0 < form < 7 or (7 < form < 24 and form % 4 < 3), "an unknown form")
    need((form > 2 or not how & 64) and (2 < form < 7 or not how & 32), "flags that it cannot have")
    stored = data.take(1)[0] if how & 64 else INT8 if form in (4, 5) else kind
    need(kind < len(KINDS) and stored < len(KINDS), "an unknown dtype")
    need((n := data.number()) <= 64, "too many dimensions")
    shape = [data.number() for _ in range(n)]
    need(math.prod(n or 1 for n in shape) < 1 << 59, "too many elements")
    parts, scaled, is_all = 1 + (kind in COMPLEX), kind in NARROWER and stored in (INT8, INT32), form in (1, 8, 9, 10)
    n_words, size = math.prod(shape) * parts, np.dtype(KINDS[stored]).itemsize // parts
    count = n_words if is_all else 0 if form == 2 else data.number()
    need(stored == kind or stored in NARROWER.get(kind, ()), "it cannot be stored so")
    need(count <= n_words and (count or form < 3) and (shape or form == 4 or not scaled), "a wrong count")
    e: dict[str, Any] = {
        "form": form,
        "kind": kind,
        "stored": stored,
        "shape": shape,
        "count": count,
        "scaled": scaled,
        "above": 0,
    }
    steps: list[Any] = [("<f4", n, n) for n in ([1] if form == 4 else shape[:1]) if scaled]
    if form == 1:
        e["plan"] = [(KINDS[kind], n := math.prod(shape), n, 0, n * np.dtype(KINDS[kind]).itemsize)]
    elif form < 7:
        e["side"], e["above"] = (data.number(), data.number()) if how & 32 else (0, 0)
        e["zero"], n = (data.number(), data.number()) if form == 6 else (0, 0)
        legal = {3: stored == kind in range(4, 13), 6: parts == 1 and not scaled and e["zero"] <= n and 0 < n <= 256}
        need(legal.get(form, scaled or form == 2), "integers that cannot mean this")
        books = [(f"<u{size}", n, n)] * (form == 6)
        e["plan"] = [(kind, n, m, 0, n * np.dtype(kind).itemsize) for kind, n, m in steps + books]
        if form > 2:
            e["grid"], above = grid_of(shape, e["side"]), before[-e["above"]] if 0 < e["above"] <= len(before) else {}
            need(not e["above"] or ("grid" in above and e["grid"][1] % above["grid"][0] == 0), "a wrong tensor above")
            e["plan"].append(("", 0, 0, 3, data.number()))
    else:
        bits = (n_words + 7) // 8
        where = [[], [("u1", 1, n_words)], [("<u4", count, count)], [("u1", bits, bits)]][form // 4 - 2]
        number = f"<f{size}" if parts > 1 else "u1" if stored == BOOL else KINDS[stored]
        kinds = [["u1"] * size, [number], ["u1"]][form % 4]
        raw = steps + [(f"<u{size}", 1, 256)] * (form % 4 == 2)
        plan = [*where, *raw, *((kind, count, count) for kind in kinds)]
        e["plan"] = [(*stream, n & 3, n >> 2) for stream in plan for n in [data.number()]]
        coders = [stream[3] for stream in e["plan"]]
        need(max(coders) < 3 and not any(coders[len(where) : len(where) + len(raw)]), "an unknown coder, or not raw")
        need(stored == INT8 or not scaled, "integers that are too large")
    return e


def stream(data: bytes, kind: str, least: int, most: int, coder: int) -> Array:
    """Decode one stream of `least` to `most` numbers."""
    size, inflate = np.dtype(kind).itemsize, zlib.decompressobj(-15)
    if coder == 2:
        found, standalone = np.empty(most, kind), __import__("pcodec").standalone
        for frame in np.split(found, range(1 << 18, most, 1 << 18)):
            stop = 4 + int.from_bytes(data[:4], "little")
            done = standalone.simple_decompress_into(data[4:stop], frame)
            need(stop <= len(data) and done.n_processed == len(frame) and done.finished, "a pco frame is cut")
            data = data[stop:]
        return need(not data and size > 1, "a pco stream is too long, or of bytes") or found
    data = inflate.decompress(data, most + 1) if coder else data
    need(not coder or (size == 1 and inflate.eof and not inflate.unused_data), "a deflate stream of other bytes")
    return need(least * size <= len(data) <= most * size, "a stream of another length") or np.frombuffer(data, kind)


def tensor(e: dict[str, Any], data: Bytes, above: list[int]) -> Array:
    """Decode a tensor; `data` begins with its bytes."""
    form, stored, kind, count, scaled = e["form"], e["stored"], np.dtype(KINDS[e["kind"]]), e["count"], e["scaled"]
    n_words, size = math.prod(e["shape"]) * (1 + (e["kind"] in COMPLEX)), np.dtype(KINDS[stored]).itemsize
    size //= 1 + (stored in COMPLEX)
    found: list[Any] = [
        data.take(n) if coder == 3 else stream(data.take(n), k, a, b, coder) for k, a, b, coder, n in e["plan"]
    ]
    if form == 1:
        return np.asarray(found[0].reshape(e["shape"]))
    out: Array = np.zeros(n_words, f"<u{size}" if stored == e["kind"] else kind)
    gaps: Any = found.pop(0) if form > 11 else None
    scales: Any = found.pop(0) if scaled else None
    need(scales is None or np.isfinite(scales).all(), "a scale that is not finite")
    if 2 < form < 7:
        numbers = read_integers(found[-1], e["grid"], count, above)
        at = np.flatnonzero(numbers)
        numbers = numbers[at] + (e["zero"] - (numbers[at] > 0) if form == 6 else 0)
        limits = np.iinfo("u1" if stored == BOOL or form == 6 else KINDS[stored])
        low, high = limits.min, len(found[0]) - 1 if form == 6 else 1 if stored == BOOL else limits.max
        need(low <= numbers.min() <= numbers.max() <= high, "a number out of range")
        words = found[0][numbers] if form == 6 else numbers.astype(f"<u{size}")
    elif count:
        at = np.arange(n_words)
        if form > 19:
            at = np.flatnonzero(np.unpackbits(gaps, bitorder="little"))
        elif form > 11:
            steps = STEPS[gaps] if form < 16 else gaps.astype(np.int64) + 1
            at = np.cumsum(steps)[(gaps < 240) | (form > 15)] - 1
        need(len(at) == count and at[-1] < n_words and (form // 4 != 3 or gaps[-1] < 240), "wrong positions")
        words = found[0][found[1]] if form % 4 == 2 else np.stack(found, 1).view(f"<u{size}")[:, 0]
        if form % 4 == 0 and size > 1 and stored in FLOATS:
            words = words >> 1 | words << (8 * size - 1)
    if count:
        if stored != e["kind"]:
            words = (words.astype("<u4") << 16).view("<f4") if stored == BF16 else words.view(KINDS[stored])
            need(not np.isnan(words).any(), "NaN in a narrower type")
            words = words.astype("<f4") * scales[at // (n_words // len(scales))] if scales is not None else words
            bits = words.view("<u4") if e["kind"] == BF16 else words
            words = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 if e["kind"] == BF16 else words
        out[at] = words
    return np.asarray(out.view(kind).reshape(e["shape"]))


def read(path: Any, limit_bytes: int = 1 << 36) -> dict[str, Array]:  # noqa: ANN401 - a path, as text or otherwise
    """Read a whole file whose tensors take at most `limit_bytes`; raise ValueError if anything is wrong with it."""
    data = np.fromfile(path, "u1").tobytes()
    try:
        return np.errstate(all="ignore")(_read)(data, limit_bytes)
    except BaseException as e:  # noqa: BLE001 - a panic of pcodec is no Exception
        raise (e if isinstance(e, KeyboardInterrupt) else ValueError(f"{path}: {type(e).__name__}: {e}")) from None


def check_json(data: bytes) -> None:
    """Check that it is a JSON object; no key stands twice, no number is NaN, no character is half of one."""
    unique = lambda pairs: need(len(dict(pairs)) == len(pairs), "a key stands twice") or dict(pairs)  # noqa: E731
    value = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=int)  # int refuses "NaN"
    need(b"\\u" not in data or json.dumps(value, ensure_ascii=False).encode(), "half a character")
    need(isinstance(value, dict), "metadata that are no object")


def _read(data: bytes, left: int) -> dict[str, Array]:
    file, limit, inflate = Bytes(data, 4), max(len(data), 1 << 24), zlib.decompressobj(-15, WORDS)
    need(data[:4] == b"\xf0pc\x02", "not version 2")
    text = inflate.decompress(file.take(file.number()), limit + 1)
    need(zlib.crc32(data[: file.at]) == int.from_bytes(file.take(4), "little"), "the header is damaged")
    need(len(text) <= limit and inflate.eof and not inflate.unused_data, "a list that is cut or too long")
    listed, names, entries, blocks, out = (
        Bytes(text),
        list[str](),
        list[dict[str, Any]](),
        list[int](),
        dict[str, Array](),
    )
    for _ in range(listed.number()):
        names.append(listed.take(text.index(b"\n", listed.at) - listed.at).decode())
        unseen = [c for c in names[-1] if c != " " and unicodedata.category(c) in "CcCfCsCoZlZpZs"]
        need(listed.take(1) and not unseen and names[-1] != "__metadata__", "a name that cannot be shown")
    need(len({*names}) == len(names), "a name stands twice")
    for _ in names:
        entries.append(e := entry(listed, entries))
        e["size"] = size = sum(stream[4] for stream in e.get("plan", ()))
        if size and blocks and blocks[-1] + size <= 1 << 16:
            blocks[-1] += size
        elif size:
            blocks.append(size)
    if listed.at < len(text):
        check_json(text[listed.at :])
    start = file.at + 4 * len(blocks)
    need(start + sum(blocks) == len(data), "bytes are missing or left over")
    for size in blocks:
        need(zlib.crc32(data[start : start + size]) == int.from_bytes(file.take(4), "little"), "a block is damaged")
        start += size
    for i, (name, e) in enumerate(zip(names, entries, strict=True)):
        if not e["form"]:
            out[name] = out[names[e["of"]]]
            continue
        left -= math.prod(e["shape"]) * np.dtype(KINDS[e["kind"]]).itemsize
        need(left >= 0, f"{name}: more than limit_bytes")
        above, e["at"] = entries[i - e["above"]], file.at
        prefix = sum(stream[4] for stream in above["plan"][:-1]) if e["above"] else 0
        flags = Bits(data[above["at"] + prefix : above["at"] + above["size"]]) if e["above"] else None
        out[name] = tensor(e, file, read_rows(flags, above["grid"][0]) if flags else [])
        need(e["kind"] != BOOL or out[name].view("u1").max(initial=0) < 2, f"{name}: a bool of 2")
    return out


if __name__ == "__main__":
    len(sys.argv) == 3 or sys.exit("usage: python read_pcell.py IN.pcell OUT.npz")
    np.savez(sys.argv[2], allow_pickle=False, **read(sys.argv[1]))
