import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import n2d2
from n2d2.cells import Conv, Fc
from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.quantizer import PruneCell
from prunecell import Gradual, IterNonStruct, Random, Static

DATA = Path(__file__).parents[1] / "data"


def lenet():
    torch.manual_seed(0)
    return n2d2.models.lenet.LeNet(10)


def static(threshold=0.3, **options):
    return PruneCell(prune_mode="Static", threshold=threshold, prune_filler="IterNonStruct", **options)


def sparsity(cell):
    return 1 - cell.quantizer.get_pruned_masks().mean()


def test_the_documented_loop_runs_as_it_stands():
    model = lenet()
    for cell in model:
        ### Add Pruning ###
        if isinstance(cell, n2d2.cells.Conv) or isinstance(cell, n2d2.cells.Fc):  # noqa: SIM101 - as documented
            cell.quantizer = n2d2.quantizer.PruneCell(prune_mode="Static", threshold=0.3, prune_filler="IterNonStruct")
    assert len(model.quantizers()) == 5
    for name, quantizer in model.quantizers().items():
        cell = model[name]
        there = cell.weight.numel() if cell.connections is None else int(cell.connections.sum())
        kept = int(quantizer.get_pruned_masks().values.sum())
        assert 0.3 <= 1 - kept / there < 0.35
        assert int(cell.weight.count_nonzero()) == kept
        assert quantizer.get_current_threshold() == pytest.approx(0.3)


def test_the_documented_stepsize():
    dataset_size = 60_000
    cell = n2d2.quantizer.PruneCell(prune_mode="Gradual", threshold=0.3, stepsize=2 * dataset_size)
    assert cell.spec.schedule.every_samples == 120_000


def test_defaults_and_printing():
    assert str(PruneCell()) == (
        "PruneCell(delta=0.001, gamma=0.05, prune_filler=Random, prune_mode=Identity, quant_mode=Default, range=255,"
        " start=0.1, stepsize=0, threshold=0.2)"
    )
    assert PruneCell().get_type() == "PruneCell"


@pytest.mark.parametrize(
    ("options", "filler", "schedule"),
    [
        ({"prune_mode": "Static", "threshold": 1}, Random(), Static(sparsity=1)),
        (
            {"prune_mode": "Gradual", "prune_filler": "IterNonStruct", "delta": 0.01},
            IterNonStruct(delta=0.01),
            Gradual(sparsity=0.2, float32=True),
        ),
        (
            {"prune_mode": "Gradual", "start": 0.2, "gamma": 0.1, "stepsize": 9, "threshold": 0.9},
            Random(),
            Gradual(sparsity=0.9, start=0.2, gamma=0.1, every_samples=9, float32=True),
        ),
    ],
)
def test_translation(options, filler, schedule):
    spec = PruneCell(**options).spec
    assert (spec.filler, spec.schedule) == (filler, schedule)


@pytest.mark.parametrize("options", [{}, {"prune_mode": "Identity", "prune_filler": "IterNonStruct"}])
def test_identity_prunes_nothing(options):
    cell = Fc(10, 10, quantizer=PruneCell(**options))
    assert cell.quantizer.spec is None
    assert cell.quantizer.get_current_threshold() == 0
    assert cell.quantizer.get_pruned_masks().mean() == 1
    cell.update()


def test_the_filler_none_keeps_everything():
    cell = Fc(10, 10, quantizer=PruneCell(prune_mode="Static", prune_filler="None", threshold=0.9))
    assert sparsity(cell) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, r"threshold=1\.5 is illegal.*\[0, 1\]"),
        ({"threshold": -0.1}, r"threshold=-0\.1"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"start": 2.0}, r"start=2\.0"),
        ({"delta": 0}, "delta=0 is illegal"),
        ({"delta": float("inf")}, "delta=inf"),
        ({"prune_mode": "Gradual", "gamma": 0}, "gamma=0 is illegal"),
        ({"prune_mode": "Gradual", "gamma": -0.1}, r"gamma=-0\.1 is illegal"),
        ({"stepsize": -1}, "stepsize=-1 is illegal: it must be a whole number >= 0"),
        ({"gamma": float("nan")}, "gamma=nan is illegal: it must be a finite number$"),
        ({"quant_mode": "Defautl"}, "quant_mode='Defautl' is illegal; did you mean 'Default'"),
        ({"range": -1}, "range=-1 is illegal: it must be a whole number >= 0"),
        ({"model": "Frame_Cuda"}, "did you mean 'Frame_CUDA'"),
        ({"prune_mode": "Statc"}, "prune_mode='Statc' is illegal; did you mean 'Static'"),
        ({"prune_mode": "static"}, "did you mean 'Static'"),
        ({"prune_filler": "IterNonstruct"}, "did you mean 'IterNonStruct'"),
        ({"treshold": 0.3}, "PruneCell has no parameter 'treshold'; did you mean 'threshold'"),
    ],
)
def test_illegal_values_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        PruneCell(**options)


@pytest.mark.parametrize(
    "options", [{"threshold": "0.3"}, {"stepsize": 1.0}, {"prune_filler": None}, {"delta": True}, {"start": None}]
)
def test_wrong_types_are_refused_by_name(options):
    with pytest.raises(TypeError, match=f"{next(iter(options))}=") as caught:
        PruneCell(**options)
    assert isinstance(caught.value, WrongInputType)


def test_keywords_only():
    with pytest.raises(WrongInputType, match=r"'Static' has no name: .*; it is PruneCell\(.*prune_mode="):
        PruneCell("Static", 0.3)


@pytest.mark.parametrize("name", ["SATCell", "SATAct", "LSQCell", "LSQAct", "ActivationQuantizer", "PTQ", "fuse_qat"])
def test_quantization_is_refused_by_name(name):
    with pytest.raises(
        n2d2.error_handler.ImplementationError, match=rf"n2d2\.quantizer\.{name} is refused: .*PruneCell"
    ):
        getattr(n2d2.quantizer, name)(range=15)


def test_attributes_can_be_read_and_set():
    quantizer = PruneCell(prune_mode="Static", prune_filler="IterNonStruct", threshold=0.3)
    quantizer.threshold = 0.5
    assert quantizer.threshold == 0.5
    cell = Fc(20, 20, quantizer=quantizer)
    quantizer.threshold = 0.75
    assert sparsity(cell) >= 0.75
    with pytest.raises(WrongValue, match="threshold=7"):
        quantizer.threshold = 7
    assert quantizer.threshold == 0.75
    quantizer.prune_mode = "Gradual"
    with pytest.raises(WrongValue, match="gamma=0"):
        quantizer.gamma = 0
    with pytest.raises(ValueError, match="no parameter 'treshold'"):
        quantizer.treshold = 0.1


def test_a_field_set_while_training_goes_on_with_the_solver():
    cell = Fc(20, 20, no_bias=True, solver=n2d2.solver.SGD(momentum=0.9), quantizer=static(0.3))
    for threshold in (0.5, 0.9):
        for _ in range(3):
            cell(torch.ones(1, 20)).square().sum().backward()
            cell.update()
            assert int(cell.weight.count_nonzero()) <= int(cell.quantizer.get_pruned_masks().values.sum())
        cell.quantizer.threshold = threshold
        assert sparsity(cell) >= threshold


def test_a_frozen_cell_is_pruned_too():
    cell = Fc(20, 20, quantizer=PruneCell(prune_mode="Gradual", prune_filler="IterNonStruct", stepsize=1))
    cell.weight.requires_grad_(False)  # noqa: FBT003 - torch's signature
    cell(torch.ones(1, 20)).sum().backward()
    cell.update()
    assert sparsity(cell) >= 0.15


def test_the_masks_are_filled_at_once_and_again_after_an_import():
    cell = Fc(20, 20, quantizer=static(0.5))
    before = cell.quantizer.get_pruned_masks()
    with torch.no_grad():
        cell.weight.copy_(torch.arange(400.0).view(20, 20) / 400 + 0.01)
    cell.refill()
    after = cell.quantizer.get_pruned_masks()
    assert after != before
    assert after.values.view(-1)[:200].sum() == 0
    assert after.values.view(-1)[200:].all()


def test_one_prunecell_is_for_one_cell():
    quantizer = static()
    one = Conv(1, 2, [3, 3], name="one", quantizer=quantizer)
    with pytest.raises(WrongValue, match="this PruneCell is on 'one' already: give 'two' one of its own"):
        Conv(1, 2, [3, 3], name="two", quantizer=quantizer)
    other = Fc(4, 4)
    with pytest.raises(WrongValue, match="on 'one' already"):
        other.quantizer = quantizer
    assert not other.has_quantizer()
    one.quantizer = quantizer  # the same again is no second
    one.quantizer = None
    other.quantizer = quantizer
    assert other.has_quantizer()
    assert not one.has_quantizer()


def test_only_a_prunecell_is_a_quantizer():
    with pytest.raises(WrongInputType, match="quantizer='Prune' is illegal: it must be a PruneCell or None"):
        Fc(4, 4).quantizer = "Prune"


def test_a_config_section_gives_each_cell_its_own():
    config = n2d2.ConfigSection(quantizer=static(0.5))
    one, two = Fc(30, 30, **config), Fc(30, 30, **config)
    assert one.quantizer is not two.quantizer
    assert sparsity(one) >= 0.5
    assert sparsity(two) >= 0.5


def test_cells_of_one_shape_draw_differently_and_a_name_draws_the_same():
    def mask(name):
        return Fc(30, 30, name=name, quantizer=PruneCell(prune_mode="Static", threshold=0.5)).quantizer

    assert mask("one").get_pruned_masks() != mask("two").get_pruned_masks()
    assert mask("one").get_pruned_masks() == mask("one").get_pruned_masks()


def test_without_a_quantizer_weights_are_free_again():
    cell = Fc(10, 10, quantizer=static(0.9), no_bias=True)
    cell.quantizer = None
    cell(torch.ones(1, 10)).sum().backward()
    cell.update()
    assert int(cell.weight.count_nonzero()) == 100


def test_once_per_epoch_needs_a_provider_that_says_how_long_one_is():
    options = {"prune_mode": "Gradual", "prune_filler": "IterNonStruct", "threshold": 0.5}
    cell = Fc(10, 10, quantizer=PruneCell(**options))
    with pytest.raises(WrongValue, match="stepsize=0 is illegal here"):
        cell.update(5)
    for step in range(1, 5):
        cell.update(5, epoch_size=10)
        assert cell.quantizer.get_current_threshold() == pytest.approx(0.1 + 0.05 * (step // 2))


def test_weights_of_ones_own():
    quantizer = PruneCell(prune_mode="Static", threshold=0.5, prune_filler="IterNonStruct")
    with pytest.raises(WrongValue, match="on no cell"):
        quantizer.get_quantized_weights()
    weights = n2d2.Tensor([10]).set_values(np.arange(10) / 10)
    quantizer.add_weights(weights)
    quantizer.add_biases(weights)
    assert quantizer.get_quantized_weights(0).to_numpy().tolist() == pytest.approx([0] * 5 + [0.5, 0.6, 0.7, 0.8, 0.9])
    assert weights[1] == 0
    with pytest.raises(WrongValue, match="input_idx=1 is illegal"):
        quantizer.get_pruned_masks(1)
    quantizer.set_range(15)
    assert quantizer.range == 15


def test_unconnected_kernels_are_no_part_of_the_fraction():
    mapping = torch.arange(6 * 16).view(6, 16) % 8 < 5
    cell = Conv(6, 16, [5, 5], mapping=mapping, quantizer=static(0.5))
    kept = cell.quantizer.get_pruned_masks().values
    assert kept[~cell.connections].sum() == 0
    assert 0.5 <= 1 - int(kept.sum()) / 1500 < 0.52
    (facts,) = cell.quantizer.pruner.report().weights
    assert facts.n_weights == 1500


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301 - our own bytes
def test_copies_are_pruned_alike_and_apart(copied):
    model = lenet()
    for cell in model:
        if isinstance(cell, Conv | Fc):
            cell.quantizer = PruneCell(prune_mode="Gradual", prune_filler="IterNonStruct", threshold=0.9, stepsize=4)
    twin = copied(model)
    for name, quantizer in model.quantizers().items():
        assert twin[name].quantizer is not quantizer
        assert twin[name].quantizer.get_pruned_masks() == quantizer.get_pruned_masks()
    for one in (model, twin):
        torch.manual_seed(1)  # of the Dropout
        loss = one(torch.ones(4, 1, 32, 32)).square().mean()
        loss.backward()
        for cell in one.get_cells().values():
            cell.update(4)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, twin.state_dict()[name])
    assert twin[0].quantizer.get_current_threshold() == pytest.approx(0.15)


def test_gradual_is_n2d2_step_by_step():
    options = {
        "plain": {"prune_mode": "Static", "threshold": 0.5},
        "momentum": {"prune_mode": "Static", "threshold": 0.5},
        "gradual_mom_decay": {
            "prune_mode": "Gradual",
            "threshold": 0.8,
            "start": 0.2,
            "gamma": 0.2,
            "stepsize": 2,
        },
    }
    with np.load(DATA / "sgd_steps.npz") as golden:
        for run, how in options.items():
            rate, momentum, decay, batch = map(float, golden[f"{run}__lr_mom_decay_batch"])
            solver = n2d2.solver.SGD(learning_rate=rate, momentum=momentum, decay=decay)
            cell = Conv(1, 6, [5, 5], solver=solver, no_bias=True)
            cell.weight.data.copy_(torch.from_numpy(golden[f"{run}__w"][0].reshape(6, 1, 5, 5)))
            cell.quantizer = PruneCell(prune_filler="IterNonStruct", **how)
            for step, gradient in enumerate(golden[f"{run}__dw"].reshape(-1, 6, 1, 5, 5)):
                mask = golden[f"{run}__mask"][step].reshape(6, 1, 5, 5)
                assert np.array_equal(cell.quantizer.get_pruned_masks().to_numpy(), mask), (run, step)
                weights = cell.quantizer.get_quantized_weights().to_numpy()
                expected = golden[f"{run}__pruned_w"][step].reshape(6, 1, 5, 5)
                np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-7)
                (cell.weight * torch.tensor(-gradient / batch)).sum().backward()  # N2D2 adds its gradient
                cell.update(1)
