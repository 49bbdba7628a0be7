"""The list of versions 2 and 3: the names of all tensors, then how each is stored; docs/format.md specifies it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from prunecell.archive.manifest import Plain, TensorRecord
from prunecell.archive.packing import Packed, packed
from prunecell.codecs.coders import CODERS
from prunecell.codecs.dtypes import ELEMENT_TYPES, ElementType, element_type_named
from prunecell.codecs.positions import POSITION_FORMS
from prunecell.codecs.records import (
    MAX_DIMS,
    MEANINGS,
    IntegerRecord,
    Record,
    StreamFacts,
    check_integer_record,
    check_record,
    plan,
    why_illegal_shape,
)
from prunecell.codecs.values import VALUE_FORMS
from prunecell.errors import FormatError, quoted
from prunecell.names import why_illegal

DTYPES = (
    *("float32", "float16", "bfloat16", "float64", "int8", "uint8", "bool", "int16", "int32", "int64", "uint16"),
    *("uint32", "uint64", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"),
    *("float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2"),
)
"""The place of an element type is its number in a file, and so is that of a form or a coder in its table."""

N_CODERS = {2: 3, 3: len(CODERS)}
"""Version of the format -> how many of the coders its files may name."""

_ALIAS, _PLAIN, _ZEROS, _INTEGERS, _STREAMS = 0, 1, 2, 3, 8  # what a tensor is; the last two are the first of several
_POSITIONS = ("all", *POSITION_FORMS)
_PICTURES, _STORED, _DTYPE = 32, 64, 128  # flags: what follows


@dataclass(frozen=True, kw_only=True)
class Alias:
    """Stands for a tensor that is the same as one before it (tied weights), which is stored once."""

    of: str


Entry = TensorRecord | Alias


def pack_entries(entries: Mapping[str, Entry]) -> bytes:
    """Write the list."""
    places = {name: i for i, name in enumerate(entries)}
    out, kind = [packed(len(entries)), *(name.encode() + b"\n" for name in entries)], DTYPES[0]
    for name, entry in entries.items():
        if isinstance(entry, Alias):
            out += [bytes([_ALIAS]), packed(places[name] - places[entry.of])]
            continue
        out.append(_packed_entry(entry, kind, places[name] - places[_above(entry) or name]))
        kind = entry.kind.name
    return b"".join(out)


def _above(entry: Entry) -> str | None:
    return entry.above if isinstance(entry, IntegerRecord) else None


def _packed_entry(entry: TensorRecord, kind: str, above: int) -> bytes:
    """Write how a tensor is stored. `kind` is the dtype before it, `above` how far before it the one above stands."""
    flags, types, shape = 0, b"", packed(len(entry.shape), *entry.shape)
    if entry.kind.name != kind:
        flags, types = _DTYPE, bytes([DTYPES.index(entry.kind.name)])
    if isinstance(entry, Plain):
        return bytes([_PLAIN | flags]) + types + shape
    if entry.count == 0:
        return bytes([_ZEROS | flags]) + types + shape
    if entry.stored is not _usually_stored(entry.kind, getattr(entry, "meaning", "")):
        flags, types = flags | _STORED, types + bytes([DTYPES.index(entry.stored.name)])
    if isinstance(entry, IntegerRecord):
        pictures = (entry.side, above) if entry.side or above else ()
        book = (entry.n_before, entry.n_book) if entry.meaning == "book" else ()
        rest = packed(entry.count, *pictures, *book, entry.n_bytes - entry.n_prefix_bytes)
        form = _INTEGERS + MEANINGS.index(entry.meaning)
        return bytes([form | flags | (_PICTURES if pictures else 0)]) + types + shape + rest
    count = () if entry.positions == "all" else (entry.count,)
    streams = (stream.n_bytes << 2 | [*CODERS].index(stream.coder) for stream in entry.streams)
    form = _STREAMS + 4 * _POSITIONS.index(entry.positions) + [*VALUE_FORMS].index(entry.values)
    return bytes([form | flags]) + types + shape + packed(*count, *streams)


def version_of(entries: Mapping[str, Entry]) -> int:
    """The first version of the format whose readers know all that is in a list."""
    coders = [*CODERS]
    most = max((coders.index(s.coder) for e in entries.values() if isinstance(e, Record) for s in e.streams), default=0)
    return next(version for version, n_coders in N_CODERS.items() if most < n_coders)


def unpack_entries(data: bytes, version: int) -> tuple[dict[str, Entry], bytes]:
    """Read the list of a file of a version in `N_CODERS`, and check each record.

    Returns:
        (the entries; the bytes after them)

    Raises:
        FormatError: something is missing, unknown, or contradicts the rest.
    """
    packed_list = Packed(data)
    names: list[str] = []
    for _ in range(packed_list.number()):
        names.append(packed_list.line())
        if reason := why_illegal(names[-1]):
            raise FormatError(f"tensor {quoted(names[-1])}: its name is illegal: {reason}")
    entries: dict[str, Entry] = {}
    kind = element_type_named(DTYPES[0])
    for name in names:
        if name in entries:
            raise FormatError(f"tensor {quoted(name)}: its name stands twice")
        try:
            entries[name] = entry = _read_entry(packed_list, names, entries, kind, N_CODERS[version])
        except FormatError as e:
            raise FormatError(f"tensor {quoted(name)}: {e}") from None
        kind = kind if isinstance(entry, Alias) else entry.kind
    return entries, packed_list.rest()


def _read_entry(
    data: Packed, names: Sequence[str], entries: Mapping[str, Entry], kind: ElementType, n_coders: int
) -> Entry:
    """Read the entry after those that are there. `kind` is the element type of the one before."""
    how = data.byte()
    if how == _ALIAS:
        return Alias(of=_name_before(data.number(), names, entries, legal=(Record, IntegerRecord, Plain)))
    form, may_be_picture = how & 31, _INTEGERS <= how & 31 < _INTEGERS + len(MEANINGS)
    is_stream = _STREAMS <= form < _STREAMS + 4 * len(_POSITIONS) and form % 4 < len(VALUE_FORMS)
    if not (form in (_PLAIN, _ZEROS) or may_be_picture or is_stream):
        raise FormatError(f"unknown form {how}")
    if (how & _STORED and form < _INTEGERS) or (how & _PICTURES and not may_be_picture):
        raise FormatError(f"form {how} has flags that it cannot have")
    kind = _dtype(data.byte()) if how & _DTYPE else kind
    stored = _dtype(data.byte()) if how & _STORED else None
    shape = _read_shape(data)
    if form == _PLAIN:
        return Plain(kind=kind, shape=shape)
    if form == _ZEROS:
        return Record(kind=kind, shape=shape, stored=kind, positions="none", values="none", count=0, streams=())
    if is_stream:
        positions, values = _POSITIONS[(form - _STREAMS) // 4], [*VALUE_FORMS][form % 4]
        return _read_streams(data, _unread(kind, shape, stored or kind, positions, values), n_coders)
    count = data.number()
    side, distance = (data.number(), data.number()) if how & _PICTURES else (0, 0)
    meaning = MEANINGS[form - _INTEGERS]
    n_before, n_book = (data.number(), data.number()) if meaning == "book" else (0, 0)
    record = IntegerRecord(
        kind=kind,
        shape=shape,
        meaning=meaning,
        stored=stored or _usually_stored(kind, meaning),
        side=side,
        above=_name_before(distance, names, entries, legal=(IntegerRecord,)) if distance else None,
        count=count,
        n_before=n_before,
        n_book=n_book,
        n_bytes=0,
    )
    record = replace(record, n_bytes=record.n_prefix_bytes + data.number())
    check_integer_record(record)
    above = entries[record.above] if record.above else None
    if isinstance(above, IntegerRecord) and record.grid.columns % above.grid.rows:
        raise FormatError(f"{record.grid.columns} columns cannot be fed by {above.grid.rows} rows")
    return record


def _unread(kind: ElementType, shape: tuple[int, ...], stored: ElementType, positions: str, values: str) -> Record:
    return Record(kind=kind, shape=shape, stored=stored, positions=positions, values=values, count=0, streams=())


def _read_streams(data: Packed, record: Record, n_coders: int) -> Record:
    """Read what stands behind the shape of a tensor in streams."""
    record = replace(record, count=record.n_words if record.positions == "all" else data.number())
    if record.is_scaled and not record.shape:
        raise FormatError("a tensor without dimensions has no rows to scale")
    numbers = [data.number() for _ in plan(record)]
    if any(number & 3 >= n_coders for number in numbers):
        raise FormatError("unknown coder 3")
    streams = tuple(StreamFacts(coder=[*CODERS][number & 3], n_bytes=number >> 2) for number in numbers)
    record = replace(record, streams=streams)
    check_record(record)
    return record


def _usually_stored(kind: ElementType, meaning: str) -> ElementType:
    """What is stored where a file does not say it."""
    return ELEMENT_TYPES["int8"] if meaning in ("step", "steps") else kind


def _dtype(number: int) -> ElementType:
    if number >= len(DTYPES):
        raise FormatError(f"unknown dtype {number}")
    return element_type_named(DTYPES[number])


def _read_shape(data: Packed) -> tuple[int, ...]:
    if (n_dims := data.number()) > MAX_DIMS:
        raise FormatError(f"a shape of {n_dims} dimensions: there may be at most {MAX_DIMS}")
    shape = tuple(data.number() for _ in range(n_dims))
    if reason := why_illegal_shape(shape):
        raise FormatError(reason)
    return shape


def _name_before(
    distance: int, names: Sequence[str], entries: Mapping[str, Entry], *, legal: tuple[type[Entry], ...]
) -> str:
    """The name of the entry so many places before the next one."""
    at = len(entries) - distance
    if distance == 0 or at < 0 or not isinstance(entries[names[at]], legal):
        raise FormatError(f"it refers to the tensor {distance} before it, which is not one that it may refer to")
    return names[at]
