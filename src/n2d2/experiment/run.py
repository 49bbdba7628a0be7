"""What `prunecell run` does: train densely, with pruning, as integers; write the small file, load it back, report."""

import copy
import gzip
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text
from torch import nn

from n2d2.cells.deepnet_cell import DeepNetCell
from n2d2.cells.naming import weight_name
from n2d2.experiment.experiment import Experiment
from n2d2.experiment.fitting import fit_shown
from n2d2.experiment.integers import Integers
from n2d2.experiment.planning import unreached
from n2d2.experiment.result import FACTS, PICTURE, Pruned, Result, Sizes, print_result
from n2d2.experiment.storing import Stored, checkpoint_bytes, integers_checkpoint_bytes, store
from n2d2.ini import IniError
from n2d2.network.default_plan import PLAN_SECTION
from n2d2.network.rate import RATE_SECTION
from prunecell.console.terminal import say, visible
from prunecell.disk.atomic import replacing
from prunecell.disk.claim import alone_in
from prunecell.disk.room import check_room
from prunecell.disk.targets import check_place
from prunecell.errors import NothingSparseWarning, OptionError, some
from prunecell.files.torch_file import torch_bytes
from prunecell.pruning import Pruner
from prunecell.report import Report
from prunecell.report.picture import draw_run
from prunecell.sparse.convert import compact_
from prunecell.training.checkpoint import Checkpoint
from prunecell.training.fitting import Keeper, Task
from prunecell.training.progress import Epoch, Progress

STAGES = ("dense", "pruned", "integers")
"""The trainings of a run, each with a checkpoint of its name; a file may ask for some of them only."""


def run(
    experiment: Experiment,
    folder: Path,
    *,
    epochs: int,
    reference: bool = True,
    resume: bool = False,
    force: bool = False,
) -> Result:
    """Do all of it, print what happens, and leave the files in `folder`.

    Args:
        experiment: what is learned.
        folder: gets `NAME.pcell`, `report.json`, the checkpoints, and, where matplotlib is installed, `run.png`.
        epochs: >= 1.
        reference: whether the dense network is trained too, for comparison. Where nothing is pruned it always is,
            because integers are made of it; a warning says so.
        resume: go on from the checkpoints in `folder`.
        force: begin anew over a run that is in `folder`; its checkpoints are removed first.

    Raises:
        IniError: nothing in the file is pruned, and nothing becomes integers.
        OptionError: the folder cannot be made; a run is in it, and neither `resume` nor `force` is given; there is none
            to resume; another run works in it; or a checkpoint has more epochs than are asked for.
        DataError: the data is not there, or a part of it that is needed.
        FormatError: what was read back is not what was written, or a checkpoint is of another run.
        DivergedError: the loss is NaN or infinite.
        KeyboardInterrupt: Ctrl-C; the checkpoints have all that was learned.
    """
    stages = _stages(experiment, reference=reference)
    there = check_place(folder)
    is_new = there != folder
    check_room(there, _bytes_to_write(experiment, folder, stages))
    if is_new:  # it is made when nothing can be refused any more
        _prepare(experiment, folder, resume=resume, force=force)
        folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        console = Console()
        if not is_new:
            _prepare(experiment, folder, resume=resume, force=force)
        checkpoints = {stage: Checkpoint(path=_path(folder, stage)) for stage in stages}
        return _run(experiment, folder, checkpoints, console, epochs=epochs)


def _stages(experiment: Experiment, *, reference: bool) -> list[str]:
    """Those of STAGES that are wanted."""
    prunes, becomes_integers = any(experiment.plan.values()), experiment.network.rate is not None
    if not (prunes or becomes_integers):
        file = experiment.network.document.file
        raise IniError(
            f"{file}: nothing is pruned: no section has QWeight=Prune with a PruningMode but Identity, and there is no"
            f" section [{PLAN_SECTION}]; and nothing becomes integers: there is no section [{RATE_SECTION}]"
        )
    if not (prunes or reference):
        warnings.warn("the dense network is trained all the same, because integers are made of it", stacklevel=3)
    wanted = {"dense": reference or not prunes, "pruned": prunes, "integers": becomes_integers}
    return [stage for stage in STAGES if wanted[stage]]


def _path(folder: Path, stage: str) -> Path:
    return folder / f"{stage}.checkpoint"


def _run(
    experiment: Experiment, folder: Path, checkpoints: Mapping[str, Checkpoint], console: Console, *, epochs: int
) -> Result:
    """What `run` does, alone in the folder: a stage for each checkpoint."""
    archive, following = folder / f"{experiment.name}.pcell", checkpoints.get("integers")
    progress = {stage: Progress() for stage in STAGES}  # what is not wanted learns nothing
    dense = experiment.fresh() if "dense" in checkpoints else None
    if dense is not None:
        console.rule(Text(f"{visible(experiment.name)}: dense"))
        after = None if "pruned" in checkpoints else following
        task = _task(experiment, dense)
        progress["dense"] = _fit(task, experiment, epochs, checkpoints["dense"], console, following=after)
    model = experiment.fresh() if dense is None or "pruned" in checkpoints else copy.deepcopy(dense)
    pruned, behind = None, ""
    if "pruned" in checkpoints:
        console.rule(Text(f"{visible(experiment.name)}: pruned"))
        task, size = _task(experiment, model), experiment.provider.epoch_size
        task.keeper = pruner = Pruner(model, experiment.plan, optimizer=task.optimizer, epoch_size=size)
        progress["pruned"] = _fit(task, experiment, epochs, checkpoints["pruned"], console, following=following)
        report = pruner.finalize(early=True)
        cells = {weight_name(cell.name): cell.name for cell in model}
        behind = unreached(experiment.network, {cells[name]: pruner.target_sparsity(name) for name in pruner.masks})
        if following is not None:
            pruned = Pruned(
                accuracy=experiment.tested(model),
                sparsity=report.sparsity,
                stored=store(model, archive).n_bytes,
            )
    learned = progress["pruned" if "pruned" in checkpoints else "dense"]
    if following is not None:
        console.rule(Text(f"{visible(experiment.name)}: integers under the price of their bits"))
        n_learned = len(learned.epochs)
        report, progress["integers"] = _make_integers(model, experiment, following, console, epochs_before=n_learned)
    stored = store(model, archive)
    tests = _tested(experiment, model, stored)
    result = Result(
        report=stored.entered(report),
        sizes=_sizes(model, dense, stored),
        accuracy=tests["dense"][0],
        accuracy_runtime=tests["sparse"][0],
        seconds_dense=tests["dense"][1],
        seconds_runtime=tests["sparse"][1],
        accuracy_dense=None if dense is None else experiment.tested(dense),
        epochs=progress["pruned"].epochs,
        epochs_dense=progress["dense"].epochs,
        epochs_integers=progress["integers"].epochs,
        pruned=pruned,
    )
    _draw(folder / PICTURE, experiment, [*learned.sparsity, *_after(learned, progress["integers"])], result)
    with replacing(folder / FACTS) as written:
        written.write(result.to_json().encode())
    print_result(result, stored.path, console)
    if behind:
        say(console, f"{behind}; a higher --epochs with --resume goes on")
    return result


def _bytes_to_write(experiment: Experiment, folder: Path, stages: Sequence[str]) -> int:
    """Of the checkpoints, by a low estimate; those that are there are replaced, or removed first."""
    learned = checkpoint_bytes(experiment.optimizer(experiment.model))
    integers = integers_checkpoint_bytes(experiment.model)
    wanted = sum(integers if stage == "integers" else learned for stage in stages)
    return wanted - sum(path.stat().st_size for path in folder.glob("*.checkpoint"))


def _prepare(experiment: Experiment, folder: Path, *, resume: bool, force: bool) -> None:
    """See that the data is there, and that nothing in the folder is destroyed that was not meant to be.

    Raises:
        OptionError: a run is in it, and neither `resume` nor `force` is given; or there is none to resume.
        DataError: as `run`.
    """
    paths = [_path(folder, stage) for stage in STAGES]
    results = (folder / f"{experiment.name}.pcell", folder / PICTURE, folder / FACTS)
    there = [path for path in (*paths, *results) if path.exists()]
    if there and not (resume or force):
        state, resumed = "an unfinished run", "--resume goes on with it"
        if (folder / FACTS).exists():
            state, resumed = "a finished run", "--resume with more --epochs goes on with it"
        raise OptionError(
            f"{folder}: {state} is in it ({', '.join(path.name for path in there)}); nothing was done: {resumed},"
            " --out FOLDER begins elsewhere, --force begins anew over it"
        )
    if resume and not any(path.exists() for path in paths):
        raise _nothing_to_go_on_with(folder)
    experiment.check_data("Learn", "Test")
    if there and not resume:
        next(iter(experiment.train(0)), None)  # if the data cannot be had, nothing is removed
        for path in there:
            path.unlink()  # so that what is there after a kill is of this run


def _nothing_to_go_on_with(folder: Path) -> OptionError:
    """What to raise where there is nothing to resume, with the folders beside it that have a run."""
    runs = sorted({str(path.parent) for path in folder.parent.glob("*/*.checkpoint")})
    beside = f"; there is one in {some(runs)}" if runs else ""
    return OptionError(
        f"{folder}: there is no checkpoint in it to go on from{beside}; nothing was done: without --resume a run begins"
        " there, also after one that was killed before its first checkpoint"
    )


def _task(experiment: Experiment, model: DeepNetCell) -> Task:
    """The learning of a network by the solvers of the file."""
    validated = experiment.provider.database.get_nb_stimuli("Validation") > 0
    return Task(
        model=model,
        optimizer=experiment.optimizer(model),
        train=experiment.train,
        validation=(lambda: experiment.stimuli("Validation")) if validated else None,
        loss=experiment.network.loss,
        metric=experiment.network.accuracy,
        beside={"setting": experiment.setting},
    )


def _make_integers(
    model: DeepNetCell, experiment: Experiment, checkpoint: Checkpoint, console: Console, *, epochs_before: int
) -> tuple[Report, Progress]:
    """Make integers of the network that was learned, and learn them, as its `[prunecell.Rate]` asks for.

    Their epochs follow those of the network: the data comes in other orders than there.
    """
    asked = experiment.network.rate
    if asked is None:
        raise AssertionError("the file asks for no integers")
    integers = Integers.of(model, asked, experiment.provider)
    task = _task(experiment, model)
    task.train = lambda epoch: experiment.train(epochs_before + epoch)
    task.optimizer, task.scheduler, task.keeper = integers.optimizer, integers.scheduler, integers.quantizer
    progress = _fit(task, experiment, asked.epochs, checkpoint, console)
    return integers.finish(), progress


def _fit(
    task: Task,
    experiment: Experiment,
    epochs: int,
    checkpoint: Checkpoint,
    console: Console,
    *,
    following: Checkpoint | None = None,
) -> Progress:
    """Train; print one line for each epoch that ends now.

    The checkpoint `following`, of what begins with the network that is learned here, is of the past as soon as this
    learns on.
    """
    printed: int | None = None

    def watch(progress: Progress) -> None:
        nonlocal printed
        if printed is None:
            if following is not None:
                following.path.unlink(missing_ok=True)
            printed = len(progress.epochs) - (progress.steps == 0)  # without a step, the last one has just ended
            if printed:
                say(console, f"going on after epoch {printed}")
        for epoch in progress.epochs[printed:]:
            say(console, _line(epoch, epochs, task.keeper))
        printed = len(progress.epochs)

    size = experiment.provider.epoch_size
    progress = fit_shown(task, epochs, checkpoint=checkpoint, epoch_size=size, console=console, watch=watch)
    if (n := len(progress.epochs)) > epochs:
        raise OptionError(f"epochs={epochs} is illegal: {checkpoint.path} has {n} already: give --epochs {n} or more")
    if printed is None:
        say(console, f"all {n} epochs were learned before; more --epochs go on")
    return progress


def _line(epoch: Epoch, epochs: int, keeper: Keeper | None) -> str:
    """The facts of an epoch."""
    accuracy = "" if epoch.accuracy is None else f"  validation accuracy {epoch.accuracy:.2%}"
    sparsity = "" if keeper is None else f"  sparsity {epoch.sparsity:.2%}"
    target = "" if epoch.target_sparsity is None else f"  target {epoch.target_sparsity:.2%}"
    number = f"{epoch.number:{len(str(epochs))}d} of {epochs}"
    return f"epoch {number}  loss {epoch.loss:.4f}{accuracy}{sparsity}{target}  {epoch.seconds:.1f} s"


def _tested(experiment: Experiment, model: nn.Module, stored: Stored) -> dict[str, tuple[float, float]]:
    """Accuracy and seconds over the test set: of the model, and of the file loaded into the sparse runtime."""
    found = {"dense": _timed(lambda: experiment.tested(model))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingSparseWarning)  # the times that are printed show it
        small = compact_(experiment.fresh(), stored.path)
    found["sparse"] = _timed(lambda: experiment.tested(small))
    return found


def _timed(evaluation: Callable[[], float]) -> tuple[float, float]:
    """The accuracy, and the seconds that it took on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.perf_counter()
    try:
        return evaluation(), time.perf_counter() - started
    finally:
        torch.set_num_threads(threads)


def _sizes(model: nn.Module, dense: nn.Module | None, stored: Stored) -> Sizes:
    pruned = torch_bytes(model)
    return Sizes(
        dense=len(pruned),
        dense_gzip=None if dense is None else len(gzip.compress(torch_bytes(dense))),
        pruned_gzip=len(gzip.compress(pruned)),
        stored=stored.n_bytes,
    )


def _after(before: Progress, progress: Progress) -> list[tuple[int, float]]:
    """The changes of sparsity of a training that came after another one."""
    return [(before.total_samples + samples, sparsity) for samples, sparsity in progress.sparsity]


def _draw(path: Path, experiment: Experiment, sparsity: list[tuple[int, float]], result: Result) -> None:
    size, n_learned = experiment.provider.epoch_size, len(result.epochs or result.epochs_dense)
    integers = [replace(epoch, number=n_learned + epoch.number) for epoch in result.epochs_integers]
    runs = {"dense": result.epochs_dense, "pruned": result.epochs, "integers": integers}
    draw_run(
        path,
        title=f"{experiment.name}: {result.report.sparsity:.1%} sparse, test accuracy {result.accuracy:.2%}",
        sparsity=[(samples / size, share) for samples, share in sparsity],
        accuracies={
            f"validation, {name}": [(one.number, one.accuracy) for one in epochs if one.accuracy is not None]
            for name, epochs in runs.items()
            if epochs or name == "dense"  # the first place is that of what is compared with
        },
        n_epochs=n_learned + len(integers),
    )
