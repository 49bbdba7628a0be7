"""The networks of examples/: their sizes and parameters, counted from the sections alone, are the published ones."""

import math
from pathlib import Path

import pytest

from n2d2 import ini

EXAMPLES = Path(__file__).parents[2] / "examples"
PARAMETERS = {
    "lenet.ini": 60_570 + 6 + 16 + 120 + 84 + 10,  # the connected weights, the biases
    "n2d2/cifar10.ini": 307_946,
    "n2d2/resnet18.ini": 11_689_512,
    "n2d2/mobilenet_v1.ini": 4_231_976,
    "n2d2/mobilenet_v2.ini": 3_504_872,
    "n2d2/vgg16.ini": 138_357_544,
    "n2d2/squeezenet_v1.0.ini": 1_248_424,
    "n2d2/squeezenet_v1.1.ini": 1_235_496,
}


class Shapes:
    """The shape (channels, height, width) of every cell's output, and how many parameters each has."""

    def __init__(self, path):
        self.document = ini.read(path)
        sp = self.document.section("sp")
        self.shapes = {"sp": (sp.get_int("NbChannels", 1), sp.get_int("SizeY"), sp.get_int("SizeX"))}
        self.document.resolver = self.automatic
        self.parameters = {cell.name: self.add(cell) for cell in self.document.having("Input")}

    def automatic(self, section, key):
        channels, height, width = self.shapes[section]
        return {"_NbOutputs": channels, "_OutputsHeight": height, "_OutputsWidth": width}[key]

    def add(self, cell):
        kind = cell.get_str("Type")
        inputs = [self.shapes[name] for name in cell.get_list("Input")]
        channels, (_, height, width) = sum(shape[0] for shape in inputs), inputs[0]
        outputs = cell.get_int("NbOutputs")
        self.shapes[cell.name] = (outputs, height, width)
        if kind == "Fc":
            self.shapes[cell.name] = (outputs, 1, 1)
            return outputs * (channels * height * width + 1)
        if kind == "BatchNorm":
            return 2 * outputs
        if kind not in ("Conv", "Pool"):
            assert inputs.count(inputs[0]) == len(inputs)
            return 0
        kernel = cell.get_ints("KernelDims" if kind == "Conv" else "PoolDims")
        stride, padding = cell.get_int("Stride", 1), cell.get_int("Padding", 0)
        sizes = [(size + 2 * padding - k) // stride + 1 for size, k in zip((width, height), kernel, strict=True)]
        self.shapes[cell.name] = (outputs, sizes[1], sizes[0])
        if kind == "Pool":
            return 0
        n_connections = channels * outputs
        if f"Mapping({cell.get_list('Input')[0]})" in cell:
            n_connections = sum(cell.get_ints(f"Mapping({cell.get_list('Input')[0]})"))
        elif "Mapping.ChannelsPerGroup" in cell:
            n_connections = outputs * cell.get_int("Mapping.ChannelsPerGroup")
        return n_connections * math.prod(kernel) + (0 if cell.get_bool("NoBias", default=False) else outputs)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_that_were_published(name):
    shapes = Shapes(EXAMPLES / name)
    assert sum(shapes.parameters.values()) == PARAMETERS[name]
    assert list(shapes.shapes.values())[-1] == (1000 if "imagenet" in shapes.document.sections else 10, 1, 1)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_conv_and_fc_is_pruned(name):
    document = ini.read(EXAMPLES / name)
    for cell in document.having("Input"):
        if cell.get_str("Type") in ("Conv", "Fc"):
            assert cell.get_choice("QWeight", ["Prune"]) == "Prune"
            assert cell.get_choice("QWeight.PruningMode", ["Static", "Gradual"])
            assert 0 < cell.get_float("QWeight.Threshold", low=0, high=1) < 1


def test_thresholds_of_single_cells_hold():
    """A configuration section overrides the cell: what cells have of their own must not stand in one."""
    assert ini.read(EXAMPLES / "n2d2/cifar10.ini").section("conv1.1").get_float("QWeight.Threshold") == 0.5
    assert ini.read(EXAMPLES / "n2d2/mobilenet_v1.ini").section("conv2_3_dw").get_float("QWeight.Threshold") == 0.3


def test_lenet_ends_at_more_than_nine_tenths():
    shapes = Shapes(EXAMPLES / "lenet.ini")
    weights = {name: n - shapes.shapes[name][0] for name, n in shapes.parameters.items() if n}
    document = shapes.document
    kept = sum(n * (1 - document.section(name).get_float("QWeight.Threshold")) for name, n in weights.items())
    assert 1 - kept / sum(weights.values()) > 0.9
