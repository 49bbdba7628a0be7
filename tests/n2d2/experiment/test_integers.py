"""The integers of `[prunecell.Rate]`, at their end: hidden units are tidied, and nothing else changes."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

import prunecell.archive
from n2d2.cli import main
from n2d2.command.options import Options
from n2d2.command.room import bytes_to_write
from n2d2.command.session import start
from n2d2.experiment.experiment import read
from n2d2.experiment.run import run
from n2d2.experiment.storing import checkpoint_bytes, integers_checkpoint_bytes
from prunecell.graph import chains_of
from prunecell.graph.units import dead_units, sort_units_


def by_prunecell():
    run(read("rate.ini"), Path("out"), epochs=2)
    return Path("out/integers.checkpoint"), Path("out/rate.pcell")


def by_n2d2():
    main(["rate.ini", "-learn-epoch", "2"])
    return Path("rate.integers.checkpoint"), Path("rate.pcell")


def holding(state):
    """The network with these weights, and its images."""
    experiment = read("rate.ini")
    experiment.model.load_state_dict(state)
    images = torch.cat([images for images, _ in experiment.stimuli("Test")])
    return experiment.model.eval(), images


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("ini", ["net.ini", "dense.ini"])
@pytest.mark.parametrize("command", [by_prunecell, by_n2d2])
def test_both_commands_sort_the_units_and_clear_the_dead_ones(command, ini):
    text = Path(ini).read_text() + "[prunecell.Rate]\nLambda=1e-3\nEpochs=3\n"
    Path("rate.ini").write_text(text.replace("NbOutputs=4", "NbOutputs=12"))
    checkpoint, archive = command()
    learned, images = holding(torch.load(checkpoint, weights_only=True)["model"])
    stored, _ = holding(prunecell.archive.load(archive))
    assert [layer.name for layer in chains_of(stored, images).layers] == ["conv1.layer"]
    torch.testing.assert_close(stored(images), learned(images))
    assert sort_units_(stored, example=images) == {}
    values = dict(stored.named_parameters())
    assert not any(values[name][where].any() for name, where in dead_units(stored, example=images).items())
    assert sort_units_(learned, example=images) != {}


PLAN = "[prunecell.Plan]\nSparsity=0.7\nEpochs=2\n"
RATE = "[prunecell.Rate]\nLambda=1e-4\nEpochs=2\n"


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("ini", "more"),
    [("net.ini", ""), ("dense.ini", PLAN), ("net.ini", RATE), ("dense.ini", RATE), ("dense.ini", PLAN + RATE)],
    ids=["QWeight", "plan", "QWeight, integers", "integers", "plan, integers"],
)
def test_both_commands_come_to_the_same_bytes(ini, more):
    """They draw the same weights, masks, orders of the data and dropouts."""
    Path("rate.ini").write_text(Path(ini).read_text() + more)
    _, archive = by_prunecell()
    written = archive.read_bytes()
    _, archive = by_n2d2()
    assert archive.read_bytes() == written


@pytest.mark.usefixtures("workplace")
def test_the_room_that_checkpoints_take_is_foreseen():
    """By a low estimate, for the trainings of both commands."""
    text = Path("net.ini").read_text() + "[prunecell.Rate]\nLambda=1e-4\nEpochs=1\n"
    Path("rate.ini").write_text(text.replace("NbOutputs=4", "NbOutputs=64").replace("NbOutputs=10", "NbOutputs=200"))
    experiment = read("rate.ini")
    estimates = {
        "learning": checkpoint_bytes(experiment.optimizer(experiment.model)),
        "integers": integers_checkpoint_bytes(experiment.model),
    }
    options = Options(net=Path("rate.ini"), learn_epoch=1)
    session = start(options, Console())
    wanted = bytes_to_write(session)
    main(["rate.ini", "-learn-epoch", "1"])
    written = {name: options.checkpoints[name].stat().st_size for name in estimates}
    for name, estimate in estimates.items():
        assert 0.7 * written[name] < estimate < written[name]
    assert wanted > sum(estimates.values())
    run(read("rate.ini"), Path("out"), epochs=1)
    found = sum(path.stat().st_size for path in Path("out").glob("*.checkpoint"))
    assert 0.7 * found < 2 * estimates["learning"] + estimates["integers"] < found
