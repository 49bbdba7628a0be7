"""The list in the header of a file of version 1: JSON, deflated, in base64."""

import base64
import math
import zlib
from typing import cast

from prunecell.archive.json_text import read_json
from prunecell.archive.manifest import MAX_LIST, Block, Manifest, Plain, Stored
from prunecell.archive.opened import OpenFile
from prunecell.archive.version1.container import Container, TensorInfo
from prunecell.archive.version1.records import read_record, read_shape
from prunecell.codecs.dtypes import ELEMENT_TYPES
from prunecell.codecs.records import Record
from prunecell.errors import FormatError, quoted
from prunecell.names import why_illegal

FORMAT = "pcell"
VERSION = "1"
CRC = "crc32"
_PLAIN = {e.container: e for e in ELEMENT_TYPES.values() if e.container is not None}


def unpack_list(packed: str, limit_bytes: int) -> dict[str, dict[str, object]]:
    """Read the list, if its JSON takes at most `limit_bytes`.

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


def read_version1(file: OpenFile) -> Manifest:
    """Read and check the header.

    Raises:
        FormatError: it is no archive, of an unknown version, or contradicts itself or the file.
    """
    container = Container(file)
    strings = container.metadata
    if strings.get("format") != FORMAT:
        raise FormatError(f"format {quoted(strings.get('format'))}: this is no archive of prunecell")
    if strings.get("version") != VERSION:
        raise FormatError(f"version {quoted(strings.get('version'))} is unknown; this prunecell reads 1, 2 and 3")
    container.check_seal()
    header = unpack_list(strings.get("header", ""), max(MAX_LIST, file.n_bytes))
    stored: dict[str, Stored] = {}
    target: dict[str, str] = {}
    for name, entry in header["tensors"].items():
        try:
            if reason := why_illegal(name):
                raise FormatError(f"its name is illegal: {reason}")  # noqa: TRY301 - the name is added below
            target[name] = _read_entry(name, entry, container, stored)
        except FormatError as e:
            raise FormatError(f"tensor {quoted(name)}: {e}") from None
    if extra := sorted(container.tensors.keys() - stored.keys()):
        raise FormatError(f"tensor {quoted(extra[0])}: it is not in the list of tensors")
    return Manifest(stored=stored, target=target, metadata=header["metadata"])


def _read_entry(name: str, entry: object, container: Container, stored: dict[str, Stored]) -> str:
    """Add one tensor to `stored` unless it is an alias; return the name under which it is stored."""
    if not isinstance(entry, dict):
        raise FormatError("its entry must be a JSON object")
    if "alias" in entry:
        alias = entry["alias"]
        if len(entry) > 1 or not isinstance(alias, str) or alias not in stored or name in container.tensors:
            raise FormatError(f"an alias of {quoted(alias)}, which is not stored before it")
        return alias
    checksum = entry.pop(CRC, None)
    if type(checksum) is not int or not 0 <= checksum < 1 << 32:
        raise FormatError(f"its {CRC} must be a whole number in [0, 2^32)")
    if name not in container.tensors:
        raise FormatError("its bytes are missing")
    info, (start, stop) = container.tensors[name], container.place(name)
    record = _encoded(info, entry) if entry else _plain(info)
    stored[name] = Stored(record=record, start=start, stop=stop, block=Block(start=start, stop=stop, checksum=checksum))
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
