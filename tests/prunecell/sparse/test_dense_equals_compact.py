"""A compacted model does what the dense one does: every module of torch.nn, called every way, and users' patterns."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from prunecell.sparse.convert import compact_
from prunecell.sparse.layers import SparseConvolution, SparseMatrix

pytestmark = [
    pytest.mark.usefixtures("everything_wins"),
    pytest.mark.filterwarnings("ignore::prunecell.errors.NothingSparseWarning"),  # some kinds have no sparse form
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    pytest.mark.filterwarnings("ignore:Using padding='same'"),
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors"),
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature"),
]
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def thinned(model):
    """The model with nine tenths of its weights zero, in evaluation."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight[weight.abs() <= weight.abs().flatten().kthvalue(max(1, weight.numel() * 9 // 10)).values] = 0
    return model.eval()


# ---- the modules of torch.nn -----------------------------------------------------------------------------------------


def among_linear(make):
    """Linear layers before and behind it."""
    torch.manual_seed(0)
    x = torch.randn(5, 16)
    before, module = nn.Linear(16, 16), make()
    n_features = module(before(x)).shape[-1]
    return nn.Sequential(before, module, nn.Linear(n_features, 16), nn.ReLU(), nn.Linear(16, 4)), (x,)


def among_convolutions(make, n_axes):
    """Convolutions before and behind it."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, *[6, 5, 4][:n_axes])
    before, module = CONVOLUTIONS[n_axes](8, 8, 3, padding=1), make()
    n_channels = module(before(x)).shape[1]
    after = CONVOLUTIONS[n_axes](n_channels, 8, 3, padding=1), nn.ReLU(inplace=True), CONVOLUTIONS[n_axes](8, 4, 1)
    return nn.Sequential(before, module, *after), (x,)


def alone(make, *inputs):
    torch.manual_seed(0)
    return make(), tuple(make_input() if callable(make_input) else make_input for make_input in inputs)


class Calls(nn.Module):
    """A module within a function of its own."""

    def __init__(self, call, **modules):
        super().__init__()
        self.call = call
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs):
        return self.call(self, *inputs)


def unpool(self, x):
    y, indices = self.pool(self.first(x))
    return self.last(self.unpool(y, indices))


def two_inputs(self, x, y):
    return self.module(self.left(x), self.right(y))


def time_major(n_times=5, n_samples=3, n_features=16):
    return partial(torch.randn, n_times, n_samples, n_features)


def unpooling(n_axes):
    pool = getattr(nn, f"MaxPool{n_axes}d")(2, return_indices=True)
    layers = {name: CONVOLUTIONS[n_axes](8, 8, 3, padding=1) for name in ("first", "last")}
    return Calls(unpool, pool=pool, unpool=getattr(nn, f"MaxUnpool{n_axes}d")(2), **layers)


VECTORS = {
    **{
        name: getattr(nn, name)
        for name in (
            *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU"),
            *("LogSigmoid", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus"),
            *("Softshrink", "Softsign", "Tanh", "Tanhshrink", "AlphaDropout", "Dropout", "FeatureAlphaDropout", "GLU"),
        )
    },
    "Flatten": nn.Flatten,
    "LayerNorm": lambda: nn.LayerNorm(16),
    "Linear": lambda: nn.Linear(16, 12),
    "LazyLinear": lambda: nn.LazyLinear(12),
    "LogSoftmax": lambda: nn.LogSoftmax(-1),
    "RMSNorm": lambda: nn.RMSNorm(16),
    "Sequential": lambda: nn.Sequential(nn.Linear(16, 16), nn.ReLU()),
    "Softmax": lambda: nn.Softmax(-1),
    "Softmin": lambda: nn.Softmin(-1),
    "Threshold": lambda: nn.Threshold(0.1, -1.0),
    "Unflatten": lambda: nn.Unflatten(1, (4, 4)),
    "BatchNorm1d": lambda: nn.BatchNorm1d(16),
    "LazyBatchNorm1d": nn.LazyBatchNorm1d,
}
IMAGES = {
    **{
        f"{name}{n}d": (partial(getattr(nn, f"{name}{n}d"), *arguments), n)
        for name, arguments in {
            "AdaptiveAvgPool": (4,),
            "AdaptiveMaxPool": (4,),
            "AvgPool": (2,),
            "CircularPad": (1,),
            "ConstantPad": (1, 0.5),
            "Conv": (8, 8, 3),
            "ConvTranspose": (8, 8, 3),
            "Dropout": (),
            "InstanceNorm": (8,),
            "LPPool": (2, 2),
            "LazyConv": (8, 3),
            "LazyConvTranspose": (8, 3),
            "LazyInstanceNorm": (),
            "MaxPool": (2,),
            "ReflectionPad": (1,),
            "ReplicationPad": (1,),
            "ZeroPad": (1,),
        }.items()
        for n in (1, 2, 3)
    },
    "BatchNorm2d": (lambda: nn.BatchNorm2d(8), 2),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(8), 3),
    "LazyBatchNorm2d": (nn.LazyBatchNorm2d, 2),
    "LazyBatchNorm3d": (nn.LazyBatchNorm3d, 3),
    "ChannelShuffle": (lambda: nn.ChannelShuffle(2), 2),
    "CrossMapLRN2d": (lambda: nn.CrossMapLRN2d(3), 2),
    "FractionalMaxPool2d": (lambda: nn.FractionalMaxPool2d(2, output_ratio=0.6), 2),
    "FractionalMaxPool3d": (lambda: nn.FractionalMaxPool3d(2, output_ratio=0.6), 3),
    "GroupNorm": (lambda: nn.GroupNorm(2, 8), 2),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3), 2),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), 2),
    "PixelUnshuffle": (lambda: nn.Sequential(nn.ConstantPad2d((0, 1, 0, 0), 0.0), nn.PixelUnshuffle(2)), 2),
    "Softmax2d": (nn.Softmax2d, 2),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(8), 2),
    "Upsample": (lambda: nn.Upsample(scale_factor=2), 2),
    "UpsamplingBilinear2d": (lambda: nn.UpsamplingBilinear2d(scale_factor=2), 2),
    "UpsamplingNearest2d": (lambda: nn.UpsamplingNearest2d(scale_factor=2), 2),
}
TOKENS = partial(torch.randint, 50, (4, 6))
OTHERS = {
    "AdaptiveLogSoftmaxWithLoss": partial(
        alone, lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 40, [10, 20]), partial(torch.randn, 5, 16), torch.arange(5) * 8
    ),
    "Bilinear": partial(
        alone,
        lambda: Calls(two_inputs, module=nn.Bilinear(8, 8, 4), left=nn.Linear(16, 8), right=nn.Linear(16, 8)),
        partial(torch.randn, 5, 16),
        partial(torch.randn, 5, 16),
    ),
    **{
        name: partial(
            alone,
            lambda name=name: Calls(
                two_inputs, module=getattr(nn, name)(), left=nn.Linear(16, 8), right=nn.Linear(16, 8)
            ),
            partial(torch.randn, 5, 16),
            partial(torch.randn, 5, 16),
        )
        for name in ("CosineSimilarity", "PairwiseDistance")
    },
    "Embedding": partial(alone, lambda: nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 8), nn.ReLU()), TOKENS),
    "EmbeddingBag": partial(alone, lambda: nn.Sequential(nn.EmbeddingBag(50, 16), nn.Linear(16, 8), nn.ReLU()), TOKENS),
    "Fold": partial(alone, lambda: nn.Sequential(nn.Linear(4, 4), nn.Fold((4, 4), 2, stride=2)), torch.ones(2, 12, 4)),
    "Unfold": partial(alone, lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.Unfold(2)), partial(torch.randn, 2, 8, 4, 4)),
    "GRU": partial(alone, lambda: nn.GRU(16, 16), time_major()),
    "GRUCell": partial(alone, lambda: nn.GRUCell(16, 16), partial(torch.randn, 3, 16)),
    "LSTM": partial(alone, lambda: nn.LSTM(16, 16, num_layers=2, bidirectional=True, dropout=0.5), time_major()),
    "LSTMCell": partial(alone, lambda: nn.LSTMCell(16, 16), partial(torch.randn, 3, 16)),
    "RNN": partial(alone, lambda: nn.RNN(16, 16), time_major()),
    "RNNCell": partial(alone, lambda: nn.RNNCell(16, 16), partial(torch.randn, 3, 16)),
    "LinearCrossEntropyLoss": partial(
        alone, lambda: nn.LinearCrossEntropyLoss(16, 16), partial(torch.randn, 5, 16), torch.arange(5)
    ),
    "MaxUnpool1d": partial(alone, lambda: unpooling(1), partial(torch.randn, 2, 8, 6)),
    "MaxUnpool2d": partial(alone, lambda: unpooling(2), partial(torch.randn, 2, 8, 6, 4)),
    "MaxUnpool3d": partial(alone, lambda: unpooling(3), partial(torch.randn, 2, 8, 6, 4, 4)),
    "ModuleDict": partial(
        alone,
        lambda: Calls(
            lambda self, x: self.d["b"](self.d["a"](x)), d=nn.ModuleDict({k: nn.Linear(16, 16) for k in "ab"})
        ),
        partial(torch.randn, 5, 16),
    ),
    "ModuleList": partial(
        alone,
        lambda: Calls(lambda self, x: self.l[1](self.l[0](x)), l=nn.ModuleList(nn.Linear(16, 16) for _ in range(2))),
        partial(torch.randn, 5, 16),
    ),
    "MultiheadAttention": partial(alone, lambda: nn.MultiheadAttention(16, 4, dropout=0.5), *[time_major()] * 3),
    "Transformer": partial(alone, lambda: nn.Transformer(16, 4, 1, 1, 32), time_major(), time_major(4)),
    "TransformerDecoder": partial(
        alone, lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32), 2), time_major(), time_major(4)
    ),
    "TransformerDecoderLayer": partial(
        alone, lambda: nn.TransformerDecoderLayer(16, 4, 32), time_major(), time_major(4)
    ),
    "TransformerEncoder": partial(
        alone, lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2), time_major()
    ),
    "TransformerEncoderLayer": partial(alone, lambda: nn.TransformerEncoderLayer(16, 4, 32), time_major()),
}
WITHOUT_OUTPUTS = {
    *("Container", "Module", "ParameterDict", "ParameterList", "RNNBase", "RNNCellBase", "LinearCrossEntropyOptions"),
    *(name for name in nn.modules.__all__ if name.endswith(("Loss", "Loss2d", "WithLoss"))),  # have no layers ...
} - {"AdaptiveLogSoftmaxWithLoss", "LinearCrossEntropyLoss"}  # ... but for these
if not hasattr(nn, "LinearCrossEntropyLoss"):  # older versions of torch have none
    del OTHERS["LinearCrossEntropyLoss"]
STAY_DENSE = {"GRU", "GRUCell", "LSTMCell", "RNN", "RNNCell"}
CASES = {
    **{name: partial(among_linear, make) for name, make in VECTORS.items()},
    **{name: partial(among_convolutions, *made) for name, made in IMAGES.items()},
    **OTHERS,
}


def test_every_module_of_torch_is_in_the_table():
    assert {*CASES} | WITHOUT_OUTPUTS >= {*nn.modules.__all__}


# ---- the ways of calling ---------------------------------------------------------------------------------------------


def tensors_of(output):
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, PackedSequence):
        return [output.data]
    return [tensor for part in output if part is not None for tensor in tensors_of(part)]


def same(given, expected):
    given, expected = tensors_of(given), tensors_of(expected)
    assert len(given) == len(expected)
    for a, b in zip(given, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        assert a.stride() == b.stride() or a.numel() == 0


def call(model, inputs):
    torch.manual_seed(1)  # for dropout
    return model(*inputs)


def whole(dense, sparse, inputs):
    same(call(sparse, inputs), call(dense, inputs))
    with torch.no_grad():
        same(call(sparse, inputs), call(dense, inputs))


def with_gradients(dense, sparse, inputs):
    gradients = []
    for model in (dense, sparse):
        leaves = [x.clone().requires_grad_() for x in inputs if x.is_floating_point()]
        if not leaves:
            return
        y = call(model, leaves if len(leaves) == len(inputs) else (*leaves, *inputs[len(leaves) :]))
        sum(t.square().sum() for t in tensors_of(y) if t.requires_grad).backward()
        gradients.append([x.grad for x in leaves])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def in_training(dense, sparse, inputs):
    dense, sparse = (copy.deepcopy(model).train() for model in (dense, sparse))
    same(call(sparse, inputs), call(dense, inputs))
    assert sparse.training
    assert all(module.training for module in sparse.modules())


def copied(dense, sparse, inputs):
    same(call(copy.deepcopy(sparse), inputs), call(dense, inputs))
    if not isinstance(dense, Calls):  # which holds a lambda
        same(call(pickle.loads(pickle.dumps(sparse)), inputs), call(dense, inputs))  # noqa: S301 - our own bytes


def through_a_state_dict(dense, sparse, inputs):
    other = copy.deepcopy(sparse)
    for tensor in (*other.parameters(), *other.buffers()):
        if tensor.is_floating_point():
            tensor.data.zero_()
    other.load_state_dict(sparse.state_dict())
    same(call(other, inputs), call(dense, inputs))


def child_by_child(dense, sparse, inputs):
    assert [name for name, _ in sparse.named_children()] == [name for name, _ in dense.named_children()]
    given, expected = inputs[0], inputs[0]
    for layer, twin in zip(sparse, dense, strict=True):  # an in-place ReLU changes what it is given, so it gets a copy
        given, expected = call(layer, (given.clone(),)), call(twin, (expected.clone(),))
        same(given, expected)


def in_slices(dense, sparse, inputs):
    for cut in range(1, len(dense), 2):
        y, expected = call(sparse[:cut], inputs), call(dense[:cut], inputs)
        same(y, expected)
        same(call(sparse[cut:], (y,)), call(dense[cut:], (expected,)))


def with_hooks(dense, sparse, inputs):
    seen = []
    for model in (dense, sparse):
        hooks, calls = [], []
        for child in model:
            hooks += [
                child.register_forward_pre_hook(lambda _, args, calls=calls: calls.append(args[0].clone())),
                child.register_forward_hook(lambda _, _args, y, calls=calls: calls.extend([y.clone(), y.new_empty(0)])),
                child.register_forward_hook(lambda _, _args, y: 0.5 * y),
            ]
        y = call(model, inputs)
        seen.append([y, *calls])
        for hook in hooks:
            hook.remove()
    same(*reversed(seen))
    same(call(sparse, inputs), call(dense, inputs))


def with_global_hooks(dense, sparse, inputs):
    seen = []
    for model in (dense, sparse):
        calls = []
        hook = nn.modules.module.register_module_forward_hook(
            lambda module, _args, y, calls=calls, model=model: (
                calls.append(y.clone()) if any(module is m for m in model) else None
            )
        )
        calls.append(call(model, inputs))
        hook.remove()
        seen.append(calls)
    same(*reversed(seen))


def edited(dense, sparse, inputs):
    dense, sparse = copy.deepcopy(dense), copy.deepcopy(sparse)
    for model in (dense, sparse):
        del model[-2]
        model.append(nn.ReLU())
        model.insert(1, nn.Identity())
        model[-1] = nn.LeakyReLU()
    same(call(sparse, inputs), call(dense, inputs))


WAYS = (whole, with_gradients, in_training, copied, through_a_state_dict)
WAYS_OF_SEQUENTIAL = (child_by_child, in_slices, with_hooks, with_global_hooks, edited)


@pytest.mark.parametrize("name", CASES)
def test_it_does_what_the_dense_model_does(name):
    dense, inputs = CASES[name]()
    call(dense, inputs)  # lazy layers get their shapes
    thinned(dense)
    sparse = compact_(copy.deepcopy(dense))
    assert any(isinstance(module, SparseMatrix) for module in sparse.modules()) is (name not in STAY_DENSE)
    ways = (*WAYS, *(WAYS_OF_SEQUENTIAL if isinstance(dense, nn.Sequential) else ()))
    if name.endswith(("1d", "3d")) and "Conv" not in name:  # as in two axes, where all ways are gone
        ways = (whole, *WAYS_OF_SEQUENTIAL[:3]) if isinstance(dense, nn.Sequential) else (whole,)
    for way in ways:
        way(dense, sparse, inputs)


# ---- programs that are made of a model -------------------------------------------------------------------------------


class Normalized(nn.Module):
    """As T5 has it: the input takes the dtype of the weight, which is read in every call."""

    def __init__(self):
        super().__init__()
        self.norm, self.wi, self.wo = nn.LayerNorm(16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        x = self.wi(self.norm(x)).relu()
        return self.wo(x.to(self.wo.weight.dtype) if x.dtype != self.wo.weight.dtype else x)


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 1)


PROGRAMS = {
    "linear": partial(among_linear, nn.ReLU),
    "convolutions": partial(among_convolutions, lambda: nn.MaxPool2d(2), 2),
    "same": partial(
        alone, lambda: nn.Sequential(nn.Conv2d(8, 8, 4, padding="same"), nn.ReLU()), torch.ones(2, 8, 9, 9)
    ),
    "reads dtypes": partial(alone, Normalized, partial(torch.randn, 5, 16)),
    "encoder": partial(alone, encoder, time_major()),
    "lstm": partial(alone, lambda: nn.LSTM(16, 16), time_major()),
}


def compiled(model, _inputs):
    torch._dynamo.reset()
    return torch.compile(model, backend="eager", fullgraph=True)


def exported(model, inputs):
    return torch.export.export(model, inputs).module()


def traced(model, inputs):
    return torch.jit.trace(model, inputs, check_trace=False)


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("name", "program"),
    [
        *((name, compiled) for name in ("linear", "reads dtypes", "encoder")),
        *((name, exported) for name in ("linear", "encoder")),
        *((name, traced) for name in PROGRAMS),
    ],
)
def test_a_program_that_is_made_of_it_does_the_same(name, program):
    dense, inputs = PROGRAMS[name]()
    sparse = compact_(copy.deepcopy(thinned(dense)))
    with torch.no_grad():
        same(program(sparse, inputs)(*inputs), dense(*inputs))


@pytest.mark.parametrize("name", ["linear", "convolutions", "encoder"])
def test_an_exported_program_takes_batches_of_any_size(name):
    dense, (x,) = PROGRAMS[name]()
    sparse = compact_(copy.deepcopy(thinned(dense)))
    with torch.no_grad():
        any_size = [{0: torch.export.Dim.DYNAMIC}]
        program = torch.export.export(sparse, (x,), dynamic_shapes=any_size).module()
        for batch in (x, torch.cat([x, x]), x[:1]):
            same(program(batch), dense(batch))


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["linear", "convolutions"])
def test_an_onnx_file_of_it_does_the_same(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    dense, inputs = PROGRAMS[name]()
    sparse = compact_(copy.deepcopy(thinned(dense)))
    torch.onnx.export(sparse, inputs, tmp_path / "model.onnx", dynamo=False, input_names=["x"])
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": inputs[0].numpy()})
    same(torch.from_numpy(y), dense(*inputs).detach())


# ---- users' patterns -------------------------------------------------------------------------------------------------


class Features(nn.Module):
    """Features are taken before the activation, as in ESRGAN's perceptual loss; layers are walked through."""

    def __init__(self):
        super().__init__()
        conv = partial(nn.Conv2d, 8, 8, 3, padding=1)
        self.f = nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU())

    def forward(self, x):
        walked = [x]
        for layer in self.f:
            walked.append(layer(walked[-1]))
        head = nn.Sequential(*list(self.f.children())[:-1])
        named = [child(x) for name, child in self.f.named_children() if name in {"0", "2"}]
        return self.f[:3](x), self.f[0](x), self.f[-2](x), head(x), *walked, *named


class Standardized(nn.Conv2d):
    """A convolution that standardizes its weight, by the function that torch's convolutions call."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean((1, 2, 3), keepdim=True), bias)


class StandardizedInForward(nn.Conv2d):
    """The same, as timm has it."""

    def forward(self, x):
        weight = nn.functional.batch_norm(self.weight.view(1, len(self.weight), -1), None, None, training=True)
        return nn.functional.conv2d(x, weight.view_as(self.weight), self.bias, padding=self.padding)


class DenseBlock(nn.Module):
    """ESRGAN's: each convolution sees all that were before it, under one activation in place."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(8 * i, 8, 3, padding=1) for i in (1, 2, 3))
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x):
        maps = [x]
        for conv in self.convs[:-1]:
            maps.append(self.act(conv(torch.cat(maps, 1))))
        return x + 0.2 * self.convs[-1](torch.cat(maps, 1))


class GRN(nn.Module):
    """ConvNeXt V2's global response normalization, channels last."""

    def __init__(self, n):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.rand(1, 1, 1, n)), nn.Parameter(torch.rand(1, 1, 1, n))

    def forward(self, x):
        norm = x.norm(dim=(1, 2), keepdim=True)
        return self.gamma * (x * norm / (norm.mean(-1, keepdim=True) + 1e-6)) + self.beta + x


class ConvNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.rest = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 32), nn.GELU(), GRN(32), nn.Linear(32, 8))

    def forward(self, x):
        return x + self.rest(self.depthwise(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Shared(nn.Module):
    """ALBERT's way: one block, called again and again, and known by several names."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
        self.again = self.block
        self.first = nn.Sequential(self.block[0], nn.Tanh())

    def forward(self, x):
        return self.first(self.again(self.block(self.block(x))))


class TimmBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.qkv, self.proj = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.norm2, self.fc1, self.act, self.fc2 = nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)
        self.scale = nn.Parameter(torch.rand(16))

    def forward(self, x):
        batch, time, features = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(batch, time, 3, 4, features // 4).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + self.proj(y) * self.scale
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class ReadsWeights(nn.Module):
    """The weight of a layer is used by its parent: transposed, scaled, in part, as its dtype."""

    def __init__(self):
        super().__init__()
        self.fc, self.conv = nn.Linear(16, 16), nn.Conv1d(16, 16, 3, padding=1)

    def forward(self, x):
        y = self.fc(x.to(self.fc.weight.dtype)) @ self.fc.weight
        y = nn.functional.linear(y, self.fc.weight * 0.5, self.fc.bias)
        y = y[:, :8] @ self.fc.weight[:8, :].contiguous()
        return nn.functional.conv1d(
            y.unsqueeze(-1), self.conv.weight, self.conv.bias, padding=1
        ), self.conv.weight.shape[0] * y


class Own(nn.Sequential):
    def forward(self, x):
        seen = []
        for layer in self:
            x = layer(x)
            seen.append(x)
        return seen


IMAGE = partial(torch.randn, 2, 8, 9, 9)
PATTERNS = {
    "features": (Features, IMAGE),
    "standardized": (lambda: nn.Sequential(Standardized(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)), IMAGE),
    "standardized, in forward": (
        lambda: nn.Sequential(StandardizedInForward(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)),
        IMAGE,
    ),
    "dense block": (lambda: nn.Sequential(DenseBlock(), DenseBlock()), IMAGE),
    "convnext": (lambda: nn.Sequential(ConvNeXt(), ConvNeXt()), IMAGE),
    "shared": (Shared, partial(torch.randn, 5, 16)),
    "timm": (lambda: nn.Sequential(TimmBlock(), TimmBlock()), partial(torch.randn, 3, 5, 16)),
    "reads weights": (ReadsWeights, partial(torch.randn, 5, 16)),
    "own sequential": (lambda: Own(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)), partial(torch.randn, 5, 16)),
    "lstm and head": (
        lambda: Calls(
            lambda self, x: self.head((self.lstm.flatten_parameters(), self.lstm(x)[0][:, -1])[1]),
            lstm=nn.LSTM(16, 16, batch_first=True),
            head=nn.Linear(16, 4),
        ),
        time_major(),
    ),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_a_users_pattern_does_the_same(name):
    torch.manual_seed(0)
    make, make_input = PATTERNS[name]
    dense, inputs = thinned(make()), (make_input(),)
    sparse = compact_(copy.deepcopy(dense))
    assert any(isinstance(module, SparseMatrix) for module in sparse.modules())
    for way in (*WAYS, *(WAYS_OF_SEQUENTIAL[:-1] if type(dense) is nn.Sequential else ())):
        way(dense, sparse, inputs)


@pytest.mark.parametrize("moved", ["nothing", "input", "model", "slice"])
@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_memory_formats_are_those_of_the_dense_layers(n_axes, moved):
    dense, (x,) = among_convolutions(nn.Identity, n_axes)
    layout = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}[n_axes]
    dense = thinned(dense)
    if moved == "model":
        dense = dense.to(memory_format=layout)
    if moved == "input":
        x = x.transpose(1, 2).contiguous().transpose(1, 2) if n_axes == 1 else x.to(memory_format=layout)
    if moved == "slice":
        x = torch.randn(2, 16, *x.shape[2:]).to(memory_format=layout)[:, :8]
    sparse = compact_(copy.deepcopy(dense))
    for way in (whole, child_by_child, with_hooks) if n_axes < 3 else ():
        way(dense, sparse, (x,))
    y, expected = sparse(x), dense(x)  # in three axes, how torch lays out a result depends on threads and sizes
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.parametrize("padding", [0, 1, (2, 1), "same", "valid"])
def test_options_of_a_convolution_can_be_read_and_set(mode, padding):
    dense = thinned(nn.Conv2d(8, 8, (4, 3), padding=padding, padding_mode=mode))
    sparse = compact_(copy.deepcopy(dense))
    assert isinstance(sparse, SparseConvolution)
    for name in nn.Conv2d.__constants__:
        if name != "bias":
            assert getattr(sparse, name) == getattr(dense, name)
    x = torch.randn(2, 8, 9, 9)
    whole(dense, sparse, (x,))
    whole(dense, sparse, (x[0],))
    for model in (dense, sparse):
        model.dilation = (1, 2)
        if mode == "zeros" and not isinstance(padding, str):
            model.padding, model.stride = (1, 0), (2, 1)
    if padding != "same":
        whole(dense, sparse, (x,))
