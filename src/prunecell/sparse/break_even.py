"""Times of sparse layers over dense ones, as they were measured: the tables by which `choose` decides.

A table holds, for some layers of each kind and dtype and for each compressed form, the time of the sparse layer over
that of the dense one of this dtype, at several densities and with one sample or many. Two are shipped, one measured
with AVX-512 and one with AVX2 (`break_even_v4.json`, `break_even_v3.json`), which serves smaller CPUs too;
`tune_runtime` measures another on the machine at hand.
"""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from prunecell import native
from prunecell.disk.atomic import replacing
from prunecell.errors import OptionError
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.inputs import COMPUTED
from prunecell.sparse.values import VALUES

DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in COMPUTED}
"""How `Measured` names the dtype of a layer -> the dtype."""

SHIPPED = {level: Path(__file__).with_name(f"break_even_v{level}.json") for level in (3, 4)}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One layer that was measured.

    Attributes:
        kind: "linear", "convolution", or of kernel size 1 "pointwise" or, with a stride, "strided pointwise".
        dtype: of the layer: "float32", "float16" or "bfloat16".
        n_samples: that it was given at once.
        n_weights: of its dense weight.
        ratios: "format values" -> its time over that of the dense layer, at each of `DENSITIES`.
    """

    kind: str
    dtype: str
    n_samples: int
    n_weights: int
    ratios: Mapping[str, list[float]]


Table = tuple[Measured, ...]


def break_even_table() -> Table:
    """The times measured on this machine if there are any, else the shipped ones.

    Raises:
        OptionError: the file of this machine is no such table.
    """
    path = own_table()
    return read_table(path if path.exists() else SHIPPED[max(native.cpu_level(), min(SHIPPED))])


def own_table() -> Path:
    """Where this machine's table is kept: one for each CPU and kernel level."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cpu = f"{platform.machine()} v{native.cpu_level()} {platform.node()}"
    return cache / "prunecell" / f"break_even {cpu}.json".replace(" ", "-")


def read_table(path: Path) -> Table:
    """Read a table that `write_table` wrote.

    Raises:
        OptionError: the file is no such table, or one of another version.
    """
    try:
        table = tuple(Measured(**row) for row in json.loads(path.read_text()))
        sound = all(
            {*row.ratios} == {f"{name} {values}" for name in FORMATS for values in VALUES}
            and all(len(ratios) == len(DENSITIES) for ratios in row.ratios.values())
            and row.dtype in DTYPES
            and all(isinstance(time, int | float) and time >= 0 for ratios in row.ratios.values() for time in ratios)
            and isinstance(row.n_weights, int)
            and row.n_weights > 0
            and isinstance(row.n_samples, int)
            for row in table
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise OptionError(f"{path} cannot be read as a table of times: {error}; remove it or tune again") from error
    if not sound:
        raise OptionError(f"{path} is damaged or of another version; remove it or tune again")
    return table


def write_table(path: Path, table: Table) -> None:
    """Write a table, one line for each form of a layer; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for measured in table:
        of = json.dumps({name: value for name, value in asdict(measured).items() if name != "ratios"})
        ratios = ",\n    ".join(f"{json.dumps(form)}: {json.dumps(times)}" for form, times in measured.ratios.items())
        rows.append(f'  {of[:-1]}, "ratios": {{\n    {ratios}\n  }}}}')
    with replacing(path) as file:
        file.write(("[\n" + ",\n".join(rows) + "\n]\n").encode())
