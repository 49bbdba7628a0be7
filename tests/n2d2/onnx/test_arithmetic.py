"""Arithmetic on shapes: the same numbers, of the same type, in Python, in torch and in ONNX Runtime."""

import itertools

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch._dynamo.testing import CompileCounter

from n2d2.cells import DeepNetCell
from n2d2.error_handler import WrongValue
from n2d2.onnx.arithmetic import HOST
from n2d2.onnx.host import Host, WithoutValuesError, rounded, to_host, to_tensor
from n2d2.onnx.operators import STATIC, compute_checked
from n2d2.onnx.schema import read_node

NEWEST = 21

FLOATS = (30.0, 0.7, -0.7, 1 / 3, 2.5, 0.0, 100.0, 16777217.0, 3e38, float("inf"), float("nan"))
WHOLE = {
    torch.int64: (7, -7, 2, -2, 0, 3, 2**40),
    torch.int32: (7, -7, 2, -2, 0, 3, 2**31 - 1),
    torch.uint8: (7, 2, 0, 3, 255),
    torch.int8: (7, -7, 2, -2, 0, 127, -128),
}
NUMBERS = {torch.float32: FLOATS, torch.bool: (True, False), **WHOLE}


def pairs(values):
    """Every number with every other of its type, in a row and one by one, and rows that are repeated."""
    for kind, numbers in values.items():
        a, b = (torch.tensor(side, dtype=kind) for side in zip(*itertools.product(numbers, repeat=2), strict=True))
        yield a, b
        yield from zip(a, b, strict=True)
        yield a, torch.tensor(numbers[:1], dtype=kind)
        yield a[:0], torch.tensor(numbers[0], dtype=kind)
        yield a[:3], b[:2]


def rows(values):
    for kind, numbers in values.items():
        for n in (0, 1, 2, len(numbers)):
            yield (torch.tensor(numbers[:n], dtype=kind),)
        yield (torch.tensor(numbers[0], dtype=kind),)


def whole(*values):
    return torch.tensor(values, dtype=torch.int64)


ORDERED = {kind: numbers for kind, numbers in NUMBERS.items() if kind is not torch.bool}
DIVISORS = {kind: [n for n in numbers if n or kind is torch.float32] for kind, numbers in ORDERED.items()}
TRUTH = {torch.bool: (True, False)}
AXES = [whole(0), whole(-1), whole(1), whole()]
TYPES = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool}

BINARY = {op: (ORDERED, [{}]) for op in ("Add", "Sub", "Mul", "Max", "Min")}
BINARY |= {op: (ORDERED, [{}]) for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")}
BINARY |= {op: (TRUTH, [{}]) for op in ("And", "Or")} | {"Div": (DIVISORS, [{}])}
BINARY |= {"Mod": (DIVISORS, [{"fmod": 1}, {"fmod": 0}])}
FINITE = {kind: [n for n in numbers if abs(n) < 100] for kind, numbers in NUMBERS.items()}
KEEP = [{"keepdims": keep, "noop_with_empty_axes": noop} for keep in (0, 1) for noop in (0, 1)]
CASES = {
    **{op: [(pair, a) for pair in pairs(values) for a in attributes] for op, (values, attributes) in BINARY.items()},
    **{op: [((a,), {}) for a, _ in pairs({torch.float32: FLOATS})] for op in ("Floor", "Ceil")},
    "Neg": [(row, {}) for row in rows(ORDERED)],
    "Not": [(row, {}) for row in rows(TRUTH)],
    "Identity": [(row, {}) for row in rows(NUMBERS)],
    "Cast": [(row, {"to": to}) for row in rows(FINITE) for to in TYPES],
    "CastLike": [((*row, torch.ones(1, dtype=to)), {}) for row in rows(FINITE) for to in TYPES.values()],
    "Where": [((a > b, a, b), {}) for a, b in pairs(ORDERED) if a.shape == b.shape],
    "Gather": [
        ((*row, i), {"axis": axis})
        for row in rows(ORDERED)
        for i in (whole(0), whole(-1, 0), torch.tensor(1), whole(9))
        for axis in (0, -1, 1)
    ],
    "Concat": [(pair, {"axis": axis}) for pair in pairs(ORDERED) if pair[0].dim() for axis in (0, -1, 1)],
    "ConstantOfShape": [
        ((shape,), {} if value is None else {"value": numpy_helper.from_array(np.array([value]))})
        for shape in (whole(), whole(0), whole(3), whole(2, 2))
        for value in (None, np.float32(0.7), np.int32(3), np.int64(1), True)
    ],
    "Reshape": [
        ((*row, to), {}) for row in rows(ORDERED) for to in (whole(-1), whole(), whole(2), whole(1, 2), whole(0))
    ],
    "Slice": [
        ((*row, *map(whole, cut)), {})
        for row in rows(ORDERED)
        for cut in ((1, 9), (0, -1, 0), (-1, -99, -1, -1), (0, 9, 0, 2), (0, 1, 1))
    ],
    **{
        op: [((*row, axes), {}) for row in rows(NUMBERS) for axes in AXES] + [(row, {}) for row in rows(NUMBERS)]
        for op in ("Squeeze", "Unsqueeze")
    },
    **{
        op: [(given, a) for row in rows(ORDERED) for given in (row, *((*row, axes) for axes in AXES)) for a in KEEP]
        for op in ("ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum")
    },
}
CASES["Unsqueeze"] = [case for case in CASES["Unsqueeze"] if len(case[0]) == 2]


def node_of(op, n, attributes):
    made = helper.make_node(op, [f"in{i}" for i in range(n)], ["y"], **attributes)
    return read_node(made, NEWEST if op != "CastLike" else 15)


def result(node, values):
    try:
        (made,) = compute_checked(node, values)
    except WrongValue as error:
        return error
    return made


@pytest.mark.parametrize("op", HOST)
def test_numbers_are_computed_as_tensors_are(op):
    on_host = 0
    for given, attributes in CASES[op]:
        node = node_of(op, len(given), attributes)
        host = [to_host(one) for one in given]
        mixed = [
            value if i in STATIC.get(op, ()) else one for i, (value, one) in enumerate(zip(host, given, strict=True))
        ]
        mine, theirs = result(node, host), result(node, mixed)
        if op == "ConstantOfShape":
            theirs = result(node, given)
        shown = f"{op} of {given} with {attributes}: {mine}, not {theirs}"
        if isinstance(mine, WrongValue) and "64 bits" in str(mine):
            continue  # tensors wrap around: no size is as large
        if isinstance(mine, WrongValue) or isinstance(theirs, WrongValue):
            assert type(mine) is type(theirs), shown
            continue
        on_host += isinstance(mine, Host)
        made = to_tensor(mine, None, torch.float32) if isinstance(mine, Host) else mine
        want = to_tensor(theirs, None, torch.float32) if isinstance(theirs, Host) else theirs
        assert made.dtype == want.dtype, shown
        assert made.shape == want.shape, shown
        assert torch.equal(made.nan_to_num(77), want.nan_to_num(77)), shown
    assert on_host > 3


def test_floats_are_rounded_as_float32_is():
    numbers = np.random.default_rng(0).normal(0, 1, 2000) * 10.0 ** np.random.default_rng(1).integers(-44, 38, 2000)
    numbers = [*numbers, 0.0, 1 + 2**-24, 1 + 3 * 2**-24, 2.0**-126, 2.0**-149, 2.0**-150, 1.5 * 2.0**-149]
    assert [rounded(float(one)) for one in numbers] == [float(np.float32(one)) for one in numbers]


# ---- with ONNX Runtime


def network(nodes, constants, *, outputs=("y",), shape=("n", "c", "w")):
    made = helper.make_graph(
        [helper.make_node(op, given.split(), output.split(), **attributes) for op, given, output, attributes in nodes],
        "sizes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", NEWEST)], ir_version=8)


def runtime(made):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: [torch.from_numpy(np.asarray(y)) for y in session.run(None, {"x": x.numpy()})]


def ours(made, folder):
    onnx.save(made, folder / "net.onnx")
    return DeepNetCell.load_from_ONNX(None, folder / "net.onnx").test()


def equal(mine, theirs):
    return mine.dtype == theirs.dtype and mine.shape == theirs.shape and torch.equal(mine, theirs)


SCALES = (0.7, 0.3, 1 / 3, 2 / 3, 1.1, 0.9, 1.3, 0.6, 2.5, 0.5, 2.0, 0.29, 0.1)


def scaled(op, end="Floor", scales=SCALES):
    """Each size times or by many scales, as a whole number."""
    nodes = [
        ("Shape", "x", "size", {}),
        ("Gather", "size last", "n", {}),
        ("Cast", "n", "f", {"to": TensorProto.FLOAT}),
        (op, "f scales", "g", {}),
        (end, "g", "h", {}),
        ("Cast", "h", "y", {"to": TensorProto.INT64}),
    ]
    return network(nodes, {"last": np.array(2), "scales": np.array(scales, np.float32)})


@pytest.mark.parametrize("kind", ["float", "double"])
@pytest.mark.parametrize(("op", "end"), [("Mul", "Floor"), ("Div", "Ceil"), ("Add", "Floor"), ("Sub", "Ceil")])
def test_sizes_that_are_computed_as_floats_are_those_of_onnx_runtime(op, end, kind, tmp_path, monkeypatch):
    monkeypatch.setattr("n2d2.global_variables.default_datatype", kind)
    made = scaled(op, end)
    net, reference = ours(made, tmp_path), runtime(made)
    for n in range(1, 130):
        x = torch.zeros(1, 1, n)
        assert equal(net(x), reference(x)[0]), n


@pytest.mark.parametrize(("scale", "graphs"), [(0.7, 2), (2.5, 1)])
def test_compiled_for_any_size_they_are_the_same(scale, graphs, tmp_path):
    """Where nothing is rounded, one graph is for all sizes; else each has its own."""
    net, counter = ours(scaled("Mul", scales=(scale,)), tmp_path), CompileCounter()
    torch._dynamo.reset()
    compiled = torch.compile(net, backend=counter, fullgraph=True, dynamic=True)
    for n in (30, 40):
        assert equal(compiled(torch.zeros(1, 1, n)), net(torch.zeros(1, 1, n))), n
    assert counter.frame_count == graphs


RESIZED = {
    "nearest, floor": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "nearest, ceil": {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "ceil"},
    "linear": {"mode": "linear"},
}


@pytest.mark.parametrize("scale", [0.7, 0.3, 1 / 3, 1.3, 0.9, 2.1])
@pytest.mark.parametrize("how", RESIZED)
def test_what_is_resized_has_the_sizes_and_values_of_onnx_runtime(how, scale, tmp_path):
    made = network([("Resize", "x none scales", "y", RESIZED[how])], {"scales": np.array([1, 1, scale], np.float32)})
    made.graph.node[0].input[1] = ""
    net, reference = ours(made, tmp_path), runtime(made)
    for n in range(4, 60):
        x = torch.arange(1.0 * n).reshape(1, 1, n)
        torch.testing.assert_close(net(x), reference(x)[0], msg=lambda told, n=n: f"{n} elements: {told}")


TO = {name: {"to": getattr(TensorProto, name)} for name in ("FLOAT", "INT32", "UINT8", "INT8", "BOOL", "INT64")}
SIZES_ALONE = {
    "the sizes": ([("Shape", "x", "y", {})], {}),
    "how many": ([("Size", "x", "y", {})], {}),
    "one size": ([("Shape", "x", "s", {}), ("Gather", "s i", "y", {})], {"i": np.array(1)}),
    **{
        f"as {name}": (
            [("Shape", "x", "s", {}), ("Mul", "s k", "m", {}), ("Cast", "m", "y", to)],
            {"k": np.array([100])},
        )
        for name, to in TO.items()
    },
    "truth": ([("Shape", "x", "s", {}), ("Greater", "s k", "y", {})], {"k": np.array([2])}),
    "int32 that wraps around": (
        [("Shape", "x", "s", {}), ("Cast", "s", "i", TO["INT32"]), ("Mul", "i k", "y", {})],
        {"k": np.array([2**30], np.int32)},
    ),
    **{
        f"the rest, fmod={fmod}": (
            [("Shape", "x", "s", {}), ("Sub", "s k", "m", {}), ("Mod", "m j", "y", {"fmod": fmod})],
            {"k": np.array([5]), "j": np.array([3])},
        )
        for fmod in (0, 1)
    },
    **{
        f"the sum of no axes, noop={noop}": (
            [("Shape", "x", "s", {}), ("ReduceSum", "s none", "y", {"noop_with_empty_axes": noop})],
            {"none": np.zeros(0, np.int64)},
        )
        for noop in (0, 1)
    },
    "a range": (
        [("Shape", "x", "s", {}), ("Gather", "s i", "n", {}), ("Range", "z n o", "y", {})],
        {"i": np.array(2), "z": np.array(0), "o": np.array(1)},
    ),
    "a range of int32": (
        [
            ("Shape", "x", "s", {}),
            ("Gather", "s i", "n", {}),
            ("Cast", "n", "m", TO["INT32"]),
            ("Range", "z m o", "y", {}),
        ],
        {"i": np.array(2), "z": np.array(0, np.int32), "o": np.array(1, np.int32)},
    ),
}


@pytest.mark.parametrize("name", SIZES_ALONE)
def test_an_output_made_of_sizes_alone_is_a_tensor(name, tmp_path):
    made = network(*SIZES_ALONE[name])
    net, x = ours(made, tmp_path), torch.zeros(2, 3, 7)
    assert equal(net(x), runtime(made)(x)[0]), (net(x), runtime(made)(x))


# ---- numbers that hang on values

COUNT = [("ReduceMax", "x", "top", {"keepdims": 0}), ("Cast", "top", "n", TO["INT64"])]
ROW = [*COUNT, ("Unsqueeze", "n v0", "ns", {})]
NUMBERS_OF_VALUES = {
    "Range": ([*COUNT, ("Range", "z n o", "y", {})], {"z": np.array(0), "o": np.array(1)}, "n"),
    "Pad": ([*ROW, ("Concat", "v0 v0 v0 v0 v0 ns", "p", {"axis": 0}), ("Pad", "x p", "y", {})], {}, "p"),
    "ConstantOfShape": ([*ROW, ("ConstantOfShape", "ns", "y", {})], {}, "ns"),
    "Expand": ([*ROW, ("Concat", "ns v1 v1 v1", "p", {"axis": 0}), ("Expand", "x p", "y", {})], {}, "p"),
    "Reshape": ([*ROW, ("Concat", "ns vm", "p", {"axis": 0}), ("Reshape", "x p", "y", {})], {}, "p"),
    "Slice": ([*ROW, ("Slice", "x v0 ns v2", "y", {})], {}, "ns"),
    "Tile": ([*ROW, ("Concat", "v1 v1 ns", "p", {"axis": 0}), ("Tile", "x p", "y", {})], {}, "p"),
    "TopK": ([*ROW, ("TopK", "x ns", "y i", {})], {}, "ns"),
    "OneHot": (
        [*COUNT, ("Cast", "x", "i", TO["INT64"]), ("OneHot", "i n values", "y", {})],
        {"values": np.array([0.0, 1.0], np.float32)},
        "n",
    ),
}
VECTORS = {"v0": np.array([0]), "v1": np.array([1]), "v2": np.array([2]), "vm": np.array([-1])}


@pytest.mark.parametrize("op", NUMBERS_OF_VALUES)
def test_numbers_may_hang_on_values_where_these_are(op, tmp_path):
    nodes, constants, needed = NUMBERS_OF_VALUES[op]
    made = network(nodes, VECTORS | constants, shape=(1, 3, 4))
    net, x = ours(made, tmp_path), torch.arange(12.0).reshape(1, 3, 4) % 4
    mine = net(x)
    assert torch.equal(mine[0] if isinstance(mine, list) else mine, runtime(made)(x)[0])
    with pytest.raises(WithoutValuesError, match=rf"{op} 'y' needs the numbers of '{needed}'"):
        net.to("meta")(x.to("meta"))
