"""Other inputs are of the kind of the example."""

import pytest
import torch

from prunecell.structured.inputs import nudged, others_of

KINDS = {
    "floats": torch.randn(3, 4),
    "halves": torch.randn(3, 4).half(),
    "tokens": torch.randint(7, 90, (3, 4)),
    "bytes": torch.randint(7, 250, (3, 4), dtype=torch.uint8),
    "booleans": torch.tensor([[True], [False], [True]]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_inputs_are_of_the_kind_and_the_batch_sizes_are_three(kind):
    x = KINDS[kind]
    before = x.clone()
    sizes = []
    for (made, (again, word)), called in others_of((x, (x, "word"))):
        assert word == "word"
        assert made.dtype == again.dtype == x.dtype
        assert made.shape == again.shape == (len(made), *x.shape[1:])
        if not x.is_floating_point():
            assert x.min() <= made.min()
            assert made.max() <= x.max()
        assert called == (", for other inputs" if len(made) == 3 else ", for another batch size")
        sizes.append(len(made))
    assert sizes == [3] * 7 + [1, 4, 7]
    assert torch.equal(x, before)


def test_floats_are_of_several_sizes_and_signs():
    x = torch.rand(50, 4) + 0.1
    made = [values[0] for values, _ in others_of((x,))]
    assert [m.std().log10().round().item() for m in made[:3]] == [-2, 0, 2]
    assert torch.equal(made[3], -x)
    assert not made[4].any()
    assert (made[5] > 0).all()
    assert torch.isin(made[6], x).all()


@pytest.mark.parametrize(
    "inputs", [(torch.ones(2, 3), torch.ones(4, 3)), (torch.ones(()),), (torch.ones(2), torch.ones(())), ()]
)
def test_without_one_batch_there_are_no_other_batch_sizes(inputs):
    assert all(called == ", for other inputs" for _, called in others_of(inputs))


def test_what_is_no_tensor_of_numbers_stays():
    strange = (torch.ones(2, dtype=torch.complex64), torch.ones(2, 2).to_sparse(), torch.ones(0, 3), None, "a", 3)
    assert [*others_of(strange)] == []
    assert all(a is b for a, b in zip(nudged(strange), strange, strict=True))


def test_nudged_inputs_are_the_same_but_for_rounding():
    x = torch.randn(50)
    (near,) = nudged((x,))
    assert not torch.equal(near, x)
    torch.testing.assert_close(near, x)
