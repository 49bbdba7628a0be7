import copy
import re

import pytest
import torch
from torch import nn

from prunecell import IntSpec, Lowest, Pruner, PruneSpec, Quantizer, Random, RateSpec, Static, global_ranking
from prunecell.errors import OptionError, OptionTypeError, PlanError
from prunecell.plan import resolve
from prunecell.structured import RemoveSpec

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
    assert reasons["position"] == "an embedding"
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
        ({"block*": SPEC}, r"'block\*' fits no parameter; legal: attention.in_proj_bias, "),
        ({"re:block.*": SPEC}, r"'re:block.\*' fits no parameter"),
        ({"re:fc": SPEC}, "'re:fc' fits no parameter"),  # it must fit the whole name
        ({"re:(fc": SPEC}, r"'re:\(fc' is no regular expression: missing \)"),
        ({"fc": SPEC}, r"'fc' fits no parameter: it is a module; the pattern 'fc\.\*' names its parameters"),
        ({nn.Conv2d: SPEC}, "Conv2d fits nothing: no module of this type has parameters of its own$"),
        ({Everything: SPEC, "head": None}, "'head' fits no parameter: it is a module"),
        (
            {"*": None},
            r"nothing to prune in Everything: the plan names only what is left alone \('\*'\); add '\*': PruneSpec",
        ),
        (
            {"fc.*": None},
            r"names only what is left alone \('fc\.\*'\); add '\*': PruneSpec\(\.\.\.\) at its end to prune the rest",
        ),
        ({}, r"nothing to prune in Everything: the plan is empty; give a PruneSpec"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(plan, message):
    with pytest.raises(PlanError, match=message):
        resolve(Everything(), plan)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            {nn.Linear: SPEC, "fc.weight": None},
            r"'fc.weight' never decides: .*\(Linear decides about fc.weight\): put 'fc.weight' first",
        ),
        ({"*": SPEC, "fc.weight": OTHER}, r"'fc.weight' never decides: .*'\*' decides"),
        ({"*": None, "fc.bias": SPEC}, r"'fc.bias' never decides: .*'\*' decides"),
        ({"fc.*": None, "fc.bias": SPEC}, r"'fc.bias' never decides: .*'fc\.\*' decides"),
        (
            {"fc.weight": SPEC, nn.Linear: OTHER, "*_proj.weight": None},
            r"'\*_proj.weight' never decides: .*Linear decides",
        ),
        ({"lstm.*l0": SPEC, "re:lstm.*|conv.*": None, nn.RNNBase: SPEC}, r"RNNBase never decides"),
        ({"*": SPEC, "fc.*": None}, r"'fc\.\*' never decides: .*'\*' decides about fc.weight"),  # a bias is left to it
        ({"embed.weight": SPEC, "head.weight": None}, "'head.weight' never decides"),  # they are one
    ],
)
def test_a_key_that_never_decides_is_refused(plan, message):
    with pytest.raises(PlanError, match=message):
        resolve(Everything(), plan)


def test_all_may_have_nothing_left_to_decide_about():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    assert list(specs({"0.weight": OTHER, "1.*": SPEC, "*": SPEC}, model)) == ["0.weight", "1.weight"]


def test_the_last_layer_is_left_out_by_one_line():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    assert list(specs({"2.*": None, "*": SPEC}, model)) == ["0.weight"]


DEFAULT = ["conv.weight", "attention.in_proj_weight", "attention.out_proj.weight"]
DEFAULT += ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "fc.weight"]


@pytest.mark.parametrize(
    ("key", "reached"),
    [
        ("*", DEFAULT),
        ("fc.*", ["fc.weight"]),  # not its bias
        ("re:fc\\..*", ["fc.weight"]),
        ("re:.*(fc|conv).*", ["conv.weight", "fc.weight"]),
        ("*.bias", ["conv.bias", "norm.bias", "attention.out_proj.bias", "fc.bias"]),
        ("lstm.bias*", ["lstm.bias_ih_l0", "lstm.bias_hh_l0"]),
        ("*embed*", ["embed.weight"]),
        ("head.*", ["embed.weight"]),  # tied
        ("norm.*", ["norm.weight", "norm.bias"]),
        ("pos?tion", ["position"]),
        (nn.Linear, ["attention.out_proj.weight", "fc.weight"]),
        (nn.MultiheadAttention, ["attention.in_proj_weight"]),
        (nn.Embedding, ["embed.weight"]),
        (nn.LayerNorm, ["norm.weight", "norm.bias"]),
        (Everything, ["position"]),
        (nn.Module, DEFAULT),
    ],
)  # fmt: skip
def test_a_pattern_or_a_type_reaches_weights_and_where_it_fits_none_all(key, reached):
    assert sorted(specs({key: SPEC})) == sorted(reached)


@pytest.mark.parametrize("key", ["fc.*", "fc.bias", "*.bias", nn.Linear, "re:fc.*"])
def test_what_is_left_alone_is_all_that_the_key_fits(key):
    skipped = {s.name: s.reason for s in resolve(Everything(), {key: None, "conv.weight": SPEC})[1]}
    assert skipped["fc.bias"] == "the plan leaves it alone"


def test_where_a_pattern_falls_back_to_all_one_that_cannot_be_pruned_is_refused():
    model = nn.Sequential(nn.Linear(3, 3))
    model[0].weight = nn.Parameter(torch.zeros(3, 3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(PlanError, match=r"parameter '0.weight' cannot be pruned: it is of dtype torch.int8"):
        resolve(model, {"0.*": SPEC})
    assert list(specs({"0.bias": SPEC}, model)) == ["0.bias"]


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


def test_of_many_names_a_message_lists_the_nearest_only():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(40)))
    with pytest.raises(PlanError, match=r"'17.wieght' fits no parameter; the nearest of all 80: 17.weight, ") as error:
        resolve(model, {"17.wieght": SPEC})
    assert len(str(error.value)) < 150


def test_types_without_parameters_of_their_own_are_told_of_those_inside():
    with pytest.raises(PlanError, match=r"Sequential fits nothing: .* modules inside .* the pattern '\*'"):
        resolve(nn.Sequential(nn.Sequential(nn.Linear(2, 2))), {nn.Sequential: SPEC})
    with pytest.raises(PlanError, match=r"ReLU fits nothing: no module of this type has parameters of its own$"):
        resolve(nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), {nn.ReLU: SPEC})
    with pytest.raises(PlanError, match=r"TransformerEncoderLayer fits nothing: .* the pattern '0\.\*' names theirs"):
        resolve(nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16)), {nn.TransformerEncoderLayer: SPEC})


def test_two_keys_share_a_budget_by_the_object_only():
    """One spec object is one budget, equal ones are two: as the documentation says."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    model[1].weight.data /= 100

    def sparsities(first, second):
        masks = Pruner(copy.deepcopy(model), {"0.weight": first, "1.weight": second}).masks
        return [1 - float(mask.float().mean()) for mask in masks.values()]

    shared, equal = (PruneSpec(schedule=Static(sparsity=0.5), allocation=global_ranking) for _ in range(2))
    assert shared == equal
    assert sparsities(shared, equal) == [0.5, 0.5]
    low, high = sparsities(shared, shared)
    assert low < 0.1
    assert high > 0.9


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


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (nn.Sequential(nn.Embedding(10, 4), nn.LayerNorm(4)), "0.weight"),
        (nn.LayerNorm(4), "weight"),
        (nn.ParameterDict({"bias": torch.randn(3), "pos_embed": torch.randn(1, 5, 4)}), "pos_embed"),
    ],
    ids=["embedding", "norm", "dict"],
)
def test_where_nothing_is_pruned_by_default_a_plan_that_prunes_is_told(model, named):
    with pytest.raises(
        PlanError, match=r"nothing to prune in .*Name what is to be pruned all the same, as in "
    ) as told:
        resolve(model, SPEC)
    assert str(told.value).endswith(f"{{{named!r}: PruneSpec(...)}}")
    assert [target.name for target in resolve(model, {named: SPEC})[0]] == [named]


SPECS = {
    "PruneSpec": (SPEC, "PruneSpec is for pc.Pruner(model, plan)"),
    "RateSpec": (RateSpec(lam=1e-5, steps=9), "RateSpec is for pc.Quantizer(model, plan)"),
    "IntSpec": (IntSpec(bits=8), "IntSpec is for pc.Quantizer(model, plan)"),
    "RemoveSpec": (RemoveSpec(flops=0.5), "RemoveSpec is for prunecell.structured.remove_(model, plan, example)"),
}


@pytest.mark.parametrize("keeper", [Pruner, Quantizer])
@pytest.mark.parametrize(("spec", "message"), SPECS.values(), ids=SPECS)
def test_a_spec_of_another_use_is_refused_with_what_takes_it(keeper, spec, message):
    if f"pc.{keeper.__name__}(" in message:
        keeper(nn.Linear(4, 4), spec).finalize(early=True)
        return
    for plan in (spec, {"weight": spec}, {nn.Linear: spec}):
        with pytest.raises(OptionTypeError, match=f"{re.escape(message)}$"):
            keeper(nn.Linear(4, 4), plan)
