"""The list in an archive's header: which tensors there are and how each is stored, checked against the file."""

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from prunecell.archive.container import Container, TensorInfo, read_json
from prunecell.codecs.dtypes import ELEMENT_TYPES, ElementType
from prunecell.codecs.records import Record, read_record, read_shape
from prunecell.errors import FormatError, quoted
from prunecell.names import why_illegal

FORMAT = "pcell"
VERSION = "1"
CRC = "crc32"
LIMIT_BYTES = 1 << 36
"""What the tensors of a file may take in memory, unless the caller says otherwise: 64 GiB."""
_MAX_LIST = 1 << 24  # bytes of JSON that any file may have; a larger file may have as many as its own bytes
_PLAIN = {e.container: e for e in ELEMENT_TYPES.values() if e.container is not None}


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A tensor that the container holds as it is."""

    kind: ElementType
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How a tensor is stored, encoded or plain, and the CRC-32 of its bytes."""

    record: Record | Plain
    checksum: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that the header says.

    Attributes:
        stored: name -> how it is stored, for every tensor that has bytes in the file.
        target: name -> the name under which it is stored, in the order of the state_dict.
        metadata: what the caller of `save` gave.
    """

    stored: Mapping[str, Stored]
    target: Mapping[str, str]
    metadata: Mapping[str, object]

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors, dense."""
        records = [stored.record for stored in self.stored.values()]
        return sum(math.prod(record.shape) * record.kind.itemsize for record in records)


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """What a file says about one tensor, without decoding it.

    Attributes:
        name: its key in the state_dict.
        dtype: torch's name of its dtype.
        shape: its shape.
        n_weights: elements.
        n_nonzero: elements whose bits are not all zero; None where they were not counted.
        encoding: how it is stored: "plain", "gaps8 codebook", "alias of encoder.weight" and so on.
        bytes_dense: bytes in memory.
        bytes_stored: bytes in the file, without those in the header.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    n_weights: int
    n_nonzero: int | None
    encoding: str
    bytes_dense: int
    bytes_stored: int


def facts_of(manifest: Manifest, name: str) -> TensorFacts:
    """Say what the header says about the tensor `name`, which it lists."""
    target = manifest.target[name]
    record = manifest.stored[target].record
    n_weights = math.prod(record.shape)
    stored, n_nonzero, encoding = n_weights * record.kind.itemsize, None, "plain"
    if isinstance(record, Record):
        stored, encoding = record.n_bytes, f"{record.positions} {record.values}"
        if record.positions != "all" and record.kind.words == 1:
            n_nonzero = record.count
    return TensorFacts(
        name=name,
        dtype=record.kind.name,
        shape=record.shape,
        n_weights=n_weights,
        n_nonzero=n_nonzero,
        encoding=encoding if target == name else f"alias of {target}",
        bytes_dense=n_weights * record.kind.itemsize,
        bytes_stored=stored if target == name else 0,
    )


def pack_list(tensors: Mapping[str, object], metadata: Mapping[str, object]) -> str:
    """Write the list of tensors and the user's metadata as JSON, deflated and in base64: a third of the JSON itself."""
    text = json.dumps({"tensors": tensors, "metadata": metadata}, separators=(",", ":"), ensure_ascii=False)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return base64.b64encode(deflate.compress(text.encode()) + deflate.flush()).decode()


def unpack_list(packed: str, limit_bytes: int) -> dict[str, dict[str, object]]:
    """Read what `pack_list` wrote, if its JSON takes at most `limit_bytes`.

    Raises:
        FormatError: it is damaged, too large, or something else.
    """
    inflate = zlib.decompressobj(-15)
    try:
        text = inflate.decompress(base64.b64decode(packed, validate=True), limit_bytes + 1)
    except (ValueError, zlib.error) as e:
        raise FormatError(f"the list of tensors is damaged ({e})") from None
    if len(text) > limit_bytes or not inflate.eof or inflate.unused_data:
        raise FormatError(f"the list of tensors is cut, or takes more than {limit_bytes} bytes")
    header = read_json(text)
    if header.keys() != {"tensors", "metadata"} or not all(isinstance(value, dict) for value in header.values()):
        raise FormatError("the list must be a JSON object of two, tensors and metadata")
    return cast("dict[str, dict[str, object]]", header)


def read_manifest(container: Container) -> Manifest:
    """Read and check the header.

    Raises:
        FormatError: it is no archive, of an unknown version, or contradicts itself or the file.
    """
    strings = container.metadata
    if strings.get("format") != FORMAT:
        raise FormatError(f"format {quoted(strings.get('format'))}: this is no archive of prunecell")
    if strings.get("version") != VERSION:
        raise FormatError(f"version {quoted(strings.get('version'))} is unknown; this prunecell reads {VERSION}")
    container.check_seal()
    header = unpack_list(strings.get("header", ""), max(_MAX_LIST, container.n_bytes))
    stored: dict[str, Stored] = {}
    target: dict[str, str] = {}
    for name, entry in header["tensors"].items():
        try:
            if reason := why_illegal(name):
                raise FormatError(f"its name is illegal: {reason}")  # noqa: TRY301 - the name is added below
            target[name] = _read_entry(name, entry, container.tensors, stored)
        except FormatError as e:
            raise FormatError(f"tensor {quoted(name)}: {e}") from None
    if extra := sorted(container.tensors.keys() - stored.keys()):
        raise FormatError(f"tensor {quoted(extra[0])}: it is not in the list of tensors")
    return Manifest(stored=stored, target=target, metadata=header["metadata"])


def _read_entry(name: str, entry: object, infos: Mapping[str, TensorInfo], stored: dict[str, Stored]) -> str:
    """Add one tensor to `stored` unless it is an alias; return the name under which it is stored."""
    if not isinstance(entry, dict):
        raise FormatError("its entry must be a JSON object")
    if "alias" in entry:
        alias = entry["alias"]
        if len(entry) > 1 or not isinstance(alias, str) or alias not in stored or name in infos:
            raise FormatError(f"an alias of {quoted(alias)}, which is not stored before it")
        return alias
    checksum = entry.pop(CRC, None)
    if type(checksum) is not int or not 0 <= checksum < 1 << 32:
        raise FormatError(f"its {CRC} must be a whole number in [0, 2^32)")
    if name not in infos:
        raise FormatError("its bytes are missing")
    record = _encoded(infos[name], entry) if entry else _plain(infos[name])
    stored[name] = Stored(record=record, checksum=checksum)
    return name


def _encoded(info: TensorInfo, entry: dict[str, object]) -> Record:
    record = read_record(entry)
    n_bytes = info.stop - info.start
    if info.dtype != "U8" or info.shape != (n_bytes,) or record.n_bytes != n_bytes:
        raise FormatError(f"{record.n_bytes} bytes of streams in {n_bytes} bytes of {info.dtype}")
    return record


def _plain(info: TensorInfo) -> Plain:
    if info.dtype not in _PLAIN:
        raise FormatError(f"unknown dtype {quoted(info.dtype)}")
    kind, shape = _PLAIN[info.dtype], read_shape(list(info.shape))
    if math.prod(shape) * kind.itemsize != info.stop - info.start:
        raise FormatError(f"shape {list(shape)} of {info.dtype} in {info.stop - info.start} bytes")
    return Plain(kind=kind, shape=shape)
