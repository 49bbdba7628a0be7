"""Packed forms are made once for a matrix in one state, and go with it."""

import copy
import gc
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from prunecell import native
from prunecell.sparse import packed
from prunecell.sparse.checked import checked
from prunecell.sparse.compress import compress
from prunecell.sparse.joints import SparseSequential
from prunecell.sparse.layers import SparseConvolution, SparseLinear
from prunecell.sparse.packed import forms_of

pytestmark = pytest.mark.skipif(native.library() is None, reason="there are no kernels")


def matrix(n_rows=40, n_columns=30, name="columns16"):
    weight = torch.randn(n_rows, n_columns) * (torch.rand(n_rows, n_columns) < 0.3)
    return compress(weight, format=name)


def forms(one, bias=None):
    found, _ = checked(*one.parts, bias)
    return forms_of(found, one.parts[:4], native.library()), found


def test_they_are_made_once_whatever_the_bias_is():
    one = matrix()
    of, found = forms(one)
    assert of.sliced(found) is of.sliced(found)
    assert of.blocked(found, 16) is of.blocked(found, 16)
    assert forms(one, torch.zeros(40))[0] is of
    assert of.n_bytes > 4 * len(one.values) * 2


def test_another_size_of_blocks_takes_the_place_of_the_one_before():
    one = matrix()
    of, found = forms(one)
    before = weakref.ref(of.blocked(found, 40))
    n_bytes = of.n_bytes
    assert of.blocked(found, 10) is not before()
    gc.collect()
    assert before() is None
    assert of.n_bytes < 2 * n_bytes


@pytest.mark.parametrize("name", ["gaps8", "bitmask"])
def test_other_formats_have_none(name):
    assert forms(matrix(name=name))[0] is None


@pytest.mark.parametrize("part", ["starts", "indices", "values"])
def test_they_go_with_any_of_the_tensors(part):
    one = matrix()
    parts = {name: getattr(one, name) for name in ("starts", "indices", "values")}
    format, n_columns = one.format.name, one.n_columns  # noqa: A001 - what it is
    found, _ = checked(*parts.values(), None, n_columns, format)
    of = forms_of(found, (*parts.values(), None), native.library())
    gone = weakref.ref(of.sliced(found))
    del one, of
    gc.collect()
    assert gone() is not None
    del parts[part]
    gc.collect()
    assert gone() is None


def test_what_is_changed_in_place_is_packed_anew_and_the_copy_before_goes():
    one = matrix()
    of, found = forms(one)
    gone = weakref.ref(of.sliced(found))
    one.values.mul_(2)
    assert forms(one)[0] is not of
    del of
    gc.collect()
    assert gone() is None


def test_many_changes_leave_one_copy_behind():
    one = matrix()
    for _ in range(50):
        one.values.mul_(1)
        of, found = forms(one)
        of.sliced(found)
    assert packed._forms[id(one.values)] is of
    number = id(one.values)
    del one, of
    gc.collect()
    assert number not in packed._forms


class NoMatrix:
    """What packs nothing, so that threads meet as often as they can."""

    address = 0

    def pc_block_convolution(self, *_):
        return 1


def test_threads_make_and_drop_forms_of_one_matrix_at_once(often_switched):
    of, wrong = packed.Forms(None, NoMatrix(), ()), []

    def call(first):
        try:
            for form in range(first, first + 5000):
                assert of.of_convolution(NoMatrix(), native.Geometry(), form % 7, 1) is None
                assert of.n_bytes == 0
        except Exception as error:  # noqa: BLE001 - whatever it is
            wrong.append(error)

    often_switched(call, range(6))
    assert not wrong
    of.of_convolution(NoMatrix(), native.Geometry(), 7, 1)
    assert len(of._forms) == packed.MOST_FORMS


def test_copies_of_a_layer_have_their_own():
    layer, x = SparseLinear(matrix(), torch.randn(40)), torch.randn(2, 30)
    expected = layer(x)
    other = copy.deepcopy(layer)
    other.values.mul_(2)
    other.bias.data.mul_(2)
    torch.testing.assert_close(other(x), 2 * expected)
    assert torch.equal(layer(x), expected)


def test_two_layers_of_one_matrix_share_them():
    one, x = matrix(), torch.randn(2, 30)
    a, b = SparseLinear(one, torch.zeros(40)), SparseLinear(one, torch.ones(40))
    with torch.no_grad():
        torch.testing.assert_close(a(x) + 1, b(x))
    assert len([of for number, of in packed._forms.items() if number == id(one.values)]) == 1


def layers_that_keep_what_they_were():
    dense = torch.nn.Conv2d(8, 8, 3)
    yield SparseLinear(matrix(), torch.zeros(40)), torch.randn(2, 30)
    yield SparseConvolution(compress(dense.weight.detach().flatten(1)), dense.bias, dense), torch.randn(1, 8, 9, 9)
    yield SparseSequential(*(SparseLinear(matrix(30, 30), None) for _ in range(3))), torch.randn(9, 30)


@pytest.mark.parametrize("number", range(3))
def test_a_model_that_was_called_goes_at_once(number):
    """Its memory need not wait for the garbage collector: nothing that is kept for calls holds a layer."""
    model, x = [*layers_that_keep_what_they_were()][number]
    with torch.no_grad():
        model(x)
    gone = [weakref.ref(module) for module in model.modules()]
    gc.disable()
    try:
        del model
        assert all(one() is None for one in gone)
    finally:
        gc.enable()


@pytest.mark.parametrize("number", range(3))
def test_nothing_else_comes_to_lie_where_a_part_was(number):
    """So a part in another place is seen, whatever the program frees and makes between two calls."""
    model, x = [*layers_that_keep_what_they_were()][number]
    layer = [module for module in model.modules() if isinstance(module, SparseLinear | SparseConvolution)][-1]
    with torch.no_grad():
        expected = model(x)
        place = layer.values.data_ptr()
        layer.values.data = 2 * layer.values
        alive = [torch.zeros_like(layer.values) for _ in range(100)]
        assert place not in {one.data_ptr() for one in alive}
        assert not torch.equal(model(x), expected)


@pytest.mark.usefixtures("compiled_level")
def test_a_layer_that_was_made_under_inference_mode_has_them_too():
    with torch.inference_mode():
        layer, x = SparseLinear(matrix(), None), torch.randn(2, 30)
        expected = layer(x)
        layer.values.mul_(2)
        torch.testing.assert_close(layer(x), 2 * expected)
        assert id(layer.values) in packed._forms


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("n_samples", [1, 9])
def test_a_matrix_that_is_out_of_order_is_read_as_it_is_stored(n_samples):
    layer, x = SparseLinear(matrix(2, 30), None), torch.randn(n_samples, 30)
    layer.starts = torch.tensor([0, 2, 2], dtype=torch.int32)
    layer.indices, layer.values = torch.tensor([7, 3], dtype=torch.uint16), torch.tensor([1.0, 2.0])
    torch.testing.assert_close(layer(x)[:, 0], x[:, 7] + 2 * x[:, 3])


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize(("n_rows", "n_columns", "density"), [(900, 700, 0.3), (1001, 10000, 0.02), (3, 60000, 0.9)])
def test_a_matrix_of_several_bands_is_packed_as_a_whole(n_rows, n_columns, density):
    """More entries than are decoded at once: many short rows, rows with wide gaps, and rows longer than a band."""
    weight = torch.randn(n_rows, n_columns) * (torch.rand(n_rows, n_columns) < density)
    weight[::7] = 0
    x = torch.randn(3, n_columns)
    torch.testing.assert_close(SparseLinear(compress(weight), None)(x), x @ weight.t(), atol=1e-3, rtol=1e-4)


@pytest.mark.usefixtures("compiled_level")
def test_columns_that_are_written_to_while_they_are_packed_stay_in_their_rows():
    """Rows of near columns and of far ones take different numbers of steps; each entry is there once or nothing is."""
    n_rows, n_columns, n_kept = 3000, 60000, 30
    near = np.tile(np.arange(n_kept, dtype=np.uint16), n_rows)
    far = np.tile(np.arange(n_columns - n_kept, n_columns, dtype=np.uint16), n_rows)
    one = replace(compress(torch.ones(n_rows, n_kept)), n_columns=n_columns)
    written, stop, end = (
        one.indices.view(torch.int16).numpy().view(np.uint16),
        threading.Event(),
        time.monotonic() + 0.3,
    )

    def write():
        while not stop.is_set():
            np.copyto(written, far)
            np.copyto(written, near)

    writer, x, y = threading.Thread(target=write), torch.ones(1, n_columns), torch.empty(1, n_rows)
    _, found = forms(one)
    writer.start()
    try:
        while time.monotonic() < end:
            library = native.library()
            if (form := packed.Forms(None, library, ()).sliced(found)) is not None:
                link = native.Link.linear(form.address, (None, None, 0), n_columns, n_rows)
                chain = native.Chain.of([link], 0)
                library.pc_chain_of_few(chain.address, x.data_ptr(), 1, n_columns, 1, y.data_ptr(), None)
                assert (y == n_kept).all()
    finally:
        stop.set()
        writer.join()


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("size", [8, 14, 20, 32])
def test_layers_with_one_matrix_and_other_options_have_forms_of_their_own(size):
    """Panels of one form may have the inputs elsewhere: where the kernel is dilated, strided or has another shape."""
    x, dense = torch.randn(1, 64, size, size), nn.Conv2d(64, 64, 3)
    dense.weight.data.mul_(torch.rand_like(dense.weight) < 0.1)
    matrix = compress(dense.weight.detach().flatten(1))
    options = [{"dilation": d, "padding": d, "stride": s} for s in (1, 2) for d in (1, 2, 3)]
    kernels = [(3, 3)] * len(options) + [(1, 9), (9, 1)]
    pairs = list(zip(kernels, [*options, {"padding": (0, 4)}, {"padding": (4, 0)}], strict=True))
    layers = [nn.Conv2d(64, 64, kernel, **given) for kernel, given in pairs]
    for layer in layers:
        layer.weight.data = dense.weight.data.view_as(layer.weight)
    sparse = [SparseConvolution(matrix, layer.bias, layer) for layer in layers]
    for one, layer in [*zip(sparse, layers, strict=True)] * 2:
        torch.testing.assert_close(one(x), layer(x), atol=1e-4, rtol=1e-4)
