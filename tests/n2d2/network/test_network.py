"""A network of a file: keys without their owner, schedules, and masks that hang on the seed alone."""

import re
from pathlib import Path

import pytest
import torch

import n2d2
import prunecell as pc
from n2d2 import ini
from n2d2.cells import DeepNetCell
from n2d2.experiment.experiment import build, read
from n2d2.network.network import read_network
from n2d2.network.parts import OWNERS

pytestmark = pytest.mark.usefixtures("workplace")

KEYS = {
    "ActivationFunction": "Clipping",
    "BiasFiller": "Value",
    "QWeight": "Threshold",
    "WeightsFiller": "Scaling",
}


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("section", ["fc1", "config"])
def test_a_key_without_the_one_that_it_belongs_to_says_so(owner, section):
    text, key = Path("dense.ini").read_text(), f"{owner}.{KEYS[owner]}"
    place = "[fc1]" if section == "fc1" else "[config]"
    if owner == "ActivationFunction":
        text = text.replace("ActivationFunction=Rectifier\n", "")
    alone = text.replace(place, f"{place}\n{key}=0.5")
    line = alone.splitlines().index(f"{key}=0.5") + 1
    advice = f"nothing reads this key because {owner} is missing: add the line {owner}={OWNERS[owner]}"
    with pytest.raises(ini.IniError, match=rf"^net.ini:{line}: \[{section}\] {re.escape(f'{key}: {advice}')}$"):
        read_network(ini.parse(alone, file="net.ini"))
    with pytest.warns(ini.IniWarning, match=advice):
        read_network(ini.parse(alone, lenient=True))
    read_network(ini.parse(alone.replace(f"{key}=0.5", f"{owner}={OWNERS[owner]}\n{key}=0.5")))
    with pytest.raises(ini.IniError, match=f"nothing reads this key; did you mean '{key}'"):
        read_network(ini.parse(alone.replace(f"{key}=0.5", f"{owner}={OWNERS[owner]}\n{key}s=0.5")))


def test_a_cell_without_weights_says_that_it_has_nothing_to_prune():
    text = Path("dense.ini").read_text()
    with pytest.raises(
        ini.IniError, match=r"\[softmax\] QWeight is refused: a Softmax has no weights to prune; Conv, "
    ):
        read_network(ini.parse(text.replace("[softmax]\n", "[softmax]\nQWeight=Prune\n")))
    network = read_network(ini.parse(f"{text}QWeight=Prune\n"))  # the BatchNorm shares this section
    assert [*network.quantizers] == ["conv1", "fc1"]


@pytest.mark.parametrize("policy", ["PolyDecay", "CosineDecay"])
def test_a_schedule_without_an_end_matters_for_learning_only(policy):
    text = Path("dense.ini").read_text() + f"Solvers.LearningRatePolicy={policy}\nSolvers.MaxIterations=$(int(3 / 7))\n"
    line = len(text.splitlines())
    experiment = build(ini.parse(text, file="net.ini"))
    experiment.model(torch.rand(2, 1, 8, 8))
    message = (
        rf"^net.ini:{line}: \[conv1\] Solvers.MaxIterations=0 is illegal with Solvers.LearningRatePolicy='{policy}'"
    )
    with pytest.raises(ini.IniError, match=message):
        experiment.optimizer(experiment.model)


RANDOM = """
QWeight=Prune
QWeight.PruningMode={}
QWeight.PruningFiller=Random
QWeight.Threshold=0.6
QWeight.StartThreshold=0.3
QWeight.GammaThreshold=0.1
QWeight.StepSizeThreshold=32
"""


@pytest.mark.parametrize("mode", ["Static", "Gradual"])
@pytest.mark.parametrize("name", ["fc1", "fc.1.a", "provider"])
def test_a_script_and_a_job_draw_the_same_masks_under_one_seed(mode, name, monkeypatch):
    path = Path("random.ini")
    text = Path("dense.ini").read_text() + RANDOM.format(mode)
    path.write_text(re.sub(r"\[fc1\]|(?<=Input=)fc1", lambda found: found[0].replace("fc1", name), text))
    seen = {}
    for seed in (0, 7):
        monkeypatch.setattr(n2d2.global_variables, "seed", seed)
        script = DeepNetCell.load_from_INI(path)
        job = read(path, seed=seed)
        pruner = pc.Pruner(job.model, job.plan, epoch_size=64)
        for _ in range(3):
            masks = {cell.name: cell.quantizer.get_pruned_masks().to_numpy() for cell in script if cell.has_quantizer()}
            assert [*masks] == ["conv1", name]
            for mask, ours in zip(pruner.masks.values(), masks.values(), strict=True):
                assert torch.equal(mask, torch.from_numpy(ours).bool())
            pruner.step(32)
            for cell in script:
                if cell.has_quantizer():
                    cell.quantizer.pruner.step(32)
        seen[seed] = masks[name]
    assert (seen[0] != seen[7]).any()
