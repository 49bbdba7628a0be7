"""The records of version 1: JSON objects, checked."""

from collections.abc import Collection, Mapping

from prunecell.codecs.dtypes import element_type_named
from prunecell.codecs.positions import POSITION_FORMS
from prunecell.codecs.records import MAX_DIMS, Record, StreamFacts, check_record, why_illegal_shape
from prunecell.codecs.values import VALUE_FORMS
from prunecell.errors import FormatError, quoted

_MAX_COUNT = 1 << 62
_CODERS = ("raw", "deflate", "pco")
_KEYS = ("dtype", "shape", "stored", "positions", "values", "count", "streams")


def read_record(entry: Mapping[str, object]) -> Record:
    """Check a record as a file has it.

    Raises:
        FormatError: something is missing, unknown, of the wrong type, or contradicts the rest.
    """
    if unknown := sorted(entry.keys() - set(_KEYS)):
        raise FormatError(f"unknown key {quoted(unknown[0])}")
    if missing := sorted({*_KEYS} - {"stored"} - entry.keys()):
        raise FormatError(f"the key {missing[0]!r} is missing")
    kind = element_type_named(entry["dtype"])
    record = Record(
        kind=kind,
        shape=read_shape(entry["shape"]),
        stored=element_type_named(entry.get("stored", kind.name)),
        positions=_name(entry["positions"], ("none", "all", *POSITION_FORMS)),
        values=_name(entry["values"], ("none", *VALUE_FORMS)),
        count=_count(entry["count"], "count"),
        streams=tuple(_stream(item) for item in _list(entry["streams"], "streams", len(_KEYS) + 8)),
    )
    check_record(record)
    return record


def read_shape(value: object) -> tuple[int, ...]:
    """Check a shape: at most 64 sizes, whose product without zeros is below 2^59.

    Raises:
        FormatError: it is not one.
    """
    shape = tuple(_count(size, "a size") for size in _list(value, "shape", MAX_DIMS))
    if reason := why_illegal_shape(shape):
        raise FormatError(reason)
    return shape


def _list(value: object, what: str, most: int) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise FormatError(f"{what} must be a list of at most {most}")
    return value


def _count(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < _MAX_COUNT:
        raise FormatError(f"{what} is {quoted(value)}: it must be a whole number in [0, 2^62)")
    return value


def _name(value: object, legal: Collection[str]) -> str:
    if not isinstance(value, str) or value not in legal:
        raise FormatError(f"unknown word {quoted(value)}; legal here: {', '.join(legal)}")
    return value


def _stream(item: object) -> StreamFacts:
    pair = _list(item, "a stream", 2)
    if len(pair) != 2:  # noqa: PLR2004 - a pair
        raise FormatError("a stream must be [coder, bytes]")
    return StreamFacts(coder=_name(pair[0], _CODERS), n_bytes=_count(pair[1], "the bytes of a stream"))
