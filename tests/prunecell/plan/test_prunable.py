"""What is pruned by default, kind by kind of module, and that it does no harm: expectations are written by hand."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from prunecell import Pruner, PruneSpec, Random, Static, share_
from prunecell.errors import OptionError, PlanError
from prunecell.plan.candidates import candidates

SHARP, HALF = PruneSpec(schedule=Static(sparsity=0.98)), PruneSpec(schedule=Static(sparsity=0.5))


class Having(nn.Module):
    """A module with raw parameters of some shapes."""

    def __init__(self, **shapes):
        super().__init__()
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape)))

    def forward(self, x):
        return x


class Held(Having):
    """Experts in a ParameterDict."""

    def __init__(self):
        super().__init__()
        shapes = {"w1": (4, 8, 6), "b1": (4, 6), "w2": (4, 6, 8), "b2": (4, 8)}
        self.experts = nn.ParameterDict({name: torch.randn(shape) for name, shape in shapes.items()})


def having(name, **shapes):
    """The same under the name of another class."""
    return type(name, (Having,), {})(**shapes)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT


class Positive(nn.Module):
    def forward(self, x):
        return x.exp()


class UnitRows(nn.Module):
    def forward(self, x):
        return x / x.norm(dim=1, keepdim=True)


class Standard(nn.Module):
    def forward(self, x):
        return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5)


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.ones(6, 8))

    def forward(self, x):
        return x * self.mask


class Quantized(nn.Module):
    def forward(self, x):
        return (x * 8).round() / 8


class LowRankUpdate(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.zeros(6, 2))

    def forward(self, x):
        return x + self.up @ self.down


class Product(nn.Module):
    def forward(self, a, b):
        return a * b

    def right_inverse(self, weight):
        return weight, torch.ones_like(weight)


class LowRank(nn.Module):
    def forward(self, a, b):
        return a @ b

    def right_inverse(self, weight):
        return weight[:, :2], torch.ones(2, weight.shape[1])


def computed(parametrization):
    layer = nn.Linear(8, 6)
    parametrize.register_parametrization(layer, "weight", parametrization)
    return layer


def quiet(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, of its older functions
        return make()


def tied():
    model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 6), nn.Linear(6, 8), nn.Linear(8, 9))
    model[3].weight = model[0].weight
    return model


def scaled():
    layer = type("ScaledLinear", (nn.Linear,), {})(8, 6)
    layer.weight_scale, layer.weight_scale_inv = nn.Parameter(torch.ones(6, 1)), nn.Parameter(torch.ones(6, 2))
    return layer


FLAT, IMAGE, SERIES, INDEX = (2, 8), (2, 4, 6, 6), (2, 4, 9), "index"
V = {"weight.original1"}

KINDS = {
    # known layers, with a single input or output too
    "Linear": (lambda: nn.Linear(8, 6), FLAT, {"weight"}),
    "Linear of one output": (lambda: nn.Linear(8, 1), FLAT, {"weight"}),
    "Linear of one input": (lambda: nn.Linear(1, 6), (2, 1), {"weight"}),
    "a Linear of one's own": (lambda: type("Own", (nn.Linear,), {})(8, 6), FLAT, {"weight"}),
    "a quantized Linear": (scaled, FLAT, {"weight"}),
    "LSTM, both ways": (
        lambda: nn.LSTM(8, 6, bidirectional=True),
        FLAT,
        {"weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse"},
    ),
    "Bilinear": (lambda: nn.Bilinear(8, 8, 6), None, {"weight"}),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3), SERIES, {"weight"}),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3), IMAGE, {"weight"}),
    "Conv2d, depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), IMAGE, {"weight"}),
    "Conv2d, 1 x 1": (lambda: nn.Conv2d(4, 1, 1), IMAGE, {"weight"}),
    "Conv3d": (lambda: nn.Conv3d(4, 6, 3), (2, 4, 5, 5, 5), {"weight"}),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3), SERIES, {"weight"}),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3), IMAGE, {"weight"}),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(4, 6, 3), (2, 4, 5, 5, 5), {"weight"}),
    "RNN": (lambda: nn.RNN(8, 6), FLAT, {"weight_ih_l0", "weight_hh_l0"}),
    "GRU": (lambda: nn.GRU(8, 6, bias=False), FLAT, {"weight_ih_l0", "weight_hh_l0"}),
    "LSTM": (lambda: nn.LSTM(8, 6, proj_size=2), FLAT, {"weight_ih_l0", "weight_hh_l0", "weight_hr_l0"}),
    "RNNCell": (lambda: nn.RNNCell(8, 6), FLAT, {"weight_ih", "weight_hh"}),
    "LSTMCell": (lambda: nn.LSTMCell(8, 6), FLAT, {"weight_ih", "weight_hh"}),
    "GRUCell": (lambda: nn.GRUCell(8, 6), FLAT, {"weight_ih", "weight_hh"}),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True),
        None,
        {"in_proj_weight", "out_proj.weight"},
    ),
    "MultiheadAttention of other widths": (
        lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6),
        None,
        {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"},
    ),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16),
        FLAT,
        {"self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"},
    ),
    "AdaptiveLogSoftmaxWithLoss": (
        lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5]),
        None,
        {"head.weight", "tail.0.0.weight", "tail.0.1.weight"},
    ),
    # layers without weights
    "Embedding": (lambda: nn.Embedding(9, 8), INDEX, set()),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(9, 8), None, set()),
    "LayerNorm": (lambda: nn.LayerNorm([4, 6, 6]), IMAGE, set()),
    "RMSNorm": (lambda: nn.RMSNorm([6, 6]), IMAGE, set()),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), IMAGE, set()),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), IMAGE, set()),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4, affine=True), IMAGE, set()),
    "PReLU": (lambda: nn.PReLU(4), IMAGE, set()),
    "tied": (tied, INDEX, {"1.weight", "2.weight"}),
    "complex": (lambda: nn.Linear(8, 6, dtype=torch.complex64), None, set()),
    "empty": (lambda: Having(weight=(0, 8)), FLAT, set()),
    "lazy": (lambda: nn.LazyLinear(6), None, set()),
    "meta": (lambda: nn.Linear(8, 6, device="meta"), None, set()),
    # weights that are computed
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Linear(8, 6)), FLAT, V),
    "weight_norm of columns": (lambda: parametrizations.weight_norm(nn.Linear(8, 6), dim=1), FLAT, V),
    "weight_norm of all": (lambda: parametrizations.weight_norm(nn.Linear(8, 6), dim=None), FLAT, V),
    "weight_norm of one input": (lambda: parametrizations.weight_norm(nn.Linear(1, 6)), (2, 1), V),
    "weight_norm of one output": (lambda: parametrizations.weight_norm(nn.Linear(8, 1)), FLAT, V),
    "weight_norm of a kernel": (
        lambda: parametrizations.weight_norm(nn.Conv1d(4, 6, 3), dim=2),
        SERIES,
        V,
    ),
    "weight_norm transposed": (
        lambda: parametrizations.weight_norm(nn.ConvTranspose2d(4, 6, 3), dim=1),
        IMAGE,
        V,
    ),
    "weight_norm of an LSTM": (
        lambda: parametrizations.weight_norm(nn.LSTM(8, 6), "weight_hh_l0"),
        FLAT,
        {"weight_ih_l0", "weight_hh_l0.original1"},
    ),
    "weight_norm as a hook": (lambda: quiet(lambda: weight_norm(nn.Conv1d(4, 6, 3))), SERIES, {"weight_v"}),
    "all of weight_norm, as a hook": (
        lambda: quiet(lambda: weight_norm(nn.Linear(8, 6), dim=None)),
        FLAT,
        {"weight_v"},
    ),
    "weight_norm of an LSTM, as a hook": (
        lambda: quiet(lambda: weight_norm(nn.LSTM(8, 6), "weight_hh_l0")),
        FLAT,
        {"weight_ih_l0", "weight_hh_l0_v"},
    ),
    "spectral_norm": (lambda: parametrizations.spectral_norm(nn.Linear(8, 6)), FLAT, {"weight"}),
    "spectral_norm as a hook": (lambda: quiet(lambda: spectral_norm(nn.Conv2d(4, 6, 3))), IMAGE, {"weight_orig"}),
    "torch's pruning": (lambda: prune.random_unstructured(nn.Linear(8, 6), "weight", 0.3), FLAT, {"weight_orig"}),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(8, 6)), FLAT, set()),
    "orthogonal, by Cayley": (
        lambda: parametrizations.orthogonal(nn.Linear(8, 8), orthogonal_map="cayley"),
        FLAT,
        set(),
    ),
    "symmetric": (lambda: parametrize.register_parametrization(nn.Linear(8, 8), "weight", Symmetric()), FLAT, set()),
    "positive": (lambda: computed(Positive()), FLAT, set()),
    "rows of length 1": (lambda: computed(UnitRows()), FLAT, {"weight"}),
    "standardized": (lambda: computed(Standard()), FLAT, set()),
    "masked": (lambda: computed(Masked()), FLAT, {"weight"}),
    "quantized": (lambda: computed(Quantized()), FLAT, {"weight"}),
    "updated at low rank": (lambda: computed(LowRankUpdate()), FLAT, set()),
    "a product": (lambda: computed(Product()), FLAT, {"weight.original0", "weight.original1"}),
    "of low rank": (lambda: computed(LowRank()), FLAT, set()),
    # raw parameters of modules that nobody knows
    "a matrix": (lambda: Having(mixing=(6, 8)), FLAT, {"mixing"}),
    "projections": (lambda: Having(q=(8, 2, 4), text_projection=(8, 4), pos_proj=(8, 8)), FLAT,
                    {"q", "text_projection", "pos_proj"}),
    "experts": (lambda: Having(gate_up_proj=(4, 8, 6), gate_up_proj_bias=(4, 6), down_proj=(4, 3, 8)), FLAT,
                {"gate_up_proj", "down_proj"}),
    "one expert": (lambda: Having(w1=(1, 8, 6), w2=(1, 6, 8), b1=(1, 6)), FLAT, {"w1", "w2"}),
    "experts, short names": (lambda: Having(w1=(4, 8, 6), b1=(4, 6), W_2=(4, 6, 8), b_2=(4, 8)), FLAT, {"w1", "W_2"}),
    "experts in a dictionary": (Held, FLAT, {"experts.w1", "experts.w2"}),
    "factors": (lambda: Having(a=(8, 2), b=(2, 6)), FLAT, {"a", "b"}),
    "modulated": (lambda: having("ModulatedConv2d", weight=(1, 6, 4, 3, 3)), FLAT, {"weight"}),
    "attention with its norm": (lambda: having("PreNormAttention", qkv=(24, 8)), FLAT, {"qkv"}),
    "cosine classifier": (lambda: having("NormalizedLinear", weight=(6, 8)), FLAT, {"weight"}),
    "a list": (lambda: nn.ParameterList([torch.randn(6, 8), torch.randn(8)]), None, {"0"}),
    "broadcast": (lambda: Having(scale=(1, 1, 8), weight=(8, 1, 1), gamma=(1, 8, 1, 1), offset=(6, 1)), FLAT, set()),
    "numbers": (lambda: Having(logit_scale=(), weight=(1, 1)), FLAT, set()),
    "ViT": (lambda: Having(cls_token=(1, 1, 8), pos_embed=(1, 5, 8), register_tokens=(1, 4, 8)), FLAT, set()),
    "tables": (lambda: Having(rel_pos_h=(7, 8), relative_position_bias_table=(9, 2), scale_shift_table=(6, 8),
                              codebook=(9, 8), positional_embedding=(7, 8), wte=(9, 8), query_embed=(5, 8)),
               FLAT, set()),
    "learned inputs": (lambda: Having(latents=(5, 8), const=(1, 8, 4, 4), prompt=(3, 8), queries=(5, 8)), FLAT, set()),
    "vocabulary": (lambda: having("VocabParallelEmbedding", weight=(9, 8)), FLAT, set()),
    "position": (lambda: having("LearnedPositionalEncoding", weights=(9, 8)), FLAT, set()),
    "biases": (lambda: Having(attention_biases=(2, 9), r_w_bias=(2, 8), pos_bias_u=(2, 4)), FLAT, set()),
    "GRN": (lambda: having("GRN", gamma=(1, 1, 1, 8), beta=(1, 1, 1, 8)), FLAT, set()),
    "a norm of images": (lambda: having("LayerNorm2d", weight=(8, 6, 6), bias=(8, 6, 6)), FLAT, set()),
    "a norm of one's own": (lambda: having("LlamaRMSNorm", weight=(2, 8)), FLAT, set()),
    "rates": (lambda: Having(A_log=(8, 4), D=(8,), time_decay=(2, 8)), FLAT, set()),
    "noise": (lambda: Having(weight_mu=(6, 8), weight_sigma=(6, 8), bias_mu=(6,)), FLAT, {"weight_mu"}),
    "a cell with norms": (lambda: having("LayerNormLSTMCell", weight_ih=(24, 8), weight_hh=(24, 6)), FLAT,
                          {"weight_ih", "weight_hh"}),
    "attention by letters": (lambda: Having(wq=(8, 2, 4), bq=(2, 4), W_K=(2, 8, 4), b_K=(2, 4), b_gates=(2, 4)), FLAT,
                             {"wq", "W_K"}),
    "layers by suffix": (lambda: Having(fc1_w=(4, 8, 6), fc1_b=(4, 6)), FLAT, {"fc1_w"}),
    "queries, keys, values": (lambda: Having(query=(8, 6), key=(8, 6), value=(8, 6)), FLAT, {"query", "key", "value"}),
    "learned queries": (lambda: having("Projector", query=(5, 8), latent_query=(5, 8)), FLAT, set()),
    "an activation": (lambda: having("Rational", numerator=(4, 6), denominator=(4, 5)), FLAT, set()),
    "a quantizer": (lambda: Having(weight=(6, 8), step_size=(6, 2), zero_point=(6, 2)), FLAT, {"weight"}),
    "scores of transitions": (lambda: having("CRF", transitions=(5, 5), start_transitions=(5,)), FLAT, set()),
    "sizes of images": (lambda: Having(rel_pos_h=(7, 8), rel_pos_w=(7, 8)), FLAT, set()),
    "LoRA": (lambda: Having(weight=(6, 8), lora_A=(2, 8), lora_B=(6, 2)), FLAT, {"weight"}),
}  # fmt: skip


def made(kind):
    torch.manual_seed(0)
    return KINDS[kind][0]()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_pruned_by_default(kind):
    found = candidates(made(kind))
    assert {c.name for c in found if not c.reason} == KINDS[kind][2]
    assert len({c.name for c in found}) == len(list(made(kind).parameters()))


@pytest.mark.parametrize("filler", [SHARP.filler, Random()], ids=["Lowest", "Random"])
@pytest.mark.parametrize("kind", [kind for kind, (_, _, weights) in KINDS.items() if weights])
@pytest.mark.filterwarnings("ignore:.*is pruned, not 98.00%")  # one weight a slice is kept
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_default_pruning_makes_no_nan_and_claims_what_is_so(kind, filler):
    model, shape = made(kind), KINDS[kind][1]
    pruner = Pruner(model, PruneSpec(schedule=SHARP.schedule, filler=filler))
    zeros = sum(int((weight == 0).sum()) for name, weight in named(model).items() if name in pruner.masks)
    n_weights, n_parameters = pruner.report().n_weights, sum(p.numel() for p in model.parameters())
    assert pruner.sparsity == pytest.approx(zeros / n_weights, abs=1e-12)
    assert pruner.report().model_sparsity == zeros / n_parameters
    assert pruner.report().n_parameters == n_parameters
    for training in (True, False) if shape else ():
        x = torch.arange(9).view(1, 9) if shape == INDEX else torch.randn(shape)
        y = model.train(training)(x)
        assert (y[0] if isinstance(y, tuple) else y).isfinite().all()


def named(model):
    return {candidate.name: candidate.parameter for candidate in candidates(model)}


@pytest.mark.parametrize(
    "kind",
    [
        *("weight_norm", "weight_norm as a hook", "weight_norm transposed", "spectral_norm", "spectral_norm as a hook"),
        *("torch's pruning", "rows of length 1", "masked"),
    ],
)
def test_zeros_of_what_stands_for_a_weight_are_zeros_of_the_weight(kind):
    model = made(kind)
    pruner = Pruner(model, HALF)
    model.train(mode=False)(torch.randn(KINDS[kind][1]))
    (mask,) = pruner.masks.values()
    assert not model.weight[~mask].any()


@pytest.mark.parametrize("key", ["weight", "*weight", "re:weight", nn.Linear])
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "masked"])
def test_a_computed_weight_is_reached_by_its_own_name(kind, key):
    assert set(Pruner(made(kind), {key: HALF}).masks) == KINDS[kind][2]


@pytest.mark.parametrize("kind", ["weight_norm as a hook", "spectral_norm as a hook", "torch's pruning"])
def test_a_weight_that_a_hook_computes_is_reached_by_its_own_name(kind):
    for key in ("weight", "*weight", *KINDS[kind][2]):
        assert set(Pruner(made(kind), {key: HALF}).masks) == KINDS[kind][2]


@pytest.mark.parametrize("kind", ["orthogonal", "symmetric", "positive", "standardized"])
@pytest.mark.parametrize("key", ["weight", "weig*", nn.Linear])
def test_what_has_no_zeros_in_the_end_is_refused_unless_it_is_named_as_it_is_stored(kind, key):
    with pytest.raises(
        PlanError, match=r"'weight' cannot be pruned: it is what a parametrization computes .* no zeros"
    ):
        Pruner(made(kind), {key: HALF})
    assert list(Pruner(made(kind), {"parametrizations.weight.original": HALF}).masks) == ["weight"]


@pytest.mark.parametrize("kind", ["orthogonal", "symmetric", "positive", "standardized"])
def test_sharing_refuses_what_pruning_refuses(kind):
    with pytest.raises(OptionError, match=r"'weight' cannot be shared: it is what a parametrization computes .*zeros"):
        share_(made(kind), names=["weight"])
    assert share_(made(kind), names=["parametrizations.weight.original"]).names == ("weight",)
    inside = nn.ModuleDict({"original": made(kind)})
    with pytest.raises(OptionError, match=r"cannot be shared: it is what a parametrization computes"):
        share_(inside, names=["original.weight"])
    with pytest.raises(PlanError, match=r"cannot be pruned: it is what a parametrization computes"):
        Pruner(inside, {"original.weight": HALF})


def test_a_magnitude_is_pruned_only_by_its_name():
    assert list(Pruner(made("weight_norm as a hook"), {"weight_g": HALF}).masks) == ["weight_g"]
    with pytest.raises(PlanError, match=r"weight_g: a magnitude of weight norm"):
        Pruner(having("OnlyMagnitude", weight_g=(6, 1), weight_v=(6,)), HALF)


def test_a_kind_that_cannot_be_pruned_says_why():
    for kind, reason in {"complex": "of dtype torch.complex64", "lazy": "not initialized", "empty": "empty"}.items():
        with pytest.raises(PlanError, match=reason):
            Pruner(made(kind), HALF)
