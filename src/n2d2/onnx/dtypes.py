"""ONNX's types of numbers, in torch."""

import torch

from n2d2.error_handler import WrongValue
from n2d2.global_variables import dtype

FLOATS = (1, 10, 11, 16)
"""Floats of all sizes, which are of N2D2's `default_datatype`, as the weights are."""

TYPES: dict[int, torch.dtype] = {
    2: torch.uint8,
    3: torch.int8,
    4: torch.int32,  # uint16
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    12: torch.int64,  # uint32
    13: torch.int64,  # uint64
}
"""ONNX's number of each other type -> torch's."""


def type_of(number: int) -> torch.dtype:
    """The torch type of ONNX's number of a type."""
    if number not in FLOATS and number not in TYPES:
        raise WrongValue(f"ONNX's type {number} is refused: numbers and truth values can be computed with")
    return dtype() if number in FLOATS else TYPES[number]
