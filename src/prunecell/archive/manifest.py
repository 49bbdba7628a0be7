"""What the header of an archive says, of either version: which tensors there are, how each is stored, and where."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from prunecell.codecs.dtypes import ElementType
from prunecell.codecs.records import EncodedRecord, IntegerRecord, Record

LIMIT_BYTES = 1 << 36
"""What the tensors of a file may take in memory, unless the caller says otherwise: 64 GiB."""
MAX_LIST = 1 << 24  # bytes of a list, inflated, that any file may have; a larger file may have as many as its own bytes


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A tensor that the file holds as it is."""

    kind: ElementType
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * self.kind.itemsize


TensorRecord: TypeAlias = EncodedRecord | Plain
"""What a file says about any tensor that it holds."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """The bytes [start, stop) of the file, and their CRC-32."""

    start: int
    stop: int
    checksum: int


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How a tensor is stored, and where: its bytes in the file, and the block that they are in, if there are any."""

    record: TensorRecord
    start: int
    stop: int
    block: Block | None


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
        encoding: how it is stored: "plain", "gaps8 codebook", "integers step", "alias of encoder.weight" and so on.
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

    @property
    def bits_per_weight(self) -> float:
        """Bits in the file for each element; 0 where there is none."""
        return 8 * self.bytes_stored / self.n_weights if self.n_weights else 0.0


def facts_of(manifest: Manifest, name: str) -> TensorFacts:
    """Say what the header says about the tensor `name`, which it lists."""
    target = manifest.target[name]
    record = manifest.stored[target].record
    n_weights = math.prod(record.shape)
    stored, n_nonzero, encoding = n_weights * record.kind.itemsize, None, "plain"
    if isinstance(record, IntegerRecord):
        stored, n_nonzero, encoding = record.n_bytes, record.count, f"integers {record.meaning}"
    elif isinstance(record, Record):
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
