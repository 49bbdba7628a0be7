"""The command `prunecell`: every subcommand is one call of the library.

The library is reached through the package, whose names are imported when they are used: `--help` needs no torch.
"""

import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

import prunecell
from prunecell.errors import OptionError, PrunecellError

if TYPE_CHECKING:
    import prunecell.archive
    import prunecell.export
    import prunecell.files

app = typer.Typer(
    help="Pruning that really makes a PyTorch model smaller.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_INTERRUPTED = 130
"""The exit status after Ctrl-C, as in shells."""


@app.command()
def run(  # noqa: PLR0913 - options of a command
    network: Annotated[Path, typer.Argument(help="An N2D2 INI file: network, data, solver, pruning.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Folder for all that is written [runs/NAME].")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data set; without it, the cache, or the data set is fetched.")
    ] = None,
    reference: Annotated[bool, typer.Option(help="Train the dense network too, for comparison.")] = True,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; with one, the bits are the same every time.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed run stopped.")] = False,
    lenient: Annotated[bool, typer.Option("--lenient", help="Warn of unknown keys instead of refusing them.")] = False,
) -> None:
    """Train a network with pruning, write the small file, load it back and report."""
    import torch  # noqa: PLC0415 - it takes a second, which `--help` must not

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
    values: Annotated[str, typer.Option(help="exact, fp16, bf16, int8 or codebook1 to codebook8.")] = "exact",
    backend: Annotated[
        str, typer.Option(help="zlib, or pcodec, which is smaller, but needs the package pcodec to be read.")
    ] = "zlib",
) -> None:
    """Write a checkpoint as a small file."""
    if target.suffix != ".pcell":
        raise OptionError(f"{target}: the archive's name must end in .pcell")
    n_bytes = source.stat().st_size
    prunecell.pack(source, target, values=values, backend=backend)
    typer.echo(f"{source}: {n_bytes:,} bytes -> {target}: {target.stat().st_size:,} bytes")


@app.command()
def unpack(
    source: Annotated[Path, typer.Argument(help="A .pcell file.")],
    target: Annotated[Path, typer.Argument(help="The file to write: .pt, .safetensors, .npz with CSR arrays.")],
) -> None:
    """Give back the dense checkpoint, bit for bit."""
    prunecell.unpack(source, target)
    typer.echo(f"{source}: {source.stat().st_size:,} bytes -> {target}: {target.stat().st_size:,} bytes")


@app.command()
def inspect(source: Annotated[Path, typer.Argument(help="A .pcell file.")]) -> None:
    """Show what a file holds, without decoding it."""
    rows = prunecell.archive.inspect(source)
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
    target: Annotated[Path, typer.Argument(help="The file to write: .safetensors, .npz with CSR arrays, .pt.")],
) -> None:
    """Write the tensors of a file for other programs; ONNX and .pt2 need the model: prunecell.export."""
    prunecell.export.export(prunecell.files.read(source), target)
    typer.echo(f"{source}: {source.stat().st_size:,} bytes -> {target}: {target.stat().st_size:,} bytes")


@app.command("tune-runtime")
def tune() -> None:
    """Measure on this machine where sparse layers win; compact_ uses it from then on."""
    typer.echo(f"times of this machine: {prunecell.tune_runtime()}")


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
    """Say what happened, without the system's error number."""
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(fact) for fact in (error.filename, error.strerror) if fact)
    return str(error)
