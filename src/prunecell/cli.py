"""The command `prunecell`: every subcommand is one call of the library."""

import shlex
import sys
import warnings
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prunecell import export as exporting
from prunecell import files
from prunecell.archive import inspect as facts_of
from prunecell.errors import OptionError, PrunecellError
from prunecell.sparse import tune_runtime

app = typer.Typer(
    help="Pruning that really makes a PyTorch model smaller.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""


@app.command()
def run(  # noqa: PLR0913 - options of a command
    network: Annotated[Path, typer.Argument(help="An N2D2 INI file: network, data, solver, pruning.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Folder for all that is written [runs/NAME].")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data set; else it is fetched or in the cache.")
    ] = None,
    reference: Annotated[bool, typer.Option(help="Train the dense network too, for comparison.")] = True,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; the same bits every time on one.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed run stopped.")] = False,
    lenient: Annotated[bool, typer.Option("--lenient", help="Warn of unknown keys instead of refusing them.")] = False,
) -> None:
    """Train a network with pruning, write the small file, load it back and report."""
    from n2d2.experiment.experiment import read  # noqa: PLC0415 - only `run` knows n2d2, and only if asked
    from n2d2.experiment.run import run as run_experiment  # noqa: PLC0415

    torch.set_num_threads(threads)
    folder = out or Path("runs") / network.stem
    experiment = read(network, data_path=data, lenient=lenient, seed=seed)
    try:
        run_experiment(experiment, folder, epochs=epochs, reference=reference, resume=resume)
    except KeyboardInterrupt:
        words = sys.argv if "--resume" in sys.argv else [*sys.argv, "--resume"]
        typer.echo(f"interrupted; to go on: {shlex.join(['prunecell', *words[1:]])}", err=True)
        raise typer.Exit(_INTERRUPTED) from None


@app.command()
def pack(
    source: Annotated[Path, typer.Argument(help="A state_dict, safetensors (an index too) or .pcell file.")],
    target: Annotated[Path, typer.Argument(help="The .pcell file to write.")],
    *,
    values: Annotated[str, typer.Option(help="exact, fp16, bf16, int8 or codebookN.")] = "exact",
    backend: Annotated[str, typer.Option(help="zlib, or pcodec: smaller, needs the package to be read.")] = "zlib",
) -> None:
    """Write a checkpoint as a small file."""
    if target.suffix != ".pcell":
        raise OptionError(f"{target}: the archive's name must end in .pcell")
    n_bytes = source.stat().st_size
    files.pack(source, target, values=values, backend=backend)
    typer.echo(f"{source}: {n_bytes:,} bytes -> {target}: {target.stat().st_size:,} bytes")


@app.command()
def unpack(
    source: Annotated[Path, typer.Argument(help="A .pcell file.")],
    target: Annotated[Path, typer.Argument(help="The file to write: .safetensors, or else a torch state_dict.")],
) -> None:
    """Give back the dense checkpoint, bit for bit."""
    files.unpack(source, target)
    typer.echo(f"{source}: {source.stat().st_size:,} bytes -> {target}: {target.stat().st_size:,} bytes")


@app.command()
def inspect(source: Annotated[Path, typer.Argument(help="A .pcell file.")]) -> None:
    """Show what a file holds, without decoding it."""
    rows = facts_of(source)
    table = Table(
        show_footer=True, box=SIMPLE_HEAD, pad_edge=False, caption="dense, stored: bytes", caption_justify="left"
    )
    table.add_column("tensor", "total", overflow="fold")
    for title in ("dtype", "shape", "encoding"):
        table.add_column(title, no_wrap=True)
    table.add_column("non-zero", justify="right")
    table.add_column("dense", f"{sum(r.bytes_dense for r in rows):,}", justify="right")
    table.add_column("stored", f"{sum(r.bytes_stored for r in rows):,}", justify="right")
    for r in rows:
        nonzero = "" if r.n_nonzero is None else f"{r.n_nonzero:,}"
        shape = "x".join(map(str, r.shape))
        table.add_row(r.name, r.dtype, shape, r.encoding, nonzero, f"{r.bytes_dense:,}", f"{r.bytes_stored:,}")
    Console().print(table)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A state_dict, safetensors (an index too) or .pcell file.")],
    target: Annotated[Path, typer.Argument(help="The file to write: .safetensors, or .npz with CSR arrays.")],
) -> None:
    """Write the tensors of a file for other programs; ONNX and .pt2 need the model: prunecell.export."""
    exporting.export(files.read(source), target)
    typer.echo(f"{source}: {source.stat().st_size:,} bytes -> {target}: {target.stat().st_size:,} bytes")


@app.command("tune-runtime")
def tune() -> None:
    """Measure on this machine where sparse layers win; compact_ uses it from then on."""
    typer.echo(f"times of this machine: {tune_runtime()}")


def main() -> None:
    """Run the command; what goes wrong on purpose is one message and exit status 1."""
    errors = Console(stderr=True)

    def tell(message: Warning | str, *_: object, **__: object) -> None:
        errors.print(Text(f"warning: {message}", "yellow"), soft_wrap=True)

    with warnings.catch_warnings():
        warnings.showwarning = tell
        try:
            app()
        except (PrunecellError, OSError) as error:
            errors.print(Text(f"error: {_told(error)}", "red"), soft_wrap=True)
            sys.exit(1)


def _told(error: Exception) -> str:
    """What happened, without the number that the system has for it."""
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return str(error)
