"""Every operator computes what ONNX Runtime computes, in every version in which its form changed."""

import math

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from n2d2.cells import DeepNetCell
from n2d2.onnx.operators import OPERATORS

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")

RANDOM = np.random.default_rng(0)
NEWEST = 23
"""The newest version of the operators that ONNX Runtime computes throughout."""


def data(*shape):
    return RANDOM.normal(0, 1, shape).astype(np.float32)


MAPS = data(2, 4, 7, 6)
ROWS = data(3, 5)
LINES = data(2, 3, 9)
POSITIVE = np.abs(MAPS) + 0.5
TURNED = "the input, its sign turned"


def floats(*values):
    return np.array(values, np.float32)


def ints(*values):
    return np.array(values, np.int64)


def one(value):
    return np.array(value, np.float32)


def case(op, opset, inputs=(MAPS,), n_outputs=1, **attributes):
    shown = ",".join(f"{key}={value}" for key, value in attributes.items() if not isinstance(value, onnx.TensorProto))
    return pytest.param(op, opset, inputs, n_outputs, attributes, id=f"{op}-{opset}-{shown}")


def each(op, opsets, inputs=(MAPS,), n_outputs=1, **attributes):
    return [case(op, opset, inputs, n_outputs, **attributes) for opset in opsets]


def model(op, opset, inputs, n_outputs, attributes, *, sizes=True, after=None):
    """A network of one operator; what it takes beside the data stands in the file."""
    names = ["x", *("" if v is None else "turned" if v is TURNED else f"in{i}" for i, v in enumerate(inputs[1:]))]
    outputs = [f"y{i}" for i in range(n_outputs)]
    nodes = [helper.make_node("Neg", ["x"], ["turned"])] if "turned" in names else []
    nodes.append(helper.make_node(op, names, outputs, **attributes))
    if after:
        nodes.append(helper.make_node(after, ["y0"], ["end"]))
    given = [numpy_helper.from_array(v, n) for v, n in zip(inputs, names, strict=True) if isinstance(v, np.ndarray)]
    shape = list(inputs[0].shape) if sizes else [f"d{i}" for i in range(inputs[0].ndim)]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(inputs[0].dtype), shape)],
        [helper.make_empty_tensor_value_info(name) for name in (["end"] if after else outputs)],
        given[1:],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def expected(made, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def got(made, x, folder):
    onnx.save(made, folder / "one.onnx")
    net = DeepNetCell.load_from_ONNX(None, folder / "one.onnx").test()
    with torch.no_grad():
        out = net(torch.from_numpy(x))
    return [y.numpy() for y in (out if isinstance(out, list) else [out])]


UNARY = ["Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Identity", "Mish", "Neg", "Relu", "Round"]
UNARY += ["Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tan", "Tanh", "Atan", "Asinh", "Sinh", "Cosh"]
BINARY = ["Add", "Sub", "Mul", "Div"]
REDUCED = ["ReduceMean", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare"]
REDUCED += ["ReduceLogSumExp"]
KERNEL = data(6, 4, 3, 2)
BACK = data(4, 3, 3, 2)
POOL = {"kernel_shape": [3, 2], "strides": [2, 2]}
SAME = ["SAME_UPPER", "SAME_LOWER", "VALID"]
NORM = (floats(1, 2, 3, 4), floats(0, 1, 0, 1))

CASES = [
    *(case(op, opset) for op in UNARY for opset in (22,)),
    *(case(op, 9) for op in ("Abs", "Relu", "Sigmoid", "Tanh", "Exp", "Identity", "Neg", "Erf", "Softplus")),
    *(case(op, 22, (POSITIVE,)) for op in ("Log", "Sqrt", "Reciprocal", "Acosh")),
    *(case(op, 22, (np.tanh(MAPS),)) for op in ("Acos", "Asin", "Atanh")),
    *(case(op, opset, (MAPS, TURNED)) for op in BINARY for opset in (7, 13, 14)),
    *(case(op, 13, (MAPS, POSITIVE[0, :, :1])) for op in BINARY),
    *(case(op, opset, (MAPS, TURNED, POSITIVE)) for op in ("Max", "Min", "Sum", "Mean") for opset in (8, 13)),
    *(case(op, 13, (MAPS,)) for op in ("Max", "Min", "Sum", "Mean")),
    *each("Pow", (7, 12, 15), (POSITIVE, floats(2.5))),
    *each("Pow", (13,), (POSITIVE, ints(2))),
    *each("Mod", (13,), (MAPS, one(0.7)), fmod=1),
    # activations with parameters
    *each("LeakyRelu", (7, 16), alpha=0.2),
    *each("Elu", (7, 22), alpha=0.7),
    *each("Selu", (7, 22)),
    *each("Celu", (12,), alpha=0.7),
    *each("ThresholdedRelu", (10,), alpha=0.3),
    *each("HardSigmoid", (7, 22)),
    *each("HardSigmoid", (7,), alpha=0.5, beta=0.3),
    *each("Gelu", (20,)),
    *each("Gelu", (20,), approximate="tanh"),
    *each("Shrink", (9,), bias=0.1, lambd=0.3),
    *each("PRelu", (7, 9, 16), (MAPS, data(4, 1, 1))),
    *each("Clip", (7, 10), min=-0.5, max=0.7),
    *each("Clip", (7,), max=0.7),
    *each("Clip", (11, 12, 13), (MAPS, one(-0.5), one(0.7))),
    *each("Clip", (13,), (MAPS, None, one(0.7))),
    *each("Clip", (13,), (MAPS, one(-0.5))),
    *each("Clip", (13,)),
    # convolutions
    *each("Conv", (7, 11, 22), (MAPS, KERNEL), kernel_shape=[3, 2]),
    *each("Conv", (13,), (MAPS, KERNEL, data(6))),
    *each("Conv", (13,), (MAPS, KERNEL, data(6)), pads=[1, 2, 1, 2], strides=[2, 1], dilations=[1, 2]),
    *each("Conv", (13,), (MAPS, KERNEL, data(6)), pads=[1, 0, 2, 1], strides=[2, 2]),
    *(case("Conv", 13, (MAPS, KERNEL, data(6)), auto_pad=pad, strides=[2, 1]) for pad in SAME),
    *each("Conv", (13,), (MAPS, data(8, 2, 3, 3)), group=2),
    *each("Conv", (13,), (MAPS, data(4, 1, 3, 3), data(4)), group=4, auto_pad="SAME_UPPER"),
    *each("Conv", (13,), (LINES, data(4, 3, 3), data(4)), pads=[1, 1]),
    *each("Conv", (13,), (LINES, data(4, 3, 4)), pads=[1, 2]),
    *each("Conv", (13,), (data(2, 2, 4, 5, 6), data(3, 2, 2, 3, 2), data(3)), pads=[1, 0, 1, 1, 0, 1]),
    *each("ConvTranspose", (7, 11, 22), (MAPS, BACK)),
    *each("ConvTranspose", (13,), (MAPS, BACK, data(3)), strides=[2, 3], pads=[1, 1, 1, 1]),
    *each("ConvTranspose", (13,), (MAPS, BACK, data(3)), strides=[2, 3], pads=[1, 0, 2, 1], output_padding=[1, 2]),
    *each("ConvTranspose", (13,), (MAPS, BACK, data(3)), strides=[2, 2], output_shape=[14, 13]),
    *each("ConvTranspose", (13,), (MAPS, BACK, data(3)), dilations=[2, 1], strides=[1, 2]),
    *(case("ConvTranspose", 13, (MAPS, BACK), auto_pad=pad, strides=[2, 2]) for pad in SAME),
    *each("ConvTranspose", (13,), (MAPS, data(4, 2, 3, 3), data(4)), group=2, strides=[2, 2]),
    *each("ConvTranspose", (13,), (LINES, data(3, 4, 3), data(4)), strides=[2], pads=[1, 1]),
    # products
    *each("Gemm", (7, 11, 13), (ROWS, data(5, 4), data(4))),
    *each("Gemm", (13,), (ROWS, data(4, 5), data(1, 4)), transB=1, alpha=0.5, beta=2.0),
    *each("Gemm", (13,), (ROWS, data(4, 5), data(3, 4)), transB=1, beta=0.5),
    *each("Gemm", (13,), (ROWS, data(3, 4), data(4)), transA=1),
    *each("Gemm", (13,), (ROWS, data(5, 4))),
    *each("Gemm", (13,), (ROWS, data(5, 4), one(0.3))),
    *each("MatMul", (7, 13), (ROWS, data(5, 4))),
    *each("MatMul", (13,), (LINES, data(9, 4))),
    *each("MatMul", (13,), (MAPS, data(4, 6, 5))),
    *each("MatMul", (13,), (ROWS, data(5))),
    *each("MatMul", (13,), (data(4, 3, 3), TURNED)),
    *each("Einsum", (12,), (ROWS, data(5, 4)), equation="bi,io->bo"),
    # normalizations
    *each("BatchNormalization", (7, 9, 14, 15), (MAPS, *NORM, floats(0, 1, 2, 3), floats(1, 2, 3, 4)), epsilon=1e-3),
    *each("BatchNormalization", (15,), (data(3, 4), *NORM, floats(0, 1, 2, 3), floats(1, 2, 3, 4))),
    *each("BatchNormalization", (15,), (data(2, 4, 3, 2, 2), *NORM, floats(0, 1, 2, 3), floats(1, 2, 3, 4))),
    *each("InstanceNormalization", (7, 22), (MAPS, *NORM)),
    *each("LayerNormalization", (17,), (MAPS, data(6), data(6))),
    *each("LayerNormalization", (17,), (MAPS, data(4, 7, 6)), axis=1, epsilon=1e-3),
    *each("GroupNormalization", (21,), (MAPS, *NORM), num_groups=2),
    *each("RMSNormalization", (23,), (MAPS, data(6))),
    *each("LpNormalization", (7, 22), p=1, axis=1),
    *each("LpNormalization", (7,)),
    *each("MeanVarianceNormalization", (9, 13)),
    *(case("LRN", 13, (data(2, 9, 3, 3),), size=size, alpha=0.5, beta=0.6, bias=2.0) for size in (1, 3, 5)),
    *(
        case(op, opset, axis=axis)
        for op in ("Softmax", "LogSoftmax", "Hardmax")
        for opset in (7, 11, 13)
        for axis in (1, 2)
    ),
    *(case(op, opset) for op in ("Softmax", "LogSoftmax", "Hardmax") for opset in (7, 13)),
    *(case("Softmax", opset, (ROWS,)) for opset in (9, 13)),
    *(case("Softmax", opset, (ROWS,), axis=0) for opset in (9, 13)),
    *(case("Softmax", 9, (data(2, 5, 1, 1),)) for _ in (1,)),
    *each("Dropout", (7, 10), ratio=0.3),
    *each("Dropout", (12, 22), (MAPS, one(0.3))),
    *each("Dropout", (13,), (MAPS, None, np.array(0, bool))),
    # pools
    *each("MaxPool", (7, 8, 12), **POOL),
    *each("AveragePool", (7, 10, 19, 22), **POOL),
    *(case(op, 12, pads=[1, 0, 1, 1], **POOL) for op in ("MaxPool", "AveragePool")),
    *(case(op, 12, pads=[1, 1, 1, 1], **POOL) for op in ("MaxPool", "AveragePool")),
    *(case(op, 12, auto_pad=pad, **POOL) for op in ("MaxPool", "AveragePool") for pad in SAME),
    *(case(op, 12, ceil_mode=1, pads=[0, 1, 1, 0], **POOL) for op in ("MaxPool", "AveragePool")),
    *(case(op, 22, ceil_mode=1, kernel_shape=[2, 2], strides=[3, 3]) for op in ("MaxPool", "AveragePool")),
    *each("AveragePool", (12,), pads=[1, 0, 2, 1], count_include_pad=1, kernel_shape=[3, 2]),
    *each("AveragePool", (12,), pads=[1, 1, 1, 1], count_include_pad=1, kernel_shape=[3, 2]),
    *each("AveragePool", (22,), pads=[1, 0, 1, 1], count_include_pad=1, ceil_mode=1, **POOL),
    *each("AveragePool", (19,), dilations=[2, 2], kernel_shape=[2, 2]),
    *each("MaxPool", (12,), dilations=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[2, 2]),
    *(case(op, 12, (LINES,), kernel_shape=[3], strides=[2], pads=[1, 0]) for op in ("MaxPool", "AveragePool")),
    *(case(op, 12, (data(1, 2, 4, 5, 6),), kernel_shape=[2, 3, 2]) for op in ("MaxPool", "AveragePool")),
    *each("LpPool", (7, 11, 18), pads=[1, 0, 1, 1], p=3, **POOL),
    *(case(op, 7) for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")),
    *(case(op, 22, (LINES,)) for op in ("GlobalAveragePool", "GlobalMaxPool")),
    # reductions
    *(case(op, opset, axes=[1, -1]) for op in REDUCED for opset in (11, 13)),
    *(case(op, 13, axes=[2], keepdims=0) for op in REDUCED),
    *(case(op, opset, (MAPS, ints(1, -1))) for op in REDUCED for opset in (18, 20)),
    *(case(op, opset, keepdims=1) for op in REDUCED for opset in (11, 18)),
    *each("ReduceSum", (7,), axes=[1], keepdims=0),
    *each("ReduceSum", (13,), (MAPS, ints(1)), keepdims=0),
    *each("ReduceSum", (13,), (MAPS, ints()), noop_with_empty_axes=1),
    *each("ReduceLogSum", (13,), (POSITIVE,), axes=[1]),
    *(case(op, opset, axis=1, keepdims=keep) for op in ("ArgMax", "ArgMin") for opset in (7, 13) for keep in (0, 1)),
    *(case(op, 13, (np.round(MAPS),), axis=2, select_last_index=1) for op in ("ArgMax", "ArgMin")),
    # other places
    *each("Flatten", (7, 13)),
    *(case("Flatten", 13, axis=axis) for axis in (0, 2, 4, -1)),
    *each("Reshape", (7, 13, 14), (MAPS, ints(0, -1, 3))),
    *each("Reshape", (14,), (MAPS, ints(2, 4, 42)), allowzero=1),
    *each("Transpose", (7, 13, 23), perm=[0, 2, 3, 1]),
    *each("Transpose", (13,)),
    *each("Squeeze", (7, 11), (MAPS[:, :1, :, :1],), axes=[1, 3]),
    *each("Squeeze", (13,), (MAPS[:, :1, :, :1], ints(1, -1))),
    *each("Squeeze", (13,), (MAPS[:, :1],)),
    *each("Unsqueeze", (7, 11), axes=[1, 3]),
    *each("Unsqueeze", (11,), axes=[-1]),
    *each("Unsqueeze", (13,), (MAPS, ints(0, -1))),
    *each("Concat", (7, 13), (MAPS, TURNED, POSITIVE), axis=1),
    *each("Concat", (13,), (MAPS, TURNED), axis=-1),
    *each("Split", (7, 11), n_outputs=2, axis=1, split=[1, 3]),
    *each("Split", (7, 13), n_outputs=2, axis=1),
    *each("Split", (13,), (MAPS, ints(1, 3)), n_outputs=2, axis=1),
    *each("Split", (18,), n_outputs=3, axis=2, num_outputs=3),
    *each("Slice", (7,), starts=[1, -3], ends=[100, -1], axes=[2, 3]),
    *each("Slice", (7,), starts=[0, 1], ends=[2, 3]),
    *each("Slice", (10, 13), (MAPS, ints(1, -3), ints(100, -1), ints(2, -1), ints(2, 1))),
    *each("Slice", (13,), (MAPS, ints(-1), ints(-(2**62)), ints(2), ints(-2))),
    *each("Slice", (13,), (MAPS, ints(1), ints(3))[:3]),
    *each("Gather", (7, 13), (MAPS, ints(2, 0, -1)), axis=1),
    *each("Gather", (13,), (MAPS, np.array(1)), axis=2),
    *each("Gather", (13,), (MAPS, np.array([[0, 1], [2, 3]])), axis=3),
    *each("GatherElements", (11, 13), (ROWS, ints(*[[0, 1, -1]] * 3).reshape(3, 3)), axis=1),
    *each("Expand", (8, 13), (MAPS[:, :1], ints(2, 4, 1, 1))),
    *each("Tile", (7, 13), (MAPS, ints(1, 2, 1, 3))),
    *each("Pad", (7, 10), pads=[0, 0, 1, 2, 0, 0, 2, 1], value=0.5),
    *(case("Pad", 7, mode=mode, pads=[0, 0, 1, 2, 0, 0, 2, 1]) for mode in ("reflect", "edge")),
    *each("Pad", (11, 13, 18, 21), (MAPS, ints(0, 0, 1, -2, 0, 0, 2, 1), one(0.5))),
    *(case("Pad", 13, (MAPS, ints(0, 1, 1, 2, 0, 0, 2, 1)), mode=mode) for mode in ("reflect", "edge", "constant")),
    *each("Pad", (19,), (MAPS, ints(0, 1, 1, 2, 0, 0, 2, 1)), mode="wrap"),
    *each("Pad", (18,), (MAPS, ints(1, 2, 0, 1), one(1.5), ints(-1, 1))),
    *(case("DepthToSpace", 13, (data(2, 8, 3, 2),), blocksize=2, mode=mode) for mode in ("DCR", "CRD")),
    *each("SpaceToDepth", (13,), (data(2, 3, 4, 6),), blocksize=2),
    *(case("CumSum", 14, (MAPS, np.array(1)), exclusive=e, reverse=r) for e in (0, 1) for r in (0, 1)),
    *each("TopK", (7,), k=3, n_outputs=2, axis=2),
    *each("TopK", (10, 11), (MAPS, ints(3)), n_outputs=2),
    *each("TopK", (11,), (MAPS, ints(2)), n_outputs=2, largest=0, axis=1),
    *(case("Trilu", 14, upper=upper) for upper in (0, 1)),
    *each("Trilu", (14,), (MAPS, np.array(1)), upper=0),
    # resizing
    *(case("Upsample", 7, mode=mode, scales=[1.0, 1.0, 2.0, 1.5]) for mode in ("nearest", "linear")),
    *(case("Upsample", 9, (MAPS, floats(1, 1, 2, 3)), mode=mode) for mode in ("nearest", "linear")),
    *(case("Resize", 10, (MAPS, floats(1, 1, 2, 0.5)), mode=mode) for mode in ("nearest", "linear")),
    *(
        case("Resize", opset, (MAPS, None, floats(1, 1, 2, 1.5)), mode=mode, coordinate_transformation_mode=where)
        for opset in (13, 19)
        for mode in ("nearest", "linear", "cubic")
        for where in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    ),
    *(case("Resize", 13, (MAPS, None, None, ints(2, 4, 5, 9)), mode=mode) for mode in ("nearest", "linear", "cubic")),
    *(
        case("Resize", 13, (MAPS, None, None, ints(2, 4, 5, 9)), mode="nearest", nearest_mode=nearest)
        for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    *each("Resize", (13,), (MAPS, None, floats(1, 1, 0.6, 0.6)), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    *each("Resize", (18,), (MAPS, None, None, ints(5, 9)), mode="linear", axes=[2, 3]),
    *(
        case("Resize", 18, (MAPS, None, None, ints(9, 9)), axes=[2, 3], mode="linear", keep_aspect_ratio_policy=policy)
        for policy in ("not_larger", "not_smaller")
    ),
]


def by_reference(made, x):
    """What ONNX's own reference computes: slower, and of what ONNX Runtime does not compute."""
    return ReferenceEvaluator(made).run(None, {made.graph.input[0].name: x})


def assert_equal(mine, theirs):
    for a, b in zip(mine, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("op", "opset", "inputs", "n_outputs", "attributes"), CASES)
def test_an_operator_computes_what_onnx_runtime_computes(op, opset, inputs, n_outputs, attributes, tmp_path):
    made = model(op, opset, inputs, n_outputs, attributes)
    assert_equal(got(made, inputs[0], tmp_path), expected(made, inputs[0]))


ONE_OF_EACH = list({one.values[0]: one for one in CASES}.values())


@pytest.mark.parametrize(("op", "opset", "inputs", "n_outputs", "attributes"), ONE_OF_EACH)
def test_and_where_the_file_leaves_all_sizes_open(op, opset, inputs, n_outputs, attributes, tmp_path):
    made = model(op, opset, inputs, n_outputs, attributes, sizes=False)
    assert_equal(got(made, inputs[0], tmp_path), expected(made, inputs[0]))


NOT_IN_ONNX_RUNTIME = [
    *each("GroupNormalization", (18,), (MAPS, floats(1, 2), floats(0, 1)), num_groups=2),
    *each("Swish", (24,), alpha=0.5),
]


@pytest.mark.parametrize(("op", "opset", "inputs", "n_outputs", "attributes"), NOT_IN_ONNX_RUNTIME)
def test_and_what_onnx_itself_computes(op, opset, inputs, n_outputs, attributes, tmp_path):
    made = model(op, opset, inputs, n_outputs, attributes)
    assert_equal(got(made, inputs[0], tmp_path), by_reference(made, inputs[0]))


TOKENS = data(2, 4, 9, 8)
MADE_OF_OTHERS = [
    *each("Attention", (23,), (TOKENS, TURNED, TURNED)),
    *each("Attention", (23,), (TOKENS, TURNED, TURNED), is_causal=1, scale=0.5),
    *each("Attention", (23,), (data(2, 9, 8), TURNED, TURNED), q_num_heads=4, kv_num_heads=4),
    *each("CenterCropPad", (18,), (MAPS, ints(5, 8)), axes=[2, 3]),
]


@pytest.mark.parametrize(("op", "opset", "inputs", "n_outputs", "attributes"), MADE_OF_OTHERS)
def test_operators_that_onnx_tells_by_others(op, opset, inputs, n_outputs, attributes, tmp_path):
    made = model(op, opset, inputs, n_outputs, attributes)
    assert op not in OPERATORS
    assert_equal(got(made, inputs[0], tmp_path), expected(made, inputs[0]))


@pytest.mark.parametrize("size", [2, 4])
def test_lrn_of_an_even_number_of_channels_has_one_more_behind(size, tmp_path):
    """As the specification says; ONNX Runtime refuses it, and the reference confuses samples and channels."""
    x, n = data(2, 6, 3, 2), 6
    (y,) = got(model("LRN", 13, (x,), 1, {"size": size, "alpha": 0.5, "beta": 0.6, "bias": 2.0}), x, tmp_path)
    for c in range(n):
        first, last = max(0, c - math.floor((size - 1) / 2)), min(n - 1, c + math.ceil((size - 1) / 2))
        squares = (x[:, first : last + 1] ** 2).sum(1)
        np.testing.assert_allclose(y[:, c], x[:, c] / (2 + 0.5 / size * squares) ** 0.6, rtol=1e-5)


@pytest.mark.parametrize("pad", SAME)
def test_same_padding_reckons_with_dilations(pad, tmp_path):
    """ONNX Runtime refuses it; the outputs are as many as the inputs / stride, rounded up."""
    made = model("Conv", 13, (MAPS, data(6, 4, 3, 3)), 1, {"auto_pad": pad, "dilations": [2, 2], "strides": [2, 1]})
    (y,) = got(made, MAPS, tmp_path)
    assert y.shape[2:] == ((4, 6) if pad != "VALID" else (2, 2))


# ---- operators that come with others: of truth values, of types, of sizes


def network(nodes, inputs=(), outputs=("y",), *, opset=17, x=MAPS, shape=None):
    """`nodes` are (operator, inputs, outputs, attributes), their inputs and outputs words of one text."""
    return helper.make_model(
        helper.make_graph(
            [helper.make_node(op, takes.split(), gives.split(), **more) for op, takes, gives, more in nodes],
            "several",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape or x.shape))],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in dict(inputs).items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )


FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
HALF = {"half": one(0.5), "zero": one(0.0)}
ENDS_AS_FLOAT = ("Cast", "end", "y", {"to": FLOAT})
TRUE = ("Less", "x half", "low", {})
SIZE = ("Shape", "x", "size", {})


def compared(op):
    return [(op, "x half", "end", {}), ENDS_AS_FLOAT]


def logical(op):
    return [TRUE, ("Greater", "x zero", "high", {}), (op, "low high", "end", {}), ENDS_AS_FLOAT]


def sized(*nodes):
    return [SIZE, *nodes]


AXES = {"i0": np.array(0), "i1": np.array(1), "v0": ints(0), "v1": ints(1), "v2": ints(2), "v3": ints(3)}
AXES |= {"minus": ints(-1), "s0": np.array(0), "s1": np.array(1), "two": np.array(2), "twos": ints(2)}
TOGETHER = {
    **{op: (compared(op), HALF) for op in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")},
    **{op: (logical(op), HALF) for op in ("And", "Or", "Xor")},
    "Not": ([TRUE, ("Not", "low", "end", {}), ENDS_AS_FLOAT], HALF),
    "Where": ([TRUE, ("Where", "low x half", "y", {})], HALF),
    "IsNaN": ([("Sqrt", "x", "root", {}), ("IsNaN", "root", "end", {}), ENDS_AS_FLOAT], {}),
    "IsInf": ([("Relu", "x", "r", {}), ("Log", "r", "l", {}), ("IsInf", "l", "end", {}), ENDS_AS_FLOAT], {}),
    "Cast": ([("Cast", "x", "whole", {"to": INT}), ("Cast", "whole", "y", {"to": FLOAT})], {}),
    "Cast to truth": ([("Cast", "x", "end", {"to": BOOL}), ENDS_AS_FLOAT], {}),
    "CastLike": ([("CastLike", "x v0", "whole", {}), ("CastLike", "whole x", "y", {})], AXES),
    "whole numbers divided": (
        [("Cast", "x", "whole", {"to": INT}), ("Div", "whole twos", "end", {}), ENDS_AS_FLOAT],
        AXES,
    ),
    "whole numbers, the rest": (
        [("Cast", "x", "whole", {"to": INT}), ("Mod", "whole twos", "end", {}), ENDS_AS_FLOAT],
        AXES,
    ),
    "OneHot": (
        [("ArgMax", "x", "top", {"axis": 1}), ("OneHot", "top depth values", "y", {"axis": 1})],
        {"depth": np.array(5), "values": floats(-1, 2)},
    ),
    "Range": (
        sized(
            ("Gather", "size i3", "n", {}),
            ("Range", "s0 n s1", "places", {}),
            ("Cast", "places", "steps", {"to": FLOAT}),
            ("Add", "x steps", "y", {}),
        ),
        AXES | {"i3": np.array(3)},
    ),
    "ConstantOfShape": (
        sized(
            ("ConstantOfShape", "size", "ones", {"value": numpy_helper.from_array(floats(2.5))}),
            ("Mul", "x ones", "y", {}),
        ),
        {},
    ),
    "Size": ([("Size", "x", "n", {}), ("Cast", "n", "f", {"to": FLOAT}), ("Div", "x f", "y", {})], {}),
    "view(size(0), -1)": (
        sized(
            ("Gather", "size i0", "n", {}),
            ("Unsqueeze", "n v0", "ns", {}),
            ("Concat", "ns minus", "shape", {"axis": 0}),
            ("Reshape", "x shape", "y", {}),
        ),
        AXES,
    ),
    "a size, sliced, halved and squeezed": (
        sized(
            ("Slice", "size v1 v2", "one", {}),
            ("Squeeze", "one", "c", {}),
            ("Div", "c two", "half", {}),
            ("Cast", "half", "f", {"to": FLOAT}),
            ("Floor", "f", "whole", {}),
            ("Cast", "whole", "i", {"to": INT}),
            ("Unsqueeze", "i v0", "is", {}),
            ("Slice", "x v0 is v1", "y", {}),
        ),
        AXES,
    ),
    "the -1 of an expand": (
        [
            ("Shape", "x", "size", {}),
            ("Equal", "want minus", "free", {}),
            ("Where", "free size want", "shape", {}),
            ("Slice", "x v0 v1 v1", "some", {}),
            ("Expand", "some shape", "y", {}),
        ],
        AXES | {"want": ints(-1, 4, -1, -1)},
    ),
    "the product of sizes": (
        sized(
            ("Slice", "size v2 v9", "sides", {}),
            ("ReduceProd", "sides", "n", {"keepdims": 1}),
            ("Concat", "v00 n", "shape", {"axis": 0}),
            ("Reshape", "x shape", "y", {}),
        ),
        AXES | {"v9": ints(9), "v00": ints(0, 4)},
    ),
    "the larger of sizes": (
        sized(
            ("Gather", "size i1", "a", {}),
            ("Gather", "size i3", "b", {}),
            ("Max", "a b", "c", {}),
            ("Min", "c a", "d", {}),
            ("Sub", "d s1", "e", {}),
            ("Unsqueeze", "e v0", "es", {}),
            ("Slice", "x v0 es v3", "y", {}),
        ),
        AXES | {"i3": np.array(3)},
    ),
    "sizes beyond one dimension": (
        sized(
            ("Reshape", "size square", "table", {}),
            ("Transpose", "table", "turned", {}),
            ("Reshape", "turned flat", "mixed", {}),
            ("Reshape", "x mixed", "y", {}),
        ),
        {"square": ints(2, 2), "flat": ints(-1)},
    ),
    "a table by places": (
        [
            ("Shape", "x", "size", {"start": 3}),
            ("Squeeze", "size", "n", {}),
            ("Range", "s0 n s1", "places", {}),
            ("Gather", "table places", "rows", {}),
            ("MatMul", "x rows", "y", {}),
        ],
        AXES | {"table": data(8, 3)},
    ),
    "constants": (
        [
            ("Constant", "", "c", {"value_floats": [0.5, 1.0, 2.0, 3.0, 4.0, 5.0]}),
            ("Constant", "", "i", {"value_int": 1}),
            ("Constant", "", "is", {"value_ints": [0]}),
            ("Constant", "", "f", {"value_float": 0.25}),
            ("Gather", "c i", "g", {}),
            ("Unsqueeze", "g is", "u", {}),
            ("Mul", "x u", "m", {}),
            ("Add", "m f", "y", {}),
        ],
        {},
    ),
}


@pytest.mark.parametrize("free", [False, True], ids=["sizes", "open"])
@pytest.mark.parametrize("name", TOGETHER)
def test_operators_together_compute_what_onnx_runtime_computes(name, free, tmp_path):
    nodes, constants = TOGETHER[name]
    made = network(nodes, constants, shape=["a", "b", "c", "d"] if free else None)
    assert_equal(got(made, MAPS, tmp_path), expected(made, MAPS))


def test_every_operator_of_the_table_is_tried():
    tried = {one.values[0] for one in [*CASES, *NOT_IN_ONNX_RUNTIME]}
    tried |= {op for nodes, _ in TOGETHER.values() for op, *_ in nodes}
    assert sorted(set(OPERATORS) - tried) == []
