"""A matrix packed in blocks convolves as torch does: every form of its panels, every geometry, at every level."""

import contextlib
import ctypes
import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from prunecell import native
from prunecell.sparse.compress import compress
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.inputs import code_of
from prunecell.sparse.matrix import as_argument, decompress, what_is_wrong
from prunecell.sparse.values import VALUES

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
ROWS, IN_TURN, PLAIN = 1, 2, 3  # the kinds of forms in packed/forms.h
LANES, MOST_VECTORS = 4, 8  # of v1: what it has room for, every level has

# in, out, kernel, stride, padding, dilation, groups, samples, size
CASES = json.loads((Path(__file__).parents[2] / "data" / "convolutions.json").read_text())


@pytest.fixture(params=list(native.LEVELS))
def library(request):
    """The library of every level that this CPU runs."""
    found = native.library_of(request.param)
    if found is None or native.LEVELS[request.param] > native.cpu_level():
        pytest.skip("this CPU or this build has no such level")
    return found


class Case:
    """A convolution of the table, with a random matrix."""

    def __init__(self, name, *, density=0.4, size=None, n_samples=None, **how):
        generator = torch.Generator().manual_seed(0)
        channels, out, kernel, *self.options, self.groups, samples, its_size = CASES[name]
        self.kernel, self.size = kernel, size or its_size
        weight = torch.randn(out, channels // self.groups, *kernel, generator=generator)
        weight *= torch.rand(weight.shape, generator=generator) < density
        self.matrix = compress(weight.flatten(1), **how)
        self.weight = decompress(self.matrix).view_as(weight)
        samples = samples if n_samples is None else n_samples
        self.x = torch.randn(samples, channels, *self.size, generator=generator)
        self.bias = torch.randn(out, generator=generator)
        self.shape = self.dense(self.x).shape
        self.geometry = self._geometry()  # kept, because kernels take its address

    def dense(self, x, weight=None, bias=None):
        """What torch makes of it."""
        weight = self.weight if weight is None else weight
        return CONVOLUTIONS[len(self.kernel)](x, weight, bias, *self.options, self.groups)

    @property
    def expected(self):
        return self.dense(self.x, bias=self.bias)

    def _geometry(self):
        def three(numbers, missing=1):
            return (missing,) * (3 - len(self.kernel)) + tuple(numbers)

        stride, padding, dilation = self.options
        return native.Geometry(
            *(self.groups, self.x.shape[1], self.shape[1]),
            *(three(self.size), three(self.shape[2:]), three(self.kernel)),
            *(three(stride), three(padding, missing=0), three(dilation)),
        )

    def form(self, library):
        """The form that is chosen."""
        return library.pc_convolution_form(self.geometry.address, len(self.x), len(self.matrix.values))

    def forms(self):
        """Every kind of form that fits it, of many sizes."""
        width = self.shape[-1]
        for v in (1, 2, 3, 8):
            yield PLAIN << 24 | v << 16 | 1 << 8 | 1
        if math.prod(self.kernel) > 100:  # a channel's panel has no room but for the plain form
            return
        is_pointwise = math.prod(self.kernel) == 1
        packed_rows = 1 if is_pointwise else max(1, LANES // width)
        stride, _, dilation = self.options
        for v, rows in itertools.product(range(1, MOST_VECTORS + 1), repeat=2):
            if v * rows > MOST_VECTORS:
                continue
            yield ROWS << 24 | v << 16 | rows << 8 | 1
            if v == 1:
                yield ROWS << 24 | 1 << 16 | rows << 8 | packed_rows
            if v == 2 and self.kernel[-1] > 1 and stride[-1] == dilation[-1] == 1:
                yield IN_TURN << 24 | v << 16 | rows << 8 | 1

    @contextlib.contextmanager
    def packed(self, library, form, *, block_rows=4):
        """Its matrix, packed."""
        packed, argument = native.Packed(), as_argument(self.matrix)
        assert (
            library.pc_block_convolution(argument.address, self.geometry.address, form, block_rows, packed.address) == 0
        )
        yield packed
        library.pc_release(packed.at)

    def convolve(self, library, packed, *, x=None, relu=False, team=None):
        """All outputs."""
        x, scales = self.x if x is None else x, self.matrix.scales
        y = x.new_full(self.shape, torch.nan)
        outcome = library.pc_blocked_convolution(
            *(
                packed.at,
                self.geometry.address,
                None if scales is None else scales.data_ptr(),
                self.bias.data_ptr(),
                code_of(self.bias),
                relu,
            ),
            *(code_of(x), x.data_ptr(), y.data_ptr(), len(x), team and team.address),
        )
        assert outcome == 0
        return y

    def convolved(self, library, form, *, block_rows=4, **how):
        """The same, packed for this."""
        with self.packed(library, form, block_rows=block_rows) as packed:
            return self.convolve(library, packed, **how)


def test_it_convolves(library, for_every):
    def law(name, values, format):  # noqa: A002
        case = Case(name, values=values, format=format)
        y = case.convolved(library, case.form(library), relu=True)
        torch.testing.assert_close(y, case.expected.relu(), atol=2e-4, rtol=1e-4)

    for_every(law, CASES, VALUES, FORMATS)


def test_every_density(library, for_every):
    def law(name, density):
        case = Case(name, density=density)
        y = case.convolved(library, case.form(library))
        torch.testing.assert_close(y, case.expected, atol=5e-4, rtol=1e-4)

    for_every(law, CASES, (0, 0.02, 1))


def test_every_form_gives_the_same_bits(library, for_every):
    def law(name):
        case = Case(name)
        y = case.convolved(library, case.form(library))
        for form in case.forms():
            assert torch.equal(case.convolved(library, form), y), hex(form)

    for_every(law, CASES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_convolved_as_floats_and_rounded_once(library, for_every, dtype):
    def law(name):
        case = Case(name)
        case.bias = case.bias.to(dtype)
        x = case.x.to(dtype)
        for form in {case.form(library), *list(case.forms())[::3]}:
            y = case.convolved(library, form, x=x, relu=True)
            assert torch.equal(y, case.convolved(library, form, x=x.float(), relu=True).to(dtype)), hex(form)

    for_every(law, CASES)


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_threads_may_compute_tiles_and_row_blocks_in_any_order(library, for_every, n_threads, lone_team):
    """No part writes outputs of another, or its bits would depend on which was first."""

    def law(name):
        case = Case(name)
        for form in {case.form(library), *list(case.forms())[::7]}:
            y = case.convolved(library, form)
            for first in range(n_threads):
                again = case.convolved(
                    library, form, block_rows=max(2, case.shape[1] // 3), team=lone_team(n_threads, number=first)
                )
                assert torch.equal(again, y), (hex(form), first)

    for_every(law, [name for name in CASES if name not in ("a large kernel", "1-D, a long kernel")])


def test_a_number_that_is_not_finite_reaches_what_reads_it(library, for_every):
    def law(name, number):
        case = Case(name, density=0.2)
        clean = case.convolved(library, case.form(library))
        spoiled, generator = case.x.clone(), torch.Generator().manual_seed(1)
        spoiled[torch.rand(spoiled.shape, generator=generator) < 2 / spoiled[0].numel()] = number
        reached = case.dense((~spoiled.isfinite()).float(), (case.weight != 0).float()) > 0.5
        for form in {case.form(library), *list(case.forms())[::5]}:
            y = case.convolved(library, form, x=spoiled)
            assert not y[reached].isfinite().any(), hex(form)
            assert torch.equal(y[~reached], clean[~reached]), hex(form)

    for_every(law, CASES, (math.inf, math.nan))


def test_a_packed_matrix_fits_other_sizes_of_the_same_form(library, for_every):
    def law(name, sizes):
        case = Case(name)
        with case.packed(library, case.form(library)) as packed:
            for size, n_samples in sizes:
                other = Case(name, size=size, n_samples=n_samples)
                y = other.convolve(library, packed)
                torch.testing.assert_close(y, other.expected, atol=2e-4, rtol=1e-4)

    for_every(law, ["3x3, two vectors wide"], [[([20, 30], 2), ([32, 64], 1), ([9, 100], 3), ([32, 32], 0)]])


def test_what_is_wrong_with_a_matrix_is_found_before_it_is_packed(library):
    generator, seen = torch.Generator().manual_seed(2), set()
    for name, format in itertools.product(("grouped", "3x3, many channels", "1x1, long"), FORMATS):  # noqa: A001
        case = Case(name, format=format)
        argument, geometry, form = as_argument(case.matrix), case.geometry, case.form(library)
        for tensor in (case.matrix.indices, case.matrix.starts):
            for _ in range(20):
                raw = tensor.view(-1)
                at = int(torch.randint(len(raw), (), generator=generator))
                kept = raw[at].clone()
                raw[at] = int(torch.randint(256, (), generator=generator))
                packed = native.Packed()
                wrong = library.pc_block_convolution(argument.address, geometry.address, form, 3, packed.address)
                assert wrong == what_is_wrong(case.matrix)
                assert bool(wrong) == (packed.at is None)
                library.pc_release(packed.at)
                seen.add(wrong)
                raw[at] = kept
    assert seen == {0, 1, *(2 + one.code for one in FORMATS.values())}


def test_the_memory_of_a_packed_matrix_is_told(library):
    """At least six bytes an entry: a value and an offset."""
    case = Case("3x3, many channels")
    with case.packed(library, case.form(library)) as packed:
        n = len(case.matrix.values)
        assert 6 * n <= packed.n_bytes <= 6 * n + 64 * ctypes.sizeof(ctypes.c_int64) * case.shape[1] * 20
