import copy
import math
import re

import pytest
import torch
from torch import nn

from prunecell import Gradual, IntSpec, IterNonStruct, Pruner, PruneSpec, Quantizer, Static, compact_
from prunecell.errors import FormatError, OptionError, OptionTypeError, PlanError, StateError
from prunecell.training.checkpoint import Checkpoint
from prunecell.training.fitting import Task, fit
from prunecell.training.progress import Progress

SPEC = PruneSpec(filler=IterNonStruct(), schedule=Gradual(sparsity=0.8, start=0.2, gamma=0.1, every_samples=24))


class StopHereError(Exception):
    """Stands for kill -9."""


def task(*, pruned=True, dropout=0.2):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Dropout(dropout), nn.Linear(20, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def train(epoch):
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(6):
            x = torch.randn(8, 10, generator=generator)
            yield x, x[:, :3].argmax(1)

    return Task(
        model=model,
        optimizer=optimizer,
        train=train,
        validation=lambda: train(1000),
        keeper=Pruner(model, SPEC, optimizer=optimizer) if pruned else None,
    )


def test_it_learns_and_prunes():
    trained = task()
    progress = fit(trained, 12)
    assert len(progress.epochs) == 12
    assert progress.epochs[-1].loss < progress.epochs[0].loss / 2
    assert progress.epochs[-1].accuracy > 0.7
    assert progress.epochs[-1].sparsity == pytest.approx(0.8, abs=0.01)
    assert progress.epochs[-1].target_sparsity == 0.8
    assert progress.total_samples == 12 * 48
    sparsities = [sparsity for _, sparsity in progress.sparsity]
    assert sparsities == [0.2, 0.4, 0.6, 0.8]


def test_a_dense_run_reports_no_sparsity():
    progress = fit(task(pruned=False), 1)
    assert (progress.epochs[0].sparsity, progress.epochs[0].target_sparsity) == (0, None)
    assert progress.sparsity == []


@pytest.mark.parametrize("stop_at", [1, 5, 6, 7, 13, 20])
def test_a_run_stopped_anywhere_ends_with_the_same_bits(tmp_path, stop_at):
    whole = task()
    expected = fit(whole, 4)

    def watch(_):
        watch.calls += 1
        if watch.calls == stop_at:
            raise StopHereError

    watch.calls = 0
    checkpoint = Checkpoint(path=tmp_path / "run", every_seconds=1e-9)
    with pytest.raises(StopHereError):
        fit(task(), 4, checkpoint=checkpoint, watch=watch)
    torch.manual_seed(12345)
    resumed = task()
    progress = fit(resumed, 4, checkpoint=Checkpoint(path=tmp_path / "run"))
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))
    assert [(e.loss, e.accuracy, e.sparsity) for e in progress.epochs] == [
        (e.loss, e.accuracy, e.sparsity) for e in expected.epochs
    ]
    assert progress.sparsity == expected.sparsity


def test_a_finished_run_is_not_trained_again(tmp_path):
    checkpoint = Checkpoint(path=tmp_path / "run")
    fit(task(), 2, checkpoint=checkpoint)
    resumed = task()
    fit(resumed, 2, checkpoint=checkpoint)
    before = copy.deepcopy(resumed.model.state_dict())
    assert len(fit(resumed, 2, checkpoint=checkpoint).epochs) == 2
    assert all(torch.equal(before[key], value) for key, value in resumed.model.state_dict().items())


def test_a_broken_checkpoint_is_named(tmp_path):
    path = tmp_path / "run"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(FormatError, match="run is no checkpoint of prunecell"):
        fit(task(), 1, checkpoint=Checkpoint(path=path))
    fit(task(pruned=False), 1, checkpoint=Checkpoint(path=tmp_path / "dense"))
    with pytest.raises(FormatError, match=r"dense is of another run: it holds .*, not .*'keeper'"):
        fit(task(), 1, checkpoint=Checkpoint(path=tmp_path / "dense"))


def _state():
    return fit(task(), 2).state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.update(steps=-1),
            r"steps=-1 of the progress is illegal: it must be a whole number in \[0, 2\^53\)",
        ),
        (lambda s: s.update(steps=1.0), r"steps=1\.0 of the progress"),
        (lambda s: s.update(samples="x"), "samples='x' of the progress"),
        (lambda s: s.update(total_samples=True), "total_samples=True of the progress"),
        (lambda s: s.update(loss_sum=math.nan), "loss_sum=nan of the progress"),
        (lambda s: s.update(seconds=-1.0), r"seconds=-1\.0 of the progress"),
        (lambda s: s.update(more=1), "the progress .*more"),
        (lambda s: s.pop("seconds"), "the progress lacks seconds"),
        (lambda s: s.update(epochs=3), "epochs=3 of the progress"),
        (lambda s: s.update(epochs=[3]), "epoch 1 is an int"),
        (lambda s: s["epochs"][0].update(accuracy="x"), "accuracy='x' of epoch 1"),
        (lambda s: s["epochs"][0].pop("loss"), "epoch 1 lacks loss"),
        (lambda s: s["epochs"][0].update(unknown=3), "epoch 1 .*unknown"),
        (lambda s: s.update(sparsity=[1]), "must be pairs of samples and sparsity"),
        (lambda s: s.update(sparsity=[(1, "x")]), "sparsity='x' of a change of sparsity"),
        (lambda s: s.update(sparsity=[(-1, 0.5)]), "samples=-1 of a change of sparsity"),
        (lambda s: s.clear(), "the progress lacks epochs, loss_sum"),
    ],
)
def test_a_progress_with_one_wrong_value_is_refused_and_nothing_is_changed(change, message):
    state, progress = _state(), Progress()
    progress.load_state_dict(state)
    before = progress.state_dict()
    change(state)
    with pytest.raises(StateError, match=message):
        progress.load_state_dict(state)
    assert progress.state_dict() == before
    with pytest.raises(StateError, match="the progress is a NoneType"):
        progress.load_state_dict(None)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    class Broken:
        def state_dict(self):
            raise StopHereError

    checkpoint = Checkpoint(path=tmp_path / "run")
    checkpoint.save({"progress": Progress()})
    before = checkpoint.path.read_bytes()
    with pytest.raises(StopHereError):
        checkpoint.save({"progress": Broken()})
    assert checkpoint.path.read_bytes() == before


def test_no_epochs_is_legal_and_fewer_is_not():
    assert fit(task(), 0).epochs == []
    with pytest.raises(OptionError, match="epochs=-1 is illegal"):
        fit(task(), -1)


class Counted:
    """A keeper whose sparsity goes up by a little each step, and that counts who asks."""

    def __init__(self, each):
        self.each, self.steps, self.asked = each, 0, 0

    @property
    def sparsity(self):
        self.asked += 1
        return self.each * self.steps

    def step(self, _n_samples):
        self.steps += 1

    def report(self):
        return Pruner(nn.Linear(2, 2), SPEC).report()

    def state_dict(self):
        return {}

    def load_state_dict(self, _state):
        pass


@pytest.mark.parametrize("each", [0.0, 1e-6, 4e-5, 2e-4, 2e-3])
def test_the_sparsity_is_asked_for_and_noted_seldom(each):
    trained = task(pruned=False)
    one = trained.train(0)
    batches = [next(one)] * 36
    trained.train, trained.keeper = lambda _: batches, Counted(each)
    progress = fit(trained, 3)
    assert trained.keeper.asked == 1 + 3 * (36 // 10 + 1)
    by_samples = dict(progress.sparsity)
    assert len(by_samples) == len(progress.sparsity) <= 1 + 3 * 4
    values = [*by_samples.values()]
    assert len(values) == len(set(values))
    if each:
        assert [by_samples[8 * 36 * n] for n in (1, 2, 3)] == [epoch.sparsity for epoch in progress.epochs]
    within = [sparsity for samples, sparsity in progress.sparsity if samples % (8 * 36)]
    assert bool(within) == (36 * each >= 0.001)


def squared(model, batches):
    model.eval()
    with torch.no_grad():
        return -sum(float((model(x) - y).square().mean()) for x, y in batches)


def test_another_metric_is_written_down_and_resumed(tmp_path):
    trained = task()
    trained.metric = squared
    trained.validation = lambda: [(x, torch.zeros(8, 3)) for x, _ in trained.train(1000)]
    fit(trained, 2, checkpoint=Checkpoint(path=tmp_path / "run"))
    again = fit(trained, 3, checkpoint=Checkpoint(path=tmp_path / "run"))
    assert [epoch.accuracy < 0 for epoch in again.epochs] == [True] * 3


@pytest.mark.parametrize("labels", [torch.zeros(8, 3), torch.zeros(8, 1), torch.zeros(7, dtype=torch.int64)])
def test_labels_of_no_classifier_are_told_before_anything_is_learned(labels):
    trained, state = task(), torch.get_rng_state()
    trained.validation = lambda: [(torch.randn(8, 10), labels)]
    before = copy.deepcopy(trained.model.state_dict())
    with pytest.raises((OptionError, OptionTypeError), match="accuracy is of integer labels"):
        fit(trained, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[key], value) for key, value in trained.model.state_dict().items())


def test_what_is_beside_is_part_of_the_state(tmp_path):
    class Seen(dict):
        state_dict = dict.copy
        load_state_dict = dict.update

    first, second = task(), task()
    first.beside, second.beside = {"seen": Seen(steps=7)}, {"seen": Seen()}
    fit(first, 1, checkpoint=Checkpoint(path=tmp_path / "run"))
    fit(second, 1, checkpoint=Checkpoint(path=tmp_path / "run"))
    assert second.beside["seen"] == {"steps": 7}


def test_a_state_of_another_model_is_refused(tmp_path):
    fit(task(pruned=False), 1, checkpoint=Checkpoint(path=tmp_path / "run"))
    other = task(pruned=False)
    other.model[0] = nn.Linear(11, 20)
    with pytest.raises(FormatError, match="run is of another run: model does not fit"):
        fit(other, 2, checkpoint=Checkpoint(path=tmp_path / "run"))


def pairs(*batches):
    return lambda _: list(batches)


X, Y = torch.randn(4, 10), torch.tensor([0, 1, 2, 0])
FUNCTION = "train is a .*: it must be a function of the number of an epoch that gives batches, as train=lambda epoch: "
WRONG = {
    "train=batches": ({"train": [(X, Y)]}, OptionTypeError, FUNCTION),
    "train=numbers": ({"train": [1, 2]}, OptionTypeError, FUNCTION),
    "train=None": ({"train": None}, OptionTypeError, FUNCTION),
    "train takes nothing": ({"train": lambda: [(X, Y)]}, OptionTypeError, "train is illegal: it must be a function of"),
    "numbers": ({"train": pairs(1, 2)}, OptionTypeError, r"a batch is an int: it must be a pair \(inputs, targets\)"),
    "singles": ({"train": pairs((X,))}, OptionTypeError, "a batch is a tuple of 1: it must be a pair"),
    "triples": ({"train": pairs((X, Y, Y))}, OptionTypeError, "a batch is a tuple of 3: it must be a pair"),
    "one number": ({"train": lambda _: 3}, OptionTypeError, "train gave an int for epoch 0: it must give pairs"),
    "a tensor": ({"train": lambda _: X}, OptionTypeError, "train gave a Tensor for epoch 0: it must give pairs"),
    "nothing": ({"train": pairs()}, OptionError, "train gave no batch for epoch 0: an iterator can be read once only"),
    "one label": ({"train": pairs((X, 3))}, OptionTypeError, "the labels of a batch are 3: there must be one for each"),
    "a 0-d label": (
        {"train": pairs((X, Y[0]))},
        OptionTypeError,
        "the labels of a batch are .*: there must be one for",
    ),
    "model": ({"model": [X]}, OptionTypeError, "model is a list: it must be a torch.nn.Module"),
    "optimizer": ({"optimizer": None}, OptionTypeError, "optimizer is a NoneType: it must be an optimizer"),
    "keeper": ({"keeper": SPEC}, OptionTypeError, "keeper is a PruneSpec: it must be a Pruner or a Quantizer"),
    "scheduler": ({"scheduler": 3}, OptionTypeError, "scheduler is an int: it must be a scheduler of learning rates"),
    "validation": ({"validation": [(X, Y)]}, OptionTypeError, "validation is a list: it must be a function of nothing"),
    "loss": ({"loss": "mse"}, OptionTypeError, "loss='mse' is illegal: it must be callable"),
    "metric": ({"metric": 0.5}, OptionTypeError, "metric=0.5 is illegal: it must be callable"),
    "beside": ({"beside": [3]}, OptionTypeError, "beside is a list: it must be a mapping"),
    "a float": (
        {"loss": lambda *_: 0.5},
        OptionTypeError,
        "the loss returned a float: it must be a tensor with one num",
    ),
    "a loss each": (
        {"loss": nn.CrossEntropyLoss(reduction="none")},
        OptionTypeError,
        r"the loss returned a Tensor of shape \(8,\): it must be a tensor with one number",
    ),
    "no gradient": (
        {"loss": lambda *_: torch.tensor(1.0)},
        OptionError,
        "the loss depends on no parameter that requir",
    ),
}


@pytest.mark.parametrize(("parts", "kind", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_trained_is_refused_in_our_words_before_anything_is_changed(parts, kind, message):
    right = task(pruned=False)
    before = copy.deepcopy(right.model.state_dict())
    with pytest.raises(kind, match=message):
        fit(Task(**vars(right) | parts), 1)
    after = right.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not right.optimizer.state


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        ((nn.Linear(2, 2), 1), {}, "task is a Linear: it must be a Task, as fit"),
        ((1, None), {}, "task is an int: it must be a Task, as fit"),
        ((None, 1), {"checkpoint": "run.checkpoint"}, r"checkpoint is a str: it must be a Checkpoint\(path=\.\.\.\)"),
        ((None, 1), {"watch": 3}, "watch=3 is illegal: it must be callable"),
    ],
)
def test_other_arguments_of_fit_are_refused_too(arguments, named, message):
    given = (task() if arguments[0] is None else arguments[0], arguments[1])
    with pytest.raises(OptionTypeError, match=message):
        fit(*given, **named)


def test_a_model_that_was_compacted_is_not_trained_again():
    model = nn.Linear(1024, 400)
    Pruner(model, PruneSpec(schedule=Static(sparsity=0.99))).finalize()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model = compact_(model, prefer="memory")
    batches = pairs((torch.randn(4, 1024), Y))
    with pytest.raises(OptionError, match=r"weight cannot be trained any more, because compact_ made them sparse"):
        fit(Task(model=model, optimizer=optimizer, train=batches), 1)
    with pytest.raises(PlanError, match=r"weight: in a sparse layer .*\. Prune the dense model, before compact_$"):
        Pruner(model, PruneSpec(schedule=Static(sparsity=0.5)))
    with pytest.raises(PlanError, match=r"plan key 'weight' fits no parameter: it is in a sparse layer that compact_"):
        Quantizer(model, {"weight": IntSpec(bits=8)})


@pytest.mark.parametrize("validated", [True, False])
def test_a_progress_prints_as_one_line(validated):
    job = task()
    if not validated:
        job.validation = None
    assert str(Progress()) == "0 epochs, 0 samples"
    told = str(fit(job, 2))
    assert re.fullmatch(r"2 epochs, [\d,]+ samples: loss \d+\.\d{4}(, accuracy \d\.\d{4})?, sparsity \d+\.\d\d%", told)
    assert ("accuracy" in told) == validated
