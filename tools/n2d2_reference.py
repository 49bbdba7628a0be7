"""What of N2D2's Python reference is here: docs/n2d2_reference.md, a table that is made from the code.

    python tools/n2d2_reference.py              writes the page
    python tools/n2d2_reference.py missing [N]  names (those that begin with N) that are neither there nor refused

The names are those of N2D2's reference: classes and functions, their parameters and members (tests/data).
"""

import inspect
import json
import sys
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
    "n2d2.global_variables.set_cuda_device": "sets, where N2D2 refuses it",
    "n2d2.global_variables.set_random_seed": "sets, where N2D2 refuses it",
    "n2d2.provider.DataProvider.read_random_batch": "each stimulus comes once before any comes again",
    "n2d2.solver.SGD.learning_rate_policy": "CosineDecay stays at its end, where N2D2's rises again",
    "n2d2.target.Score.clear_success": "clears the confusion matrix too, as clear_score",
    "n2d2.target.Score.get_average_success": "top_n does not matter, where N2D2 refuses another than 1",
    "n2d2.target.Score.log_estimated_labels": "without the numbers and names of the stimuli",
    "n2d2.target.Target.log_estimated_labels": "without the numbers and names of the stimuli",
}
"""Name -> how it differs from N2D2's."""


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
    full = ".".join(part for part in (name, parameter or member) if part)
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
    return Status.differs if full in DIFFERS else Status.works


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
        if "__init__" in vars(cls):
            names |= set(inspect.signature(vars(cls)["__init__"]).parameters)
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


if __name__ == "__main__":
    if sys.argv[1:2] == ["missing"]:
        begins = "".join(sys.argv[2:])
        for name, parameter, member, status in rows():
            if status is Status.missing and name.startswith(begins):
                print(f"{name}{f'({parameter}=)' if parameter else ''}{f'.{member}' if member else ''}")
