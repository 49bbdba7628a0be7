"""Reads .pcell files of version 1 (docs/format.md) with numpy and the standard library alone.

`read("model.pcell")` gives a dict of numpy arrays; as a script: `read_pcell.py IN.pcell OUT.npz`. bfloat16 and float8
tensors come as their bits (uint16, uint8). Only files written with pcodec need pcodec.
"""

import base64
import json
import math
import sys
import unicodedata
import zlib
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
_TABLE = (  # torch's name, safetensors' name, numpy's
    "bool BOOL ?,int8 I8 i1,int16 I16 <i2,int32 I32 <i4,int64 I64 <i8,uint8 U8 u1,uint16 U16 <u2,uint32 U32 <u4,"
    "uint64 U64 <u8,float16 F16 <f2,bfloat16 BF16 <u2,float32 F32 <f4,float64 F64 <f8,complex64 C64 <c8,"
    "complex128 - <c16,float8_e4m3fn F8_E4M3 u1,float8_e5m2 F8_E5M2 u1,float8_e4m3fnuz F8_E4M3FNUZ u1,"
    "float8_e5m2fnuz F8_E5M2FNUZ u1,float8_e8m0fnu - u1,float4_e2m1fn_x2 - u1"
)
TYPES = {row.split()[0]: np.dtype(row.split()[2]) for row in _TABLE.split(",")}
PLAIN = {row.split()[1]: np.dtype(row.split()[2]) for row in _TABLE.split(",") if "-" not in row}
NARROWER = {"float64": "float32 float16 bfloat16 int8", "float32": "float16 bfloat16 int8", "float16": "int8"}
STEPS = np.array([b + 1 if b < 240 else 240 << (b - 240) for b in range(256)], np.int64)  # noqa: PLR2004 - as specified


def need(condition: object, fact: str) -> Any:  # noqa: ANN401 - nothing
    """Refuse the file unless the condition holds."""
    if not condition:
        raise ValueError(fact)


def load_json(data: bytes) -> dict[str, Any]:
    """Read a JSON object; no key stands twice, no number is NaN, no character is half of one."""
    unique = lambda pairs: need(len(dict(pairs)) == len(pairs), "a key stands twice") or dict(pairs)  # noqa: E731
    value = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=int)  # int refuses "NaN"
    return need(b"\\u" not in data or json.dumps(value, ensure_ascii=False).encode(), "half a character") or {**value}


def whole(values: object, most: int) -> bool:
    """Whether it is a list of at most so many whole numbers in [0, 2^62)."""
    return isinstance(values, list) and len(values) <= most and all(type(n) is int and 0 <= n < 1 << 62 for n in values)


def stream(coder: str, data: bytes, kind: Any, least: int, most: int) -> Array:  # noqa: ANN401 - a dtype
    """Decode one stream of `least` to `most` numbers."""
    size, inflate = np.dtype(kind).itemsize, zlib.decompressobj(-15)
    if coder == "pco":
        found, standalone = np.empty(most, kind), __import__("pcodec").standalone
        for frame in np.split(found, range(1 << 18, most, 1 << 18)):
            stop = 4 + int.from_bytes(data[:4], "little")
            done = standalone.simple_decompress_into(data[4:stop], frame)
            need(stop <= len(data) and done.n_processed == len(frame) and done.finished, "a pco frame is cut")
            data = data[stop:]
        return need(not data and size > 1, "a pco stream is too long, or of bytes") or found
    data = inflate.decompress(data, most + 1) if coder == "deflate" else data
    need(coder == "raw" or (size == 1 and inflate.eof and not inflate.unused_data), "a deflate stream of other bytes")
    return need(least * size <= len(data) <= most * size, "a stream of another length") or np.frombuffer(data, kind)


def tensor(entry: dict[str, Any], shape: list[int], blob: bytes) -> Array:
    """Check an encoded tensor, and decode it."""
    dtype, where, form, count, pairs = (entry.pop(key) for key in ("dtype", "positions", "values", "count", "streams"))
    stored, parts = entry.pop("stored", dtype), 2 if dtype.startswith("complex") else 1
    scaled, n_words, size = stored == "int8" != dtype, math.prod(shape) * parts, TYPES[stored].itemsize // parts
    narrower = NARROWER.get(dtype.removeprefix("b"), "").split()
    need(not entry and (stored == dtype or stored in narrower) and (shape or not scaled), "it cannot be stored so")
    need(whole([count], 1) and count <= n_words and (not count) == (where == "none") == (form == "none"), "wrong count")
    bits, each = ("u1", (n_words + 7) // 8, (n_words + 7) // 8), ("<u4", count, count)
    first = {"none": [], "all": [], "gaps8": [("u1", 1, n_words)], "gaps32": [each], "mask": [bits]}[where]
    raw = [("<f4", n, n) for n in shape[:scaled]] + [(f"<u{size}", 1, 256)] * (form == "codebook")
    number = f"<f{size}" if parts > 1 else "u1" if stored == "bool" else TYPES[stored]
    kinds: Any = {"none": [], "planes": ["u1"] * size, "numbers": [number], "codebook": ["u1"]}[form]
    plan, found = [*first, *raw, *((kind, count, count) for kind in kinds)], list[Array]()
    need(whole([n for _, n in pairs], len(plan)) and sum(n for _, n in pairs) == len(blob), "wrong streams")
    for (coder, n_bytes), (kind, least, most) in zip(pairs, plan, strict=True):
        need(coder == "raw" or not 0 <= len(found) - len(first) < len(raw), "scales and codebooks must be raw")
        found, blob = [*found, stream(coder, blob[:n_bytes], kind, least, most)], blob[n_bytes:]
    need(not scaled or np.isfinite(found[len(first)]).all(), "a scale that is not finite")
    out = np.zeros(n_words, f"<u{size}" if stored == dtype else TYPES[dtype])
    if count:
        values, at, gaps = found[len(first) + scaled :], np.arange(n_words), found[0]
        if where == "mask":
            at = np.flatnonzero(np.unpackbits(gaps, bitorder="little"))
        elif where != "all":
            steps = STEPS[gaps] if where == "gaps8" else gaps.astype(np.int64) + 1
            at = np.cumsum(steps)[(gaps < 240) | (where == "gaps32")] - 1  # noqa: PLR2004 - as specified
        need(len(at) == count and at[-1] < n_words and (where != "gaps8" or gaps[-1] < 240), "wrong positions")  # noqa: PLR2004
        words = values[0][values[1]] if form == "codebook" else np.stack(values, 1).view(f"<u{size}")[:, 0]
        if form == "planes" and size > 1 and stored.startswith(("float", "bfloat", "complex")):
            words = words >> 1 | words << (8 * size - 1)
        if stored != dtype:
            words = (words.astype("<u4") << 16).view("<f4") if stored == "bfloat16" else words.view(TYPES[stored])
            need(not np.isnan(words).any(), "NaN in a narrower type")
            words = words.astype("<f4") * found[len(first)][at // (n_words // shape[0])] if scaled else words
            words = (words.view("<u4") + 0x7FFF + (words.view("<u4") >> 16 & 1)) >> 16 if dtype == "bfloat16" else words
        out[at] = words
    return out.view(TYPES[dtype]).reshape(shape)


def read(path: Any, limit_bytes: int = 1 << 36) -> dict[str, Array]:  # noqa: ANN401 - a path, as text or otherwise
    """Read a whole file whose tensors take at most `limit_bytes`; raise ValueError if anything is wrong with it."""
    data = np.fromfile(path, "u1").tobytes()
    try:
        return np.errstate(all="ignore")(_read)(data, limit_bytes)
    except BaseException as e:  # noqa: BLE001 - a panic of pcodec is no Exception
        raise (e if isinstance(e, KeyboardInterrupt) else ValueError(f"{path}: {type(e).__name__}: {e}")) from None


def _read(data: bytes, left: int) -> dict[str, Array]:
    stop, at, out, stored = 8 + int.from_bytes(data[:8], "little"), 0, dict[str, Array](), set[str]()
    text, header, limit = data[8:stop], load_json(data[8:stop]), max(len(data), 1 << 24)
    meta = header.pop("__metadata__")
    need({*map(type, meta.values())} == {str} and meta["format"] == "pcell" and meta["version"] == "1", "not version 1")
    seal = f'"crc32":"{meta["crc32"]}"'.encode()
    crc = zlib.crc32(text.replace(seal, b'"crc32":"00000000"', 1))
    need(seal in text and meta["crc32"] == f"{crc:08x}", "the header is damaged")
    for info in sorted(header.values(), key=lambda info: info["data_offsets"]):
        (start, end), sizes = info["data_offsets"], info["shape"]
        need(len(info) == 3 and type(info["dtype"]) is str and whole(sizes, len(data)), "an illegal entry")  # noqa: PLR2004
        need(whole([start, end], 2) and start == at <= (at := end), "a hole or an overlap")
    listed = load_json(stream("deflate", base64.b64decode(meta["header"], validate=True), "u1", 0, limit).tobytes())
    need({key: type(value) for key, value in listed.items()} == {"tensors": dict, "metadata": dict}, "an illegal list")
    need(stop <= 100_000_008 and stop + at == len(data), "bytes are missing or left over")  # noqa: PLR2004
    for name, entry in listed["tensors"].items():
        unseen = [c for c in name if c != " " and unicodedata.category(c) in "CcCfCsCoZlZpZs"]
        need(not unseen and name != "__metadata__" and type(entry) is dict, "a name that cannot be shown, or no entry")
        if "alias" in entry:
            need(len(entry) == 1 and name not in header and entry["alias"] in stored, f"{name}: a wrong alias")
            out[name] = out[entry["alias"]]
            continue
        info, crc = header[name], entry.pop("crc32")
        blob = data[stop + info["data_offsets"][0] : stop + info["data_offsets"][1]]
        need(type(crc) is int and zlib.crc32(blob) == crc, f"{name}: damaged")
        need(not entry or (info["dtype"], info["shape"]) == ("U8", [len(blob)]), f"{name}: no blob")
        dtype, shape = (TYPES[entry["dtype"]], entry.pop("shape")) if entry else (PLAIN[info["dtype"]], info["shape"])
        need(whole(shape, 64) and math.prod(n or 1 for n in shape) < 1 << 59, f"{name}: an illegal shape")
        need((left := left - math.prod(shape) * dtype.itemsize) >= 0, f"{name}: more than limit_bytes")
        out[name] = tensor(entry, shape, blob) if entry else np.frombuffer(blob, dtype).reshape(shape)
        need(dtype.kind != "b" or out[name].view("u1").max(initial=0) < 2, f"{name}: a bool of 2")  # noqa: PLR2004
        stored.add(name)
    return need(stored == header.keys(), "a tensor is not in the list") or out


if __name__ == "__main__":
    len(sys.argv) == 3 or sys.exit("usage: python read_pcell.py IN.pcell OUT.npz")  # noqa: PLR2004
    np.savez(sys.argv[2], allow_pickle=False, **read(sys.argv[1]))
