"""The formats of a sparse matrix: how its `indices` tell where the entries are. One object a format.

    format      what a format is
    columns16   the column of every entry, 2 bytes. At most 65,536 columns. The fastest: the kernels read a copy of it
                that is packed as they like it best.
    gaps8       how many columns were skipped since the entry before, 1 byte; entries of value 0 bridge longer gaps.
                The smallest from about 87 % sparsity on.
    bitmask     one bit for every column of the row. The smallest below.

To add one: a file here, a line in `FORMATS`, and its trait in `native/formats` for the kernels.
"""

from prunecell.choices import chosen
from prunecell.sparse.formats.bitmask import BITMASK
from prunecell.sparse.formats.columns16 import COLUMNS16
from prunecell.sparse.formats.format import Format
from prunecell.sparse.formats.gaps8 import GAPS8

FORMATS: dict[str, Format] = {format.name: format for format in (COLUMNS16, GAPS8, BITMASK)}  # noqa: A001 - what it is


def format_named(name: str) -> Format:
    """The format of a name.

    Raises:
        UnknownNameError: there is none; the message lists those that there are.
    """
    return chosen("format", name, FORMATS)
