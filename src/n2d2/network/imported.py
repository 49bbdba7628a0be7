"""`Type=ONNX`: the cells of an ONNX file, in the place of the section that names it.

Their names are those of the operators' outputs; other sections take them as `Input` and give them targets. What a cell
learns by and how it is pruned stands in `[NAME]`, a section without `Input`, or for all of a type in
`[SECTION:TYPE_def]`.
"""

from pathlib import Path

from n2d2.cells.cell import Cell
from n2d2.cells.weight_cell import WeightCell
from n2d2.cells.weights import BatchNorm2d
from n2d2.cells.wiring import Wiring
from n2d2.ini import Document, Section
from n2d2.network.parameters import located, refuse, warn_of_idle
from n2d2.network.parts import read_quantizer, read_solver
from n2d2.network.refused import IDLE_ONNX, REFUSED_ONNX_KEYS
from n2d2.quantizer import PruneCell


def read_imported(document: Document, section: Section) -> Wiring:
    """Read the file that a section names; a relative path starts at the folder of the INI file.

    Raises:
        IniError: the file is missing or cannot be read, or the section asks for what is not here.
    """
    refuse(section, REFUSED_ONNX_KEYS)
    warn_of_idle(section, IDLE_ONNX)
    if not section.get_bool("ONNX_init", default=True):
        raise section.refuse("ONNX_init", "the weights are those of the file")
    path = Path(document.file).parent / section.get_str("File")
    if not path.is_file():
        raise section.error("File", f"there is no file {path}; none is fetched: put it there, or give another path")
    try:
        from n2d2.cells.onnx import read_onnx  # noqa: PLC0415 - wants an extra, for ONNX files only
    except ImportError as error:
        raise section.refuse("File", f"it needs {error.name}: pip install 'prunecell[onnx]'") from None
    with located(section.place, section):
        return read_onnx(path, ignore=section.get_str("Ignore", "").split())


def configure(document: Document, owner: Section, cell: Cell) -> PruneCell | None:
    """Give a cell of the file of `owner` what its sections say; return its PruneCell, which is not put on it."""
    quantizer = None
    for name in (f"{owner.name}:{cell.get_type().removesuffix('2d')}_def", cell.name):
        section = document.get(name)
        if section is None:
            continue
        if "BackPropagate" in section:
            cell.back_propagate = section.get_bool("BackPropagate")
        if isinstance(cell, BatchNorm2d) and "MovingAverageMomentum" in section:
            cell.moving_average_momentum = section.get_float("MovingAverageMomentum", low=0, high=1)
        if getattr(cell, "bias", None) is not None and section.get_bool("NoBias", default=False):
            raise section.refuse("NoBias", f"{cell.name!r} has biases in the file")
        for solver, key in solver_keys(cell).items():
            if section.names(key) or section.names("Solvers"):
                setattr(cell, solver, read_solver(section, key))
        if isinstance(cell, WeightCell):
            quantizer = read_quantizer(section) or quantizer
    return quantizer


def solver_keys(cell: Cell) -> dict[str, str]:
    """The solvers that a cell has, and their keys: weights_solver, WeightsSolver."""
    return {name: name.title().replace("_", "") for name in cell.KINDS if name.endswith("_solver")}
