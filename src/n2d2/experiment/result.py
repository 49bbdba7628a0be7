"""What `prunecell run` found: the facts, as JSON, and the closing page."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from prunecell.console.terminal import say, visible
from prunecell.report import Report
from prunecell.training.progress import Epoch

PICTURE, FACTS = "run.png", "report.json"
"""The names of files beside the archive."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes of one network in several forms.

    Attributes:
        dense: of the state_dict as torch writes it.
        dense_gzip: gzip of that of the dense network; None where none was trained, for drawn weights tell nothing.
        pruned_gzip: gzip of that of the network in the file, pruned or of integers. stored: the `.pcell` file.
    """

    dense: int
    dense_gzip: int | None
    pruned_gzip: int
    stored: int


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """The pruned network, before it went on as integers.

    Attributes:
        accuracy: on the test set.
        sparsity: of its prunable weights.
        stored: bytes of its file.
    """

    accuracy: float
    sparsity: float
    stored: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run found.

    Attributes:
        accuracy: on the test set, of the network in the file: the pruned one, or the integers; accuracy_runtime: of the
            sparse runtime that was loaded from the file; accuracy_dense: of the dense network, if it was trained.
        seconds_dense, seconds_runtime: one pass over the test set, one thread.
        epochs, epochs_dense, epochs_integers: of the pruned network, the dense one, and the integers; none of what was
            not trained. Integers are made of the pruned network, and of the dense one where nothing is pruned.
        pruned: what was known of a pruned network before it went on as integers; None where none did.
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
    epochs_integers: list[Epoch] = field(default_factory=list)
    pruned: Pruned | None = None

    def to_json(self) -> str:
        """All of it, readable by machines."""
        return json.dumps(asdict(self) | {"report": self.report.to_dict()}, indent=1)


def print_result(result: Result, archive: Path, console: Console) -> None:
    """The closing page of a run; its other files are beside the archive."""
    lines = _lines(result, archive)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    say(console, result.report)
    say(console)
    for title, value in lines:
        say(console, f"{title:{widths[0]}}  {value:>{widths[1]}}")
    say(console, f"\n{archive} was read back bit for bit")
    if (archive.parent / PICTURE).exists():
        say(console, f"picture: {archive.parent / PICTURE}")
    say(console, f"all numbers: {archive.parent / FACTS}")


def _lines(result: Result, archive: Path) -> list[tuple[str, str]]:
    """Titles and values; what was not found out has no line."""
    sizes, before = result.sizes, result.pruned
    is_integers = bool(result.epochs_integers)
    accuracy_pruned = before.accuracy if before else None if is_integers else result.accuracy
    lines = [
        ("test accuracy, dense network", result.accuracy_dense, "{:.2%}"),
        ("test accuracy, pruned", accuracy_pruned, "{:.2%}"),
        ("test accuracy, integers", result.accuracy if is_integers else None, "{:.2%}"),
        ("test accuracy, file loaded into the sparse runtime", result.accuracy_runtime, "{:.2%}"),
        (
            "seconds for the test set, dense / sparse",
            f"{result.seconds_dense:.2f} / {result.seconds_runtime:.2f}",
            "{}",
        ),
        ("bytes, dense state_dict as torch writes it", sizes.dense, "{:,}"),
        ("bytes, gzip of the dense one", sizes.dense_gzip, "{:,}"),
        (f"bytes, gzip of {'the integers' if is_integers else 'the pruned one'}", sizes.pruned_gzip, "{:,}"),
        ("bytes, archive of the pruned one", before and before.stored, "{:,}"),
        (f"bytes, {visible(archive.name)}", sizes.stored, "{:,}"),
        ("smaller than the dense state_dict", sizes.dense / sizes.stored, "{:.1f} x"),
        ("smaller than gzip of the dense one", sizes.dense_gzip and sizes.dense_gzip / sizes.stored, "{:.1f} x"),
    ]
    return [(title, form.format(value)) for title, value, form in lines if value is not None]
