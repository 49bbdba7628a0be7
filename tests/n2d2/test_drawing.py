import pytest
import torch

import n2d2
from n2d2 import drawing
from n2d2.cells import ElemWise, Fc, Layer, Sequence
from n2d2.drawing import as_text, draw_graph, levels
from n2d2.error_handler import ImplementationError, WrongInputType, WrongValue

SIGNATURES = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "dot": b"digraph"}
BOXES = {1: "fc\nFc", 2: 'of "two" $x^2$ \\words', 3: "sum"}
LINES = [(1, 2), (2, 3), (1, 3), (1, 3), (9, 1)]


@pytest.fixture
def without_graphviz(monkeypatch):
    monkeypatch.setattr(drawing.shutil, "which", lambda _: None)


@pytest.mark.usefixtures("without_graphviz")
@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a", "a.png"),
        ("a.png", "a.png"),
        ("a.v2", "a.v2.png"),
        ("b/a.svg", "b/a.svg"),
        ("a.PDF", "a.PDF"),
        ("a.dot",) * 2,
    ],
)
def test_a_picture_of_the_kind_that_its_name_says(tmp_path, name, written):
    made = draw_graph(str(tmp_path / name), BOXES, LINES)
    assert made == tmp_path / written
    assert made.read_bytes().startswith(SIGNATURES[written.lower().rpartition(".")[2]])


def test_a_text_for_graphviz():
    text = as_text(BOXES, LINES[:2])
    assert r'n0 [label="fc\nFc"]' in text
    assert r'n1 [label="of \"two\" $x^2$ \\words"]' in text
    assert text.endswith("n0 -> n1\n  n1 -> n2\n}")


def graphviz(tmp_path, monkeypatch, script):
    program = tmp_path / "dot"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def test_graphviz_draws_where_it_is(tmp_path, monkeypatch):
    graphviz(tmp_path, monkeypatch, 'echo "drawn $1"; cat')
    made = draw_graph(tmp_path / "a", BOXES, LINES)
    assert made.read_text().splitlines()[:2] == ["drawn -Tpng", "digraph {"]


def test_words_of_graphviz_are_told(tmp_path, monkeypatch):
    graphviz(tmp_path, monkeypatch, "cat >/dev/null; echo no fonts >&2; exit 1")
    with pytest.raises(ImplementationError, match=r"a\.png: Graphviz could not draw the graph: no fonts"):
        draw_graph(tmp_path / "a", BOXES, LINES)
    assert not (tmp_path / "a.png").exists()


@pytest.mark.usefixtures("without_graphviz")
def test_where_nothing_draws_the_text_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "find_spec", lambda _: None)
    with pytest.warns(
        UserWarning, match=r"a\.dot is written in place of a\.png, because neither Graphviz nor matplotlib"
    ):
        made = draw_graph(tmp_path / "a", BOXES, LINES)
    assert made == tmp_path / "a.dot"
    assert made.read_text().startswith("digraph")


def test_every_line_leads_down():
    torch.manual_seed(0)
    boxes = dict.fromkeys(map(int, torch.randperm(40)), "box")
    lines = [(a, b) for a, b in torch.randint(40, (100, 2)).tolist() if a < b]
    rows = levels(boxes, lines)
    level = {key: number for number, row in enumerate(rows) for key in row}
    assert sorted(level) == list(range(40))
    assert all(level[a] < level[b] for a, b in lines)
    for key, number in level.items():
        assert number == max([level[a] + 1 for a, b in lines if b == key], default=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_graph(3, BOXES, LINES), "path=3 is illegal: it must be a path"),
        (lambda: draw_graph("a", {}, []), "there is nothing to draw"),
        (lambda: levels(BOXES, [(1, 2), (2, 1)]), "in a circle"),
        (lambda: n2d2.Tensor([1]).draw_associated_graph("a"), "no cell took part"),
    ],
)
def test_what_cannot_be_drawn(call, message):
    with pytest.raises((WrongInputType, WrongValue), match=message):
        call()


def test_the_cells_of_a_tensor_are_drawn(tmp_path):
    net = Sequence([Layer([Fc(3, 3, name="a"), Sequence([])]), ElemWise(operation="Sum", name="sum")])
    made = net(n2d2.Tensor([1, 3, 1, 1]))
    made.draw_associated_graph(str(tmp_path / "graph.dot"))
    text = (tmp_path / "graph.dot").read_text()
    for words in (
        'n0 [label="input"]',
        r'n1 [label="a\nFc"]',
        r'n2 [label="sum\nElemWise"]',
        "n0 -> n1",
        "n1 -> n2",
        "n0 -> n2",
    ):
        assert words in text
