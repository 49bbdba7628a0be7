"""Tables: figures are never cut, names stay different, no cell is blank, and nothing in a name is obeyed."""

import io
import os
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console
from torch import nn

import prunecell
from prunecell.report import table
from prunecell.report.table import plain, rendered

NAMES = {
    "short": ["a.weight", "b.weight"],
    "long": [f"model.decoder.layers.{n}.self_attn.{part}.weight" for n in range(12) for part in ("q_proj", "out_proj")],
    "alike": [f"{'x' * 60}{n}{'y' * 60}" for n in range(30)],
    "wide": ["編碼器.權重.權重.權重.權重.權重.權重", "編碼器.權重.權重.權重.權重.權重.偏差"],
    "one letter": ["w"],
    "none": [],
}
FIGURES = {
    "few": [("shape", "512x64"), ("kept", "1,605,632")],
    "many": [
        *(("shape", "120x16x5x5"), ("weights", "1,605,632"), ("kept", "160,563"), ("sparsity", "90.00%")),
        *(("dense", "578,712,552"), ("stored", "6,422,528")),
    ],
    "blank": [("shape", ""), ("kept", "7")],
}


def group(names, figures):
    columns = [("weight", names, "total")]
    columns += [(title, [cell] * len(names), cell if title == "kept" else "") for title, cell in FIGURES[figures]]
    return rendered(columns, ["a note"], caption="bytes")


@pytest.mark.parametrize("figures", FIGURES)
@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 132, None])
def test_figures_are_whole_and_names_different_at_any_width(names, figures, width, monkeypatch):
    monkeypatch.setattr(table, "terminal_width", lambda: width)
    lines = plain(group(NAMES[names], figures)).split("\n")
    figure_lines = [line for line in lines if all(cell in line for _, cell in FIGURES[figures])]
    assert len(figure_lines) >= len(NAMES[names])
    first, second = (at for at, line in enumerate(lines) if set(line) == {"-"})
    shown = [line for line in lines[first + 1 : second] if not line.startswith("  ")]
    assert len(set(shown)) == len(shown) == len(NAMES[names])
    if width is None:
        assert [line.split(" ")[0] for line in shown] == NAMES[names]
    if width is not None and width >= 80:
        assert max(cell_len(line) for line in lines if line not in NAMES[names]) <= width


LLAMA = [
    f"model.layers.{n}.{part}.weight"
    for n in range(12)
    for part in ("self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj", "post_attention_layernorm")
]


@pytest.mark.parametrize("width", range(40, 140, 7))
def test_a_name_is_whole_or_cut_once_with_both_its_ends(width, monkeypatch):
    monkeypatch.setattr(table, "terminal_width", lambda: width)
    columns = [
        ("weight", LLAMA, "total"),
        ("form", ["gaps8 fp32"] * len(LLAMA), "-"),
        ("n", ["131,072"] * len(LLAMA), "9"),
    ]
    lines = plain(rendered(columns, [], caption="bytes")).split("\n")
    shown = [line.split(" ")[0] for line in lines if line.startswith("model.")]
    assert len(set(shown)) == len(LLAMA)
    for name, short in zip(LLAMA, shown, strict=True):
        head, dots, tail = short.partition("…")
        assert short == name or (name.startswith(head) and name.endswith(tail) and dots and len(short) >= 24)
        assert short == name or min(len(head), len(tail)) >= 6


def test_blank_cells_are_dashes(monkeypatch):
    monkeypatch.setattr(table, "terminal_width", lambda: None)
    row = next(line for line in plain(group(["a"], "blank")).split("\n") if line.startswith("a"))
    assert row.split() == ["a", "-", "7"]


@pytest.mark.parametrize("width", [50, 80, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_console_of_rich_cuts_no_figure_either(width, terminal):
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=terminal, color_system=None).print(group(NAMES["long"], "few"))
    assert sum("1,605,632" in line and "512x64" in line for line in out.getvalue().split("\n")) == len(NAMES["long"])


EVIL = ["[/bold]", "[red]x", "\x1b[2J\x1b[31m", "a\nb", "\r\x08", "\udc80", "\u202egnp", "\x9b5m", "ü", "\0"]


@pytest.mark.parametrize("name", EVIL, ids=ascii)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_hostile_name_is_shown_and_not_obeyed(name, encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    made = rendered([(name, [name], name), ("shape", ["2x2"], "")], [name], caption=name)
    stream.write(plain(made))
    Console(file=(rich_stream := io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))).print(made)
    for written in (stream, rich_stream):
        written.flush()
        text = written.buffer.getvalue().decode(written.encoding)
        assert all(c.isprintable() or c == "\n" for c in text)
    assert name.encode("unicode_escape").decode() in text or name.isprintable()


def test_a_report_is_as_wide_as_the_terminal(monkeypatch):
    model = nn.ModuleDict({"a_module_of_a_long_name" * 3: nn.Linear(64, 512)})
    pruner = prunecell.Pruner(model, prunecell.PruneSpec(schedule=prunecell.Static(sparsity=0.9)))
    whole = f"{'a_module_of_a_long_name' * 3}.weight"
    assert whole in str(pruner.report())  # no terminal: as wide as it needs
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(table, "terminal_width", lambda: 80)
    text = str(pruner.report())
    assert whole not in text
    assert max(map(len, text.split("\n"))) <= 80
    for figure in ("512x64", "32,768", "3,276", "90.00%", "131,072"):
        assert figure in text


def test_the_width_is_that_of_the_terminal_or_none(monkeypatch):
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((61, 20)))
    monkeypatch.delenv("COLUMNS", raising=False)
    assert table.terminal_width() is None
    monkeypatch.setattr(sys, "stdout", type("Terminal", (io.StringIO,), {"isatty": lambda _: True})())
    monkeypatch.setattr(sys, "__stdout__", sys.__stdout__ or io.StringIO())
    assert table.terminal_width() in (61, 80)
