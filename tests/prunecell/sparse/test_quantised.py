"""Linear layers with int8 activations: they give what their operator gives, and are ordinary modules of a model."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunecell import compact_, compact_report, native, save
from prunecell.errors import OptionError, StateError, UnknownNameError
from prunecell.sparse import packed
from prunecell.sparse.compress import compress
from prunecell.sparse.joints import SparseSequential
from prunecell.sparse.layers import SparseLinear
from prunecell.sparse.quantised_op import quantised_linear

pytestmark = pytest.mark.usefixtures("everything_wins")
INT8 = {"values": "int8", "activations": "int8"}


def matrix(n_rows=40, n_columns=30):
    return compress(torch.randn(n_rows, n_columns) * (torch.rand(n_rows, n_columns) < 0.3), values="int8")


def layer(n_rows=40, n_columns=30):
    return SparseLinear(matrix(n_rows, n_columns), torch.randn(n_rows), activations="int8")


def by_operator(layer, x, *, relu=False):
    return quantised_linear(x, *layer.parts, layer.bias, relu)


def thinned(model):
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight[torch.rand_like(weight) < 0.9] = 0
    return model.eval()


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("n_samples", [1, 2, 3, 64, 100])
def test_the_bits_of_the_operator(n_samples):
    one, x = layer(), torch.randn(n_samples, 30)
    assert torch.equal(one(x), by_operator(one, x))
    assert torch.equal(one.computed(x, relu=True), by_operator(one, x, relu=True))
    assert not torch.equal(one(x), SparseLinear(one.matrix, one.bias)(x))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("shape", [(30,), (0, 30), (2, 3, 30), (2, 0, 30)])
def test_any_shape_before_the_features(shape):
    one, x = layer(), torch.randn(shape)
    assert torch.equal(one(x), by_operator(one, x.reshape(-1, 30)).reshape(*shape[:-1], 40))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("n_samples", [1, 20])
def test_inputs_that_do_not_lie_in_rows(n_samples):
    one, x = layer(), torch.randn(n_samples, 30)
    for given in (x.t().contiguous().t(), x.repeat(1, 2)[:, :30]):
        assert torch.equal(one(given), one(x))


CHANGES = {
    "in place": lambda layer: layer.values.neg_(),
    "the buffer": lambda layer: setattr(layer, "values", -layer.values),
    "a state": lambda layer: layer.load_state_dict({**layer.state_dict(), "values": -layer.values}),
    "the bias in place": lambda layer: layer.bias.data.mul_(2),
    "scales": lambda layer: layer.scales.mul_(3),
}


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("n_samples", [1, 9])
def test_a_change_of_the_layer_is_seen(change, n_samples):
    one, x = layer(), torch.randn(n_samples, 30)
    before = one(x)
    CHANGES[change](one)
    assert not torch.equal(one(x), before)
    assert torch.equal(one(x), by_operator(one, x))


@pytest.mark.usefixtures("level")
def test_a_sequential_does_the_relu_within_and_one_layer_after_the_other():
    model, x = (
        SparseSequential(layer(40, 30), nn.ReLU(), layer(20, 40), SparseLinear(matrix(10, 20), None)),
        torch.randn(5, 30),
    )
    expected = model[3](by_operator(model[2], by_operator(model[0], x).relu()))
    assert torch.equal(model(x), expected)
    assert torch.equal(model[:3](x), by_operator(model[2], by_operator(model[0], x).relu()))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_go_through(dtype):
    one = layer()
    x = torch.randn(3, 30).to(dtype)
    expected = one(x.float()).to(dtype)
    assert torch.equal(one.to(dtype)(x), expected)


@pytest.mark.usefixtures("compiled_level")
def test_copies_pickles_and_states_give_the_same_bits():
    one, x = layer(), torch.randn(9, 30)
    expected = one(x)
    other = layer()
    other.load_state_dict(one.state_dict())
    for copied in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), other):  # noqa: S301 - our own
        assert torch.equal(copied(x), expected)
        assert copied.activations == "int8"
    assert "int8 activations" in str(one)
    assert "activations" not in str(SparseLinear(one.matrix, None))


@pytest.mark.usefixtures("level")
def test_values_that_are_no_int8_are_refused():
    one, floats = layer(), SparseLinear(compress(torch.randn(40, 30)), torch.randn(40))
    before = one(torch.ones(2, 30))
    with pytest.raises(StateError, match=r"values are torch\.float32: a layer with int8 activations has int8 values"):
        one.load_state_dict(floats.state_dict())
    assert torch.equal(one(torch.ones(2, 30)), before)
    one.values, one.scales = one.values.float(), None
    with pytest.raises(StateError, match="int8 values only"):
        one(torch.ones(2, 30))


def test_a_layer_made_under_inference_mode_is_computed_there():
    with torch.inference_mode():
        one, x = layer(), torch.randn(2, 30)
        assert torch.equal(one(x), by_operator(one, x))


@pytest.mark.skipif(native.library() is None, reason="there are no kernels")
def test_the_packed_copy_has_an_entry_a_quad():
    weight = torch.randn(64, 256) * (torch.rand(64, 64) < 0.2).repeat_interleave(4, 1)
    one, floats = (SparseLinear(compress(weight, values="int8"), None, activations=a) for a in ("int8", "fp32"))
    for each in (one, floats):
        each(torch.randn(20, 256))
    n_bytes, n_bytes_of_floats = (packed._forms[id(each.values)].n_bytes for each in (one, floats))
    assert n_bytes < 0.5 * n_bytes_of_floats


# ---- programs --------------------------------------------------------------------------------------------------------


def model_and_input(dtype=torch.float32):
    torch.manual_seed(0)
    dense = thinned(nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 10))).to(dtype)
    return compact_(dense, **INT8), torch.randn(5, 40).to(dtype)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_and_exported_programs_give_the_same_bits():
    model, x = model_and_input()
    with torch.no_grad():
        expected = model(x)
        torch.compiler.reset()
        assert torch.equal(torch.compile(model, backend="aot_eager", fullgraph=True)(x), expected)
        program = torch.export.export(model, (x,), dynamic_shapes=[{0: torch.export.Dim.DYNAMIC}]).module()
        assert torch.equal(program(x), expected)
        assert torch.equal(program(x[:2]), expected[:2])


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float16, 1e-2)])
def test_an_onnx_file_quantises_and_dequantises(dtype, atol):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x = model_and_input(dtype)
    file = io.BytesIO()
    torch.onnx.export(model, (x,), file, dynamo=False, input_names=["x"])
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), model(x).detach(), atol=atol, rtol=1e-4)


# ---- compact_ --------------------------------------------------------------------------------------------------------


class Mixed(nn.Module):
    """Layers that can quantise what they multiply, and others."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 64)
        self.conv = nn.Conv1d(8, 8, 3)
        self.lstm = nn.LSTM(32, 32)
        self.attention = nn.MultiheadAttention(32, 2)

    def forward(self, x):
        return self.fc(x)


@pytest.mark.parametrize("from_file", [False, True])
def test_linear_layers_quantise_and_others_do_not(from_file, tmp_path):
    dense, x = thinned(Mixed()), torch.randn(7, 64)
    path = tmp_path / "model.pcell"
    save(dense, path)
    small = compact_(Mixed() if from_file else copy.deepcopy(dense), path if from_file else None, **INT8)
    report = compact_report(small)
    forms = {facts.name: facts.form for facts in report.layers}
    assert forms.pop("fc.weight") == "columns16 int8, int8 activations"
    assert set(forms.values()) <= {"columns16 int8", None}
    assert [note for note in report.remarks if "fp32 activations" in note] == [
        "sparse matrices with fp32 activations: 7; they are in no Linear layer, or int8 takes no less time"
    ]
    expected = dense(x)
    assert (small(x) - expected).norm() < 0.03 * expected.norm()
    assert small.fc.activations == "int8"
    assert not torch.equal(small(x), compact_(copy.deepcopy(dense), values="int8")(x))


def test_a_layer_that_was_sparse_before_is_reported_as_it_is():
    model = compact_(thinned(Mixed()), **INT8)
    forms = {facts.name: facts.form for facts in compact_report(compact_(model)).layers}
    assert forms["fc.weight"] == "columns16 int8, int8 activations"


def test_fp32_activations_are_the_default_and_change_nothing():
    dense, x = thinned(Mixed()), torch.randn(7, 64)
    default, named = (compact_(copy.deepcopy(dense), values="int8", **how) for how in ({}, {"activations": "fp32"}))
    assert torch.equal(default(x), named(x))
    torch.testing.assert_close(default(x), F.linear(x, default.fc.weight.clone(), default.fc.bias))
    assert not any("activations" in note for note in compact_report(default).remarks)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"activations": "int8"},
            OptionError,
            "activations='int8' needs values='int8', not 'exact': both factors are int",
        ),
        ({**INT8, "prefer": "memory"}, OptionError, "needs prefer='speed', not 'memory': it reads a second copy"),
        ({"activations": "int4"}, UnknownNameError, "activations='int4' is illegal"),
        ({"activations": 8}, UnknownNameError, "activations=8 is illegal"),
    ],
)
def test_wishes_that_cannot_be_are_refused_before_anything_changes(options, error, message):
    model = thinned(Mixed())
    with pytest.raises(error, match=message):
        compact_(model, **options)
    assert type(model.fc) is nn.Linear
