"""An average of weights, under the masks of the end."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import prunecell as pc
from prunecell.errors import OptionError, OptionTypeError
from prunecell.fillers import RigL
from prunecell.schedules import Moving
from prunecell.training.averaging import zero_pruned_

SPECS = [
    pc.PruneSpec(schedule=pc.Cubic(sparsity=0.9, steps=8, n_updates=8)),
    pc.PruneSpec(schedule=pc.Cubic(sparsity=0.9, steps=8, n_updates=8), filler=pc.Lowest(revives=True)),
    pc.PruneSpec(schedule=Moving(sparsity=0.8, steps=8, every=2), filler=RigL()),
]


@pytest.mark.parametrize("spec", SPECS, ids=["cubic", "reviving", "moving"])
@pytest.mark.parametrize("options", [{}, {"multi_avg_fn": get_ema_multi_avg_fn(0.8), "use_buffers": True}])
def test_an_average_is_as_sparse_as_the_model_and_its_kept_weights_stay(task, spec, options):
    averaged = AveragedModel(task.model, **options)
    solver = torch.optim.SGD(task.model.parameters(), lr=0.05)
    pruner = pc.Pruner(task.model, spec, optimizer=solver)
    for _ in range(10):
        task.train(solver, pruner, steps=1)
        averaged.update_parameters(task.model)
    before = copy.deepcopy(averaged.module.state_dict())
    dense = sum(int(before[name][~mask].count_nonzero()) for name, mask in pruner.masks.items())
    assert dense, "some were averaged with what they were before they were pruned"
    zero_pruned_(averaged, pruner.masks)
    after = averaged.module.state_dict()
    for name, value in after.items():
        keep = pruner.masks.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(value[keep], before[name][keep])
        assert not value[~keep].any()
        assert not value[~keep].signbit().any()
    pruner.finalize()
    task.model.load_state_dict(after)


def test_tied_and_parametrized_weights_are_found_by_their_plain_names():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    keep = torch.eye(4, dtype=torch.bool)
    for name in ("0.weight", "1.weight"):
        model = nn.Sequential(first, second)
        zero_pruned_(model, {name: keep})
        assert int(first.weight.count_nonzero()) == 4
    normed = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
    zero_pruned_(normed, {"weight": keep})
    assert int(normed.parametrizations.weight.original.count_nonzero()) == 4


def test_masks_that_do_not_fit_change_nothing(mlp):
    before, good = copy.deepcopy(mlp.model.state_dict()), torch.zeros(32, 12, dtype=torch.bool)
    for bad, kind, message in [
        ({"0.wieght": good}, OptionError, r"name='0\.wieght' is illegal: the model has no .* did you mean '0\.weight'"),
        ({"2.weight": good}, OptionError, r"the mask of 2\.weight is illegal: its shape is \(32, 12\), not \(4, 32\)"),
        ({"2.weight": torch.zeros(4, 32)}, OptionTypeError, r"must be a bool tensor, not torch\.float32"),
        ({"2.weight": None}, OptionTypeError, "must be a bool tensor, not NoneType"),
    ]:
        with pytest.raises(kind, match=message):
            zero_pruned_(mlp.model, {"0.weight": good, **bad})
    with pytest.raises(OptionTypeError, match="model is a dict: it must be a module"):
        zero_pruned_({}, {})
    with pytest.raises(OptionTypeError, match="masks is a list: it must be a mapping"):
        zero_pruned_(mlp.model, [good])
    assert all(torch.equal(value, before[name]) for name, value in mlp.model.state_dict().items())
