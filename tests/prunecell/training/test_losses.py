"""Distillation beside its formula."""

import math

import pytest
import torch
from torch.nn import functional as F

from prunecell.errors import OptionError, OptionTypeError
from prunecell.training import distillation


def softmax(row, temperature):
    exponentials = [math.exp(score / temperature) for score in row]
    return [one / sum(exponentials) for one in exponentials]


def slow_twin(scores, teacher, labels, temperature, alpha):
    """Sample by sample, class by class."""
    total = 0.0
    for ours, theirs, label in zip(scores.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        p, q, hard = softmax(theirs, temperature), softmax(ours, temperature), softmax(ours, 1)
        soft = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        total += alpha * temperature**2 * soft - (1 - alpha) * math.log(hard[label])
    return total / len(labels)


@pytest.mark.parametrize("temperature", [0.5, 1, 4.0, 20])
@pytest.mark.parametrize("alpha", [0, 0.3, 0.9, 1])
def test_it_is_the_formula(temperature, alpha):
    torch.manual_seed(0)
    scores, teacher, labels = torch.randn(7, 5), 3 * torch.randn(7, 5), torch.randint(5, (7,))
    found = distillation(scores, teacher, labels, temperature=temperature, alpha=alpha)
    assert float(found) == pytest.approx(slow_twin(scores, teacher, labels, temperature, alpha), rel=1e-5)


def test_the_ends_are_the_labels_alone_and_the_teacher_alone():
    scores, labels = torch.randn(6, 4), torch.arange(6) % 4
    assert torch.equal(distillation(scores, -scores, labels, alpha=0), F.cross_entropy(scores, labels))
    assert float(distillation(scores, scores, labels, alpha=1)) == pytest.approx(0, abs=1e-6)


def test_positions_are_samples_and_the_teacher_has_no_gradient():
    torch.manual_seed(0)
    scores, teacher = torch.randn(2, 5, 3, 4, requires_grad=True), torch.randn(2, 5, 3, 4, requires_grad=True)
    labels = torch.randint(5, (2, 3, 4))
    found = distillation(scores, teacher, labels)
    flat = [one.movedim(1, -1).reshape(-1, 5) for one in (scores, teacher)]
    torch.testing.assert_close(found, distillation(*flat, labels.flatten()))
    found.backward()
    assert scores.grad.any()
    assert teacher.grad is None


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"temperature": 0}, OptionError, "temperature=0 is illegal: it must be a finite number > 0"),
        ({"alpha": 1.5}, OptionError, r"alpha=1\.5 is illegal: it must be a number in \[0, 1\]"),
        ({"alpha": None}, OptionTypeError, "alpha=None is illegal"),
        ({"teacher_scores": None}, OptionTypeError, "teacher_scores is a NoneType: it must be a tensor"),
        ({"labels": [0, 1, 2]}, OptionTypeError, "labels is a list: it must be a tensor"),
        (
            {"teacher_scores": torch.zeros(3, 4)},
            OptionError,
            r"teacher_scores of shape \(3, 4\) are illegal for scores of",
        ),
        (
            {"teacher_scores": torch.zeros(3), "scores": torch.zeros(3)},
            OptionError,
            r"both must be \(n, classes, ...\)",
        ),
    ],
)
def test_what_is_illegal_is_refused_by_name(options, kind, message):
    given = {"scores": torch.zeros(3, 5), "teacher_scores": torch.zeros(3, 5), "labels": torch.zeros(3).long()}
    with pytest.raises(kind, match=message):
        distillation(**(given | options))
