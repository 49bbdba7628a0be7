"""The command `prunecell`: every subcommand is one call of the library.

The library is reached through the package, whose names are imported when they are used: `--help` needs no torch.
"""

import shlex
import sys
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import prunecell
from prunecell.checks import LARGEST_SEED
from prunecell.console.frames import own_frames
from prunecell.console.options import as_options
from prunecell.console.terminal import as_a_command, lacks_memory, visible, visible_lines
from prunecell.disk.endings import WRITTEN_ENDINGS
from prunecell.disk.targets import check_target
from prunecell.errors import OptionError, PrunecellError

if TYPE_CHECKING:
    import prunecell.archive
    import prunecell.export
    import prunecell.export.formats
    import prunecell.files
    import prunecell.files.formats
    import prunecell.files.nested

app = typer.Typer(
    help="Pruning that really makes a PyTorch model smaller.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_INTERRUPTED = 130
"""The exit status after Ctrl-C, as in shells."""

_MOST_THREADS = 1024

_ELSEWHERE = {"folder": "out"}
"""Arguments of the library that options call otherwise."""

_Source = Annotated[
    Path,
    typer.Argument(
        help="A state_dict or checkpoint of torch, safetensors, an index of shards, a .pcell; or its folder."
    ),
]
_WRITTEN = f"The file to write; its ending says as what: {', '.join(WRITTEN_ENDINGS)} (CSR arrays)."
_Force = Annotated[bool, typer.Option("--force", metavar="", help="Replace the target if it is there already.")]
_Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of everything random.")]
_Key = Annotated[
    str | None, typer.Option(help="Which entry of a torch checkpoint is the state_dict; a.b is one within another.")
]


def _threads(default: str) -> Any:  # noqa: ANN401 - as typer has it
    """The option for CPU threads."""
    told = "CPU threads; with one, the bits are the same every time."
    return typer.Option(min=1, max=_MOST_THREADS, show_default=default, help=told)


def _tell_version(wanted: bool) -> None:  # noqa: FBT001 - typer's form
    if wanted:
        typer.echo(f"prunecell {version('prunecell')}, torch {version('torch')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    """Pruning that really makes a PyTorch model smaller."""


@app.command()
def run(  # noqa: PLR0913 - options of a command
    network: Annotated[Path, typer.Argument(help="An N2D2 INI file: network, data, solver, pruning.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for all that is written; by default runs/ and the name of the INI file.", show_default=False
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 10,
    seed: _Seed = 0,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the data set. By default it is looked for in the cache, and fetched if it is not there."
        ),
    ] = None,
    reference: Annotated[bool, typer.Option(metavar="", help="Train the dense network too, for comparison.")] = True,
    threads: Annotated[int, _threads("1")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Go on where a run in the folder stopped.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Begin anew over a run that is in the folder.")
    ] = False,
    lenient: Annotated[
        bool, typer.Option("--lenient", metavar="", help="Warn of unknown keys instead of refusing them.")
    ] = False,
) -> None:
    """Train a network, pruned or as integers, as its file says; write the small file, load it back and report."""
    import torch  # noqa: PLC0415 - it takes a second, which `--help` must not

    from n2d2.experiment.experiment import read  # noqa: PLC0415 - only `run` knows n2d2, and only if asked
    from n2d2.experiment.run import run as run_experiment  # noqa: PLC0415

    if resume and force:
        raise OptionError("--resume and --force are illegal together: one goes on, the other begins anew")
    torch.set_num_threads(threads)
    folder = out or Path("runs") / network.stem
    experiment = read(network, data_path=data, lenient=lenient, seed=seed)
    try:
        run_experiment(experiment, folder, epochs=epochs, reference=reference, resume=resume, force=force)
    except KeyboardInterrupt:
        typer.echo(f"interrupted{visible(_going_on(folder))}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    except OSError as error:
        error.add_note(_going_on(folder))
        raise


def _going_on(folder: Path) -> str:
    """The command that goes on with this run, where it has left a checkpoint in its folder."""
    if not any(folder.glob("*.checkpoint")):
        return ""
    words = [word for word in sys.argv[1:] if word not in {"--resume", "--force"}]
    return f"; to go on: {shlex.join(['prunecell', *words, '--resume'])}"


@app.command()
def pack(
    source: _Source,
    target: Annotated[Path, typer.Argument(help="The .pcell file to write.")],
    *,
    values: Annotated[
        str, typer.Option(help="exact: no bit is lost; fp16, bf16, int8 or codebook1 to codebook8 round weights.")
    ] = "exact",
    backend: Annotated[
        str,
        typer.Option(
            help="zstd, zlib (slower, for older readers), or pcodec (smaller, but needs the package pcodec to be read)."
        ),
    ] = "zstd",
    key: _Key = None,
    force: _Force = False,
) -> None:
    """Write a checkpoint as a small file.

    Text and numbers beside the tensors are kept in it. A warning names everything else, which is left out.
    """
    if target.suffix != ".pcell":
        raise OptionError(f"{target}: the archive's name must end in .pcell")
    source, n_bytes = _checked(source, target, force=force)
    prunecell.pack(source, target, values=values, backend=backend, key=key)
    _tell_sizes(source, n_bytes, target)


@app.command()
def unpack(
    source: Annotated[Path, typer.Argument(help="A .pcell file.")],
    target: Annotated[Path, typer.Argument(help=_WRITTEN)],
    *,
    force: _Force = False,
) -> None:
    """Give back the dense checkpoint: bit for bit, if it was packed with --values exact, which is the default."""
    source, n_bytes = _checked(source, target, force=force)
    prunecell.unpack(source, target)
    _tell_sizes(source, n_bytes, target)


@app.command()
def inspect(source: Annotated[Path, typer.Argument(help="A .pcell file.")]) -> None:
    """Show what a file holds, without decoding it."""
    from prunecell.report.table import plain, rendered  # noqa: PLC0415 - only this needs it

    rows = prunecell.archive.inspect(source)
    with prunecell.Archive.open(source, limit_bytes=1 << 62) as archive:
        beside = prunecell.files.nested.names_of(archive.metadata)
    in_file = sum(r.bytes_stored for r in rows)
    columns = [
        ("tensor", [r.name for r in rows], "total"),
        ("dtype", [r.dtype for r in rows], ""),
        ("shape", ["x".join(map(str, r.shape)) or "scalar" for r in rows], ""),
        ("encoding", [r.encoding.partition(" of ")[0] for r in rows], ""),
        ("non-zero", ["" if r.n_nonzero is None else f"{r.n_nonzero:,}" for r in rows], ""),
        ("dense", [f"{r.bytes_dense:,}" for r in rows], f"{sum(r.bytes_dense for r in rows):,}"),
        ("stored", [f"{r.bytes_stored:,}" for r in rows], f"{in_file:,}"),
        ("bits", [f"{r.bits_per_weight:.2f}" if r.bytes_stored else "" for r in rows], ""),
    ]
    notes = [f"{r.name} is the {r.encoding}: tied, and stored once" for r in rows if r.encoding.startswith("alias of ")]
    notes += [f"beside the tensors: {', '.join(beside)}"] if beside else []
    notes.append(f"the file: {source.stat().st_size:,} bytes, {source.stat().st_size - in_file:,} of them its header")
    caption = (
        "dense, stored: bytes of each tensor; non-zero: elements that are not 0.0 (-0.0 counts), where counted; "
        "bits: stored, for each element"
    )
    typer.echo(plain(rendered(columns, notes, caption=caption, n_words=4)))


@app.command()
def export(
    source: _Source,
    target: Annotated[Path, typer.Argument(help=_WRITTEN)],
    *,
    key: _Key = None,
    force: _Force = False,
) -> None:
    """Write the tensors of a file for other programs; ONNX and .pt2 need the model: prunecell.export."""
    source, n_bytes = _checked(source, target, force=force)
    if target.name.endswith(prunecell.export.formats.PROGRAM_ENDINGS):
        raise OptionError(
            f"{target}: such a file holds a program, which needs the model itself: in Python,"
            f" prunecell.export.export(model, {str(target)!r}, example=x)"
        )
    prunecell.files.formats.convert(source, target, key=key)
    _tell_sizes(source, n_bytes, target)


@app.command()
def tune(  # noqa: PLR0913 - options of a command
    file: Annotated[
        Path,
        typer.Argument(help="A Python file that defines model, train and validation, each itself or by a function."),
    ],
    *,
    max_drop: Annotated[
        float | None, typer.Option(min=0, help="What the accuracy may lose, in points: 0.3 for 99.0 % to 98.7 %.")
    ] = None,
    max_rise: Annotated[
        float | None, typer.Option(min=0, help="Instead: what the loss may rise, relative: 0.05 for 5 %.")
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="Wall clock, more than 0; a longer search goes on from a shorter one.")
    ] = 15,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of each trial; by default as many as fit the minutes.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for all that is written; by default runs/ and the name of the file.", show_default=False
        ),
    ] = None,
    seed: _Seed = 0,
    threads: Annotated[int | None, _threads("torch's choice")] = None,
) -> None:
    """Find the smallest file of a trained model that is still good enough.

    The same command goes on where a search in the folder stopped.
    """
    import torch  # noqa: PLC0415 - it takes a second, which `--help` must not

    from prunecell.tuning.named import of_file  # noqa: PLC0415

    try:
        torch.manual_seed(seed)
        if threads is not None:
            torch.set_num_threads(threads)
        found = prunecell.tune(
            **of_file(file),
            max_drop=max_drop,
            max_rise=max_rise,
            minutes=minutes,
            epochs=epochs,
            folder=out or Path("runs") / file.stem,
            seed=seed,
            watch=lambda line: typer.echo(visible_lines(line)),
        )
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on from here", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    except Exception as error:
        told = None if lacks_memory(error) else own_frames(error, file.parent)
        if told is None:
            raise
        typer.echo(visible_lines(told), err=True, nl=False)
        raise typer.Exit(1) from None
    typer.echo(f"\nHow it was made:\n\n{visible_lines(found.recipe)}")


@app.command("tune-runtime")
def measure() -> None:
    """Measure on this machine where sparse layers win; compact_ uses it from then on. It takes two to four minutes."""
    try:
        path = prunecell.tune_runtime(watch=typer.echo)
    except KeyboardInterrupt:
        typer.echo("interrupted; nothing was kept", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    typer.echo(f"times of this machine: {path}")


def _checked(source: Path, target: Path, *, force: bool) -> tuple[Path, int]:
    """Look at both before any work is done; return the file itself, where a folder was given, and its bytes."""
    check_target(target, source, force=force)
    source = prunecell.files.formats.file_in(source)
    n_bytes = prunecell.files.formats.size_of(source)
    return source, n_bytes


def _tell_sizes(source: Path, n_bytes: int, target: Path) -> None:
    typer.echo(visible(f"{source}: {n_bytes:,} bytes -> {target}: {target.stat().st_size:,} bytes"))


def main() -> None:
    """Run the command; what goes wrong on purpose is one message and exit status 1."""
    with as_a_command():
        for word in sys.argv[1:]:
            if not word or (word.startswith("--") and word.endswith("=")):  # a path would be the current folder
                raise OptionError(f"{word!r} is illegal: no argument may be empty; the current folder is '.'")
        try:
            app()
        except PrunecellError as error:
            error.args = (as_options(str(error), _options(sys.argv[1:])),)
            raise


def _options(words: list[str]) -> dict[str, str]:
    """Argument of the library -> the option of the command that is called."""
    calls = {one.name or one.callback.__name__: one.callback for one in app.registered_commands if one.callback}
    called = calls.get(next(iter(words), ""))
    names = (
        [] if called is None else [p.name for p in signature(called).parameters.values() if p.kind is p.KEYWORD_ONLY]
    )
    own = {name: f"--{name.replace('_', '-')}" for name in names}
    return own | {name: own[option] for name, option in _ELSEWHERE.items() if option in own}
