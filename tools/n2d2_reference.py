"""What of N2D2's Python reference is here: docs/n2d2_reference.md, a table that is made from the code.

    python tools/n2d2_reference.py              writes the page
    python tools/n2d2_reference.py missing [N]  names (those that begin with N) that are neither there nor refused

The names are those of N2D2's reference: classes and functions, their parameters and members (tests/data).
"""

import inspect
import json
import sys
from collections import Counter
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

from n2d2.refusal import Refused

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/n2d2_reference.md"
NAMES: dict[str, dict[str, list[str]]] = json.loads((ROOT / "tests/data/n2d2_reference.json").read_text())

DIFFERS: dict[str, str] = {
    "n2d2.Tensor.cuda": "without a GPU it stays on the CPU, with a warning",
    "n2d2.Tensor.dtoh": "nothing to do: there is one copy of the values",
    "n2d2.Tensor.htod": "nothing to do: there is one copy of the values",
    "n2d2.cells.BatchNorm2d.get_variances": "counted from ones, where N2D2 counts from zeros",
    "n2d2.cells.DeepNetCell.fit": "log_epoch=1 by default (N2D2: 1000); the best error rate is the lowest",
    "n2d2.cells.DeepNetCell.log_stats": "stats.log, a table; no plots",
    "n2d2.cells.DeepNetCell.run_test": "returns the success; log_confusion_matrix and log_success draw",
    "n2d2.cells.Dropout.dropout": "what is kept is scaled up, as N2D2 does on a GPU, but not on a CPU",
    "n2d2.cells.NeuralNetworkCell.get_input_cells": "data of no provider has no name; N2D2 counts TensorPlaceholders",
    "n2d2.cells.NeuralNetworkCell.is_exportable_to": "False: nothing is made into code",
    "n2d2.cells.Trainable.outputs_remap": "no effect, with a warning: nothing is made into code",
    "n2d2.cells.Trainable.weights_export_flip": "no effect, with a warning: files have the kernels as they compute",
    "n2d2.cells.Trainable.weights_export_format": "no effect, with a warning: nothing is made into code",
    "n2d2.database.DIR.label_path": "a file of labels, as N2D2 documents it; its program takes a label's name",
    "n2d2.database.GTSRB.download": "fetches nothing: it says which files to put where",
    "n2d2.database.GTSRB.is_downloadable": "False: no class fetches files when it is asked to",
    "n2d2.database.MNIST.download": "fetches nothing: it says which files to put where",
    "n2d2.database.MNIST.is_downloadable": "False: no class fetches files when it is asked to",
    "n2d2.database.Numpy.load": "only these stimuli go into the partition; N2D2 takes all that are Unpartitioned along",
    "n2d2.deepnet.DeepNet.export_network_free_parameters": "the parameters; no plots of their distributions",
    "n2d2.deepnet.DeepNet.log_stats": "stats.log, a table; no plots",
    "n2d2.deepnet.DeepNet.remove": "of the graph of a DeepNetCell; that of a tensor is what was computed",
    "n2d2.global_variables.set_cuda_device": "sets, where N2D2 refuses it",
    "n2d2.global_variables.set_random_seed": "sets, where N2D2 refuses it",
    "n2d2.provider.DataProvider.batch_number": "iterating gives every stimulus once, the smaller last batch too",
    "n2d2.provider.DataProvider.get_partition": "the name, a string, not a member of a C++ enumeration",
    "n2d2.provider.DataProvider.read_batch": "a last batch may be smaller; after the last of set_batch it is an error",
    "n2d2.provider.DataProvider.read_random_batch": "each stimulus comes once before any comes again",
    "n2d2.solver.SGD.learning_rate_policy": "CosineDecay stays at its end, where N2D2's rises again",
    "n2d2.target.Score.clear_success": "clears the confusion matrix too, as clear_score",
    "n2d2.target.Score.get_average_success": "top_n does not matter, where N2D2 refuses another than 1",
    "n2d2.target.Score.log_estimated_labels": "without the numbers and names of the stimuli",
    "n2d2.target.Target.log_estimated_labels": "without the numbers and names of the stimuli",
    "n2d2.transform.Distortion.ignore_missing_data": "no effect: it is about labels per pixel",
}
"""Name -> how it differs from N2D2's; what a class inherits differs as in the class that it inherits it from."""


class Status(Enum):
    """What became of a documented name."""

    works = "works"
    differs = "differs"
    refused = "refused"
    missing = "missing"


def found(name: str) -> Any:  # noqa: ANN401 - any object
    """The object of a full name; None if there is none."""
    module, _, own = name.rpartition(".")
    try:
        return getattr(import_module(module), own)
    except (ImportError, AttributeError):
        pass
    try:
        return import_module(name)
    except ImportError:
        return None


def status_of(name: str, parameter: str = "", member: str = "") -> Status:
    """What became of a name, of a parameter of it, or of a member."""
    owner = found(name)
    if owner is None:
        return Status.missing
    if _refusal(owner) or parameter in getattr(owner, "REFUSED", {}):
        return Status.refused
    if parameter and parameter not in accepted(owner):
        return Status.missing
    if member:
        one = inspect.getattr_static(owner, member, None)
        if one is None and member not in (*accepted(owner), *getattr(owner, "__all__", ())):
            return Status.missing
        if _refusal(one):
            return Status.refused
    return Status.differs if difference(name, parameter or member) else Status.works


def difference(name: str, part: str = "") -> str:
    """How a name, or a parameter or member of it, differs from N2D2's; "" if it does not."""
    owner = found(name)
    for base, _, last in (key.rpartition(".") for key in DIFFERS):
        kind = found(base)
        inherits = isinstance(owner, type) and isinstance(kind, type) and issubclass(owner, kind)
        if (base, last) == (name, part) or (inherits and last == part):
            return DIFFERS[f"{base}.{last}"]
    return DIFFERS.get(name, "") if not part else ""


def _refusal(thing: object) -> Refused | None:
    return thing if isinstance(thing, Refused) else getattr(type(thing), "refusal", None) or _own_refusal(thing)


def _own_refusal(thing: object) -> Refused | None:
    return vars(thing).get("refusal") if isinstance(thing, type) else None


def accepted(owner: Any) -> set[str]:  # noqa: ANN401 - a class or a function
    """The names of the parameters that a class or a function takes."""
    if not isinstance(owner, type):
        return set(inspect.signature(owner).parameters) if callable(owner) else set()
    names = {part.name for part in fields(owner)} if is_dataclass(owner) else set()
    for cls in owner.__mro__[:-1]:
        for maker in vars(cls).keys() & {"__init__", "__new__"}:
            names |= set(inspect.signature(getattr(cls, maker)).parameters)
        names |= {*vars(cls).get("OPTIONS", ()), *vars(cls).get("ALIASES", ()), *vars(cls).get("COMMON", ())}
    return names


def rows() -> list[tuple[str, str, str, Status]]:
    """(name, parameter, member, status) of all documented names."""
    told = []
    for name, parts in NAMES.items():
        told.append((name, "", "", status_of(name)))
        told += [(name, one, "", status_of(name, parameter=one)) for one in parts["parameters"]]
        told += [(name, "", one, status_of(name, member=one)) for one in parts["members"]]
    return told


def page() -> str:
    """The page docs/n2d2_reference.md."""
    modules: dict[str, list[str]] = {}
    for name in NAMES:
        modules.setdefault(name.rpartition(".")[0], []).append(name)
    counts = Counter(status.value for *_, status in rows())
    told = ", ".join(f"{counts[status.value]:,} {status.value}" for status in Status if counts[status.value])
    return HEAD.format(told=told) + "".join(_section(module, names) for module, names in sorted(modules.items()))


def _section(module: str, names: list[str]) -> str:
    lines = [f"\n## `{module}`\n", "| name | works | differs, or is refused |", "|---|---|---|"]
    return "\n".join([*lines, *map(_row, names)]) + "\n"


def _base(name: str) -> str:
    """The base whose members a class has all, and more; empty if there is none."""
    members = set(NAMES[name]["members"])
    fits = [
        base
        for base in BASES
        if base != name and members >= set(NAMES[base]["members"]) and _is_a(found(name), found(base))
    ]
    return max(fits, key=lambda base: len(NAMES[base]["members"]), default="") if members else ""


def _is_a(kind: object, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)


def _row(name: str) -> str:
    title, base, parts = f"`{name.rpartition('.')[2]}`", _base(name), NAMES[name]
    if refusal := _refusal(found(name)):
        return f"| {title} | | refused: {refusal.instead} |"
    works = [f"as `{base.rpartition('.')[2]}`"] if base else []
    others: dict[str, list[str]] = {f"differs: {DIFFERS[name]}": []} if name in DIFFERS else {}
    for kind, known in (("parameter", parts["parameters"]), ("member", parts["members"])):
        for one in known:
            told_above = kind == "member" and base and one in NAMES[base]["members"]
            if told_above and difference(name, one) == difference(base, one):
                continue
            status, told = status_of(name, **{kind: one}), f"`{one}{'=' * (kind == 'parameter')}`"
            if status is Status.works:
                works.append(told)
            else:
                others.setdefault(_why(name, kind, one, status), []).append(told)
    told = "; ".join(" ".join(part for part in (", ".join(ones), why) if part) for why, ones in others.items())
    return f"| {title} | {', '.join(works)} | {told} |"


def _why(name: str, kind: str, one: str, status: Status) -> str:
    if status is Status.differs:
        return f"differs: {difference(name, one)}"
    owner = found(name)
    refusal = _refusal(inspect.getattr_static(owner, one, None)) if kind == "member" else None
    return f"{status.value}: {refusal.instead if refusal else getattr(owner, 'REFUSED', {}).get(one, '')}"


HEAD = """# N2D2's Python reference, name by name

Every class and function of N2D2's reference with its parameters (`name=`) and members. **Works** is as in N2D2;
**differs** says how; **refused** can be imported, and its use is an error that says what to use instead. Of all names
there are {told}. The page is made by `python tools/n2d2_reference.py`, and a test holds it.
"""
BASES = (
    "n2d2.activation.ActivationFunction",
    "n2d2.cells.Block",
    "n2d2.cells.NeuralNetworkCell",
    "n2d2.cells.Sequence",
    "n2d2.database.Database",
    "n2d2.filler.Filler",
    "n2d2.provider.Provider",
    "n2d2.quantizer.Quantizer",
    "n2d2.solver.Solver",
    "n2d2.target.Target",
    "n2d2.transform.Transformation",
)
"""Classes whose members are told once."""


def main(arguments: list[str]) -> None:
    """Write the page, or print what is missing."""
    if arguments[:1] != ["missing"]:
        PAGE.write_text(page())
        return
    begins = "".join(arguments[1:])
    for name, parameter, member, status in rows():
        if status is Status.missing and name.startswith(begins):
            print(f"{name}{f'({parameter}=)' if parameter else ''}{f'.{member}' if member else ''}")


if __name__ == "__main__":
    main(sys.argv[1:])
