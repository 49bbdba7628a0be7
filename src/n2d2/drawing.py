"""Pictures of graphs: boxes and lines from top to bottom, by Graphviz or by matplotlib."""

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from n2d2.checks import check_path
from n2d2.error_handler import ImplementationError, WrongValue
from n2d2.warning import warn_caller
from prunecell.disk.atomic import replacing
from prunecell.errors import some
from prunecell.report.picture import new_figure

FORMATS = ("png", "svg", "pdf")
"""Of pictures; `dot` is the text that Graphviz draws."""

Lines = Iterable[tuple[Hashable, Hashable]]
"""(from a box, to a box)."""

MAX_PIXELS = 30_000
"""Of a side of a picture of matplotlib, which draws none of 65,536."""

SECONDS = 60
"""Graphviz gets so long."""


def draw_graph(path: str | Path, boxes: Mapping[Hashable, str], lines: Lines) -> Path:
    """Draw boxes and the lines between them.

    Args:
        path: of the picture; `.png` is added where it has no ending of a picture. With the ending `.dot` the text for
            Graphviz is written.
        boxes: key -> what stands in the box.
        lines: from key to key.

    Returns:
        What was written: the picture; or, with a warning, the text, where neither Graphviz nor matplotlib is installed.

    Raises:
        WrongInputType: the path is no text.
        WrongValue: there is nothing to draw.
        ImplementationError: Graphviz could not draw it.
    """
    check_path("path", path)
    if not boxes:
        raise WrongValue(f"{path}: there is nothing to draw, because no cell took part")
    path = Path(path)
    kind = path.suffix[1:].lower()
    if kind not in (*FORMATS, "dot"):
        path, kind = path.with_name(f"{path.name}.png"), "png"
    lines = [line for line in dict.fromkeys(lines) if line[0] in boxes and line[1] in boxes]
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind != "dot" and shutil.which("dot") is None and find_spec("matplotlib") is None:
        text = path.with_suffix(".dot")
        warn_caller(
            f"{text} is written in place of {path.name}, because neither Graphviz nor matplotlib is installed:"
            f" pip install matplotlib, or apt install graphviz and dot -T{kind} {text} -o {path}"
        )
        path, kind = text, "dot"
    if kind == "dot":
        with replacing(path) as file:
            file.write(as_text(boxes, lines).encode())
    elif shutil.which("dot") is not None:
        _draw_by_graphviz(path, kind, as_text(boxes, lines))
    else:
        _draw_by_matplotlib(path, kind, boxes, lines)
    return path


def as_text(boxes: Mapping[Hashable, str], lines: Lines) -> str:
    r"""The graph in Graphviz's language.

    >>> print(as_text({1: "fc", 2: "softmax"}, [(1, 2)]))
    digraph {
      node [shape=box, style="rounded,filled", fillcolor=lightblue, fontname=sans]
      n0 [label="fc"]
      n1 [label="softmax"]
      n0 -> n1
    }
    """
    names = {key: f"n{number}" for number, key in enumerate(boxes)}
    drawn = [f'  {names[key]} [label="{_escaped(text)}"]' for key, text in boxes.items()]
    drawn += [f"  {names[start]} -> {names[end]}" for start, end in lines]
    style = '  node [shape=box, style="rounded,filled", fillcolor=lightblue, fontname=sans]'
    return "\n".join(["digraph {", style, *drawn, "}"])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _draw_by_graphviz(path: Path, kind: str, text: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the text is data to it
            ["dot", f"-T{kind}"],  # noqa: S607 - the one that the user has
            input=text.encode(),
            capture_output=True,
            check=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ImplementationError(
            f"{path}: Graphviz needs more than {SECONDS} s to draw this graph; draw {path.stem}.dot"
        ) from None
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip()
        raise ImplementationError(f"{path}: Graphviz could not draw the graph: {words}") from None
    with replacing(path) as file:
        file.write(done.stdout)


def levels(boxes: Mapping[Hashable, str], lines: Lines) -> list[list[Hashable]]:
    """The boxes in levels, each below all that lead to it; within a level, near those that lead to it.

    >>> levels({"a": "", "b": "", "c": "", "d": ""}, [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("a", "d")])
    [['a'], ['b', 'c'], ['d']]
    """
    above: defaultdict[Hashable, list[Hashable]] = defaultdict(list)
    for start, end in lines:
        above[end].append(start)
    level = dict.fromkeys(boxes, 0)
    for _ in boxes:  # no longer than the longest way
        before = dict(level)
        for end, starts in above.items():
            level[end] = max(level[end], *(level[start] + 1 for start in starts))
        if level == before:
            break
    else:
        raise WrongValue(f"boxes lead to each other in a circle: {some(boxes.values())}")
    rows: list[list[Hashable]] = [[] for _ in range(max(level.values()) + 1)]
    place: dict[Hashable, float] = {}
    for number, row in enumerate(rows):
        row += [key for key in boxes if level[key] == number]
        row.sort(key=lambda key: sum(place[one] for one in above[key]) / max(len(above[key]), 1))
        place |= {key: index - (len(row) - 1) / 2 for index, key in enumerate(row)}
    return rows


def _draw_by_matplotlib(
    path: Path, kind: str, boxes: Mapping[Hashable, str], lines: Sequence[tuple[Hashable, Hashable]]
) -> None:
    rows = levels(boxes, lines)
    width = max(2.5, 0.12 * max(len(line) for text in boxes.values() for line in text.split("\n")) + 0.5)
    size = (width * max(map(len, rows)), 0.9 * len(rows))
    figure = new_figure(*size)
    figure.set_layout_engine("none")  # everything has its place here
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, size[0]), ylim=(-size[1], 0))
    middle = {
        key: (size[0] / 2 + width * (index - (len(row) - 1) / 2), -0.9 * (number + 0.5))
        for number, row in enumerate(rows)
        for index, key in enumerate(row)
    }
    level = {key: number for number, row in enumerate(rows) for key in row}
    for start, end in lines:
        bent = (
            0.25 if level[end] - level[start] > 1 and middle[start][0] == middle[end][0] else 0
        )  # around the boxes between
        style = {
            "arrowstyle": "-|>",
            "color": "gray",
            "shrinkA": 14,
            "shrinkB": 14,
            "connectionstyle": f"arc3,rad={bent}",
        }
        axes.annotate("", xy=middle[end], xytext=middle[start], arrowprops=style)
    box = {"boxstyle": "round", "facecolor": "lightblue", "edgecolor": "gray"}
    for key, text in boxes.items():
        axes.text(*middle[key], text.replace("$", r"\$"), ha="center", va="center", fontsize=8, bbox=box)
    with replacing(path) as file:
        figure.savefig(file, format=kind, dpi=min(110, MAX_PIXELS / max(size)))
