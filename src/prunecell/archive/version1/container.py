"""The container of version 1: a safetensors file, of which every byte of the header is checked.

https://github.com/huggingface/safetensors: 8 bytes with the length of a JSON header, the header, the data.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from prunecell.archive.json_text import read_json
from prunecell.archive.opened import OpenFile
from prunecell.errors import FormatError, quoted
from prunecell.names import METADATA

MAX_HEADER = 100_000_000  # bytes, as the safetensors library
SEAL = "crc32"


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


def _seal(checksum: int) -> bytes:
    return f'"{SEAL}":"{checksum:08x}"'.encode()


class Container:
    """The header of a file, checked.

    Attributes:
        file: the open file.
        tensors: what is in it, in the order of the header.
        metadata: the strings of the header's `__metadata__`.
    """

    def __init__(self, file: OpenFile) -> None:
        self.file = file
        if file.n_bytes < 8:  # noqa: PLR2004 - the length of the length
            raise FormatError(f"a file of {file.n_bytes} bytes")
        self.metadata, self.tensors, self._header = self._read_header()

    def _read_header(self) -> tuple[dict[str, str], dict[str, TensorInfo], bytes]:
        (size,) = struct.unpack("<Q", self.file.read(0, 8))
        if size > min(MAX_HEADER, self.file.n_bytes - 8):
            raise FormatError(f"a header of {size} bytes in a file of {self.file.n_bytes}; at most {MAX_HEADER}")
        text = self.file.read(8, 8 + size)
        header = read_json(text)
        metadata = header.pop(METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise FormatError("__metadata__ must hold strings only")
        tensors = {name: _read_info(name, value) for name, value in header.items()}
        _check_cover(tensors, self.file.n_bytes - 8 - size)
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

    def place(self, name: str) -> tuple[int, int]:
        """Return where the bytes of a tensor begin and end in the file."""
        info, before = self.tensors[name], 8 + len(self._header)
        return before + info.start, before + info.stop


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
