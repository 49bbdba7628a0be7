"""Mappings: which outputs of a cell see which of its channels. Bool tensors, (nb_inputs, nb_outputs)."""

import numpy as np
import torch
from torch import Tensor

from n2d2.error_handler import WrongInputType, WrongValue
from prunecell.errors import quoted


def to_mapping(given: object, nb_inputs: int, nb_outputs: int) -> Tensor:
    """Check a mapping that a user gave: an n2d2.Tensor, an array or nested lists; None connects everything.

    Raises:
        WrongInputType, WrongValue: it is not nb_inputs x nb_outputs of 0 and 1.
    """
    if given is None:
        return torch.ones(nb_inputs, nb_outputs, dtype=torch.bool)
    mapping = as_table(given)
    if mapping.shape != (nb_inputs, nb_outputs):
        raise WrongValue(
            f"mapping of shape {tuple(mapping.shape)} is illegal: it must be nb_inputs x nb_outputs"
            f", ({nb_inputs}, {nb_outputs})"
        )
    return mapping


def as_table(given: object) -> Tensor:
    """A bool table, of an n2d2.Tensor, an array or nested lists.

    Raises:
        WrongInputType: it is nothing of the kind.
        WrongValue: it has other values than 0 and 1.
    """
    try:
        table = torch.as_tensor(np.asarray(given))
    except (TypeError, ValueError):  # strings, objects, rows of different lengths
        table = torch.empty(0)
    if table.dim() != 2:  # noqa: PLR2004 - inputs and outputs
        raise WrongInputType(
            f"mapping={quoted(given)} is illegal: it must be rows of 0 and 1, inputs x outputs: an n2d2.Tensor,"
            " an array or lists; n2d2.mapping.Mapping(...).create_mapping(nb_inputs, nb_outputs) makes one"
        )
    if not ((table == 0) | (table == 1)).all():
        raise WrongValue("mapping is illegal: its values must be 0 or 1")
    return table.bool()


def grouped(nb_inputs: int, nb_outputs: int, groups: int) -> Tensor:
    """The mapping of a grouped convolution: channels and outputs in `groups` blocks of equal size.

    >>> grouped(4, 2, 2).int().tolist()
    [[1, 0], [1, 0], [0, 1], [0, 1]]
    """
    if groups < 1 or nb_inputs % groups or nb_outputs % groups:
        raise WrongValue(f"groups={groups} is illegal: it must divide {nb_inputs} inputs and {nb_outputs} outputs")
    rows = torch.arange(nb_inputs) // (nb_inputs // groups)
    columns = torch.arange(nb_outputs) // (nb_outputs // groups)
    return rows[:, None] == columns


def n_groups(mapping: Tensor) -> int:
    """The groups of a mapping that `grouped` makes, 1 where all is connected, 0 where it is irregular."""
    n_inputs, n_outputs = mapping.shape
    size = int(mapping[:, 0].sum())
    if not size or n_inputs % size or n_outputs % (n_inputs // size):
        return 0
    groups = n_inputs // size
    return groups if torch.equal(mapping, grouped(n_inputs, n_outputs, groups)) else 0
