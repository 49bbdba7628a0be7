"""Cells in the order of their Input, with the shapes of what they take."""

import pytest
import torch

from n2d2 import ini
from n2d2.network.environment import read_environment
from n2d2.network.graph import read_graph

HEAD = ["[database]", "Type=MNIST_IDX_Database", "[sp]", "SizeX=8", "SizeY=6"]  # five lines


def graph_of(*lines, file="net.ini", folder=None):
    document = ini.parse("\n".join([*HEAD, *lines]), file=file, folder=folder)
    return read_graph(document, read_environment(document))


def cell(name, source, kind="Dropout", *lines):
    return [f"[{name}]", f"Input={source}", f"Type={kind}", *lines]


def conv(name, source, n_outputs, *lines):
    return cell(name, source, "Conv", "KernelDims=3 3", f"NbOutputs={n_outputs}", *lines)


def test_the_order_is_that_of_the_inputs_not_of_the_file():
    graph = graph_of(*cell("c", "b"), *cell("b", "a"), *cell("a", "sp"))
    assert [*graph.cells] == ["a", "b", "c"]
    assert graph.inputs == {"a": ("sp",), "b": ("a",), "c": ("b",)}


def test_env_is_the_provider_whatever_its_section_is_called():
    assert graph_of(*cell("a", "env")).inputs == {"a": ("sp",)}


def test_shapes():
    graph = graph_of(*conv("c", "sp", 5), *cell("f", "c", "Fc", "NbOutputs=7"))
    assert graph.shapes == {"sp": (1, 6, 8), "c": (5, 4, 6), "f": (7,)}
    assert graph.cells["f"].weight.shape == (7, 5 * 4 * 6)


def test_several_inputs_are_joined_along_the_channels():
    graph = graph_of(
        *conv("a", "sp", 2),
        *conv("b", "sp", 3),
        *cell("bn", "a, b", "BatchNorm", "NbOutputs=5"),
        *conv("c", "a,b", 2, "Mapping(b).Size=1", "Mapping(b).NbIterations=1"),
        *cell("f", "a,c", "Fc", "NbOutputs=4"),
    )
    assert graph.shapes["bn"] == (5, 4, 6)
    assert graph.cells["c"].connections[:, :, 0, 0].int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
    assert graph.cells["f"].weight.shape[1] == 2 * 4 * 6 + 2 * 2 * 4


def test_automatic_values_of_cells_above():
    graph = graph_of(
        *conv("a", "sp", 5),
        *cell("f", "a", "Fc", "NbOutputs=$([a]_NbOutputs * [a]_OutputsWidth + [a]_NbChannels + [a]_ChannelsHeight)"),
    )
    assert graph.shapes["f"] == (5 * 6 + 1 + 6,)


def test_prune_cells_are_known_and_not_on_the_cells():
    graph = graph_of(*cell("f", "sp", "Fc", "NbOutputs=2", "QWeight=Prune", "QWeight.Threshold=0.5"))
    assert graph.quantizers["f"].threshold == 0.5
    assert graph.cells["f"].quantizer is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (cell("a", "a"), r"^net.ini:7: \[a\] Input='a' is illegal: a cell cannot take its own output$"),
        (cell("a", "pool"), r"^net.ini:7: \[a\] Input='pool' is illegal: there is no section \[pool\]; legal: a, sp"),
        (cell("a", "database"), r"^net.ini:7: .* \[database\] is no cell, for it has no Input$"),
        (cell("a", ","), r"^net.ini:7: \[a\] Input=',' is illegal: it must name one or more sections"),
        (["[a]", "Input=sp"], r"^net.ini:6: \[a\] Type is missing"),
        (
            [*cell("a", "b"), *cell("b", "c"), *cell("c", "a")],
            r"^net.ini:\d+: .* these cells feed each other: \w( -> \w){3}$",
        ),
        (
            conv("a", "sp", 1, "PaddingX=1", "DilationY=3"),
            r"^net.ini:9: \[a\] KernelDims='3 3' is illegal: it spans 3 x 7, and the input with its padding is 10 x 6$",
        ),
        (
            [*conv("a", "sp", 2), *cell("b", "a,sp", "BatchNorm")],
            r"^net.ini:11: \[b\] an input of 2 x 4 x 6 and 1 x 6 x 8 does not fit: Sizes of tensors must match",
        ),
        (
            [*cell("a", "sp", "Fc", "NbOutputs=3"), *conv("b", "a", 2)],
            r"^net.ini:13: \[b\] KernelDims='3 3' is illegal: it spans 3 x 3, and the input with its padding is 1 x 1$",
        ),
        (
            cell("a", "sp", "Reshape", "Dims=7 7 1"),
            r"^net.ini:6: \[a\] an input of 1 x 6 x 8 does not fit: shape '\[1, 1, 7, 7\]' is invalid",
        ),
        (
            cell("a", "sp", "Softmax", "NbOutputs=10"),
            r"^net.ini:9: \[a\] NbOutputs='10' is illegal: this cell has 1 outp",
        ),
        (
            [*cell("a", "sp"), *cell("b", "a", "Fc", "NbOutputs=[c]_NbOutputs"), *cell("c", "b")],
            r"^net.ini:12: .*not there",
        ),
    ],
)
def test_what_does_not_fit_is_told_with_its_line(lines, message):
    with pytest.raises(ini.IniError, match=message):
        graph_of(*lines)


def test_a_circle_of_many_cells_is_told_in_short():
    lines = [line for i in range(3000) for line in cell(f"c{i}", f"c{(i + 1) % 3000}")]
    with pytest.raises(ini.IniError, match=r"these cells feed each other: .* -> \.\.\.$") as raised:
        graph_of(*lines)
    assert len(str(raised.value)) < 300


def test_many_cells():
    lines = [line for i in range(500) for line in conv(f"c{i}", f"c{i - 1}" if i else "sp", 1, "Padding=1")]
    graph = graph_of(*lines)
    assert graph.shapes["c499"] == (1, 6, 8)
    assert all(torch.isfinite(cell.weight).all() for cell in graph.cells.values())
