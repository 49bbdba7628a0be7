"""The archive: a state_dict <-> one small `.pcell` file, lossless by default; docs/format.md specifies it.

opened      an open file, read piece by piece
spool       a file whose header is known last
packing     numbers in few bytes
json_text   JSON, checked
manifest    what a header says, of either version
listing     the list of names and records of versions 2 and 3
container   the file of versions 2 and 3
version1    files of version 1, which are read
in_order    work in threads, whose results come in order
saving      save, write
reading     load, inspect, Archive
parts       a stored tensor as positions and values, never dense
"""

from prunecell.archive.listing import Alias
from prunecell.archive.manifest import LIMIT_BYTES, TensorFacts
from prunecell.archive.parts import SparseChunk, SparseParts
from prunecell.archive.reading import Archive, inspect, load
from prunecell.archive.saving import save, write

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
