"""A small problem that is learned in a second, and what the searches of the tests are given."""

import pytest
import torch
from torch import nn

N_CLASSES = 4


@pytest.fixture(autouse=True, scope="session")
def quick():
    """Drawing, and trying out learning rates, take longer than all else; the tests of pictures draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prunecell.tuning.curve.can_draw", lambda: False)
        patch.setattr("prunecell.tuning.layers.can_draw", lambda: False)
        patch.setattr("prunecell.tuning.defaults.STEPS", 12)
        patch.setattr("prunecell.tuning.beginning.RATES", (1e-3, 3e-3))
        yield


def batches(n, seed):
    """Batches of points around corners, by class."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        labels = torch.randint(N_CLASSES, (32,), generator=generator)
        yield nn.functional.one_hot(labels, 12).float() + 0.35 * torch.randn(32, 12, generator=generator), labels


@pytest.fixture(scope="session")
def trained():
    """A model that has learned it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, N_CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for inputs, labels in batches(100, 1):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="session")
def data():
    """What `tune` is told of the data."""
    return {"train": [*batches(12, 2)], "validation": [*batches(8, 3)]}
