"""The parameters of a dataclass: their names in INI files, their checks, their printing."""

from dataclasses import fields
from typing import Any

from n2d2.error_handler import n2d2_errors

SPECIAL = {  # the others follow the rule: label_depth, LabelDepth
    "additive_wh": "AdditiveWH",
    "channel": "CSChannel",
    "gamma": "GammaThreshold",
    "ignore_mask": "IgnoreMasks",
    "load_data_in_memory": "LoadInMemory",
    "prune_filler": "PruningFiller",
    "prune_mode": "PruningMode",
    "start": "StartThreshold",
    "stepsize": "StepSizeThreshold",
    "warm_up_lr_frac": "WarmUpLRFrac",
}

NO_KEYS = ("datatype", "model")  # of Python alone: INI files have Model and DataType, without a prefix


def ini_keys(kind: type) -> dict[str, str]:
    """Map N2D2's INI keys to the parameters of a dataclass.

    >>> from n2d2.transform import ChannelExtraction
    >>> ini_keys(ChannelExtraction)
    {'ApplyTo': 'apply_to', 'CSChannel': 'channel'}
    """
    names = [one.name for one in fields(kind) if one.init and one.name not in NO_KEYS]
    return {SPECIAL.get(name, name.title().replace("_", "")): name for name in names}


def check_fields(one: Any) -> None:  # noqa: ANN401 (any dataclass)
    """Run the checks that the fields of a dataclass carry (`n2d2.declared`); errors are N2D2's."""
    for part in fields(one):
        if "check" in part.metadata:
            with n2d2_errors():
                part.metadata["check"](part.name, getattr(one, part.name))


def printed(one: Any) -> str:  # noqa: ANN401 (any dataclass)
    """Print a dataclass with the parameters that are not at their defaults, those by keyword last.

    >>> from n2d2.transform import PadCrop
    >>> PadCrop(24, 24, apply_to="LearnOnly")
    PadCrop(width=24, height=24, apply_to='LearnOnly')
    """
    told = [part for part in fields(one) if part.repr and getattr(one, part.name) != part.default]
    pairs = (f"{part.name}={getattr(one, part.name)!r}" for part in sorted(told, key=lambda part: part.kw_only is True))
    return f"{type(one).__name__}({', '.join(pairs)})"
