import copy
import pickle
import weakref

import pytest
import torch
from torch import nn

from prunecell import Lowest, Pruner, PruneSpec, Static
from prunecell.archive import save
from prunecell.errors import NothingSparseWarning, PlanError, StateError, UnknownNameError
from prunecell.sparse import conversion
from prunecell.sparse.convert import compact_
from prunecell.sparse.layers import SparseConvolution, SparseLinear, SparseMatrix
from prunecell.sparse.recurrent import SparseLSTM

pytestmark = pytest.mark.usefixtures("everything_wins")


def pruned(model, sparsity=0.95):
    Pruner(model, PruneSpec(schedule=Static(sparsity=sparsity), filler=Lowest())).finalize()
    return model.eval()


def n_sparse(model):
    return sum(isinstance(module, SparseMatrix) for module in model.modules())


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.one, self.two = nn.Linear(32, 32), nn.Linear(32, 32)
        self.two.weight = self.one.weight
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.two(self.one(self.embed(x))))


MODELS = {
    "linear": (lambda: nn.Linear(64, 32), (5, 64), 1),
    "mlp": (lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.Linear(16, 4)), (5, 64), 3),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(16, 8, 5, stride=2, padding=2), nn.ReLU()), (3, 16, 20), 1),
    "conv2d": (lambda: nn.Conv2d(16, 8, (3, 5), padding=(2, 1), dilation=2, groups=2), (3, 16, 14, 15), 1),
    "same": (lambda: nn.Conv2d(16, 8, 4, padding="same"), (3, 16, 9, 9), 1),
    "circular": (lambda: nn.Conv2d(16, 8, 3, padding=1, padding_mode="circular", bias=False), (3, 16, 9, 9), 1),
    "unbatched": (lambda: nn.Conv2d(16, 8, 3), (16, 9, 9), 1),
    "conv3d": (lambda: nn.Conv3d(8, 8, 3, padding=1), (2, 8, 5, 6, 7), 1),
    "no batch": (lambda: nn.Linear(64, 32), (64,), 1),
    "three axes": (lambda: nn.Linear(64, 32), (2, 3, 64), 1),
    "lstm": (lambda: nn.LSTM(32, 32, num_layers=2, bidirectional=True, batch_first=True), (3, 7, 32), 8),
    "lstm, projected": (lambda: nn.LSTM(32, 32, proj_size=8), (7, 3, 32), 3),
    "lstm, unbatched": (lambda: nn.LSTM(32, 32), (7, 32), 2),
    "encoder": (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64), 2), (7, 3, 32), 12),
}


def outputs(model, x):
    y = model(x)
    return torch.cat([y[0].flatten(), *(s.flatten() for s in y[1])]) if isinstance(y, tuple) else y


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("prefer", ["speed", "memory"])
@pytest.mark.parametrize("way", ["own weights", "archive", "archive into meta"])
def test_the_sparse_model_gives_the_outputs_of_the_dense_one(name, prefer, way, tmp_path):
    torch.manual_seed(0)
    make, shape, n_layers = MODELS[name]
    model, x = pruned(make()), torch.randn(shape)
    with torch.no_grad():
        expected = outputs(model, x)
    if way == "own weights":
        small = compact_(model, prefer=prefer)
    else:
        save(model, tmp_path / "model.pcell")
        with torch.device("meta" if "meta" in way else "cpu"):
            fresh = make().eval()
        small = compact_(fresh, tmp_path / "model.pcell", prefer=prefer)
    assert n_sparse(small) == n_layers
    assert not any(tensor.is_meta for tensor in small.state_dict().values())
    with torch.inference_mode():
        close(outputs(small, x), expected)


@pytest.mark.parametrize(("values", "tolerance"), [("fp16", 2e-3), ("int8", 2e-2)])
def test_narrow_values_are_close(values, tolerance):
    torch.manual_seed(0)
    model, x = pruned(nn.Linear(256, 64)), torch.randn(8, 256)
    expected = model(x).detach()
    assert (compact_(model, values=values)(x) - expected).abs().max() < tolerance


def test_dense_is_chosen_where_nothing_wins():
    model = nn.Sequential(nn.Linear(64, 64), nn.Conv2d(4, 4, 3), nn.LSTM(8, 8), nn.MultiheadAttention(8, 2))
    before = list(model)
    with pytest.warns(
        NothingSparseWarning, match=r"not one weight sparse: with 1 sample at once dense is faster at 0 % zeros"
    ):
        assert list(compact_(model)) == before


@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize("frozen", ["", "weight", "bias"])
@pytest.mark.parametrize(
    ("make", "full"),
    [
        (lambda: nn.LSTM(32, 32), "weight_hh_l0"),
        (lambda: nn.MultiheadAttention(32, 2), "in_proj_weight"),
        (lambda: nn.MultiheadAttention(32, 2, kdim=16, vdim=16), "k_proj_weight"),
        (lambda: nn.MultiheadAttention(32, 2), "out_proj.weight"),
    ],
)
def test_a_dense_part_of_a_sparse_layer_stays_frozen_or_thawed(make, full, frozen, from_file, tmp_path):
    model = pruned(make(), 0.95)
    model.get_parameter(full).data.fill_(1.0)  # without a zero it stays dense
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (frozen and frozen in name))
    save(model, tmp_path / "model.pcell")
    small = compact_(model, tmp_path / "model.pcell" if from_file else None)
    parts = [part for part in small.modules() if isinstance(part, nn.Linear)]
    assert parts
    assert {part.weight.requires_grad for part in parts} == {frozen != "weight"}
    assert {part.bias.requires_grad for part in parts} == {frozen != "bias"}


def test_tied_weights_stay_tied_and_embeddings_dense(tmp_path):
    torch.manual_seed(0)
    model, x = pruned(Tied()), torch.arange(50)
    expected = model(x).detach()
    save(model, tmp_path / "model.pcell")
    with torch.device("meta"):
        fresh = Tied().eval()
    for small in (compact_(model), compact_(fresh, tmp_path / "model.pcell")):
        close(small(x).detach(), expected)
        assert isinstance(small.one, SparseLinear)
        assert small.one.values.data_ptr() == small.two.values.data_ptr()
        assert small.head.weight is small.embed.weight


def test_a_sparse_model_is_an_ordinary_module(tmp_path):
    torch.manual_seed(0)
    make = MODELS["mlp"][0]
    model, x = compact_(pruned(make())), torch.randn(5, 64)
    expected = model(x)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)  # noqa: S301 - our own bytes
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other = compact_(pruned(make(), 0.9))  # other lengths of everything
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(other(x), expected)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    close(compiled(x), expected)
    close(torch.export.export(model, (x,)).module()(x), expected)
    y = x.clone().requires_grad_()
    model(y).square().sum().backward()
    dense = nn.Sequential(
        *[nn.Linear(m.in_features, m.out_features) if isinstance(m, SparseLinear) else nn.ReLU() for m in model]
    )
    dense.load_state_dict(
        {
            f"{i}.{k}": getattr(m, k)
            for i, m in enumerate(model)
            if isinstance(m, SparseLinear)
            for k in ("weight", "bias")
        }
    )
    z = x.clone().requires_grad_()
    dense(z).square().sum().backward()
    close(y.grad, z.grad)


def test_a_hostile_state_dict_is_refused_before_a_kernel_sees_it():
    model = compact_(pruned(nn.Linear(64, 32)))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    state["indices"][:] = 255
    with pytest.raises(StateError, match="a sparse matrix 32 x 64 is damaged"):
        model.load_state_dict(state)


def test_the_dense_weight_can_be_had_back():
    model = pruned(nn.Conv2d(8, 4, 3, groups=2))
    weight = model.weight.detach().clone()
    small = compact_(model)
    assert isinstance(small, SparseConvolution)
    assert torch.equal(small.weight, weight)


def test_lstm_takes_packed_sequences_and_states():
    torch.manual_seed(0)
    model = pruned(nn.LSTM(32, 32, bidirectional=True, num_layers=2))
    x = nn.utils.rnn.pack_sequence([torch.randn(n, 32) for n in (3, 7, 5)], enforce_sorted=False)
    state = torch.randn(4, 3, 32), torch.randn(4, 3, 32)
    with torch.no_grad():
        expected, (hidden, cell) = model(x, state)
        small = compact_(copy.deepcopy(model))
        assert isinstance(small, SparseLSTM)
        y, (h, c) = small(x, state)
    close(y.data, expected.data)
    close(h, hidden)
    close(c, cell)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_attention_takes_masks_and_gives_weights(batch_first, need_weights, bias):
    torch.manual_seed(0)
    model = pruned(nn.MultiheadAttention(32, 4, batch_first=batch_first, bias=bias, kdim=16, vdim=24))
    q, k, v = torch.randn(2, 5, 32), torch.randn(2, 7, 16), torch.randn(2, 7, 24)
    if not batch_first:
        q, k, v = (t.transpose(0, 1) for t in (q, k, v))
    options = {
        "key_padding_mask": torch.tensor([[False] * 7, [False] * 4 + [True] * 3]),
        "attn_mask": torch.ones(5, 7).triu(3).bool(),
        "need_weights": need_weights,
        "average_attn_weights": False,
    }
    with torch.no_grad():
        expected, weights = model(q, k, v, **options)
        small = compact_(copy.deepcopy(model))
        assert n_sparse(small) == 4
        y, found = small(q, k, v, **options)
    close(y, expected)
    if need_weights:
        close(found, weights)
    else:
        assert found is None


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_whole_encoder_with_padding_does_not_go_around_the_modules():
    torch.manual_seed(0)
    model = pruned(nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2))
    x, padding = torch.randn(2, 7, 32), torch.tensor([[False] * 7, [False] * 4 + [True] * 3])
    with torch.no_grad():
        expected = model(x, src_key_padding_mask=padding)
        y = compact_(model)(x, src_key_padding_mask=padding)
    close(y[~padding], expected[~padding])


def test_an_archive_that_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    path = tmp_path / "model.pcell"
    save(pruned(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))), path)
    for model, message in (
        (
            nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 5)),
            r"1\.weight: the archive has the shape \(4, 8\), the model \(5, 8\)",
        ),
        (nn.Sequential(nn.Linear(8, 8)), r"not in the model: '1\.weight'"),
        (
            nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4), nn.PReLU()),
            r"1 tensor of the model is not in .*: '2\.weight'",
        ),
    ):
        layers = list(model)
        with pytest.raises(StateError, match=message):
            compact_(model, path)
        assert list(model) == layers


def test_layers_with_hooks_stay_as_they_are():
    model = pruned(nn.Sequential(nn.Linear(64, 32)))
    model[0].register_forward_hook(lambda *_: None)
    with pytest.warns(NothingSparseWarning):
        assert isinstance(compact_(model)[0], nn.Linear)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefer": "sped"}, "prefer='sped' is illegal; did you mean 'speed'"),
        ({"values": "fp8"}, "values='fp8' is illegal"),
    ],
)
def test_unknown_names_are_refused(options, message):
    model = pruned(nn.Sequential(nn.Linear(64, 32)))
    with pytest.raises(UnknownNameError, match=message):
        compact_(model, **options)
    assert isinstance(model[0], nn.Linear)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("values", ["fp32", "int8"])
def test_other_dtypes_go_through_and_the_matrix_stays_as_it_is(dtype, values):
    model = compact_(pruned(nn.Sequential(nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 8))), values=values)
    x = torch.randn(2, 8, 4, 4)
    expected = model(x)
    assert n_sparse(model.to(dtype)) == 2
    y = model(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), expected, atol=0.05, rtol=0.05)
    torch.testing.assert_close(model.float()(x), expected)


def test_autocast_goes_through():
    model = compact_(pruned(nn.Sequential(nn.Linear(32, 64), nn.Linear(64, 64))))
    dense = nn.Linear(64, 32)
    x = torch.randn(4, 64)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(dense(x))
    torch.testing.assert_close(y.float(), model(dense(x)), atol=0.05, rtol=0.05)


@pytest.mark.usefixtures("no_garbage_collection")
def test_each_dense_weight_goes_before_the_next_layer_is_made(monkeypatch):
    model = pruned(nn.Sequential(*(nn.Linear(64, 64) for _ in range(4))))
    weights = [weakref.ref(layer.weight) for layer in model]
    alive = []
    compress = conversion.compress_chunks

    def counted(*args, **options):
        alive.append(sum(weight() is not None for weight in weights))
        return compress(*args, **options)

    monkeypatch.setattr(conversion, "compress_chunks", counted)
    compact_(model)
    assert alive == [4, 3, 2, 1]


@pytest.mark.usefixtures("everything_wins")
def test_a_pruner_says_which_weights_are_in_sparse_layers_already():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    nn.init.sparse_(model[0].weight, sparsity=0.95)
    model[0] = compact_(model[0])
    spec = PruneSpec(schedule=Static(sparsity=0.5))
    report = Pruner(model, spec).report()
    assert [w.name for w in report.weights] == ["1.weight"]
    assert ("0.weight", "in a sparse layer that compact_ made, and counted nowhere here") in report.skipped
    with pytest.raises(PlanError, match=r"0\.weight: in a sparse layer that compact_ made"):
        Pruner(model[:1], spec)
