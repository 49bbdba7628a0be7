"""How small a file is at which error: classic networks on MNIST, and curves on Fashion-MNIST.

    python benchmarks/accuracy_per_byte.py TABLE [--seeds 0,1,2] [--jobs 2] [--out FOLDER] [--choose] [--bfloat16]

A table trains its networks by each method: a dense start, then the method, each for so many epochs as stand here, up to
the last step. BatchNorm is folded in between, because its vectors would be most of a small file. Bytes are those of the
complete file that `prunecell.save` writes. The error is that of the network read back from it, on the test images, or
with `--choose` on the validation images (the last 5,000 of those for training), for choosing other knobs. "x" is
4 bytes for every weight and bias of the network, divided by the bytes of the file. Each training has one thread. What
FOLDER has from an earlier call is not trained again.
"""

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, pstdev

import torch
from networks import Course, course_of, error_of, late, new_network, train
from torch import nn

import prunecell as pc
from prunecell.allocation import Allocation
from prunecell.disk.atomic import replacing
from prunecell.graph import fold_batchnorm_, remove_dead_, sort_units_
from prunecell.report.picture import can_draw, new_figure, plain_ticks

DENSE_EPOCHS = {"lenet-300-100": 3, "lenet-5": 2, "resnet-20": 4}
DENSE_RATE, RATE = 2e-3, 1e-3  # Adam's, of the dense start and of pruning


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training.

    Attributes:
        network: of `NETWORKS`.
        data: of `DATA`.
        shift: see `Course`.
        method: of `METHODS`.
        knob: what the method is told: a sparsity, or the price of a bit.
        epochs: of the method, after the dense start.
        seed: of everything.
        bfloat16: see `Course`.
    """

    network: str
    data: str
    shift: bool
    method: str
    knob: float
    epochs: int
    seed: int = 0
    bfloat16: bool = False

    @property
    def dense(self) -> str:
        """The name of the dense start."""
        return f"{self.network}-{self.data}{'-shift' * self.shift}-dense{'-bf16' * self.bfloat16}-seed{self.seed}"

    @property
    def name(self) -> str:
        """The name of the result."""
        return f"{self.dense.replace('dense', self.method)}-{self.knob:g}-epochs{self.epochs}"


# ---- methods ---------------------------------------------------------------------------------------------------------


def magnitude(model: nn.Module, course: Course, run: Run) -> None:
    """Each layer to the same sparsity over half of the epochs (Zhu 2017); 5-bit shared values for the last quarter."""
    prune_and_share(model, course, run, pc.uniform)


def lamp(model: nn.Module, course: Course, run: Run) -> None:
    """As `magnitude`, but the layers have the sparsities of LAMP (Lee 2021)."""
    prune_and_share(model, course, run, pc.allocation.lamp)


def prune_and_share(model: nn.Module, course: Course, run: Run, allocation: Allocation) -> None:
    """Magnitude pruning to a sparsity, then weight sharing, while training goes on."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    spec = pc.PruneSpec(schedule=pc.Cubic(sparsity=run.knob, epochs=run.epochs / 2), allocation=allocation)
    pruner = pc.Pruner(model, spec, optimizer=optimizer, epoch_size=course.n_train)
    n_samples, n_until_shared = 0, 0.75 * run.epochs * course.n_train

    def after_step(n: int) -> None:
        nonlocal n_samples
        pruner.step(n)
        if n_samples < n_until_shared <= n_samples + n:
            pc.share_(model, bits=5, optimizer=optimizer)
        n_samples += n

    train(model, optimizer, course, epochs=run.epochs, after_step=after_step)
    pruner.finalize()


def rate(model: nn.Module, course: Course, run: Run) -> None:
    """Integers learned under the price of their bits; then the hidden units are sorted, which changes no output."""
    quantizer = pc.Quantizer(model, pc.RateSpec(lam=run.knob, epochs=run.epochs), epoch_size=course.n_train)
    optimizer = torch.optim.Adam(quantizer.param_groups(lr=RATE))
    quantizer.attach(optimizer)
    train(model, optimizer, course, epochs=run.epochs, after_step=quantizer.step)
    quantizer.finalize()
    remove_dead_(model)
    sort_units_(model)


METHODS: dict[str, Callable[[nn.Module, Course, Run], None]] = {"magnitude": magnitude, "lamp": lamp, "rate": rate}

# ---- tables ----------------------------------------------------------------------------------------------------------


def points(network: str, data: str, epochs: int, *, shift: bool, **knobs: Sequence[float]) -> list[Run]:
    """Runs by method -> knobs."""
    return [
        Run(network=network, data=data, shift=shift, method=method, knob=knob, epochs=epochs)
        for method, values in knobs.items()
        for knob in values
    ]


MLP, LENET = "lenet-300-100", "lenet-5"
CURVES = {"magnitude": (0.8, 0.9, 0.95, 0.98), "lamp": (0.8, 0.9, 0.95, 0.98), "rate": (1e-6, 3e-6, 1e-5, 3e-5)}
TABLES: dict[str, list[Run]] = {
    "trial": points(MLP, "digits", 4, shift=True, magnitude=[0.9], lamp=[0.9], rate=[3e-6]),
    MLP: [
        *points(MLP, "mnist", 20, shift=False, magnitude=[0.92], lamp=[0.92], rate=[3e-6]),
        *points(MLP, "mnist", 20, shift=True, rate=[4e-6, 1.2e-5]),
    ],
    LENET: [
        *points(LENET, "mnist", 12, shift=False, rate=[5e-6]),
        *points(LENET, "mnist", 12, shift=True, rate=[4e-6, 1e-5]),
    ],
    "fashion-lenet-5": points(LENET, "fashion", 5, shift=True, **CURVES),
    "fashion-resnet": points("resnet-20", "fashion", 5, shift=True, **CURVES),
}


# ---- one training ----------------------------------------------------------------------------------------------------


def result_of(run: Run, folder: Path, *, choose: bool) -> tuple[int, float, float]:
    """The bytes of the file, the error of the network read back, and that of the dense start."""
    torch.set_num_threads(1)
    course = course_of(run.data, shift=run.shift, seed=run.seed, bfloat16=run.bfloat16)
    asked = course.validation if choose else course.test

    def start(model: nn.Module) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=DENSE_RATE)
        train(model, optimizer, course, epochs=DENSE_EPOCHS[run.network], rate=late)

    model = new_network(run.network, run.seed)
    unless_kept(model, folder / f"{run.dense}.pt", start)
    dense_error = error_of(model, asked)
    fold_batchnorm_(model)
    unless_kept(model, folder / f"{run.name}.pt", lambda model: METHODS[run.method](model, course, run))
    path = folder / f"{run.name}.pcell"
    pc.save(model, path)
    again = new_network(run.network, run.seed + 1)  # other weights
    fold_batchnorm_(again)
    again.load_state_dict(pc.load(path))
    return path.stat().st_size, error_of(again, asked), dense_error


def unless_kept(model: nn.Module, path: Path, make: Callable[[nn.Module], None]) -> None:
    """Give the model the state in the file; without the file, make the state and keep it."""
    if not path.exists():
        make(model)
        with replacing(path) as file:
            torch.save(model.state_dict(), file)
    model.load_state_dict(torch.load(path, weights_only=True))


def line(run: Run, sizes: Sequence[int], errors: Sequence[float], dense_errors: Sequence[float]) -> str:
    """A row of the table: means and deviations over the seeds."""
    n_weights = sum(p.numel() for p in new_network(run.network, 0).parameters())
    return (
        f"{'yes' if run.shift else 'no':5}  {run.method:15} {run.knob:7g} {run.epochs:7} {mean(sizes):9,.0f} "
        f"{pstdev(sizes):10,.0f} {4 * n_weights / mean(sizes):6.1f} {mean(errors):8.2%} {pstdev(errors):10.2%} "
        f"{mean(dense_errors):7.2%}"
    )


def draw(path: Path, title: str, curves: dict[str, list[tuple[float, float]]]) -> None:
    """Error against bytes, a line for each method."""
    if not can_draw():
        return
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    for (method, points_of_curve), style in zip(curves.items(), (":s", "--^", "-o"), strict=False):
        axes.plot(
            *zip(*sorted((size, 100 * error) for size, error in points_of_curve), strict=True), style, label=method
        )
    axes.set(xscale="log", xlabel="bytes of the file", ylabel="test error, %", title=title)
    plain_ticks(axes.xaxis)
    axes.legend()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=2, help="how many networks are trained at the same time")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy_per_byte"))
    parser.add_argument("--choose", action="store_true", help="the error is that on the validation images")
    parser.add_argument("--bfloat16", action="store_true", help="train so: half as long on CPUs that have it")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows, seeds = TABLES[args.table], [int(seed) for seed in args.seeds.split(",")]
    runs = [replace(row, seed=seed, bfloat16=args.bfloat16) for row in rows for seed in seeds]
    print(f"{args.table}: seeds {args.seeds}, error on the {'validation' if args.choose else 'test'} images")
    print("shift  method            knob  epochs     bytes  deviation      x    error  deviation   dense")
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        results = pool.map(partial(result_of, folder=args.out, choose=args.choose), runs)
        curves: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            sizes, errors, dense_errors = zip(*islice(results, len(seeds)), strict=True)
            print(line(row, sizes, errors, dense_errors), flush=True)
            curves.setdefault(row.method, []).append((mean(sizes), mean(errors)))
    if args.table.startswith("fashion"):
        draw(args.out / f"{args.table}.png", f"{rows[0].network} on Fashion-MNIST", curves)


if __name__ == "__main__":
    main()
