"""The list in an archive's header: which tensors there are and how each is stored, checked against the file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from prunecell.archive.container import Container, Entry, read_json
from prunecell.codecs.dtypes import ELEMENT_TYPES, ElementType
from prunecell.codecs.records import Record, read_record, read_shape
from prunecell.errors import FormatError

FORMAT = "pcell"
VERSION = "1"
_PLAIN = {e.container: e for e in ELEMENT_TYPES.values() if e.container is not None}


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A tensor that the container holds as it is."""

    kind: ElementType
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that the header says.

    Attributes:
        stored: name -> how it is stored, for every tensor that has bytes in the file.
        target: name -> the name under which it is stored, in the order of the state_dict.
        metadata: what the caller of `save` gave.
    """

    stored: Mapping[str, Record | Plain]
    target: Mapping[str, str]
    metadata: Mapping[str, object]

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors, dense."""
        return sum(math.prod(item.shape) * item.kind.itemsize for item in self.stored.values())


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """What a file says about one tensor, known without decoding it.

    Attributes:
        name: its key in the state_dict.
        dtype: torch's name of its dtype.
        shape: its shape.
        n_weights: elements.
        n_nonzero: elements whose bits are not all zero; None where nobody counted them.
        encoding: how it is stored: "plain", "gaps8 codebook", "alias of encoder.weight" and so on.
        bytes_dense: bytes in memory.
        bytes_stored: bytes in the file, its lines in the header not counted.
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
    item = manifest.stored[target]
    n_weights = math.prod(item.shape)
    stored, n_nonzero, encoding = n_weights * item.kind.itemsize, None, "plain"
    if isinstance(item, Record):
        stored, encoding = item.n_bytes, f"{item.positions} {item.values}"
        if item.positions != "all" and item.kind.words == 1:
            n_nonzero = item.count
    return TensorFacts(
        name=name,
        dtype=item.kind.name,
        shape=item.shape,
        n_weights=n_weights,
        n_nonzero=n_nonzero,
        encoding=encoding if target == name else f"alias of {target}",
        bytes_dense=n_weights * item.kind.itemsize,
        bytes_stored=stored if target == name else 0,
    )


def read_manifest(container: Container) -> Manifest:
    """Read and check the header.

    Raises:
        FormatError: it is no archive, of an unknown version, or contradicts itself or the file.
    """
    strings = container.metadata
    if strings.get("format") != FORMAT:
        raise FormatError(f"format {strings.get('format')!r}: this is no archive of prunecell")
    if strings.get("version") != VERSION:
        raise FormatError(f"version {strings.get('version')!r} is unknown; this prunecell reads {VERSION}")
    if "tensors" not in strings:
        raise FormatError("the list of tensors is missing")
    stored: dict[str, Record | Plain] = {}
    target: dict[str, str] = {}
    for name, record in read_json(strings["tensors"]).items():
        try:
            target[name] = _place(name, record, container.entries, stored)
        except FormatError as e:
            raise FormatError(f"tensor {name!r}: {e}") from None
    if extra := sorted(container.entries.keys() - stored.keys()):
        raise FormatError(f"tensor {extra[0]!r}: it is not in the list of tensors")
    return Manifest(stored=stored, target=target, metadata=read_json(strings.get("metadata", "{}")))


def _place(name: str, record: object, entries: Mapping[str, Entry], stored: dict[str, Record | Plain]) -> str:
    """Add one tensor to `stored` unless it is an alias; return the name under which it is stored."""
    if not isinstance(record, dict):
        raise FormatError("its record must be a JSON object")
    if record.keys() == {"alias"}:
        alias = record["alias"]
        if not isinstance(alias, str) or alias not in stored or name in entries:
            raise FormatError(f"an alias of {str(alias)[:80]!r}, which is not stored before it")
        return alias
    if name not in entries:
        raise FormatError("its bytes are missing")
    stored[name] = _encoded(entries[name], record) if record else _plain(entries[name])
    return name


def _encoded(entry: Entry, record: dict[str, object]) -> Record:
    checked = read_record(record)
    n_bytes = entry.stop - entry.start
    if entry.dtype != "U8" or entry.shape != (n_bytes,) or checked.n_bytes != n_bytes:
        raise FormatError(f"{checked.n_bytes} bytes of streams in an entry {entry.dtype} of {n_bytes} bytes")
    return checked


def _plain(entry: Entry) -> Plain:
    if entry.dtype not in _PLAIN:
        raise FormatError(f"unknown dtype {entry.dtype!r}")
    kind = _PLAIN[entry.dtype]
    shape = read_shape(list(entry.shape))
    if math.prod(shape) * kind.itemsize != entry.stop - entry.start:
        raise FormatError(f"shape {list(shape)} of {entry.dtype} in {entry.stop - entry.start} bytes")
    return Plain(kind=kind, shape=shape)
