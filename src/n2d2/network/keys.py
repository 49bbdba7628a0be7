"""How the parameters of a class are spelt in INI files."""

from dataclasses import fields

SPECIAL = {  # the others follow the rule: label_depth, LabelDepth
    "additive_wh": "AdditiveWH",
    "channel": "CSChannel",
    "extract_roi": "ExtractROIs",
    "gamma": "GammaThreshold",
    "ignore_mask": "IgnoreMasks",
    "lam": "Lambda",
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
