"""Reads .pcell files of version 1 (docs/format.md) with numpy and the standard library alone.

As a module: `read("model.pcell")` gives a dict of numpy arrays. As a script: `read_pcell.py IN.pcell OUT.npz`.
bfloat16 and float8 tensors come as their bits (uint16, uint8). Only files written with pcodec need pcodec.
"""

import base64
import importlib
import json
import math
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
_TABLE = (  # torch's name, safetensors' name, numpy's
    "bool BOOL ?, int8 I8 i1, int16 I16 <i2, int32 I32 <i4, int64 I64 <i8, uint8 U8 u1, uint16 U16 <u2, "
    "uint32 U32 <u4, uint64 U64 <u8, float16 F16 <f2, bfloat16 BF16 <u2, float32 F32 <f4, float64 F64 <f8, "
    "complex64 C64 <c8, complex128 - <c16, float8_e4m3fn F8_E4M3 u1, float8_e5m2 F8_E5M2 u1, float8_e8m0fnu - u1, "
    "float8_e4m3fnuz F8_E4M3FNUZ u1, float8_e5m2fnuz F8_E5M2FNUZ u1, float4_e2m1fn_x2 - u1"
)
NUMPY = {name: row.split()[2] for row in _TABLE.split(",") for name in row.split()[:2]}
LITERALS = 240  # a gap byte below it ends with a kept word
STEPS = np.array([b + 1 if b < LITERALS else LITERALS << (b - LITERALS) for b in range(256)], np.int64)


def need(condition: object, fact: str) -> None:
    """Refuse the file unless the condition holds."""
    if not condition:
        raise ValueError(fact)


def numbers(coder: str, data: bytes, dtype: str, most: int) -> Array:
    """Decode one stream of at most `most` numbers."""
    if coder == "raw":
        found = np.frombuffer(data, dtype)
    elif coder == "deflate":
        need(dtype == "u1", "deflate codes bytes")
        inflate = zlib.decompressobj(-15)
        found = np.frombuffer(inflate.decompress(data, most + 1), dtype)
        need(inflate.eof and not inflate.unused_data, "a deflate stream is cut or too long")
    else:
        need(coder == "pco", "unknown coder")
        standalone = importlib.import_module("pcodec").standalone
        found = np.empty(most, dtype)
        for frame in np.split(found, range(1 << 18, most, 1 << 18)):
            stop = 4 + int.from_bytes(data[:4], "little")
            need(standalone.simple_decompress_into(data[4:stop], frame).n_processed == len(frame), "a short pco frame")
            data = data[stop:]
    need(len(found) <= most, "a stream is too long")
    return found


def positions(form: str, coder: str, data: bytes, count: int, n_words: int) -> Array:
    """Decode where the kept words are."""
    if form == "mask":
        found = np.flatnonzero(np.unpackbits(numbers(coder, data, "u1", (n_words + 7) // 8), bitorder="little"))
    elif form == "gaps32":
        found = np.cumsum(numbers(coder, data, "<u4", count).astype(np.int64) + 1) - 1
    else:
        need(form == "gaps8", "unknown positions")
        symbols = numbers(coder, data, "u1", n_words)
        found = np.cumsum(STEPS[symbols])[symbols < LITERALS] - 1
    need(len(found) == count and found[-1] < n_words, "the positions do not fit the tensor")
    return found


def words_of(entry: dict[str, Any], streams: list[tuple[str, bytes]], dtype: str, size: int) -> Array:
    """Decode the kept words, as unsigned integers of `size` bytes."""
    count, form, word = entry["count"], entry["values"], f"<u{size}"
    if form == "codebook":
        book = numbers(*streams.pop(0), word, 256)
        return book[numbers(*streams.pop(0), "u1", count)]
    if form == "numbers":
        return numbers(*streams.pop(0), NUMPY[dtype].replace("c8", "f4").replace("c16", "f8"), count).view(word)
    need(form == "planes", "unknown values")
    words = np.zeros(count, word)
    for j in range(size):
        words |= numbers(*streams.pop(0), "u1", count).astype(word) << 8 * j
    has_low_sign = size > 1 and dtype.startswith(("float", "bfloat", "complex"))
    return words >> 1 | words << (8 * size - 1) if has_low_sign else words


def widened(words: Array, stored: str, dtype: str, scales: Array | None) -> Array:
    """Turn words of a narrower type into numbers of the tensor's own, bfloat16 into its bits."""
    wide = (words.astype("<u4") << 16).view("<f4") if stored == "bfloat16" else words.view(NUMPY[stored])
    wide = wide if scales is None else wide.astype("<f4") * scales
    if dtype != "bfloat16":
        return wide.astype(NUMPY[dtype])
    bits = wide.view("<u4")
    return np.asarray((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)  # to the nearest, ties to even


def tensor(entry: dict[str, Any], blob: bytes) -> Array:
    """Decode one tensor."""
    dtype, shape, count, form = entry["dtype"], entry["shape"], entry["count"], entry["positions"]
    stored, per_element = entry.get("stored", dtype), 2 if dtype.startswith("complex") else 1
    n_words = math.prod(shape) * per_element
    size = np.dtype(NUMPY[stored]).itemsize // per_element
    out = np.zeros(n_words, f"<u{size}" if stored == dtype else NUMPY[dtype])
    if count:
        streams, at = [], 0
        for coder, n_bytes in entry["streams"]:
            streams.append((coder, blob[at : at + n_bytes]))
            at += n_bytes
        where = np.arange(n_words) if form == "all" else positions(form, *streams.pop(0), count, n_words)
        scaled = stored == "int8" != dtype
        scales = numbers(*streams.pop(0), "<f4", shape[0])[where // (n_words // shape[0])] if scaled else None
        words = words_of(entry, streams, stored, size)
        out[where] = words if stored == dtype else widened(words, stored, dtype, scales)
    return out.view(NUMPY[dtype]).reshape(shape)


def read(path: str | Path, limit_bytes: int = 1 << 36) -> dict[str, Array]:
    """Read a whole file whose tensors take at most `limit_bytes`; raise ValueError if anything is wrong with it."""
    try:
        return _read(Path(path).read_bytes(), limit_bytes)
    except (LookupError, TypeError, ValueError, ArithmeticError, zlib.error) as e:
        raise ValueError(f"{path}: {e}") from e


def _read(data: bytes, left: int) -> dict[str, Array]:
    stop = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:stop])
    meta = header.pop("__metadata__")
    need((meta["format"], meta["version"]) == ("pcell", "1"), "not a .pcell file of version 1")
    unsealed = data[8:stop].replace(b'"crc32":"%s"' % meta["crc32"].encode(), b'"crc32":"00000000"', 1)
    need(zlib.crc32(unsealed) == int(meta["crc32"], 16), "the header is damaged")
    out: dict[str, Array] = {}
    text = numbers("deflate", base64.b64decode(meta["header"]), "u1", max(len(data), 1 << 24)).tobytes()
    for name, entry in json.loads(text)["tensors"].items():
        if "alias" in entry:
            out[name] = out[entry["alias"]]
            continue
        info = {**header[name], **entry}
        blob = data[stop + info["data_offsets"][0] : stop + info["data_offsets"][1]]
        need(zlib.crc32(blob) == entry["crc32"], f"{name}: damaged")
        dtype, n_bytes = NUMPY[info["dtype"]], math.prod(info["shape"]) * np.dtype(NUMPY[info["dtype"]]).itemsize
        need(0 <= n_bytes <= left, f"{name}: more than limit_bytes")
        left -= n_bytes
        out[name] = tensor(entry, blob) if "streams" in entry else np.frombuffer(blob, dtype).reshape(info["shape"])
    return out


if __name__ == "__main__":
    np.savez(sys.argv[2], allow_pickle=False, **read(sys.argv[1]))
