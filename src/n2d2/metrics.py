"""Scores of a classification, by their names in N2D2: for each class against all others, averaged over the classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Counts = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Table:
    """Each class against all others.

    Attributes:
        right: stimuli of the class that were taken for it (true positives).
        missed: stimuli of the class that were not (false negatives).
        wrong: stimuli of other classes that were taken for it (false positives).
        others: stimuli of other classes that were not (true negatives).
    """

    right: Counts
    missed: Counts
    wrong: Counts
    others: Counts


def _share(part: Counts, rest: Counts) -> Counts:
    """Part / (part + rest); 0 where the part is."""
    return np.divide(part, part + rest, out=np.zeros_like(part), where=part > 0)


def _sensitivity(table: Table) -> Counts:
    return _share(table.right, table.missed)


def _specificity(table: Table) -> Counts:
    return _share(table.others, table.wrong)


def _precision(table: Table) -> Counts:
    return _share(table.right, table.wrong)


def _negative(table: Table) -> Counts:
    return _share(table.others, table.missed)


METRICS: Mapping[str, Callable[[Table], Counts]] = {
    "Sensitivity": _sensitivity,
    "Specificity": _specificity,
    "Precision": _precision,
    "NegativePredictiveValue": _negative,
    "MissRate": lambda table: 1 - _sensitivity(table),
    "FallOut": lambda table: 1 - _specificity(table),
    "FalseDiscoveryRate": lambda table: 1 - _precision(table),
    "FalseOmissionRate": lambda table: 1 - _negative(table),
    "Accuracy": lambda table: _share(table.right + table.others, table.wrong + table.missed),
    "F1Score": lambda table: _share(2 * table.right, table.wrong + table.missed),
    "Informedness": lambda table: _sensitivity(table) + _specificity(table) - 1,
    "Markedness": lambda table: _precision(table) + _negative(table) - 1,
    "IU": lambda table: _share(table.right, table.wrong + table.missed),
}
"""Name -> the score of each class."""

LOWER_IS_BETTER = ("MissRate", "FallOut", "FalseDiscoveryRate", "FalseOmissionRate")
"""Rates of errors: the best one is the lowest."""


def average_score(confusion: np.ndarray[Any, Any], metric: str) -> float:
    """The mean of a score over the classes that have stimuli, or were taken for others; 0 where none was.

    Args:
        confusion: stimuli of each label (rows) that were taken for each label (columns).
        metric: a name of METRICS.

    >>> average_score(np.array([[3, 1], [0, 4]]), "Sensitivity")
    0.875
    """
    matrix = np.asarray(confusion, dtype=np.float64)
    if not matrix.any():
        return 0.0
    right = np.diag(matrix)
    missed, wrong = matrix.sum(1) - right, matrix.sum(0) - right
    table = Table(right, missed, wrong, matrix.sum() - right - missed - wrong)
    return float(METRICS[metric](table)[right + missed + wrong > 0].mean())
