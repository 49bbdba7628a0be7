"""A safetensors file, written in one stream and read piece by piece: names, dtypes, shapes and bytes, no codecs.

https://github.com/huggingface/safetensors: 8 bytes with the length of a JSON header, the header, the data.
The safetensors library opens these files. They are read by our own few lines, because these check every byte of the
header: a key that is there twice, holes, overlaps.
"""

import json
import os
import shutil
import struct
import tempfile
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from prunecell.disk.atomic import replacing
from prunecell.errors import FormatError, quoted
from prunecell.names import METADATA

MAX_HEADER = 100_000_000  # bytes, as the safetensors library
SEAL = "crc32"
UNSEALED = {SEAL: "00000000"}  # in the metadata, to be replaced by the checksum of the header
_AT_ONCE = 1 << 18  # bytes that are read at a time
_IN_MEMORY = 1 << 26  # bytes of the largest body that waits for its header in memory; a larger one waits on disk


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """What the header says about a tensor.

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
    """Takes the bytes of one tensor after the other, and remembers where they are."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._size = 0
        self.tensors: dict[str, TensorInfo] = {}

    def append(self, name: str, dtype: str, shape: tuple[int, ...], data: Iterable[bytes | memoryview]) -> int:
        """Write the bytes of a tensor, in several `bytes`; return their CRC-32."""
        start, checksum = self._size, 0
        for some in data:
            self._stream.write(some)
            self._size += len(some)
            checksum = zlib.crc32(some, checksum)
        self.tensors[name] = TensorInfo(dtype=dtype, shape=shape, start=start, stop=self._size)
        return checksum

    def repeat(self, name: str, of: str) -> None:
        """Write the bytes of a tensor again, under another name."""
        before = self.tensors[of]
        self.append(name, before.dtype, before.shape, self._written(before.start, before.stop))

    def _written(self, start: int, stop: int) -> Iterator[bytes]:
        """Read bytes back, some at a time; the stream is at its end whenever some are given."""
        for at in range(start, stop, _AT_ONCE):
            self._stream.seek(at)
            some = self._stream.read(min(_AT_ONCE, stop - at))
            self._stream.seek(0, os.SEEK_END)
            yield some


@contextmanager
def writing(path: Path, metadata: dict[str, str]) -> Iterator[Body]:
    """Write a container; the file appears under its name when it is complete, or not at all.

    `metadata` is read when the body is complete, so the caller may fill it until then. If it contains `UNSEALED`, the
    checksum of the header takes the place of those zeros. The body waits in memory, or on disk if it is large, because
    the header is written first and holds the sizes of the data.
    """
    with (
        replacing(path) as file,  # first, so that a place where nothing can be written is told at once
        tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=_disk_of(path)) as stream,
    ):
        body = Body(stream)
        yield body
        header = _header(body.tensors, metadata)
        stream.seek(0)
        file.write(struct.pack("<Q", len(header)))
        file.write(header)
        shutil.copyfileobj(stream, file, 1 << 20)


def _disk_of(path: Path) -> str | None:
    """The folder that a file will be in, which must have room for it; None for a pipe or a device."""
    return str(Path(os.path.realpath(path)).parent) if path.is_file() or not path.exists() else None


def _header(tensors: Mapping[str, TensorInfo], metadata: dict[str, str]) -> bytes:
    header: dict[str, object] = {METADATA: metadata}
    for name, info in tensors.items():
        offsets = [info.start, info.stop]
        header[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return text.replace(_seal(0), _seal(zlib.crc32(text)), 1)


def _seal(checksum: int) -> bytes:
    return f'"{SEAL}":"{checksum:08x}"'.encode()


class Container:
    """An open container, its header checked.

    It is read and not mapped into memory: whoever cuts a file that is mapped ends the process that has mapped it.

    Attributes:
        tensors: what is in it, in the order of the header.
        metadata: the strings of the header's `__metadata__`.
        n_bytes: the size of the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._turn = threading.Lock()
        try:
            self.n_bytes = os.fstat(self._file.fileno()).st_size
            if self.n_bytes < 8:  # noqa: PLR2004 - the length of the length
                raise FormatError(f"a file of {self.n_bytes} bytes")  # noqa: TRY301 - it is closed below
            self.metadata, self.tensors, self._header = self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> tuple[dict[str, str], dict[str, TensorInfo], bytes]:
        (size,) = struct.unpack("<Q", self.read(0, 8))
        if size > min(MAX_HEADER, self.n_bytes - 8):
            raise FormatError(f"a header of {size} bytes in a file of {self.n_bytes}; at most {MAX_HEADER}")
        text = self.read(8, 8 + size)
        header = read_json(text)
        metadata = header.pop(METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise FormatError("__metadata__ must hold strings only")
        tensors = {name: _read_info(name, value) for name, value in header.items()}
        _check_cover(tensors, self.n_bytes - 8 - size)
        return metadata, tensors, text

    def check_seal(self) -> None:
        """Check the header against the CRC-32 that its metadata hold, taken with zeros in its place.

        Raises:
            FormatError: the header was changed, or has no checksum.
        """
        seal = f'"{SEAL}":"{self.metadata.get(SEAL)}"'.encode()
        unsealed = self._header.replace(seal, _seal(0), 1)
        if seal not in self._header or _seal(zlib.crc32(unsealed)) != seal:
            raise FormatError("the header is damaged: its checksum is wrong")

    def read(self, start: int, stop: int) -> bytes:
        """Read the bytes [start, stop) of the file.

        Raises:
            FormatError: there are fewer, because the file was cut after it was opened.
        """
        found = []
        with self._turn:
            self._file.seek(start)
            while start < stop and (some := self._file.read(stop - start)):
                found.append(some)
                start += len(some)
        if start < stop:
            raise FormatError("the file was cut while it was read")
        return found[0] if len(found) == 1 else b"".join(found)

    def data(self, name: str) -> "FileSource":
        """Return the bytes of a tensor, to be read before the container is closed."""
        info, before = self.tensors[name], 8 + len(self._header)
        return FileSource(self, before + info.start, before + info.stop)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


@dataclass(frozen=True)
class FileSource:
    """The bytes [start, stop) of a container, read when they are asked for."""

    container: Container
    start: int
    stop: int

    def __len__(self) -> int:
        """Return how many there are."""
        return self.stop - self.start

    def __getitem__(self, where: slice) -> bytes:
        """Read some of them."""
        start, stop, _ = where.indices(len(self))
        return self.container.read(self.start + start, self.start + max(start, stop))

    def section(self, start: int, stop: int) -> "FileSource":
        """Return the bytes [start, stop) as a source of their own."""
        return FileSource(self.container, self.start + start, self.start + stop)

    def checksum(self) -> int:
        """Return the CRC-32 of the bytes."""
        checksum = 0
        for start in range(0, len(self), _AT_ONCE):
            checksum = zlib.crc32(self[start : start + _AT_ONCE], checksum)
        return checksum


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise FormatError(f"the key {quoted(key)} stands twice in a JSON object")
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
        if "\\u" in text:  # an escape may stand for half of a character
            json.dumps(value, ensure_ascii=False).encode()
    except FormatError:
        raise
    except (ValueError, RecursionError) as e:
        raise FormatError(f"a header is no JSON ({type(e).__name__}: {str(e)[:100]})") from None
    if not isinstance(value, dict):
        raise FormatError("a header must be a JSON object")
    return value


def _read_info(name: str, value: object) -> TensorInfo:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"tensor {quoted(name)}: an entry must have dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str):
        raise FormatError(f"tensor {quoted(name)}: dtype must be a string")
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
            raise FormatError(f"tensor {quoted(name)}: {what} must be whole numbers in [0, 2^62)")
    if len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004 - start, stop
        raise FormatError(f"tensor {quoted(name)}: data_offsets must be a start and a stop")
    return TensorInfo(dtype=dtype, shape=tuple(shape), start=offsets[0], stop=offsets[1])


def _check_cover(tensors: Mapping[str, TensorInfo], size: int) -> None:
    """Check that the tensors cover the data without a hole or an overlap."""
    at = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if info.start != at:
            what = "a hole" if info.start > at else "an overlap"
            raise FormatError(f"tensor {quoted(name)}: {what} in the data at byte {at}")
        at = info.stop
    if at > size:
        raise FormatError(f"it is truncated: its tensors take {at:,} bytes, and {size:,} follow the header")
    if at < size:
        raise FormatError(f"{size - at:,} bytes are left over: its tensors take {at:,}, and {size:,} follow the header")
