"""compact_ from a file gives the tensors that load_state_dict gives; what it refuses leaves the model as it was."""

import copy
import zlib
from random import Random

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from prunecell import compact_, compact_report, load, meta_weights, save
from prunecell.archive import Archive, inspect
from prunecell.archive.container import read_file
from prunecell.archive.opened import OpenFile
from prunecell.codecs.encode import Scaled
from prunecell.errors import FormatError, OptionError, OptionTypeError, StateError
from prunecell.sparse.layers import SparseLinear, SparseMatrix

pytestmark = [
    pytest.mark.usefixtures("everything_wins"),
    pytest.mark.filterwarnings("ignore::prunecell.errors.NothingSparseWarning"),
]


def thinned(model):
    """Nine tenths of each weight are zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter[torch.rand_like(parameter) < 0.9] = 0
    return model.eval()


def filled(model, seed):
    """Other values everywhere; counters count."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if not tensor.is_floating_point():
                tensor.add_(seed)
            elif "shift" not in name:
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return model


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(64, 64)
        self.one, self.two = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.two.weight = self.one.weight
        self.head = nn.Linear(64, 64, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.two(self.one(self.embed(x.argmax(-1)))))


class SharedBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64))
        self.again = self.block
        self.layers = nn.ModuleList([self.block[0], self.block[0]])

    def forward(self, x):
        return self.layers[1](self.again(self.block(self.layers[0](x))))


class Scaled2(nn.Module):
    """A layer with an extra state, a 0-d buffer and a buffer that no file holds."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 64)
        self.scale = 1
        self.register_buffer("gain", torch.tensor(1.0))
        self.register_buffer("shift", torch.tensor([0.25]), persistent=False)

    def get_extra_state(self):
        return torch.tensor(self.scale)

    def set_extra_state(self, state):
        self.scale = int(state)

    def forward(self, x):
        return self.fc(x) * self.scale * self.gain + self.shift


class Renamed(nn.Linear):
    """Loads the names of an earlier version."""

    def _load_from_state_dict(self, state, prefix, *args):
        if prefix + "kernel" in state:
            state[prefix + "weight"] = state.pop(prefix + "kernel").t()
        super()._load_from_state_dict(state, prefix, *args)


class SavesOtherwise(nn.Module):
    """Hooks to save under other names and to load them."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 64)
        self._register_state_dict_hook(lambda _module, state, prefix, _: self._rename(state, prefix, "fc.", "linear."))
        self.register_load_state_dict_pre_hook(
            lambda _, state, prefix, *__: self._rename(state, prefix, "linear.", "fc.")
        )

    @staticmethod
    def _rename(state, prefix, old, new):
        for name in [name for name in state if name.startswith(prefix + old)]:
            state[prefix + new + name.removeprefix(prefix + old)] = state.pop(name)

    def forward(self, x):
        return self.fc(x)


class Recurrent(nn.Module):
    """Layers of torch that keep a list of their weights, dense and sparse."""

    def __init__(self):
        super().__init__()
        self.gru, self.rnn, self.lstm = nn.GRU(64, 64), nn.RNN(64, 64), nn.LSTM(64, 64)

    def forward(self, x):
        return self.lstm(self.rnn(self.gru(x)[0])[0])[0]


def frozen(model):
    for parameter in list(model.parameters())[::2]:
        parameter.requires_grad = False
    return model


MODELS = {
    "norms": lambda: nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.PReLU(), nn.Linear(64, 8)),
    "instance norm": lambda: nn.Sequential(
        nn.Linear(64, 64), nn.InstanceNorm1d(8, affine=True, track_running_stats=True)
    ),
    "tied": Tied,
    "shared block": SharedBlock,
    "extra state": lambda: nn.Sequential(Scaled2(), nn.Linear(64, 64)),
    "old weight norm": lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(64, 64)), nn.Linear(64, 64)),
    "weight norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(64, 64)), nn.Linear(64, 64)),
    "spectral norm": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(64, 64)), nn.Linear(64, 64)),
    "old spectral norm": lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(64, 64)), nn.Linear(64, 64)),
    "own way to load": lambda: nn.Sequential(Renamed(64, 64), nn.Linear(64, 64)),
    "saves otherwise": SavesOtherwise,
    "recurrent": Recurrent,
    "frozen": lambda: frozen(nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.GRUCell(64, 64))),
    "parallel": lambda: nn.DataParallel(nn.Sequential(Scaled2(), nn.Linear(64, 64))),
    "compiled": lambda: torch.compile(nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)), backend="eager"),
    "a compiled part": lambda: nn.Sequential(torch.compile(nn.Linear(64, 64), backend="eager"), nn.Linear(64, 64)),
    "the layer itself": lambda: nn.Linear(64, 64),
    "float64": lambda: nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)).double(),
    "attention": lambda: nn.TransformerEncoderLayer(64, 2, 64),
}


def output(model, dtype):
    torch.manual_seed(5)
    with torch.no_grad():
        return model(torch.randn(8, 64, dtype=dtype))


def first_dtype(model):
    return next(model.parameters()).dtype


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize(
    ("dtype", "saved"),
    [(torch.float32, "as a model"), (torch.float16, "as a state_dict"), (torch.float64, "as a model")],
)
@pytest.mark.parametrize("name", MODELS)
def test_a_file_gives_what_load_state_dict_gives(name, dtype, saved, tmp_path):
    make, path = MODELS[name], tmp_path / "model.pcell"
    model = thinned(filled(make(), 1)).to(dtype)
    for part in model.modules():
        if isinstance(part, Scaled2):
            part.scale = 7
    save(model if saved == "as a model" else model.state_dict(), path)
    dense = filled(make(), 2).eval()
    dense.load_state_dict(model.state_dict())
    expected = output(dense, first_dtype(dense))
    with meta_weights():
        empty = make().eval()
    for fresh in (filled(make(), 3).eval(), empty):
        before = dict(fresh.named_parameters(remove_duplicate=False))
        wanted = {name: p.requires_grad for name, p in before.items()}
        small = compact_(fresh, path)
        torch.testing.assert_close(output(small, first_dtype(dense)), expected, atol=1e-4, rtol=1e-4)
        inside = {id(p) for m in small.modules() if isinstance(m, SparseMatrix) for p in m.parameters()}
        for name_, parameter in small.named_parameters(remove_duplicate=False):
            if name_ in before and id(parameter) not in inside:
                assert parameter is before[name_] or before[name_].is_meta
                assert parameter.requires_grad == wanted[name_]
        state = small.state_dict()
        for name_, tensor in dense.state_dict().items():
            assert name_ not in state or (torch.equal(state[name_], tensor) and state[name_].dtype == tensor.dtype)


# ---- names -----------------------------------------------------------------------------------------------------------


def stored(path, model, *, without=(), **more):
    save({name: t for name, t in model.state_dict().items() if name not in without} | more, path)
    return path


@pytest.mark.parametrize("left", [["head.weight", "two.weight"], ["embed.weight", "one.weight"], []])
def test_of_a_tied_tensor_one_name_is_enough(left, tmp_path):
    model = thinned(filled(Tied(), 1))
    path = stored(tmp_path / "model.pcell", model, without=left)
    with torch.device("meta"):
        empty = Tied().eval()
    for fresh in (filled(Tied(), 2).eval(), empty):
        small = compact_(fresh, path)
        torch.testing.assert_close(output(small, torch.float32), output(model, torch.float32))
        assert small.head.weight is small.embed.weight
        assert small.one.values is small.two.values


def test_of_two_tensors_for_one_that_is_tied_the_last_counts_and_the_report_says_so(tmp_path):
    model, other = thinned(filled(Tied(), 1)), torch.rand(64, 64)
    path = stored(tmp_path / "model.pcell", model, **{"head.weight": other})
    dense, small = Tied().eval(), compact_(Tied().eval(), path)
    dense.load_state_dict(load(path))
    torch.testing.assert_close(output(small, torch.float32), output(dense, torch.float32))
    assert torch.equal(small.embed.weight, other)
    assert "'embed.weight' and 'head.weight' are two tensors in the file and one in the model" in str(
        compact_report(small)
    )


def test_not_strict_leaves_what_is_missing_and_ignores_what_is_left_over(tmp_path):
    make = lambda: nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Linear(64, 64))  # noqa: E731
    model, fresh = thinned(filled(make(), 1)), thinned(filled(make(), 2))
    missing = ("0.weight", "1.bias", "2.bias")
    path = stored(tmp_path / "model.pcell", model, without=missing, extra=torch.ones(2))
    dense = copy.deepcopy(fresh)
    found = dense.load_state_dict(load(path), strict=False)
    with pytest.raises(
        StateError,
        match=r"^3 tensors of the model are not in .*\.pcell: '0\.weight', '1\.bias', '2\.bias' \(did you mean .*;"
        r" 1 tensor of .*\.pcell is not in the model: 'extra'; strict=False",
    ):
        compact_(fresh, path)
    small = compact_(fresh, path, strict=False)
    torch.testing.assert_close(output(small, torch.float32), output(dense, torch.float32))
    report = compact_report(small)
    assert report.missing == tuple(found.missing_keys) == missing
    assert report.left_over == tuple(found.unexpected_keys) == ("extra",)
    assert "not in the file: '0.weight', '1.bias', '2.bias'" in str(report)
    with meta_weights(), pytest.raises(StateError, match=r"nothing gives values to '0\.weight', '1\.bias', '2\.bias'"):
        compact_(make(), path, strict=False)


def test_a_layer_with_its_own_way_to_load_takes_the_names_that_it_knows(tmp_path):
    model = thinned(filled(nn.Sequential(Renamed(64, 64)), 1))
    save({"0.kernel": model[0].weight.t(), "0.bias": model[0].bias}, tmp_path / "model.pcell")
    with meta_weights():
        empty = nn.Sequential(Renamed(64, 64))
    small = compact_(empty, tmp_path / "model.pcell")
    torch.testing.assert_close(output(small, torch.float32), output(model, torch.float32), atol=1e-4, rtol=1e-4)
    assert "Renamed has its own way to load" in str(compact_report(small))


def test_a_hook_that_hides_what_is_missing_gives_no_zeros_to_a_model_without_values(tmp_path):
    model = thinned(filled(mlp(), 1))
    path = stored(tmp_path / "model.pcell", model, without=["2.bias"])
    with meta_weights():
        empty = mlp()
    for fresh in (filled(mlp(), 2), empty):
        fresh.register_load_state_dict_post_hook(lambda _, keys: keys.missing_keys.clear())
    bias = fresh[2].bias
    with pytest.raises(StateError, match=r"the archive has no '2\.bias'.*they have no values"):
        compact_(empty, path)
    assert empty[2].bias is bias


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_a_norm_of_weights_takes_the_names_of_the_older_one(tmp_path):
    model = thinned(filled(nn.Sequential(nn.utils.weight_norm(nn.Linear(64, 64)), nn.Linear(64, 64)), 1))
    save(model, tmp_path / "model.pcell")
    small = compact_(MODELS["weight norm"]().eval(), tmp_path / "model.pcell")
    torch.testing.assert_close(output(small, torch.float32), output(model, torch.float32), atol=1e-4, rtol=1e-4)
    assert isinstance(small[1], SparseLinear)


def test_a_file_from_before_norms_counted_loads(tmp_path):
    model = thinned(filled(MODELS["norms"](), 1))
    path = stored(tmp_path / "model.pcell", model, without=["1.num_batches_tracked"])
    with torch.device("meta"):
        empty = MODELS["norms"]().eval()
    for fresh, count in ((filled(MODELS["norms"](), 2).eval(), 2), (empty, 0)):
        small = compact_(fresh, path)
        assert int(small[1].num_batches_tracked) == count
        torch.testing.assert_close(output(small, torch.float32), output(model, torch.float32), atol=1e-4, rtol=1e-4)


# ---- a model that is sparse already ----------------------------------------------------------------------------------


def mlp():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))


def test_a_file_of_a_sparse_model_loads_into_its_twin_and_is_refused_by_a_dense_one(tmp_path):
    model = compact_(thinned(filled(mlp(), 1)), prefer="memory")
    save(model, tmp_path / "model.pcell")
    twin = compact_(compact_(thinned(filled(mlp(), 2))), tmp_path / "model.pcell")
    torch.testing.assert_close(output(twin, torch.float32), output(model, torch.float32))
    for dense in (mlp(), mlp().append(Renamed(64, 64))):
        with pytest.raises(StateError, match=r"saved from a model after compact_ .*'0\.format_code'.*before compact_"):
            compact_(dense, tmp_path / "model.pcell")


def test_what_is_sparse_already_stays_as_it_is():
    model = compact_(thinned(filled(mlp(), 1)), prefer="memory")
    layers = dict(model.named_modules())
    assert compact_(model, values="int8") is model
    assert dict(model.named_modules()) == layers
    assert [layer.form for layer in compact_report(model).layers] == ["gaps8 fp32"] * 2


def test_a_shared_layer_is_one_sparse_layer_at_all_its_places():
    model = compact_(thinned(filled(SharedBlock(), 1)))
    assert isinstance(model.block[0], SparseMatrix)
    assert model.block[0] is model.layers[0] is model.layers[1] is model.again[0]


class HoldsAside(nn.Module):
    """Calls its layers by other ways than its modules, and uses a weight by another way than its layer."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d, self.free = (nn.Linear(64, 64) for _ in range(5))
        self.in_a_list, self.by_name, self.method = [self.a], {"b": self.b}, self.c.forward
        self.weights = (self.d.weight,)

    def forward(self, x):
        return self.free(self.method(self.by_name["b"](self.in_a_list[0](x)))) @ self.weights[0]


def test_layers_that_are_also_held_aside_stay_dense_and_weights_there_are_loaded(tmp_path):
    model = thinned(filled(HoldsAside(), 1))
    save(model, tmp_path / "model.pcell")
    small = compact_(filled(HoldsAside(), 2), tmp_path / "model.pcell")
    torch.testing.assert_close(output(small, torch.float32), output(model, torch.float32), atol=1e-4, rtol=1e-4)
    kinds = [type(layer) for layer in (small.a, small.b, small.c, small.d, small.free)]
    assert kinds == [nn.Linear] * 3 + [SparseLinear] * 2
    assert torch.equal(small.weights[0], model.d.weight)
    assert [layer.reason for layer in compact_report(small).layers[:3]] == [
        f"{name} holds it too" for name in ("in_a_list", "by_name", "method")
    ]


# ---- int8 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("prefer", ["speed", "memory"])
def test_int8_with_scales_in_a_file_is_taken_over_as_it_is(prefer, dtype, tmp_path):
    model = thinned(filled(nn.Sequential(nn.Linear(700, 64), nn.Conv1d(64, 32, 3)), 1))
    codes = {}

    def coded(name, tensor):
        """Codes of which few rows reach 127, and scales that are no magnitude over 127."""
        if tensor.ndim < 2:
            return tensor
        integers = (tensor * 20).round().to(torch.int8)
        codes[name] = Scaled(integers=integers, scales=torch.rand(len(tensor)) + 0.5, dtype=tensor.dtype)
        return codes[name]

    path = tmp_path / "model.pcell"
    save(model.to(dtype), path, values=coded)
    small = compact_(nn.Sequential(nn.Linear(700, 64), nn.Conv1d(64, 32, 3)), path, prefer=prefer, values="int8")
    for layer, of in zip(small, codes.values(), strict=True):
        assert torch.equal(layer.scales, of.scales)
        assert torch.equal(layer.values[layer.values != 0], of.integers[of.integers != 0])
        torch.testing.assert_close(
            layer.weight, of.integers.float() * of.scales.view(-1, *[1] * (of.integers.ndim - 1))
        )


# ---- what is refused -------------------------------------------------------------------------------------------------


def snapshot(model):
    modules = [(name, id(module), type(module), {**vars(module)}.keys()) for name, module in model.named_modules()]
    places = [(name, id(t)) for name, t in (*model.named_parameters(remove_duplicate=False), *model.named_buffers())]
    values = {name: t.clone() for name, t in (*model.named_parameters(), *model.named_buffers()) if not t.is_meta}
    return modules, places, values


def assert_unchanged(model, before):
    modules, places, values = snapshot(model)
    assert (modules, places) == before[:2]
    assert values.keys() == before[2].keys()
    for name, tensor in values.items():
        torch.testing.assert_close(tensor, before[2][name], atol=0, rtol=0, equal_nan=True)


def with_value(value, model=None):
    model = thinned(filled(model or mlp(), 1))
    model[2].weight.data[5, 7] = value
    return model


class Fails(nn.Linear):
    """Whose own way to load fails after it has changed things."""

    def _load_from_state_dict(self, *args):
        super()._load_from_state_dict(*args)
        self.note = "loaded"
        raise KeyError("kernel")


class FailsLate(Scaled2):
    def set_extra_state(self, state):
        super().set_extra_state(state)
        raise ValueError("a state of another version")


def damaged(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 16
    path.write_bytes(data)


def meta(make):
    with torch.device("meta"):
        return make()


REFUSED = {
    "NaN as int8": (mlp, with_value(torch.nan), {"values": "int8"}, OptionError, r"2\.weight: .*inf or NaN"),
    "inf as int8": (mlp, with_value(-torch.inf), {"values": "int8"}, OptionError, r"2\.weight: .*inf or NaN"),
    "too large for fp16": (mlp, with_value(1e5), {"values": "fp16"}, OptionError, r"2\.weight: .*at most 65504 fits"),
    "unknown values": (mlp, mlp(), {"values": ["fp16"]}, OptionError, r"values=\['fp16'\] is illegal"),
    "unknown preference": (mlp, mlp(), {"prefer": "size"}, OptionError, "prefer='size' is illegal"),
    "a shape": (lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 63)), mlp(), {}, StateError, "shape"),
    "a shape, not strict": (
        lambda: nn.Sequential(nn.Linear(64, 63), nn.ReLU(), nn.Linear(63, 64)),
        mlp(),
        {"strict": False},
        StateError,
        r"0\.weight: the archive has the shape \(64, 64\), the model \(63, 64\)",
    ),
    "missing": (
        lambda: nn.Sequential(*mlp(), nn.PReLU()),
        mlp(),
        {},
        StateError,
        r"^1 tensor of the model is not in .*\.pcell: '3\.weight' .*; strict=False",
    ),
    "left over": (
        lambda: nn.Sequential(nn.Linear(64, 64)),
        mlp(),
        {},
        StateError,
        r"^2 tensors of .*\.pcell are not in the model: '2\.weight', '2\.bias' ",
    ),
    "complex": (
        mlp,
        {**mlp().state_dict(), "2.bias": torch.ones(64) * 1j},
        {},
        StateError,
        "complex64, which the model's",
    ),
    "a way to load that fails": (
        lambda: nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), Fails(64, 64)),
        thinned(filled(nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Linear(64, 64)), 1)),
        {},
        StateError,
        "Sequential cannot load the archive: 'kernel'",
    ),
    "an extra state that fails": (
        lambda: nn.Sequential(FailsLate(), nn.Linear(64, 64)),
        thinned(filled(nn.Sequential(Scaled2(), nn.Linear(64, 64)), 1)),
        {},
        StateError,
        "a state of another version",
    ),
    "NaN as int8, with its own way to load": (
        lambda: nn.Sequential(Renamed(64, 64), nn.ReLU(), nn.Linear(64, 64)),
        with_value(torch.nan),
        {"values": "int8"},
        OptionError,
        r"2\.weight: .*inf or NaN",
    ),
    "a buffer on the meta device": (
        lambda: meta(lambda: nn.Sequential(Scaled2(), nn.Linear(64, 64))),
        nn.Sequential(Scaled2(), nn.Linear(64, 64)),
        {},
        StateError,
        r"'0\.shift', which the model has on the meta device",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_the_model_as_it_was(name, tmp_path):
    make, model, options, error, message = REFUSED[name]
    save(model, tmp_path / "model.pcell")
    fresh = filled(make(), 2) if not next(make().parameters()).is_meta else make()
    before = snapshot(fresh)
    with pytest.raises(error, match=message):
        compact_(fresh, tmp_path / "model.pcell", **options)
    assert_unchanged(fresh, before)


@pytest.mark.parametrize("name", [name for name in REFUSED if name.endswith(("int8", "fp16"))])
def test_own_values_that_cannot_be_stored_are_refused_before_the_first_layer_is_sparse(name):
    _, model, options, error, message = REFUSED[name]
    model = copy.deepcopy(model)
    before = snapshot(model)
    with pytest.raises(error, match=message):
        compact_(model, **options)
    assert_unchanged(model, before)


def test_values_are_looked_at_where_a_layer_becomes_sparse_only():
    model = with_value(torch.nan)
    model[2].register_forward_hook(lambda *_: None)
    assert isinstance(compact_(model, values="int8")[0], SparseLinear)


@pytest.mark.parametrize("make", [mlp, lambda: meta(mlp)])
def test_a_damaged_file_is_refused_and_changes_nothing(make, tmp_path):
    save(thinned(filled(mlp(), 1)), tmp_path / "model.pcell")
    damaged(tmp_path / "model.pcell")
    fresh = make()
    before = snapshot(fresh)
    with pytest.raises(FormatError, match=r"'\d\.\w+': its bytes are damaged"):
        compact_(fresh, tmp_path / "model.pcell")
    assert_unchanged(fresh, before)


def test_a_file_that_is_damaged_behind_a_right_checksum_changes_nothing(tmp_path, monkeypatch):
    save(thinned(filled(mlp(), 1)), tmp_path / "model.pcell")
    chunks = Archive.chunks

    def broken(self, name):
        yield from chunks(self, name)
        if name == "2.weight":
            raise FormatError("3 positions for 4 kept words")

    monkeypatch.setattr(Archive, "chunks", broken)
    fresh = mlp()
    before = snapshot(fresh)
    with pytest.raises(FormatError, match="3 positions"):
        compact_(fresh, tmp_path / "model.pcell")
    assert_unchanged(fresh, before)


def seal(path):
    """Write the checksums that are right for the bytes of a file (docs/format.md)."""
    file = OpenFile(path)
    stored = read_file(file).stored.values()
    file.close()
    blocks = sorted({(s.block.start, s.block.stop) for s in stored if s.block is not None})
    data = bytearray(path.read_bytes())
    for i, (start, stop) in enumerate(blocks):
        at = blocks[0][0] - 4 * (len(blocks) - i)
        data[at : at + 4] = zlib.crc32(data[start:stop]).to_bytes(4, "little")
    path.write_bytes(data)


@pytest.mark.parametrize("values", ["exact", "int8", "codebook4"])
def test_any_bytes_behind_right_checksums_are_loaded_or_change_nothing(values, tmp_path):
    path, random, outcomes = tmp_path / "model.pcell", Random(0), set()  # noqa: S311 - no secret
    save(thinned(filled(Recurrent(), 1)), path, values=values)
    good = path.read_bytes()
    start = len(good) - sum(row.bytes_stored for row in inspect(path))
    for _ in range(25):
        data = bytearray(good)
        data[random.randrange(start, len(data))] = random.randrange(256)
        path.write_bytes(data)
        seal(path)
        fresh = random.choice([Recurrent, lambda: meta(Recurrent)])()
        before = snapshot(fresh)
        try:
            compact_(fresh, path, values=random.choice(["fp32", "fp16", "int8"]))
            outcomes.add("loaded")
        except (FormatError, OptionError) as error:
            assert_unchanged(fresh, before)
            outcomes.add("checksum" if "checksum" in str(error) else "refused")
    assert outcomes == {"loaded", "refused"}


def test_a_model_on_the_meta_device_needs_a_file():
    empty = meta(mlp)
    with pytest.raises(StateError, match=r"nothing gives values to '0\.weight', '0\.bias', '2\.weight', '2\.bias'"):
        compact_(empty)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((mlp().state_dict(),), {}, OptionTypeError, r"model is an OrderedDict: it must be a torch\.nn\.Module"),
        ((mlp(), 7), {}, OptionTypeError, "path=7 is illegal: it must be the name of a file or folder, not an int"),
        ((mlp(),), {"strict": False}, OptionError, "strict=False is for loading a file: give its path"),
    ],
)
def test_wrong_arguments_are_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        compact_(*arguments, **options)


@pytest.mark.filterwarnings("ignore:.*jit.* is deprecated")
def test_what_torch_jit_made_is_refused():
    with pytest.raises(OptionTypeError, match=r"of torch\.jit: call compact_ before torch\.jit"):
        compact_(torch.jit.script(mlp()))


@pytest.mark.filterwarnings("ignore:.*jit.* is deprecated")
@pytest.mark.parametrize("first", [lambda: nn.LazyLinear(64), lambda: torch.jit.script(nn.Linear(64, 64))])
def test_parts_that_torch_holds_in_its_own_way_are_loaded(first, tmp_path):
    model = thinned(filled(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)), 1))
    save(model, tmp_path / "model.pcell")
    small = compact_(nn.Sequential(first(), nn.Linear(64, 64)), tmp_path / "model.pcell")
    assert isinstance(small[1], SparseLinear)
    torch.testing.assert_close(output(small, torch.float32), output(model, torch.float32), atol=1e-4, rtol=1e-4)
    with meta_weights():
        empty = nn.Sequential(first(), nn.Linear(64, 64))
    if isinstance(empty[0], torch.jit.ScriptModule):
        with pytest.raises(StateError, match=r"nothing gives values to '0\.weight', '0\.bias'"):
            compact_(empty, tmp_path / "model.pcell")


def test_a_default_device_or_dtype_of_the_caller_changes_nothing(tmp_path):
    model = thinned(filled(mlp(), 1))
    save(model, tmp_path / "model.pcell")
    expected = output(model, torch.float32)
    with torch.device("meta"):
        small = compact_(mlp(), tmp_path / "model.pcell", values="int8")
    torch.testing.assert_close(output(small, torch.float32), expected, atol=0.05, rtol=0.05)
    torch.set_default_dtype(torch.float64)
    try:
        own = compact_(model, values="int8")
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(output(own, torch.float32), expected, atol=0.05, rtol=0.05)


def test_an_extra_state_that_is_no_tensor_is_refused_when_it_is_saved(tmp_path):
    model = Scaled2()
    model.get_extra_state = lambda: {"scale": 7}
    with pytest.raises(
        OptionTypeError, match=r"'_extra_state' is a dict: only tensors can be stored: let get_extra_state"
    ):
        save(model, tmp_path / "model.pcell")
