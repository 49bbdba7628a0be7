"""The main job: train densely, train with pruning, write the small file, load it back, report."""

import gzip
import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from torch import nn

from prunecell.archive import inspect, load, save
from prunecell.errors import FormatError, OptionError, StateError
from prunecell.figures import draw_run
from prunecell.problem import Problem
from prunecell.pruner import Pruner
from prunecell.report import Report
from prunecell.sparse.convert import compact_
from prunecell.training import Checkpoint, Epoch, Progress, Task, evaluate, fit


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes of one network in several forms."""

    dense: int
    dense_gzip: int
    pruned_gzip: int
    stored: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a job found.

    Attributes:
        accuracy: on the test set, of the pruned network; accuracy_runtime: of the sparse runtime that was loaded
            from the file; accuracy_dense: of the same network, trained alike without pruning, if it was asked for.
        seconds_dense, seconds_runtime: one pass over the test set, one thread.
        epochs, epochs_dense: of the pruned and of the dense network.
    """

    report: Report
    sizes: Sizes
    accuracy: float
    accuracy_runtime: float
    seconds_dense: float
    seconds_runtime: float
    accuracy_dense: float | None = None
    epochs: list[Epoch] = field(default_factory=list)
    epochs_dense: list[Epoch] = field(default_factory=list)

    def to_json(self) -> str:
        """All of it, readable by machines."""
        return json.dumps(asdict(self), indent=1)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a checkpoint was made under; it goes on under the same only."""

    seed: int
    description: str

    def state_dict(self) -> dict[str, Any]:
        """Numbers and text."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare.

        Raises:
            StateError: it was made under another setting.
        """
        if state["seed"] != self.seed:
            raise StateError(f"it was made with seed {state['seed']}, not {self.seed}")
        there, here = (set(text.splitlines()) for text in (state["description"], self.description))
        if there != here:
            raise StateError(f"then [{'; '.join(sorted(there - here))}], now [{'; '.join(sorted(here - there))}]")


def run(
    problem: Problem, folder: Path, *, epochs: int, seed: int = 0, reference: bool = True, resume: bool = False
) -> Result:
    """Do the whole job, print what happens, and leave its files in `folder`.

    Args:
        problem: what is learned.
        folder: gets `NAME.pcell`, `run.png`, `report.json` and the checkpoints.
        epochs: >= 1.
        seed: of everything random.
        reference: whether the dense network is trained too, for comparison.
        resume: go on from the checkpoints in `folder`; without it they are removed first.

    Raises:
        OptionError: a checkpoint has more epochs than are asked for.
        FormatError: what was read back is not what was written, or a checkpoint is of another run.
        DivergedError: the loss is NaN or infinite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = {name: Checkpoint(path=folder / f"{name}.checkpoint") for name in ("dense", "pruned")}
    if not resume:
        for checkpoint in checkpoints.values():
            checkpoint.path.unlink(missing_ok=True)
    console = Console()
    dense = _task(problem, seed)
    dense_epochs: list[Epoch] = []
    if reference:
        console.rule(f"{problem.name}: dense")
        dense_epochs = _fit(dense, problem, epochs, checkpoints["dense"], console).epochs
    console.rule(f"{problem.name}: pruned")
    task = _task(problem, seed)
    task.pruner = pruner = Pruner(task.model, problem.plan, optimizer=task.optimizer, epoch_size=problem.epoch_size)
    progress = _fit(task, problem, epochs, checkpoints["pruned"], console)
    report = pruner.finalize()
    archive = folder / f"{problem.name}.pcell"
    save(task.model, archive)
    result = replace(
        _examine(problem, task.model, archive, report, dense.model),
        accuracy_dense=evaluate(dense.model, problem.test()) if reference else None,
        epochs=progress.epochs,
        epochs_dense=dense_epochs,
    )
    title = f"{problem.name}: {result.report.sparsity:.1%} sparse, test accuracy {result.accuracy:.2%}"
    draw_run(folder / "run.png", progress, title=title, reference=dense_epochs)
    (folder / "report.json").write_text(result.to_json())
    print_result(result, folder, archive, console)
    return result


def print_result(result: Result, folder: Path, archive: Path, console: Console) -> None:
    """The closing page of a job."""
    sizes = result.sizes
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column()
    facts.add_column(justify="right")
    if result.accuracy_dense is not None:
        facts.add_row("test accuracy, dense network", f"{result.accuracy_dense:.2%}")
    facts.add_row("test accuracy, pruned", f"{result.accuracy:.2%}")
    facts.add_row("test accuracy, file loaded into the sparse runtime", f"{result.accuracy_runtime:.2%}")
    facts.add_row(
        "seconds for the test set, dense / sparse", f"{result.seconds_dense:.2f} / {result.seconds_runtime:.2f}"
    )
    facts.add_row("bytes, dense state_dict", f"{sizes.dense:,}")
    facts.add_row("bytes, gzip of it", f"{sizes.dense_gzip:,}")
    facts.add_row("bytes, gzip of the pruned one", f"{sizes.pruned_gzip:,}")
    facts.add_row(f"bytes, {archive.name}", f"{sizes.stored:,}")
    facts.add_row("smaller than dense", f"{sizes.dense / sizes.stored:.1f} x")
    facts.add_row("smaller than gzip of dense", f"{sizes.dense_gzip / sizes.stored:.1f} x")
    console.print(result.report)
    console.print()
    console.print(facts)
    console.print(f"\n{archive} was read back bit for bit", soft_wrap=True, highlight=False)
    console.print(f"picture: {folder / 'run.png'}", soft_wrap=True, highlight=False)
    console.print(f"all figures: {folder / 'report.json'}", soft_wrap=True, highlight=False)


def _task(problem: Problem, seed: int) -> Task:
    """The network with the first weights that belong to the seed."""
    torch.manual_seed(seed)
    model = problem.build()
    optimizer = problem.make_optimizer(model)
    return Task(
        model=model,
        optimizer=optimizer,
        train=problem.train,
        validation=problem.validation,
        loss=problem.loss,
        beside={"setting": Setting(seed=seed, description=problem.description)},
    )


def _fit(task: Task, problem: Problem, epochs: int, checkpoint: Checkpoint, console: Console) -> Progress:
    """Train under a progress bar, one line an epoch."""
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  sparsity {task.fields[sparsity]:.2%}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        row = bar.add_task("", total=problem.epoch_size, epoch=1, loss=0.0, sparsity=0.0)
        printed = 0

        def watch(progress: Progress) -> None:
            nonlocal printed
            for epoch in progress.epochs[printed:]:
                console.print(_line(epoch, task.pruner is not None), highlight=False, soft_wrap=True)
            printed = len(progress.epochs)
            bar.update(
                row,
                completed=progress.samples,
                epoch=f"{min(printed + 1, epochs)}/{epochs}",
                loss=progress.loss_sum / max(progress.samples, 1),
                sparsity=progress.sparsity[-1][1] if progress.sparsity else 0.0,
            )

        progress = fit(task, epochs, checkpoint=checkpoint, watch=watch)
    if len(progress.epochs) > epochs:
        raise OptionError(f"epochs={epochs} is illegal: {checkpoint.path} has {len(progress.epochs)} already")
    return progress


def _line(epoch: Epoch, pruned: bool) -> str:  # noqa: FBT001 - private
    accuracy = "" if epoch.accuracy is None else f"  accuracy {epoch.accuracy:.2%}"
    pruning = f"  sparsity {epoch.sparsity:.2%}  threshold {epoch.threshold:.3f}" if pruned else ""
    return f"epoch {epoch.number:3d}  loss {epoch.loss:.4f}{accuracy}{pruning}  {epoch.seconds:.1f} s"


def _examine(
    problem: Problem,
    model: nn.Module,
    archive: Path,
    report: Report,
    dense: nn.Module,
) -> Result:
    """Read the file back, twice: as dense tensors, which must be the same bits, and into the sparse runtime."""
    state, reloaded = model.state_dict(), load(archive)
    for name, tensor in state.items():
        if not torch.equal(tensor.contiguous().view(-1).view(torch.uint8), reloaded[name].view(-1).view(torch.uint8)):
            raise FormatError(f"{archive}: {name} was not read back as it was written")
    accuracy, seconds_dense = _timed(lambda: evaluate(model, problem.test()))
    small = compact_(problem.build(), archive)
    accuracy_runtime, seconds_runtime = _timed(lambda: evaluate(small, problem.test()))
    stored = {facts.name: facts.bytes_stored for facts in inspect(archive)}
    dense_bytes, pruned_bytes = _bytes_of(dense), _bytes_of(model)
    return Result(
        report=replace(report, weights=tuple(replace(w, bytes_stored=stored[w.name]) for w in report.weights)),
        sizes=Sizes(
            dense=len(dense_bytes),
            dense_gzip=len(gzip.compress(dense_bytes)),
            pruned_gzip=len(gzip.compress(pruned_bytes)),
            stored=archive.stat().st_size,
        ),
        accuracy=accuracy,
        accuracy_runtime=accuracy_runtime,
        seconds_dense=seconds_dense,
        seconds_runtime=seconds_runtime,
    )


def _bytes_of(model: nn.Module) -> bytes:
    """The state_dict as torch.save writes it."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.getvalue()


def _timed(evaluation: Callable[[], float]) -> tuple[float, float]:
    """The accuracy, and the seconds that it took on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.perf_counter()
    try:
        return evaluation(), time.perf_counter() - started
    finally:
        torch.set_num_threads(threads)
