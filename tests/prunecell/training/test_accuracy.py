"""evaluate(): what is a classifier's is measured as by hand, and all else is refused by name."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunecell.errors import OptionError, OptionTypeError
from prunecell.training.accuracy import IGNORED, evaluate

FITTING = [
    ((5, 3), (5,)),
    ((3, 3), (3,)),
    ((1, 2), (1,)),
    ((0, 3), (0,)),
    ((5, 3, 1, 1), (5,)),
    ((5, 3, 1), (5,)),
    ((3, 3, 1), (3, 1)),
    ((5, 3, 1, 1), (5, 1, 1)),
    ((5, 3, 4), (5, 4)),
    ((4, 4, 4), (4, 4)),
    ((2, 3, 4, 5), (2, 4, 5)),
]
REFUSED = [
    ((5, 1), (5,)),
    ((5, 1), (5, 1)),
    ((1, 1), (1,)),
    ((5, 1, 4), (5, 4)),
    ((5, 1, 1, 1), (5,)),
    ((5,), (5,)),
    ((), ()),
    ((5, 3), (5, 1)),
    ((5, 3), (5, 3)),
    ((5, 3), (4,)),
    ((5, 3), (1,)),
    ((5, 3), ()),
    ((5, 3, 4), (5,)),
    ((5, 4, 3), (5, 4)),
    ((5, 3, 1, 2), (5,)),
    ((5, 3, 4), (5, 1)),
    ((5, 0), (5,)),
]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.uint8]
OTHERS = [torch.float32, torch.float64, torch.float16, torch.bool, torch.complex64]


def by_hand(scores, labels):
    """One label after the other."""
    places = [*product(*map(range, labels.shape))]
    scores = scores.reshape(*scores.shape[:2], *labels.shape[1:])
    right = [int(scores[(place[0], slice(None), *place[1:])].argmax()) == int(labels[place]) for place in places]
    return sum(right) / max(len(right), 1)


def made(shape, of, dtype=torch.int64):
    torch.manual_seed(0)
    labels = torch.randint(0, max(shape[1] if len(shape) > 1 else 2, 1), of)
    return torch.randn(shape), labels.to(dtype)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize(("shape", "of"), FITTING)
def test_what_fits_is_measured_as_by_hand(shape, of, dtype):
    scores, labels = made(shape, of, dtype)
    found = evaluate(nn.Identity(), [(scores, labels)] * 2)
    assert found == by_hand(scores, labels)
    assert 0 <= found <= 1
    F.cross_entropy(scores.reshape(*shape[:2], *of[1:]), labels.long())  # it can be learned as well


@pytest.mark.parametrize(("shape", "of"), REFUSED)
def test_other_shapes_are_refused(shape, of):
    with pytest.raises(OptionError, match=r"scores of shape .*max_rise="):
        evaluate(nn.Identity(), [made(shape, of)])


@pytest.mark.parametrize("dtype", OTHERS, ids=str)
@pytest.mark.parametrize(("shape", "of"), FITTING + REFUSED)
def test_labels_that_are_no_integers_are_refused_whatever_their_shape(shape, of, dtype):
    with pytest.raises(OptionTypeError, match=rf"the labels are of {dtype}: .*metric="):
        evaluate(nn.Identity(), [made(shape, of, dtype)])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"logits": torch.randn(5, 3)}, "the model gives a dict, not a tensor of scores"),
        ([], "the model gives a list"),
        (None, "the model gives a NoneType"),
        (torch.ones(5, 3, dtype=torch.bool), r"scores of torch\.bool"),
        (torch.ones(5, 3, dtype=torch.complex64), r"scores of torch\.complex64"),
    ],
)
def test_what_a_model_gives_otherwise_is_refused(output, message):
    class Gives(nn.Module):
        def forward(self, _):
            return output

    with pytest.raises(OptionTypeError, match=message):
        evaluate(Gives(), [(torch.randn(5), torch.zeros(5, dtype=torch.int64))])


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_a_label_of_no_class_is_refused(label):
    with pytest.raises(OptionError, match=rf"the label {label} is of none of 3 classes: it must be in \[0, 2\]"):
        evaluate(nn.Identity(), [(torch.randn(2, 3), torch.tensor([0, label]))])


@pytest.mark.parametrize(("shape", "of"), [pair for pair in FITTING if pair[1][0] > 1])
def test_what_cross_entropy_leaves_out_counts_for_nothing(shape, of):
    scores, labels = made(shape, of)
    labels[1:] = IGNORED
    assert evaluate(nn.Identity(), [(scores, labels)]) == by_hand(scores[:1], labels[:1])


def test_of_several_outputs_the_first_is_measured():
    class Two(nn.Module):
        def forward(self, x):
            return [x, -x]

    assert evaluate(Two(), [(torch.eye(3), torch.arange(3))]) == 1


def test_evaluating_nothing_is_zero():
    assert evaluate(nn.Identity(), []) == 0


BATCHES = [(torch.eye(4), torch.tensor([0, 1, 2, 0]))]


@pytest.mark.parametrize(
    ("model", "batches", "message"),
    [
        (BATCHES, nn.Identity(), r"model is a list: .*; the model comes first, and then the batches"),
        (None, BATCHES, r"model is a NoneType: it must be a torch\.nn\.Module$"),
        (nn.Identity(), nn.Identity(), "batches is an Identity: it must be pairs"),
        (nn.Identity(), 3, "batches is an int: it must be pairs"),
        (nn.Identity(), torch.eye(4), "batches is a Tensor: it must be pairs"),
        (nn.Identity(), [3], "a batch is an int: it must be a pair"),
        (nn.Identity(), BATCHES[0], "a batch is a Tensor: it must be a pair"),
        (nn.Identity(), [(*BATCHES[0], 3)], "a batch is a tuple of 3: it must be a pair"),
    ],
)
def test_what_is_no_model_and_what_are_no_batches_is_refused(model, batches, message):
    with pytest.raises(OptionTypeError, match=message):
        evaluate(model, batches)
