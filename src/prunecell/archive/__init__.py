"""The archive: a state_dict <-> one small `.pcell` file, lossless by default; docs/format.md specifies it.

container   a safetensors file: written in one stream, read piece by piece
manifest    the list of tensors in its header, checked against the file
saving      save, write
reading     load, inspect, Archive
parts       a stored tensor as positions and values, never dense
"""

from prunecell.archive.manifest import LIMIT_BYTES, TensorFacts
from prunecell.archive.parts import SparseChunk, SparseParts
from prunecell.archive.reading import Archive, inspect, load
from prunecell.archive.saving import Alias, save, write

__all__ = [
    "LIMIT_BYTES",
    "Alias",
    "Archive",
    "SparseChunk",
    "SparseParts",
    "TensorFacts",
    "inspect",
    "load",
    "save",
    "write",
]
