"""The models on which every behaviour is shown, and what trains them."""

import copy
import gc
import itertools
import math
import signal

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import nn

from prunecell.errors import StateError

torch.set_num_threads(1)

# No test hangs on the time that it takes; each run has the same examples (--hypothesis-profile=default draws others).
settings.register_profile(
    "suite", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def _manual_seed(seed):
    """torch's own also keeps the stack for GPUs that may come: a millisecond, and tests seed thousands of times."""
    return torch.default_generator.manual_seed(int(seed))


if not torch.accelerator.is_available():
    torch.manual_seed = torch.random.manual_seed = _manual_seed


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is there before the first test (modules, and all tests) is never garbage: nobody looks through it again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """Names of tests are the same in every process, or several cannot share them out."""
    unlike = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unlike:
        raise pytest.UsageError(f"names of {len(unlike)} tests hold an address, the first is {unlike[0]}")


@pytest.fixture
def for_every():
    """Tries a law on every combination of values, and tells all that break it.

    A test for each would be the same, where the law takes less than the two milliseconds that a test costs.
    """

    def tried(law, *values):
        broken = []
        for case in itertools.product(*values):
            try:
                law(*case)
            except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - whatever it is, it is told
                error.add_note(f"with {case}")
                broken.append(error)
        if broken:
            raise BaseExceptionGroup("the law is broken", broken)

    return tried


@pytest.fixture
def ctrl_c():
    """SIGINT as a terminal has it: under nohup or in the background the tests would inherit that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def no_garbage_collection():
    """What is in a cycle of references stays meanwhile."""
    torch.optim.SGD([torch.zeros(1)])  # torch keeps the first optimizer of a process
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Residual(nn.Module):
    """A small ResNet: convolutions, BatchNorm, a shortcut, a linear head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.bn1(self.stem(x)))
        x = torch.relu(x + self.bn2(self.conv1(x)))
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """A transformer block and a head."""

    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.block(x).mean(1))


class Recurrent(nn.Module):
    """An LSTM and a head."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def _mlp():
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))


MODELS = {
    "mlp": (_mlp, (16, 12)),
    "resnet": (Residual, (16, 1, 8, 8)),
    "transformer": (Attention, (16, 5, 16)),
    "lstm": (Recurrent, (16, 5, 8)),
}


class Task:
    """A model with data to train it on, always the same."""

    def __init__(self, name):
        torch.manual_seed(1)
        make, shape = MODELS[name]
        self.name, self.make = name, make
        self.model = make()
        self.x = torch.randn(shape)
        self.y = torch.arange(16) % 4

    def loss(self, model=None):
        return nn.functional.cross_entropy((self.model if model is None else model)(self.x), self.y)

    def train(self, optimizer, pruner=None, steps=5, model=None):
        for _ in range(steps):
            optimizer.zero_grad()
            self.loss(model).backward()
            optimizer.step()
            if pruner:
                pruner.step(16)


@pytest.fixture(params=list(MODELS))
def task(request):
    return Task(request.param)


@pytest.fixture
def mlp():
    return Task("mlp")


# ---- wrong states ----------------------------------------------------------------------------------------------------

WRONG_VALUES = [
    *(None, True, -1, 0, 1, 1 << 53, 1 << 63, 10**5000, 0.5, -0.5, 1.5, 1e300, math.nan, math.inf, "", "x", b"x"),
    *([], [0], [[]], {}, {"more": 1}, (), "x" * 9_000, list(range(3_000)), {f"w{n}": n for n in range(1_000)}),
    *(
        torch.zeros(()),
        torch.ones(2, 3),
        torch.ones(3, dtype=torch.int64),
        torch.full((6,), 255, dtype=torch.uint8),
        torch.ones(2, device="meta"),
        torch.ones(6).to_sparse(),
        torch.ones(6, dtype=torch.complex64),
    ),
]


def _mutants(state):
    """Copies of a state with one value changed, one taken out or one added, at any depth."""
    items = [*state.items()] if isinstance(state, dict) else [*enumerate(state)] if isinstance(state, list) else []
    for key, value in items:
        for new in (*WRONG_VALUES, *_mutants(value)):
            changed = copy.copy(state)
            changed[key] = new
            yield changed
        changed = copy.copy(state)
        del changed[key]
        yield changed
    yield from ({**state, "more": 1}, {**state, 7: 1}, {**state, "x" * 9_000: 1}) if isinstance(state, dict) else ()


@pytest.fixture
def wrong_values():
    return WRONG_VALUES


@pytest.fixture
def mutants():
    return _mutants


def _refusal(part, state):
    try:
        part.load_state_dict(state)
    except StateError as error:
        return str(error)
    return ""


@pytest.fixture
def state_refusal():
    """(part, state) -> the message with which a part refuses a state; empty if it takes it."""
    return _refusal
