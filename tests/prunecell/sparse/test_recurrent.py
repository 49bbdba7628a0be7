"""A sparse LSTM takes and gives what nn.LSTM does."""

import copy
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from prunecell.errors import OptionError
from prunecell.sparse.convert import compact_
from prunecell.sparse.recurrent import SparseLSTM

pytestmark = [
    pytest.mark.usefixtures("everything_wins"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]
OPTIONS = [
    dict(zip(("batch_first", "bidirectional", "proj_size", "bias"), values, strict=True))
    for values in product((False, True), (False, True), (0, 8), (False, True))
]


def both(**options):
    torch.manual_seed(0)
    dense = nn.LSTM(16, 16, 2, **options).eval()
    for weight in dense.parameters():
        if weight.ndim > 1:
            weight.data.mul_(torch.rand_like(weight) < 0.2)
    sparse = compact_(copy.deepcopy(dense))
    assert isinstance(sparse, SparseLSTM)
    return dense, sparse


def states(dense, *samples):
    n = dense.num_layers * (2 if dense.bidirectional else 1)
    return torch.randn(n, *samples, dense.proj_size or dense.hidden_size), torch.randn(n, *samples, dense.hidden_size)


def same(given, expected):
    (y, last), (y_expected, last_expected) = given, expected
    if isinstance(y, PackedSequence):
        assert torch.equal(y.batch_sizes, y_expected.batch_sizes)
        y, y_expected = y.data, y_expected.data
    for a, b in zip((y, *last), (y_expected, *last_expected), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        assert a.stride() == b.stride() or a.numel() == 0


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_called_in_every_way(options):
    dense, sparse = both(**options)
    with torch.no_grad():
        for n_times, n_samples in ((5, 3), (1, 1), (3, 0)):
            x = torch.randn(*((n_samples, n_times) if dense.batch_first else (n_times, n_samples)), 16)
            for state in (None, states(dense, n_samples)):
                same(sparse(x, state), dense(x, state))
        for state in (None, states(dense)):
            same(sparse(x := torch.randn(5, 16), state), dense(x, state))
        for lengths, is_sorted in (((3, 7, 5), False), ((7, 5, 3), True)):
            packed = pack_sequence([torch.randn(n, 16) for n in lengths], enforce_sorted=is_sorted)
            for state in (None, states(dense, 3)):
                same(sparse(packed, state), dense(packed, state))


def test_what_nn_lstm_refuses_is_refused():
    dense, sparse = both()
    x, (hidden, cell) = torch.randn(5, 3, 16), states(dense, 3)
    for inputs, message in (
        ((torch.randn(5, 3, 17),), r"x must have the shape \(\.\.\., 16\), not \(5, 3, 17\)"),
        ((torch.randn(5, 3, 16, 1),), "x must have 2 or 3 dimensions"),
        ((torch.randn(0, 3, 16),), "one time step or more"),
        ((x, (hidden[:, :2], cell)), r"h_0 must have the shape \(2, 3, 16\), not \(2, 2, 16\)"),
        ((x, (hidden, cell[:1])), r"c_0 must have the shape \(2, 3, 16\), not \(1, 3, 16\)"),
        ((x, (hidden[:, 0], cell[:, 0])), "h_0 must have the shape"),
        ((x[:, 0], (hidden, cell)), r"h_0 must have the shape \(2, 16\)"),
        ((x, (hidden,)), "the state must be a pair"),
        ((x.double(),), "same dtype"),
    ):
        with pytest.raises((RuntimeError, ValueError, AttributeError, IndexError)):
            dense(*inputs)
        with pytest.raises(OptionError, match=message):
            sparse(*inputs)


def test_states_that_the_dense_one_does_not_check_everywhere_are_refused():
    dense, sparse = both()
    with pytest.raises(OptionError, match=r"h_0 must have the shape \(2, 2, 16\), not \(2, 3, 16\)"):
        sparse(pack_sequence([torch.randn(5, 16)] * 2), states(dense, 3))
    with pytest.raises(OptionError, match=r"h_0 must be torch\.float32 as x is, not torch\.float64"):
        sparse(torch.randn(5, 3, 16), tuple(state.double() for state in states(dense, 3)))


def test_its_attributes_and_weights_can_be_read_and_not_set():
    dense, sparse = both(bidirectional=True, proj_size=8)
    sparse.flatten_parameters()
    for name in nn.LSTM.__constants__:
        assert getattr(sparse, name) == getattr(dense, name)
    for name, expected in dense.named_parameters():
        assert torch.equal(getattr(sparse, name), expected)
        with pytest.raises(OptionError, match=f"{name} of a sparse layer cannot be set"):
            setattr(sparse, name, nn.Parameter(torch.zeros(1)))
    with pytest.raises(OptionError, match="would write to the weight of a sparse layer"):
        nn.init.orthogonal_(sparse.weight_hh_l0)
    with pytest.raises(AttributeError, match="weight_ih_l9"):
        _ = sparse.weight_ih_l9


def test_dropout_between_layers_learns_as_in_the_dense_one():
    dense, sparse = both(dropout=0.5)
    x = torch.randn(5, 3, 16)
    results = []
    for model in (dense, sparse):
        torch.manual_seed(1)
        results.append(model.train()(x))
    torch.testing.assert_close(results[1][0].shape, results[0][0].shape)
    assert not torch.equal(sparse(x)[0], sparse(x)[0])
