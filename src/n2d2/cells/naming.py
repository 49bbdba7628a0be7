"""The names of cells: those that they get where none is given, and those of their weights in a network."""

from collections import Counter

RESERVED = ("name", "training", "mapping", "inputs", "outputs", "provider", "target")
"""Attributes of containers: a cell of such a name is kept under the name with a _ behind."""

_made: Counter[str] = Counter()  # how many cells of each class have got a default name: N2D2 counts them too


def default_name(kind: str) -> str:
    """`Conv_0`, `Conv_1`, ...: the name of the next cell of this class that has none."""
    name = f"{kind}_{_made[kind]}"
    _made[kind] += 1
    return name


def key_of(name: str) -> str:
    """The name of a cell within its container's state_dict, where a dot would mean one level more."""
    return name.replace(".", "_") + "_" * (name in RESERVED)


def weight_name(name: str) -> str:
    """The name of the weight of a cell of a network; what is drawn for its mask hangs on it.

    >>> weight_name("conv1.1")
    'conv1_1.layer.weight'
    """
    return f"{key_of(name)}.layer.weight"
