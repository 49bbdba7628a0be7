"""A safetensors file, written in one stream and read in place: names, dtypes, shapes and bytes, no codecs.

https://github.com/huggingface/safetensors: 8 bytes with the length of a JSON header, the header, the data.
The safetensors library opens these files. They are read by our own few lines, because every byte of the
header is checked (twice the same key, holes, overlaps) and nothing is copied.
"""

import json
import mmap
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from prunecell.atomic import replacing
from prunecell.errors import FormatError

MAX_HEADER = 100_000_000  # bytes, as the safetensors library
METADATA = "__metadata__"
SEAL = "crc32"
UNSEALED = {SEAL: "00000000"}  # in the metadata: room for the checksum of the header
_AT_ONCE = 1 << 18  # bytes that a checksum is taken of
_IN_MEMORY = 1 << 26  # a body up to so many bytes waits for its header in memory, a larger one on disk


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tensor of the container is.

    Attributes:
        dtype: safetensors' name of the dtype.
        shape: the shape, as written in the file.
        start, stop: its bytes, counted from the end of the header.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Body:
    """Takes the bytes of one tensor after the other, and remembers where each is."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._size = 0
        self.places: dict[str, Place] = {}

    def append(self, name: str, dtype: str, shape: tuple[int, ...], pieces: Iterable[bytes | memoryview]) -> int:
        """Write the bytes of a tensor; return their CRC-32."""
        start, checksum = self._size, 0
        for piece in pieces:
            self._stream.write(piece)
            self._size += len(piece)
            checksum = zlib.crc32(piece, checksum)
        self.places[name] = Place(dtype=dtype, shape=shape, start=start, stop=self._size)
        return checksum

    def repeat(self, name: str, of: str) -> None:
        """Write the bytes of a tensor that was written before once more, under another name."""
        before = self.places[of]
        self.append(name, before.dtype, before.shape, self._written(before.start, before.stop))

    def _written(self, start: int, stop: int) -> Iterator[bytes]:
        """Read bytes that were written; between two of them the stream stands at its end."""
        for at in range(start, stop, _AT_ONCE):
            self._stream.seek(at)
            data = self._stream.read(min(_AT_ONCE, stop - at))
            self._stream.seek(0, os.SEEK_END)
            yield data


@contextmanager
def writing(path: Path, metadata: dict[str, str]) -> Iterator[Body]:
    """Write a container; the file appears under its name when it is complete, or not at all.

    `metadata` is read when the body is complete, so it may be filled in the meantime; where it is `UNSEALED`,
    the checksum of the header takes its place. The header stands before the data and holds its sizes; so the
    body waits in memory, or on disk if it is large.
    """
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(path.parent)) as stream:
        body = Body(stream)
        yield body
        header = _header(body.places, metadata)
        stream.seek(0)
        with replacing(path) as file:
            file.write(struct.pack("<Q", len(header)))
            file.write(header)
            shutil.copyfileobj(stream, file, 1 << 20)


def _header(places: Mapping[str, Place], metadata: dict[str, str]) -> bytes:
    header: dict[str, object] = {METADATA: metadata}
    for name, place in places.items():
        offsets = [place.start, place.stop]
        header[name] = {"dtype": place.dtype, "shape": list(place.shape), "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return text.replace(_seal(0), _seal(zlib.crc32(text)), 1)


def _seal(checksum: int) -> bytes:
    return f'"{SEAL}":"{checksum:08x}"'.encode()


class Container:
    """A container mapped into memory, its header checked.

    Attributes:
        places: what is in it, in the order of the header.
        metadata: the strings of the header's `__metadata__`.
        n_bytes: the size of the file.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.n_bytes = os.fstat(file.fileno()).st_size
            if self.n_bytes < 8:  # noqa: PLR2004 - the length of the length
                raise FormatError(f"a file of {self.n_bytes} bytes")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self.metadata, self.places, self._start = self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> tuple[dict[str, str], dict[str, Place], int]:
        (size,) = struct.unpack("<Q", self._map[:8])
        if size > min(MAX_HEADER, self.n_bytes - 8):
            raise FormatError(f"a header of {size} bytes in a file of {self.n_bytes}; at most {MAX_HEADER}")
        header = read_json(self._map[8 : 8 + size])
        metadata = header.pop(METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise FormatError("__metadata__ must hold strings only")
        places = {name: _place(name, value) for name, value in header.items()}
        _check_cover(places, self.n_bytes - 8 - size)
        return metadata, places, 8 + size

    def check_seal(self) -> None:
        """Check the header against the CRC-32 that its metadata hold, taken with zeros in its own place.

        Raises:
            FormatError: the header was changed, or has no checksum.
        """
        text = self._map[8 : self._start]
        seal = f'"{SEAL}":"{self.metadata.get(SEAL)}"'.encode()
        unsealed = text.replace(seal, _seal(0), 1)
        if seal not in text or _seal(zlib.crc32(unsealed)) != seal:
            raise FormatError("the header is damaged: its checksum is wrong")

    def data(self, name: str) -> memoryview:
        """Return the bytes of a tensor, in place. Let go of them before the container is closed."""
        place = self.places[name]
        return memoryview(self._map)[self._start + place.start : self._start + place.stop]

    def checksum(self, name: str) -> int:
        """Return the CRC-32 of the bytes of a tensor."""
        data, checksum = self.data(name), 0
        for start in range(0, len(data), _AT_ONCE):
            checksum = zlib.crc32(data[start : start + _AT_ONCE], checksum)
            self.give_back()
        return checksum

    def give_back(self) -> None:
        """Let the operating system have the memory of what was read; whoever looks again reads it again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Let go of the file; who still holds a view of it keeps its memory alive."""
        with suppress(BufferError):
            self._map.close()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise FormatError(f"the key {key!r} stands twice in a JSON object")
        found[key] = value
    return found


def _no_constant(name: str) -> object:
    raise FormatError(f"{name} is no JSON")


def read_json(text: bytes | str) -> dict[str, object]:
    """Read a JSON object of which no key stands twice.

    Raises:
        FormatError: it is not one.
    """
    try:
        text = text if isinstance(text, str) else text.decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except FormatError:
        raise
    except (ValueError, RecursionError) as e:
        raise FormatError(f"a header is no JSON ({type(e).__name__}: {str(e)[:100]})") from None
    if not isinstance(value, dict):
        raise FormatError("a header must be a JSON object")
    return value


def _place(name: str, value: object) -> Place:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"tensor {name!r}: an entry must have dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str):
        raise FormatError(f"tensor {name!r}: dtype must be a string")
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
            raise FormatError(f"tensor {name!r}: {what} must be whole numbers in [0, 2^62)")
    if len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004 - start, stop
        raise FormatError(f"tensor {name!r}: data_offsets must be a start and a stop")
    return Place(dtype=dtype, shape=tuple(shape), start=offsets[0], stop=offsets[1])


def _check_cover(places: Mapping[str, Place], size: int) -> None:
    """Check that the tensors cover the data without a hole or an overlap."""
    at = 0
    for name, place in sorted(places.items(), key=lambda item: (item[1].start, item[1].stop)):
        if place.start != at:
            what = "a hole" if place.start > at else "an overlap"
            raise FormatError(f"tensor {name!r}: {what} in the data at byte {at}")
        at = place.stop
    if at != size:
        raise FormatError(f"the tensors take {at} bytes, the file holds {size}")
