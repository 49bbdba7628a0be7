import pytest
import torch
from torch import nn

from prunecell import Lowest, Pruner, PruneSpec, Random, Static
from prunecell.errors import OptionError, OptionTypeError, PlanError
from prunecell.plan import resolve

SPEC = PruneSpec(schedule=Static(sparsity=0.5))
OTHER = PruneSpec(schedule=Static(sparsity=0.9), filler=Random())


class Everything(nn.Module):
    """One of each kind of parameter."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.conv = nn.Conv1d(8, 8, 3)
        self.norm = nn.LayerNorm([8, 4])
        self.attention = nn.MultiheadAttention(8, 2)
        self.lstm = nn.LSTM(8, 8)
        self.fc = nn.Linear(8, 8)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight
        self.position = nn.Parameter(torch.zeros(4, 8))


def specs(plan, model=None):
    return {t.name: t.spec for t in resolve(model or Everything(), plan)[0]}


def test_a_spec_alone_prunes_matrices_and_kernels():
    assert list(specs(SPEC)) == [
        "conv.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "fc.weight",
    ]


def test_every_parameter_is_pruned_or_skipped_with_a_reason():
    model = Everything()
    targets, skipped = resolve(model, SPEC)
    assert {t.name for t in targets} | {s.name for s in skipped} == {n for n, _ in model.named_parameters()}
    reasons = {s.name: s.reason for s in skipped}
    assert reasons["position"] == "not called a weight"
    assert reasons["embed.weight"] == "an embedding, shared by embed.weight, head.weight"
    assert reasons["norm.weight"] == "a norm's"
    assert reasons["fc.bias"] == "a bias"


def test_the_first_fitting_key_decides():
    plan = {"fc.weight": OTHER, nn.Linear: None, "*_proj*": OTHER, "*": SPEC}
    found = specs(plan)
    assert found["fc.weight"] == OTHER
    assert found["attention.in_proj_weight"] == OTHER
    assert found["conv.weight"] == SPEC
    assert "attention.out_proj.weight" not in found  # it is a Linear


def test_a_literal_name_reaches_any_parameter():
    assert set(specs({"position": SPEC, "fc.bias": SPEC, "norm.weight": SPEC})) == {
        "position",
        "fc.bias",
        "norm.weight",
    }


@pytest.mark.parametrize("name", ["embed.weight", "head.weight"])
def test_tied_weights_are_pruned_once_under_their_first_name(name):
    assert list(specs({name: SPEC})) == ["embed.weight"]


def test_a_root_module_is_as_good_as_any():
    assert list(specs(SPEC, nn.Linear(2, 2))) == ["weight"]
    assert list(specs({nn.Linear: SPEC}, nn.Sequential(nn.Linear(2, 2)))) == ["0.weight"]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"fc.wight": SPEC}, r"'fc.wight' fits no parameter; did you mean 'fc.weight'\?"),
        ({"*.bias": SPEC}, r"fits no weight .* it fits only .*fc.bias \(a bias\).*: name these literally"),
        ({"block*": SPEC}, r"'block\*' fits no weight"),
        ({nn.Conv2d: SPEC}, "Conv2d fits nothing"),
        ({"*": None}, "nothing to prune in Everything"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(plan, message):
    with pytest.raises(PlanError, match=message):
        resolve(Everything(), plan)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.ReLU(), "it has no parameters"),
        (nn.Linear(2, 2, device="meta"), "on the meta device"),
        (nn.LazyLinear(2), "not initialized yet"),
    ],
)
def test_models_without_values_are_refused_with_the_reason(model, message):
    with pytest.raises(PlanError, match=message):
        Pruner(model, SPEC)


@pytest.mark.parametrize("plan", [0.5, None, {"fc.weight": 0.5}, {3: SPEC}, {int: SPEC}])
def test_plans_of_the_wrong_type_are_refused(plan):
    with pytest.raises(OptionTypeError, match="is illegal"):
        resolve(Everything(), plan)


def test_a_spec_checks_its_fields():
    with pytest.raises(OptionTypeError, match=r"filler='Random' is illegal: it must be callable"):
        PruneSpec(schedule=Static(sparsity=0.5), filler="Random")
    with pytest.raises(OptionError, match="seed=-1 is illegal"):
        PruneSpec(schedule=Static(sparsity=0.5), seed=-1)


def test_hidden_values_are_kept_only_where_something_may_come_back():
    assert not PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(revives=True)).parks
    assert not PruneSpec(schedule=lambda _: 0.5).parks
    assert PruneSpec(schedule=lambda _: 0.5, filler=Lowest(revives=True)).parks
