"""The file of versions 2 and 3, which docs/format.md specifies: a mark, the list, checksums of blocks, the data."""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from zlib_ng.zlib_ng import crc32

from prunecell.archive.json_text import read_json
from prunecell.archive.listing import N_CODERS, Alias, Entry, pack_entries, unpack_entries, version_of
from prunecell.archive.manifest import MAX_LIST, Block, Manifest, Stored, TensorRecord
from prunecell.archive.opened import OpenFile
from prunecell.archive.packing import Packed, packed
from prunecell.archive.spool import Body, spooled
from prunecell.disk.endings import ARCHIVE_MARK
from prunecell.errors import FormatError

BLOCK = 1 << 16  # bytes of a block of several tensors, at most; a larger tensor is a block of its own
_CRC_BYTES = 4
_LONGEST_START = 16  # bytes that the mark, the version and the length of the list take at most
WORDS = (  # what names are often made of, for deflate to refer to; the most frequent last
    b"layers.0.self_attn.in_proj_weight\nout_proj.linear1.norm1.features.0.classifier.layer1.0.downsample.1.bn1.weight\n"
    b"bn1.bias\nbn1.running_mean\nbn1.running_var\nbn1.num_batches_tracked\n0.weight\n0.bias\n2.weight\n2.bias\n4.weight\n"
    b"4.bias\nconv1.weight\nconv1.bias\nconv2.weight\nconv2.bias\nfc1.weight\nfc1.bias\nfc2.weight\nfc2.bias\nfc3.weight\n"
    b"fc3.bias\n"
)


class Draft:
    """A file that is being written.

    Attributes:
        entries: the list so far, in the order of the file.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.body: Body
        self._blocks: list[tuple[int, int]] = []  # their sizes, and their checksums

    def append(self, name: str, entry: Entry, data: Sequence[bytes | memoryview]) -> None:
        """Write a tensor: its entry in the list, and its bytes."""
        self.entries[name] = entry
        if not (n_bytes := sum(map(len, data))):
            return
        size, checksum = self._blocks.pop() if self._blocks else (0, 0)
        if size and size + n_bytes > BLOCK:
            self._blocks.append((size, checksum))
            size, checksum = 0, 0
        for some in data:
            self.body.append(some)
            checksum = crc32(some, checksum)
        self._blocks.append((size + n_bytes, checksum))

    def header(self, metadata: Mapping[str, object]) -> bytes:
        """Write all that stands before the data."""
        text = json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode() if metadata else b""
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, WORDS)
        listed = deflate.compress(pack_entries(self.entries) + text) + deflate.flush()
        start = ARCHIVE_MARK + bytes([version_of(self.entries)]) + packed(len(listed)) + listed
        return start + b"".join(_number(crc) for crc in (zlib.crc32(start), *(crc for _, crc in self._blocks)))


def _number(checksum: int) -> bytes:
    return checksum.to_bytes(_CRC_BYTES, "little")


@contextmanager
def writing(path: Path, metadata: Mapping[str, object]) -> Iterator[Draft]:
    """Write a file, which appears under its name when it is complete, or not at all."""
    draft = Draft()
    with spooled(path, lambda: draft.header(metadata)) as draft.body:
        yield draft


def read_file(file: OpenFile) -> Manifest:
    """Read and check all that stands before the data. The mark is known to be right.

    Raises:
        FormatError: it is damaged, of an unknown version, or contradicts itself or the file.
    """
    start = file.read(0, min(file.n_bytes, _LONGEST_START))
    at = len(ARCHIVE_MARK)
    version = start[at] if len(start) > at else None
    if version not in N_CODERS:
        raise FormatError(
            f"version {'none' if version is None else version} is unknown; this prunecell reads 1, 2 and 3"
        )
    numbers = Packed(start[at + 1 :])
    size = numbers.number()
    begin = len(start) - len(numbers.rest())
    stop = begin + size
    if stop + _CRC_BYTES > file.n_bytes:
        raise FormatError(f"it is truncated: a list of {size:,} bytes in a file of {file.n_bytes:,}")
    listed = file.read(0, stop + _CRC_BYTES)
    if _number(zlib.crc32(listed[:stop])) != listed[stop:]:
        raise FormatError("the header is damaged: its checksum is wrong")
    entries, text = unpack_entries(_inflated(listed[begin:stop], max(MAX_LIST, file.n_bytes)), version)
    stored = _placed(file, stop + _CRC_BYTES, {name: e for name, e in entries.items() if not isinstance(e, Alias)})
    return Manifest(
        stored=stored,
        target={name: entry.of if isinstance(entry, Alias) else name for name, entry in entries.items()},
        metadata=read_json(text) if text else {},
    )


def _inflated(data: bytes, limit_bytes: int) -> bytes:
    inflate = zlib.decompressobj(-15, WORDS)
    try:
        listed = inflate.decompress(data, limit_bytes + 1)
    except zlib.error as e:
        raise FormatError(f"the list of tensors is damaged ({e})") from None
    if len(listed) > limit_bytes or not inflate.eof or inflate.unused_data:
        raise FormatError(f"the list of tensors is cut, or takes more than {limit_bytes} bytes")
    return listed


def _placed(file: OpenFile, start: int, records: Mapping[str, TensorRecord]) -> dict[str, Stored]:
    """Say where each tensor is, and in which block, if the checksums of the blocks begin at `start`."""
    sizes: list[int] = []
    for record in records.values():
        if sizes and sizes[-1] + record.n_bytes <= BLOCK:
            sizes[-1] += record.n_bytes
        elif record.n_bytes:
            sizes.append(record.n_bytes)
    n_bytes, begin = sum(sizes), start + _CRC_BYTES * len(sizes)
    if begin + n_bytes != file.n_bytes:
        what = (
            "it is truncated"
            if begin + n_bytes > file.n_bytes
            else f"{file.n_bytes - begin - n_bytes:,} bytes are left over"
        )
        raise FormatError(f"{what}: its tensors take {n_bytes:,} bytes, and {file.n_bytes - begin:,} follow the header")
    checksums = file.read(start, begin)
    blocks, at = [], begin
    for i, size in enumerate(sizes):
        checksum = int.from_bytes(checksums[_CRC_BYTES * i : _CRC_BYTES * (i + 1)], "little")
        blocks.append(Block(start=at, stop=at + size, checksum=checksum))
        at += size
    stored, at, left = {}, begin, iter(blocks)
    block = None
    for name, record in records.items():
        if record.n_bytes and (block is None or at == block.stop):
            block = next(left)
        stored[name] = Stored(
            record=record, start=at, stop=at + record.n_bytes, block=block if record.n_bytes else None
        )
        at += record.n_bytes
    return stored
