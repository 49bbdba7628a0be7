"""Whatever is written into the parts of a layer, in whatever way: a StateError, or the answer of the twin."""

import threading
import time
from itertools import pairwise

import pytest
import torch
from torch import nn

from prunecell import native
from prunecell.errors import OptionError, StateError
from prunecell.sparse.compress import compress
from prunecell.sparse.convolution_op import convolution_twin
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.layers import SparseConvolution, SparseLinear
from prunecell.sparse.linear_op import linear_twin
from prunecell.sparse.matrix import check, decompress
from prunecell.sparse.values import VALUES

N_MUTATIONS = 24
FORMS = [(name, values) for name in FORMATS for values in VALUES]
CONVOLUTIONS = {
    "1-D": (nn.Conv1d(6, 9, 5, padding=2), (2, 6, 40)),
    "1x1": (nn.Conv2d(40, 9, 1), (1, 40, 8, 9)),
    "shared": (nn.Conv2d(4, 10, 3, padding=1), (2, 4, 20, 20)),
    "strided": (nn.Conv2d(5, 6, 3, stride=2, bias=False), (2, 5, 15, 16)),
    "grouped": (nn.Conv2d(8, 12, 3, groups=4), (1, 8, 10, 10)),
    "3-D": (nn.Conv3d(3, 4, (2, 3, 3), padding=1), (1, 3, 5, 6, 7)),
}


def sparse(*shape, density=0.3):
    return torch.randn(shape) * (torch.rand(shape) < density)


# ---- ways to write ---------------------------------------------------------------------------------------------------


def bytes_of(tensor):
    """The memory of a tensor as numpy sees it: writes that torch does not count."""
    return tensor.view(-1).view(torch.uint8).numpy()


def through_numpy(layer, name, wrong):
    bytes_of(getattr(layer, name))[:] = bytes_of(wrong)


def through_data(layer, name, wrong):
    getattr(layer, name).data.copy_(wrong)


def under_inference_mode(layer, name, wrong):
    with torch.inference_mode():
        getattr(layer, name).copy_(wrong)


def in_place_of_the_buffer(layer, name, wrong):
    setattr(layer, name, wrong)


def in_place_of_the_memory(layer, name, wrong):
    getattr(layer, name).data = wrong


def in_place(layer, name, wrong):
    getattr(layer, name).copy_(wrong)


COUNTED = [in_place, under_inference_mode, in_place_of_the_buffer, in_place_of_the_memory]
NOT_COUNTED = [through_numpy, through_data]
"""By torch: where the kernels read a copy of the matrix, nobody sees that it was changed."""


def mutated(part, generator):
    """A copy of a part with some bytes, or all, overwritten by others or by the extremes."""
    part = part.clone()
    if part.dtype == torch.float32:
        return torch.randn(part.shape, generator=generator)
    raw = bytes_of(part)
    n = int(torch.randint(1, len(raw) + 1, (), generator=generator)) if torch.rand((), generator=generator) < 0.3 else 1
    at = torch.randint(len(raw), (n,), generator=generator).numpy()
    kind = int(torch.randint(4, (), generator=generator))
    new = torch.randint(256, (n,), generator=generator).to(torch.uint8).numpy()
    raw[at] = (new, new % 4, 255, 0)[kind]
    return part


def twin_of(layer, x):
    if isinstance(layer, SparseLinear):
        return linear_twin(x, *layer.parts, layer.bias, False)  # noqa: FBT003 - the operator's
    kernel = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    return convolution_twin(x, *layer.parts, layer.bias, *kernel, layer.groups, False)  # noqa: FBT003


def outcome(call):
    try:
        return call()
    except StateError as error:
        assert "damaged" in str(error)  # noqa: PT017 - the message of one of two outcomes
        return None


def agree(layer, x):
    """Whether the layer and its twin say the same; what they say: None where they refuse."""
    ours, twins = outcome(lambda: layer(x)), outcome(lambda: twin_of(layer, x))
    assert (ours is None) == (twins is None)
    if ours is not None:
        torch.testing.assert_close(ours, twins, atol=1e-3, rtol=1e-3, equal_nan=True)
    return ours


def mutations(layer, inputs, seed):
    """Damage a layer again and again; how often it was refused."""
    generator, n_refused = torch.Generator().manual_seed(seed), 0
    names = [name for name in ("starts", "indices", "values", "scales") if getattr(layer, name) is not None]
    ways = COUNTED if layer.format.is_packed else [*NOT_COUNTED, *COUNTED]
    whole = {name: getattr(layer, name).clone() for name in names}
    for i in range(N_MUTATIONS):
        name = names[i % len(names)]
        ways[i // len(names) % len(ways)](layer, name, mutated(whole[name], generator))
        n_refused += sum(agree(layer, x) is None for x in inputs)
        setattr(layer, name, whole[name].clone())
        assert all(agree(layer, x) is not None for x in inputs[:1])
    return n_refused


# ---- the laws --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(("name", "values"), FORMS)
def test_a_linear_layer_refuses_or_answers_as_its_twin(name, values):
    layer = SparseLinear(compress(sparse(37, 70), format=name, values=values), torch.randn(37))
    inputs = [torch.randn(n, 70) for n in (1, 16, 64)]
    assert mutations(layer, inputs, seed=FORMS.index((name, values))) > 0


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize(("name", "values"), FORMS)
def test_so_does_one_of_many_columns(name, values):
    layer = SparseLinear(compress(sparse(5, 5000, density=0.05), format=name, values=values), None)
    assert mutations(layer, [torch.randn(n, 5000) for n in (1, 33)], seed=FORMS.index((name, values))) > 0


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_so_does_a_convolution(case, name):
    dense, shape = CONVOLUTIONS[case]
    matrix = compress(sparse(*dense.weight.shape), format=name, values=["fp32", "int8"][len(case) % 2])
    layer = SparseConvolution(matrix, dense.bias, dense)
    assert mutations(layer, [torch.randn(shape)], seed=len(case)) > 0


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("way", NOT_COUNTED)
@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if kind.is_packed])
def test_what_torch_does_not_count_is_seen_when_the_layer_is_loaded_again(way, name):
    layer = SparseLinear(compress(sparse(37, 70), format=name), None)
    inputs = [torch.randn(n, 70) for n in (1, 16)]
    before = [layer(x) for x in inputs]
    way(layer, "values", -layer.values)
    assert all(torch.equal(layer(x), y) for x, y in zip(inputs, before, strict=True))
    layer.load_state_dict(layer.state_dict())
    assert all(torch.equal(layer(x), -y) for x, y in zip(inputs, before, strict=True))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("n_samples", [1, 16])
def test_columns_in_any_order_are_what_they_say(n_samples):
    """Kernels do not look at the order: the same columns in another order, and equal ones, which add up."""
    layer, x = SparseLinear(compress(sparse(20, 50)), None), torch.randn(n_samples, 50)
    expected = layer(x)
    back = torch.cat([torch.arange(a, b).flip(0) for a, b in pairwise(layer.starts.tolist())])
    layer.indices, layer.values = layer.indices.view(torch.int16)[back].view(torch.uint16), layer.values[back]
    torch.testing.assert_close(agree(layer, x), expected)
    layer.indices.view(torch.int16).zero_()
    torch.testing.assert_close(agree(layer, x), x[:, :1] * decompress(layer.matrix)[:, :1].t())
    with pytest.raises(StateError, match="must ascend"):
        check(layer.matrix)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("name", FORMATS)
def test_a_column_at_the_very_edge_is_legal_and_the_next_is_not(name):
    """Every number of columns around a vector: the last column is read, the one after it is refused."""
    for n_columns in (1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64, 100):
        weight = torch.zeros(3, n_columns)
        weight[:, -1] = 1
        layer = SparseLinear(compress(weight, format=name), None)
        for n_samples in (1, 5):
            x = torch.randn(n_samples, n_columns)
            assert torch.equal(agree(layer, x), x[:, -1:].expand(-1, 3))
        if name == "bitmask":
            layer.indices[1, -1] <<= 1
            if n_columns % 8 == 0:
                layer.indices[0, -1] |= 1  # as many bits as before, in another row
        else:
            layer.indices.view(torch.uint8)[len(layer.indices.view(torch.uint8)) // 3] += 1
        for n_samples in (1, 5):
            assert agree(layer, torch.randn(n_samples, n_columns)) is None


@pytest.mark.usefixtures("level")
def test_gaps_that_come_round_to_column_0_are_refused():
    """The sum of the gaps passes 2**32, or 2**31: the row's last column looks legal."""
    layer = SparseLinear(compress(torch.eye(2, 300), format="gaps8"), None)
    for n in ((1 << 24) + 1, 1 << 23) if native.library() else (1 << 20,):
        layer.starts = torch.tensor([0, n - 1, n], dtype=torch.int32)
        layer.indices, layer.values = torch.full((n,), 255, dtype=torch.uint8), torch.zeros(n)
        for n_samples in (1, 2):
            with pytest.raises(StateError, match="gaps of a row"):
                layer(torch.zeros(n_samples, 300))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(("name", "values"), FORMS)
def test_parts_of_other_sizes_are_refused(name, values):
    """Shorter, longer, of another type, spread out or gone: at every call, also where an address is used again."""
    layer, x = SparseLinear(compress(sparse(9, 40), format=name, values=values), None), torch.randn(2, 40)
    for part in ("starts", "indices", "values", "scales"):
        whole = getattr(layer, part)
        if whole is None:
            layer.scales = torch.ones(9)
            with pytest.raises(StateError, match="scales must be float32"):
                layer(x)
            layer.scales = None
            continue
        raw = whole.view(torch.int16) if whole.dtype == torch.uint16 else whole
        for wrong in (raw[:-1], torch.cat([raw, raw]), raw[:0], raw.double(), raw[:1].expand(raw.shape), raw[None]):
            layer(x)
            same = wrong.view(torch.uint16) if raw is not whole and wrong.dtype == raw.dtype else wrong
            setattr(layer, part, same)
            with pytest.raises(StateError, match=r"must be|damaged|cannot write"):
                layer(x)
            setattr(layer, part, whole)
        setattr(layer, part, whole.clone())
        getattr(layer, part).untyped_storage().resize_(1)
        with pytest.raises(StateError, match="in storages that hold all of them"):
            layer(x)
        setattr(layer, part, whole)
    assert agree(layer, x) is not None


@pytest.mark.usefixtures("level")
def test_parts_on_another_device_are_refused():
    layer, x = SparseLinear(compress(sparse(9, 40)), None), torch.randn(2, 40)
    layer.values = layer.values.to("meta")
    with pytest.raises(StateError, match="must be on one device"):
        layer(x)
    with pytest.raises(OptionError, match="x is on cpu, the sparse matrix on meta"):
        layer.to("meta")(x)


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("lost", ["x", "bias"])
def test_an_input_that_lost_its_memory_is_refused(lost):
    bias, x, dense = torch.randn(9), torch.randn(2, 40), nn.Conv1d(40, 9, 1)
    linear = SparseLinear(compress(sparse(9, 40)), bias)
    convolution = SparseConvolution(compress(sparse(9, 40, 1)), bias, dense)
    calls = [(linear, x), (linear, x[:1]), (linear, x.view(40, 2).t()), (convolution, x.view(1, 40, 2))]
    {"x": x, "bias": bias}[lost].untyped_storage().resize_(4)
    for layer, given in calls:
        with pytest.raises(OptionError, match=f"{lost} of shape .* has lost its memory"):
            layer(given)


@pytest.mark.usefixtures("level")
def test_a_partial_state_under_inference_mode_is_refused():
    with torch.inference_mode():
        layer, x = SparseLinear(compress(sparse(10, 20)), None), torch.randn(2, 20)
        before = layer(x)
        with pytest.raises(StateError, match="is damaged"):
            layer.load_state_dict({"indices": torch.full_like(layer.indices, 30000)}, strict=False)
        assert torch.equal(layer(x), before)
        layer.starts.mul_(1 << 20)
        with pytest.raises(StateError, match="starts must begin with 0"):
            layer(x)


def test_a_convolution_of_no_channels_gives_its_bias():
    dense = nn.Conv2d(1, 4, 3)
    dense.in_channels = 0
    layer = SparseConvolution(compress(torch.zeros(4, 0, 3, 3)), dense.bias, dense)
    y = layer(torch.zeros(2, 0, 5, 5))
    assert torch.equal(y, dense.bias[:, None, None].expand(2, 4, 3, 3))


def test_exported_programs_are_held_to_the_same():
    layer, x = SparseLinear(compress(sparse(10, 20), format="gaps8"), None), torch.randn(4, 20)
    program = torch.export.export(layer, (x,)).module()
    assert torch.equal(program(x), layer(x))
    bytes_of(next(b for n, b in program.named_buffers() if n.endswith("indices")))[:] = 255
    with pytest.raises(StateError, match="gaps of a row"):
        program(x)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("name", FORMATS)
def test_entries_where_there_are_no_columns_are_refused(name):
    layer = SparseLinear(compress(torch.zeros(2, 0), format=name), None)
    layer.starts, layer.values = torch.tensor([0, 20, 40], dtype=torch.int32), torch.ones(40)
    if name != "bitmask":
        layer.indices = torch.zeros(40, dtype=layer.indices.dtype)
    for n_samples in (1, 3):
        assert agree(layer, torch.zeros(n_samples, 0)) is None


# ---- while another thread writes -------------------------------------------------------------------------------------


def written_to(layers, stop):
    """Write random bytes into the starts and indices and put the sound ones back, until told to stop."""
    parts = [part.view(-1).view(torch.uint8) for layer in layers for part in (layer.starts, layer.indices)]
    whole = [part.clone() for part in parts]
    while not stop.is_set():
        for part, sound in zip(parts, whole, strict=True):
            part.random_(0, 256)
            part.copy_(sound)


@pytest.mark.usefixtures("compiled_level")
def test_nothing_is_read_outside_while_another_thread_writes():
    """A signal would end this process."""
    weight, dense = sparse(60, 63, 3, 3), nn.Conv2d(63, 60, 3)
    calls = []
    for name, values in (("columns16", "fp32"), ("gaps8", "int8"), ("bitmask", "fp16")):
        matrix = compress(weight, format=name, values=values)
        calls += [(SparseLinear(matrix, None), torch.randn(n, 567)) for n in (1, 16)]
        calls.append((SparseConvolution(matrix, None, dense), torch.randn(1, 63, 8, 8)))
    stop, outcomes, end = threading.Event(), set(), time.monotonic() + 0.4
    writer = threading.Thread(target=written_to, args=([layer for layer, _ in calls], stop))
    writer.start()
    try:
        while time.monotonic() < end or None not in outcomes:
            outcomes |= {outcome(lambda layer=layer, x=x: len(layer(x))) for layer, x in calls}
    finally:
        stop.set()
        writer.join()


@pytest.mark.usefixtures("compiled_level")
def test_another_thread_may_give_the_parts_and_the_input_other_memory():
    """A call goes on with the memory that it began with, and nothing that is sound is refused meanwhile."""
    layer, x = SparseLinear(compress(sparse(900, 4000)), torch.randn(900)), torch.randn(16, 4000)
    expected, stop = layer(x), threading.Event()

    def give():
        while not stop.is_set():
            for tensor in (layer.starts, layer.indices, layer.values, layer.bias, x):
                tensor.data = tensor.detach().clone()

    giver, end = threading.Thread(target=give), time.monotonic() + 0.3
    giver.start()
    try:
        while time.monotonic() < end:
            torch.testing.assert_close(layer(x), expected, atol=0, rtol=0)
    finally:
        stop.set()
        giver.join()


# ---- another tensor in the same place --------------------------------------------------------------------------------

ROWS = 64
BASE = torch.arange(2.0 * ROWS)

# In the place of BASE[:ROWS], which the bias was at the call before.
BIASES = {
    "every second": lambda bias: setattr(bias, "data", BASE[::2]),
    "one for all": lambda bias: setattr(bias, "data", BASE[:1].expand(ROWS)),
    "as strided": lambda bias: bias.as_strided_((ROWS,), (2,)),
    "fewer": lambda bias: setattr(bias, "data", BASE[:3]),
    "of two dimensions": lambda bias: setattr(bias, "data", BASE[:ROWS].view(-1, 2)),
    "of another dtype": lambda bias: setattr(bias, "data", BASE[:ROWS].view(torch.int32)),
    "with its sign turned": lambda bias: setattr(bias, "data", torch._neg_view(BASE[:ROWS])),
}
PARTS = {
    "fewer": lambda part: setattr(part, "data", part.data[:-3]),
    "of another dtype": lambda part: setattr(part, "data", part.data.view(torch.int8)),
    "as strided": lambda part: part.as_strided_((len(part) // 2,), (2,)),
}


def layers_of(values="fp32", bias=None):
    dense = nn.Conv1d(40, ROWS, 1)
    bias = torch.zeros(ROWS) if bias is None else bias
    yield SparseLinear(compress(sparse(ROWS, 40), values=values), bias), (torch.randn(2, 40), torch.randn(20, 40))
    matrix = compress(sparse(ROWS, 40, 1), values=values)
    yield SparseConvolution(matrix, bias, dense), (torch.randn(1, 40, 5), torch.randn(2, 40, 60))


def answer(call):
    try:
        return call()
    except (OptionError, StateError) as error:
        return type(error)


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("values", ["fp32", "int8"])
@pytest.mark.parametrize("change", BIASES)
def test_another_bias_in_the_same_place_is_seen(change, values):
    for layer, inputs in layers_of(values, BASE[:ROWS].clone()):
        layer.bias.data = BASE[:ROWS]
        for x in inputs:
            layer(x)
        BIASES[change](layer.bias)
        for x in inputs:
            if change == "with its sign turned":
                expected = layer(x)
                layer.bias.data = -BASE[:ROWS]
                torch.testing.assert_close(expected, layer(x))
                BIASES[change](layer.bias)
            else:
                assert isinstance(answer(lambda layer=layer, x=x: layer(x)), type)


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("name", ["starts", "indices", "values", "scales"])
@pytest.mark.parametrize("change", PARTS)
def test_another_part_in_the_same_place_is_refused(change, name):
    for layer, inputs in layers_of("int8"):
        if change == "of another dtype" and name == "values":
            continue  # they are int8
        for x in inputs:
            layer(x)
        PARTS[change](getattr(layer, name))
        for x in inputs:
            assert answer(lambda layer=layer, x=x: layer(x)) is StateError


@pytest.mark.usefixtures("compiled_level")
def test_an_input_with_its_sign_turned_is_read_with_its_sign():
    for layer, inputs in layers_of():
        for x in inputs:
            torch.testing.assert_close(layer(torch._neg_view(x)), layer(-x))
