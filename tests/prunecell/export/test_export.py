"""A pruned model computes the same in every form that it is exported in, and its zeros are gone where they can be."""

import math
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy.sparse import csr_array
from torch import nn
from typer.testing import CliRunner

from prunecell import Pruner, PruneSpec, Static, cli, compact_, save
from prunecell.errors import OptionError, OptionTypeError, UnknownNameError
from prunecell.export import FORMATS, export, to_csr, to_onnx, to_safetensors, to_torch_export
from prunecell.export.formats import PROGRAM_FORMATS
from prunecell.export.subject import arguments
from prunecell.files import read

BATCHES = (1, 3, 16)


def pruned_(model, sparsity=0.9):
    Pruner(model, PruneSpec(schedule=Static(sparsity=sparsity))).finalize()
    return model


@pytest.fixture
def pruned(task):
    """A pruned task, in training mode but for one frozen module."""
    task.train(torch.optim.SGD(task.model.parameters(), lr=0.1), steps=2)  # normalisations that do something
    task.frozen = list(pruned_(task.model).children())[-1].eval()
    return task


def outputs(model, *inputs):
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad():
        found = model.eval()(*inputs)
    for module, mode in modes.items():
        module.training = mode
    return found


def run_onnx(path, **inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {name: x.numpy() for name, x in inputs.items()})


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected.numpy(), rtol=1e-5, atol=1e-6)


# ---- every format ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_leaves_the_model_as_it_was(pruned, tmp_path, name):
    model = pruned.model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export(model, tmp_path / "model", example=pruned.x, format=name)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [m for m in model.modules() if not m.training] == list(pruned.frozen.modules())
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled()
    pruned.train(torch.optim.SGD(model.parameters(), lr=0.1), steps=1)


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"torch-export"}))
def test_the_same_model_makes_the_same_bytes(mlp, tmp_path, name):
    for file in ("a", "b"):
        export(mlp.model, tmp_path / file, example=mlp.x, format=name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("ending", "name"),
    [(".onnx", "onnx"), (".npz", "csr"), (".safetensors", "safetensors"), (".pt", "torch"), (".pcell", "pcell")],
)
def test_the_ending_says_which_format(mlp, tmp_path, ending, name):
    export(mlp.model, tmp_path / f"model{ending}", example=mlp.x)
    export(mlp.model, tmp_path / "named", example=mlp.x, format=name)
    assert (tmp_path / f"model{ending}").read_bytes() == (tmp_path / "named").read_bytes()


def test_unknown_names_are_refused_with_the_nearest(mlp, tmp_path):
    with pytest.raises(UnknownNameError, match=r"format='onx' is illegal; did you mean 'onnx'\? Legal: csr, onnx,"):
        export(mlp.model, tmp_path / "model.onnx", format="onx")
    message = r"model\.onx: its ending is none that can be written; did you mean '\.onnx'\? Legal: \.bin, .*\.pt2, "
    with pytest.raises(UnknownNameError, match=message):
        export(mlp.model, tmp_path / "model.onx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PROGRAM_FORMATS)
def test_what_is_traced_needs_a_model_and_an_example(mlp, tmp_path, name):
    with pytest.raises(OptionError, match=f"example=None is illegal with format '{name}'"):
        export(mlp.model, tmp_path / "model", format=name)
    with pytest.raises(OptionTypeError, match=f"format '{name}' needs the model itself, not an OrderedDict"):
        export(mlp.model.state_dict(), tmp_path / "model", example=mlp.x, format=name)
    with pytest.raises(OptionTypeError, match="must be a tensor or a tuple of tensors, not <class 'list'>"):
        export(mlp.model, tmp_path / "model", example=[mlp.x], format=name)


@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_an_example_has_samples(shape):
    with pytest.raises(OptionError, match="must begin with a number of samples"):
        arguments(torch.zeros(shape))


def test_a_single_sample_is_doubled_only_where_all_inputs_have_one():
    assert [x.shape for x in arguments((torch.ones(1, 2), torch.tensor(3.0)))] == [(2, 2), ()]
    assert [x.shape for x in arguments((torch.ones(4, 2), torch.ones(1, 2)))] == [(4, 2), (1, 2)]


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"torch-export"}))
def test_what_compact_made_is_refused(tmp_path, name):
    model = compact_(pruned_(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))), prefer="memory")
    with pytest.raises(OptionError, match="the layer '0' is a SparseLinear, which compact_ made"):
        export(model, tmp_path / "model", example=torch.zeros(2, 64), format=name)


@pytest.mark.parametrize("name", PROGRAM_FORMATS)
def test_what_fails_leaves_the_old_file(mlp, tmp_path, name):
    (tmp_path / "model").write_bytes(b"old")
    mlp.model.train()
    with pytest.raises(RuntimeError):
        export(mlp.model, tmp_path / "model", example=torch.zeros(2, 5), format=name)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
    assert mlp.model.training


# ---- ONNX ------------------------------------------------------------------------------------------------------------


def test_onnx_runtime_computes_the_same(pruned, tmp_path):
    to_onnx(pruned.model, pruned.x[:1], tmp_path / "sparse.onnx")
    to_onnx(pruned.model, pruned.x[:1], tmp_path / "dense.onnx", sparse=False)
    for n in BATCHES:
        x = torch.randn(n, *pruned.x.shape[1:])
        (sparse,) = run_onnx(tmp_path / "sparse.onnx", input=x)
        (dense,) = run_onnx(tmp_path / "dense.onnx", input=x)
        assert np.array_equal(sparse, dense)
        close(sparse, outputs(pruned.model, x))


def test_initializers_are_sparse_where_that_is_smaller(pruned, tmp_path):
    to_onnx(pruned.model, pruned.x, tmp_path / "sparse.onnx")
    to_onnx(pruned.model, pruned.x, tmp_path / "dense.onnx", sparse=False)
    sparse, dense = (onnx.load(tmp_path / f"{name}.onnx") for name in ("sparse", "dense"))
    onnx.checker.check_model(sparse)
    onnx.checker.check_model(dense, full_check=True)
    originals = {tensor.name: tensor for tensor in dense.graph.initializer}
    assert sparse.graph.sparse_initializer
    assert not dense.graph.sparse_initializer
    for tensor in sparse.graph.sparse_initializer:
        original = originals.pop(tensor.values.name)
        values = np.zeros(math.prod(tensor.dims), np.float32)
        values[onnx.numpy_helper.to_array(tensor.indices)] = onnx.numpy_helper.to_array(tensor.values)
        assert np.array_equal(values.reshape(tensor.dims), onnx.numpy_helper.to_array(original))
        assert np.count_nonzero(values) == len(onnx.numpy_helper.to_array(tensor.values))
        assert tensor.ByteSize() < original.ByteSize()
    assert originals.keys() == {tensor.name for tensor in sparse.graph.initializer}
    assert (tmp_path / "sparse.onnx").stat().st_size < (tmp_path / "dense.onnx").stat().st_size


def test_a_model_that_is_not_sparse_stays_dense(mlp, tmp_path):
    to_onnx(mlp.model, mlp.x, tmp_path / "sparse.onnx")
    to_onnx(mlp.model, mlp.x, tmp_path / "dense.onnx", sparse=False)
    assert (tmp_path / "sparse.onnx").read_bytes() == (tmp_path / "dense.onnx").read_bytes()


def test_large_positions_all_zeros_and_negative_zeros(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(3, 40, 3, bias=False), nn.BatchNorm1d(40), nn.Flatten(), nn.Linear(2000, 1100))
    model.append(nn.Linear(1100, 5))
    model[1].weight.data.neg_()  # folded, the pruned weights become -0.0
    pruned_(model, 0.95)
    model[4].weight.data.zero_()
    model[4].bias.data.uniform_()
    x = torch.randn(2, 3, 52)
    for network in (model, model[:4]):
        to_onnx(network, x, tmp_path / "model.onnx")
        close(run_onnx(tmp_path / "model.onnx", input=x)[0], outputs(network, x))
        n_kept = sum(int(layer.weight.count_nonzero()) for layer in network if isinstance(layer, nn.Linear | nn.Conv1d))
        stored = onnx.load(tmp_path / "model.onnx").graph.sparse_initializer
        assert sum(tensor.values.dims[0] for tensor in stored) == n_kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_dtypes(tmp_path, dtype):
    model, x = pruned_(nn.Linear(64, 32)).to(dtype), torch.randn(5, 64, dtype=dtype)
    to_onnx(model, x, tmp_path / "model.onnx")
    assert onnx.load(tmp_path / "model.onnx").graph.sparse_initializer
    (found,) = run_onnx(tmp_path / "model.onnx", input=x)
    torch.testing.assert_close(torch.from_numpy(found), outputs(model, x))


class TwoByTwo(nn.Module):
    """Two inputs, one of which does not count samples; two outputs and nothing."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(30, 20)

    def forward(self, *inputs):
        x, shift = inputs
        y = self.linear(x + shift)
        return {"y": y, "nothing": None, "mean": y.mean(0)}


def test_several_inputs_and_outputs(tmp_path):
    model, shift = pruned_(TwoByTwo()), torch.randn(1, 30)
    to_onnx(model, (torch.randn(4, 30), shift), tmp_path / "model.onnx")
    to_torch_export(model, (torch.randn(4, 30), shift), tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    for n in BATCHES:
        x = torch.randn(n, 30)
        expected = outputs(model, x, shift)
        y, mean = run_onnx(tmp_path / "model.onnx", input_0=x, input_1=shift)
        close(y, expected["y"])
        close(mean, expected["mean"])
        torch.testing.assert_close(program(x, shift), expected)


def test_onnx_has_a_largest_file(tmp_path):
    with pytest.raises(OptionError, match=r"a model of 4,295,098,368 bytes is too large for an ONNX file"):
        to_onnx(nn.Linear(1 << 15, 1 << 15, device="meta"), torch.zeros(1, 1), tmp_path / "model.onnx")


def test_without_the_library_the_extra_is_named(mlp, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "prunecell.export.sparse_onnx", raising=False)
    with pytest.raises(OptionError, match=r"pip install 'prunecell\[onnx\]'"):
        to_onnx(mlp.model, mlp.x, tmp_path / "model.onnx")


# ---- torch.export ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compact", [False, True])
def test_programs_compute_the_same_in_batches_of_any_size(pruned, tmp_path, compact):
    model = compact_(pruned.model.eval(), prefer="memory") if compact else pruned.model
    to_torch_export(model, pruned.x[:1], tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    for n in BATCHES:
        x = torch.randn(n, *pruned.x.shape[1:])
        torch.testing.assert_close(program(x), outputs(model, x))


# ---- tensors ---------------------------------------------------------------------------------------------------------


STATE = {
    "kernel": torch.randn(6, 4, 3, 3) * (torch.rand(6, 4, 3, 3) < 0.2),
    "transposed": torch.eye(5, 3).T,
    "half": torch.tensor([[0.0, 1.5], [-0.0, math.nan]], dtype=torch.bfloat16),
    "eighth": torch.tensor([[0.0, 448.0]]).to(torch.float8_e4m3fn),
    "integers": torch.tensor([[0, 3], [-1, 0]], dtype=torch.int8),
    "no rows": torch.zeros(0, 5),
    "no columns": torch.zeros(5, 0),
    "vector": torch.tensor([0.0, 1.0]),
    "scalar": torch.tensor(7),
}


def test_safetensors_gives_the_bits_back(tmp_path):
    from safetensors.torch import load_file  # noqa: PLC0415 - beside ours, of the same purpose

    state = {**STATE, "tied": STATE["vector"]}
    to_safetensors(state, tmp_path / "model.safetensors")
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        same = (x.reshape(-1).view(torch.uint8) for x in (found[name], tensor))
        assert torch.equal(*same)


def test_safetensors_has_no_name_for_some_dtypes(tmp_path):
    with pytest.raises(OptionError, match="'w' is of complex128, which safetensors cannot hold"):
        to_safetensors({"w": torch.zeros(2, dtype=torch.complex128)}, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", STATE)
def test_scipy_and_numpy_read_the_arrays(tmp_path, name):
    tensor = STATE[name]
    dense = tensor.float().numpy()
    to_csr({name: tensor}, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        if tensor.ndim < 2:
            assert np.array_equal(file[name], dense)
            return
        parts = [file[f"{name}/{part}"] for part in ("data", "indices", "indptr")]
        shape = tuple(file[f"{name}/shape"])
    assert shape == tensor.shape
    matrix = csr_array(tuple(parts), shape=(shape[0], math.prod(shape[1:])))
    matrix.check_format(full_check=True)
    assert matrix.has_canonical_format
    assert np.array_equal(matrix.toarray().reshape(shape), dense, equal_nan=True)
    expected = csr_array(dense.reshape(matrix.shape))
    assert [part.dtype for part in parts[1:]] == [expected.indices.dtype, expected.indptr.dtype]
    assert matrix.nnz == np.count_nonzero(dense)


def test_a_model_as_arrays(pruned, tmp_path):
    export(pruned.model, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        assert {name.split("/")[0] for name in file} == pruned.model.state_dict().keys()


@pytest.mark.parametrize("ending", [".pt", ".pcell", ".safetensors"])
def test_what_is_exported_is_read_again(pruned, tmp_path, ending):
    export(pruned.model, tmp_path / f"model{ending}")
    found, state = read(tmp_path / f"model{ending}"), pruned.model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_the_command_exports_files(pruned, tmp_path, ending):
    save(pruned.model, tmp_path / "model.pcell")
    torch.save(pruned.model.state_dict(), tmp_path / "model.pt")
    export(pruned.model, tmp_path / f"expected{ending}")
    for source in ("model.pcell", "model.pt"):
        words = ["export", str(tmp_path / source), str(tmp_path / f"found{ending}"), "--force"]
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0, done.output
        assert (tmp_path / f"found{ending}").read_bytes() == (tmp_path / f"expected{ending}").read_bytes()


def test_the_command_needs_no_model_class(tmp_path):
    torch.save(STATE, tmp_path / "model.pt")
    done = CliRunner().invoke(cli.app, ["export", str(tmp_path / "model.pt"), str(tmp_path / "model.onnx")])
    assert isinstance(done.exception, OptionError)
