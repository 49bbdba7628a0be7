"""Laws of folding: in evaluation the model computes the same, and what cannot be proved stays."""

import copy

import pytest
import torch
from torch import nn

from prunecell import Pruner, PruneSpec, Static
from prunecell.errors import OptionError
from prunecell.graph import fold_batchnorm_


def with_numbers(model):
    """Random statistics and gains, some of them negative."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for name, low in (("running_mean", -1), ("running_var", 0.5), ("weight", -1), ("bias", -1)):
                if getattr(module, name) is not None:
                    getattr(module, name).data.uniform_(low, 1.0)
    return model.eval()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.places = nn.ModuleList([self.bn1])  # the same module in a second place

    def forward(self, x):
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


FOLDED = {
    "convolution": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), 1),
    "without bias": (nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)), 1),
    "groups": (nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1)), 1),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)), 1),
    "linear": (nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.BatchNorm1d(5), nn.Linear(5, 5)), 1),
    "linear without numbers of its own": (
        nn.Sequential(
            *(nn.Flatten(), nn.Linear(192, 5), nn.BatchNorm1d(5), nn.Linear(5, 4), nn.BatchNorm1d(4, affine=False)),
        ),
        2,
    ),
    "along time": (nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), 1),
    "residual": (Residual(), 2),
}


@pytest.mark.parametrize("case", FOLDED)
def test_a_folded_model_computes_the_same_in_evaluation(case):
    torch.manual_seed(0)
    model, n_folded = with_numbers(copy.deepcopy(FOLDED[case][0])), FOLDED[case][1]
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for weight in weights:
        weight.data[torch.rand(weight.shape) < 0.5] = 0.0
    kept = [weight != 0 for weight in weights]
    x = torch.randn(7, 3, 8, 8)
    before = model(x)
    folding = fold_batchnorm_(model)
    assert len(folding.folded) == n_folded
    assert folding.left == {}
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    torch.testing.assert_close(model(x), before)
    for weight, was_kept in zip(weights, kept, strict=True):
        assert any(weight is parameter for parameter in model.parameters())
        assert not weight[~was_kept].signbit().any()
        assert not weight[~was_kept].any()
    model.train()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv(self.bn(x)))


class ReadTwice(Twice):
    def forward(self, x):
        return self.bn(y := self.conv(x)) + y


class OnlyInEvaluation(Twice):
    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) if not self.training else self.bn(torch.relu(y))


def _hooked():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    model[0].register_forward_hook(lambda *given: given[-1] + 1)
    return model


LEFT = {
    "first": (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)), "what comes before it, 'input', is no"),
    "after the activation": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)), "what comes before it"),
    "called twice": (Twice(), "it is called more than once"),
    "read twice": (ReadTwice(), "others read 'conv' before it, too"),
    "otherwise in training": (OnlyInEvaluation(), "in training the model computes something else"),
    "without statistics": (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
        "it has no running statistics",
    ),
    "transposed with groups": (
        nn.Sequential(nn.ConvTranspose2d(4, 4, 1, groups=2), nn.BatchNorm2d(4)),
        "the transposed convolution before it has groups",
    ),
    "hooked": (_hooked(), "'0' before it has hooks, or a forward of its own"),
    "of unknown dimensions": (
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        "which dimension it normalizes is not known: give an example",
    ),
    "over channels": (
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm2d(4)),
        "it normalizes another dimension than that of the outputs",
    ),
    "over the height": (
        nn.Sequential(nn.Flatten(0, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm1d(4)),
        "which dimension it normalizes is not known: give an example",
    ),
    "over time": (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(5)), "it has 5 numbers for 6 outputs"),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_cannot_be_folded_is_left_with_its_reason(case):
    model, reason = LEFT[case]
    before = copy.deepcopy(model.state_dict())
    folding = fold_batchnorm_(model)
    assert folding.folded == {}
    assert next(iter(folding.left.values())).startswith(reason)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_example_tells_which_dimension_is_normalized():
    for shape, n_folded in (((7, 6), 1), ((7, 6, 6), 0)):
        model = with_numbers(nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)))
        x = torch.randn(shape)
        before = model(x)
        assert len(fold_batchnorm_(model, example=x).folded) == n_folded
        torch.testing.assert_close(model(x), before)


def test_parameters_are_not_replaced_behind_the_back_of_processes(tmp_path):
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        wrapped = nn.parallel.DistributedDataParallel(model)
        for given in (wrapped, nn.Sequential(wrapped)):
            with pytest.raises(OptionError, match="cannot be folded through DistributedDataParallel"):
                fold_batchnorm_(given)
    finally:
        torch.distributed.destroy_process_group()
    assert fold_batchnorm_(model).folded


def test_a_wrapped_model_is_folded_inside():
    model = with_numbers(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    assert fold_batchnorm_(nn.DataParallel(model)).folded == {"1": "0"}
    assert type(model[1]) is nn.Identity


def test_what_a_pruner_holds_is_not_folded():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=0.5)))
    with pytest.raises(OptionError, match="finalize that first"):
        fold_batchnorm_(model)
    pruner.finalize()
    assert fold_batchnorm_(model).folded
