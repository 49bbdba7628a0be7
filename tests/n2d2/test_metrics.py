import numpy as np
import pytest

from n2d2.metrics import METRICS, average_score

CONFUSION = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])  # the third class has no stimuli


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        ("Sensitivity", (6 / 8 + 3 / 4) / 2),
        ("Specificity", (3 / 4 + 6 / 8) / 2),
        ("Precision", (6 / 7 + 3 / 5) / 2),
        ("NegativePredictiveValue", (3 / 5 + 6 / 7) / 2),
        ("MissRate", 1 - (6 / 8 + 3 / 4) / 2),
        ("FallOut", 1 - (3 / 4 + 6 / 8) / 2),
        ("FalseDiscoveryRate", 1 - (6 / 7 + 3 / 5) / 2),
        ("FalseOmissionRate", 1 - (3 / 5 + 6 / 7) / 2),
        ("Accuracy", 9 / 12),
        ("F1Score", (2 * 6 / (2 * 6 + 1 + 2) + 2 * 3 / (2 * 3 + 2 + 1)) / 2),
        ("Informedness", 3 / 4 + 3 / 4 - 1),
        ("Markedness", 6 / 7 + 3 / 5 - 1),
        ("IU", (6 / 9 + 3 / 6) / 2),
    ],
)
def test_scores_are_averaged_over_the_classes_that_have_stimuli(metric, score):
    assert average_score(CONFUSION, metric) == pytest.approx(score)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("confusion", [np.zeros((0, 0)), np.zeros((3, 3)), np.array([[0, 4], [0, 0]]), np.eye(3)])
def test_scores_of_any_counts_are_numbers_in_range(metric, confusion):
    assert -1 <= average_score(confusion, metric) <= 1
