"""States of n2d2's own parts: any value in any place is refused and changes nothing, or the part goes on."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from n2d2.command.logbook import Logbook, Row
from n2d2.experiment.experiment import Setting
from n2d2.solver import SGD, Adam, build_optimizer
from n2d2.target import Score
from prunecell.errors import FormatError, PrunecellError
from prunecell.training.checkpoint import Checkpoint


def logbook():
    made = Logbook(experiment=None, keeper=None, every=10, total=100, say=lambda _: None, keep=lambda: None)
    made.samples, made.best = 20, (0.5, 0.75)
    made.rows = [Row(samples=10, loss=1.5, learning=0.5, validation=math.nan, sparsity=0.25, threshold=0.5)] * 2
    return made


def score():
    made = Score(SimpleNamespace(labels=None))
    made.count(torch.eye(3), torch.tensor([0, 1, 1]), 0.5)
    return made


PARTS = {"logbook": logbook, "score": score, "setting": lambda: Setting(seed=3, description="a\nb")}


def flat(value):
    if isinstance(value, dict | list | tuple):
        return [*map(flat, value.items() if isinstance(value, dict) else value)]
    return value.tolist() if isinstance(value, torch.Tensor) else repr(value)


@pytest.mark.parametrize("name", PARTS)
def test_any_value_in_any_place_of_a_part(name, mutants, wrong_values):
    good = PARTS[name]().state_dict()
    n_refused = 0
    for state in [*mutants(good), *wrong_values]:
        part = PARTS[name]()
        try:
            part.load_state_dict(state)
        except PrunecellError:
            n_refused += 1
            assert flat(part.state_dict()) == flat(good)
        else:
            part.state_dict()
            if name == "score":
                assert part.get_average_success() >= 0
                part.get_confusion_matrix()
    assert n_refused > len(wrong_values)


def test_a_confusion_of_other_outputs_is_told():
    part = score()
    with pytest.raises(PrunecellError, match="4 outputs are counted, and 3 were counted before"):
        part.count(torch.eye(4), torch.tensor([0, 1, 2, 3]))


@pytest.mark.parametrize("solver", [SGD(learning_rate=0.1, momentum=0.9), Adam(learning_rate=0.1)])
def test_any_value_in_any_place_of_an_optimizer(tmp_path, solver, mutants, wrong_values):
    path = tmp_path / "run"

    def made():
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        layer.solvers = lambda: dict.fromkeys(layer.parameters(), solver)
        optimizer = build_optimizer(layer, batch_size=4)
        return {"model": layer, "optimizer": optimizer}

    def step(parts):
        parts["optimizer"].zero_grad()
        parts["model"](torch.ones(4, 3)).square().sum().backward()
        parts["optimizer"].step()

    parts = made()
    step(parts)
    Checkpoint(path=path).save(parts)
    good = torch.load(path, weights_only=True)
    n_refused = 0
    for state in [*mutants(good["optimizer"])][::7]:
        torch.save({**good, "optimizer": state}, path)
        resumed = made()
        before = flat({name: part.state_dict() for name, part in resumed.items()})
        try:
            Checkpoint(path=path).load(resumed)
        except FormatError:
            n_refused += 1
            assert flat({name: part.state_dict() for name, part in resumed.items()}) == before
        else:
            step(resumed)
    assert n_refused > len(wrong_values)
