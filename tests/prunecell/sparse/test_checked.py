"""A check of sizes holds for one matrix in one state, and for nothing that comes to lie in its place."""

import copy
import gc
import itertools
import sys
import weakref

import pytest
import torch

from prunecell.errors import OptionError, StateError
from prunecell.sparse import checked as checking
from prunecell.sparse.checked import checked
from prunecell.sparse.compress import compress
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.layers import SparseLinear


def matrix(values="int8", name="columns16"):
    return compress(torch.randn(10, 20) * (torch.rand(10, 20) < 0.3), values=values, format=name)


def test_a_check_is_remembered_and_holds_no_memory():
    one = matrix()
    assert checked(*one.parts)[0] is checked(*one.parts)[0]
    gone = weakref.ref(one.indices)
    del one
    gc.collect()
    assert gone() is None


def test_few_checks_are_remembered(monkeypatch):
    monkeypatch.setattr(checking, "MOST_KNOWN", 5)
    alive = [matrix() for _ in range(20)]
    for one in alive:
        checked(*one.parts)
    assert len(checking._known) <= 5


@pytest.mark.parametrize(
    ("bias", "fact"),
    [
        (torch.zeros(9), "bias must be 10 numbers in a row"),
        (torch.zeros(20)[::2], "bias must be 10 numbers in a row"),
        (torch.zeros(10, 1), "bias must be 10 numbers in a row"),
        (torch.zeros(10).double(), r"bias must be float32 or bfloat16 or float16, not torch\.float64"),
        (torch.zeros(10, device="meta"), "bias is on meta, the sparse matrix on cpu: move one of them"),
    ],
)
def test_a_bias_that_does_not_fit_is_refused_after_a_good_call(bias, fact):
    one, good = matrix(), torch.zeros(10)
    checked(*one.parts, good)
    with pytest.raises(OptionError, match=fact):
        checked(*one.parts, bias)


def test_values_of_another_type_in_the_same_place_are_not_taken_for_those_that_were_checked(monkeypatch):
    memory = torch.zeros(4, dtype=torch.float32)
    starts, indices = torch.tensor([0, 4], dtype=torch.int32), torch.arange(4, dtype=torch.int16).view(torch.uint16)
    halves = memory.view(torch.float16)[:4]
    monkeypatch.setattr(checking, "id", lambda _: 0, raising=False)  # as if the id of a tensor that is gone came again
    wide, _ = checked(starts, indices, memory, None, 4, "columns16")
    narrow, _ = checked(starts, indices, halves, None, 4, "columns16")
    assert wide.argument.value_type != narrow.argument.value_type


@pytest.mark.parametrize("scales", [None, torch.ones(9), torch.ones(10, dtype=torch.float64)])
def test_wrong_scales_are_refused_after_a_good_call(scales):
    starts, indices, values, good, n_columns, name = matrix().parts
    checked(starts, indices, values, good, n_columns, name)
    with pytest.raises(StateError, match="scales must be float32, one for each of the 10 rows"):
        checked(starts, indices, values, scales, n_columns, name)


def test_other_scales_at_a_freed_address_are_checked():
    layer, x = SparseLinear(matrix(), None), torch.randn(2, 20)
    for _ in range(20):
        layer(x)
        layer.scales = None
        layer.scales = torch.ones(9)
        with pytest.raises(StateError, match="one for each of the 10 rows"):
            layer(x)
        layer.scales = torch.ones(10)


@pytest.mark.parametrize("name", ["starts", "indices"])
@pytest.mark.parametrize("way", ["in place", "data", "another buffer", "freed and made again"])
def test_a_layer_is_checked_again_when_it_is_changed(name, way):
    layer, x = SparseLinear(matrix(), None), torch.randn(2, 20)
    layer(x)
    bad = torch.full_like(getattr(layer, name), 30000)
    if way == "in place":
        getattr(layer, name).copy_(bad)
    elif way == "data":
        getattr(layer, name).data = bad
    elif way == "another buffer":
        setattr(layer, name, bad)
    else:
        tensor = getattr(layer, name)
        tensor.data = torch.empty(0, dtype=tensor.dtype)
        tensor.data = torch.full(bad.shape, 30000, dtype=bad.dtype)
    with pytest.raises(StateError, match="is damaged"):
        layer(x)


def test_a_name_that_is_no_format_is_refused():
    *parts, _ = matrix().parts
    with pytest.raises(OptionError, match="format='rows' is illegal; legal: bitmask, columns16, gaps8"):
        checked(*parts, "rows")


@pytest.mark.parametrize("n_columns", [-1, (1 << 32) + 256, 1 << 31])
def test_a_number_of_columns_that_the_kernels_cannot_hold_is_refused(n_columns):
    starts, indices, values, scales, _, name = matrix(name="gaps8").parts
    with pytest.raises(StateError, match="n_columns="):
        checked(starts, indices, values, scales, n_columns, name)


def test_a_state_dict_brings_its_format():
    weight, x = torch.randn(10, 20), torch.randn(2, 20)
    layer, other = (SparseLinear(compress(weight, format=name), None) for name in ("gaps8", "bitmask"))
    layer.load_state_dict(other.state_dict())
    assert layer.format.name == "bitmask"
    assert torch.equal(layer(x), other(x))
    assert torch.equal(copy.deepcopy(layer)(x), other(x))
    with pytest.raises(StateError, match="format_code=9 is illegal: the formats are columns16, gaps8, bitmask"):
        layer.load_state_dict({**other.state_dict(), "format_code": torch.tensor(9)})


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_while_a_state_is_loaded_the_layer_computes_what_it_did_or_what_it_will(name, assign):
    layer = SparseLinear(matrix(), None)
    other = SparseLinear(compress(torch.randn(10, 20), format=name), None)
    x = torch.randn(2, 20)
    outcomes, seen, before = [layer(x), other(x)], [], sys.gettrace()

    def trace(*_):
        seen.append([torch.equal(layer(x), outcome) for outcome in outcomes])
        return trace

    sys.settrace(trace)
    try:
        layer.load_state_dict(other.state_dict(), assign=assign)
    finally:
        sys.settrace(before)
    assert seen == sorted(seen, reverse=True)
    assert [each for each, _ in itertools.groupby(seen)] == [[True, False], [False, True]]


def test_a_part_of_a_state_is_checked_with_the_rest_of_the_layer():
    layer = SparseLinear(matrix(), None)
    before = layer(x := torch.randn(2, 20))
    with pytest.raises(StateError, match="is damaged"):
        layer.load_state_dict({"indices": torch.full_like(layer.indices, 30000)}, strict=False)
    assert torch.equal(layer(x), before)


@pytest.mark.parametrize("bias", [None, torch.zeros(10)])
def test_a_state_of_another_number_of_rows_is_refused_and_nothing_is_changed(bias):
    layer = SparseLinear(matrix(), bias)
    before = layer(x := torch.randn(2, 20))
    other = SparseLinear(compress(torch.randn(6, 20)), None if bias is None else torch.zeros(6))
    with pytest.raises(StateError, match="starts are of 6 rows, the layer has 10"):
        layer.load_state_dict(other.state_dict())
    assert torch.equal(layer(x), before)
