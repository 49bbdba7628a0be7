"""Files that are broken, hostile or unknown: one error of ours, which names the node, and nothing is made."""

import random
import re

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from n2d2.cells import Conv, DeepNetCell
from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.onnx.file import read_graph

X = ("x", [1, 3, 8, 8])


def weights(name, *shape):
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def model(nodes, tensors=(), *, inputs=(X,), outputs=("y",), opset=17, domain=""):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        list(tensors),
    )
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def node(op, takes="x", gives="y", **attributes):
    return helper.make_node(op, takes.split(" ") if takes else [], gives.split(" "), **attributes)


def lying(*dims):
    """A tensor that claims sizes that its bytes do not have."""
    return TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"\0" * 16)


def sparse(values, indices, dims):
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.array(values, np.float32), "w"),
        numpy_helper.from_array(np.array(indices, np.int64), "w_at"),
        dims,
    )


def with_sparse(tensor):
    made = model([node("Conv", "x w")])
    made.graph.sparse_initializer.append(tensor)
    return made


def typed(kind):
    return TensorProto(name="w", data_type=kind, dims=[1], raw_data=b"\0" * 16)


WEIGHTS = weights("w", 4, 3, 3, 3)
BROKEN = {
    "unknown operator": (model([node("Convv")]), r"operator 'Convv' of 'y' is unknown; did you mean 'Conv'\?"),
    "other domain": (
        model([helper.make_node("FusedConv", ["x"], ["y"], domain="com.microsoft")], domain="com.microsoft"),
        r"operator 'FusedConv' of 'com.microsoft' of 'y' is unknown",
    ),
    "quantized": (model([node("DequantizeLinear", "x s")], [weights("s")]), r"DequantizeLinear 'y' is refused: quanti"),
    "loop": (model([node("LSTM", "x w w")], [WEIGHTS]), r"LSTM 'y' is refused: recurrent"),
    "not of this version": (model([node("Mish")], opset=13), r"Mish 'y' is illegal: version 13 of ONNX's operators"),
    "too new": (model([node("Relu")], opset=1000), r"version 1000 of ONNX's operators, and the installed onnx knows"),
    "no operators": (model([]), r"it has no operators"),
    "no output": (helper.make_model(helper.make_graph([node("Relu")], "g", [], [])), "takes 'x', which nothing makes"),
    "attribute unknown": (model([node("Relu", slope=1)]), r"Relu 'y': Relu has no parameter 'slope'"),
    "attribute missing": (model([node("MaxPool")]), r"MaxPool 'y': kernel_shape is missing"),
    "attribute of another type": (
        model([node("MaxPool", kernel_shape=2.5)]),
        r"kernel_shape is illegal: it must be of",
    ),
    "stride 0": (model([node("MaxPool", kernel_shape=[2, 2], strides=[0, 1])]), r"MaxPool 'y': strides=0 is illegal"),
    "one stride": (model([node("MaxPool", kernel_shape=[2, 2], strides=[1])]), r"strides=\[1\] is illegal: there must"),
    "odd pads": (model([node("MaxPool", kernel_shape=[2, 2], pads=[1])]), r"pads=\[1\] is illegal: there must be 4"),
    "pads < 0": (model([node("MaxPool", kernel_shape=[2, 2], pads=[-1] * 4)]), r"pads=-1 is illegal"),
    "auto_pad": (model([node("Conv", "x w", auto_pad="SAME")], [WEIGHTS]), r"auto_pad='SAME' is illegal; .*SAME_UPPER"),
    "groups": (model([node("Conv", "x w", group=2)], [WEIGHTS]), r"Conv 'y' does not fit its inputs of 1 x 3 x 8 x 8"),
    "group 0": (model([node("Conv", "x w", group=0)], [WEIGHTS]), r"Conv 'y': group=0 is illegal"),
    "window too large": (model([node("MaxPool", kernel_shape=[9, 9])]), r"MaxPool 'y' does not fit its inputs"),
    "channels": (
        model([node("Conv", "x w")], [weights("w", 4, 2, 3, 3)]),
        r"Conv 'y' does not fit its inputs of 1 x 3",
    ),
    "biases": (
        model([node("Conv", "x w b")], [WEIGHTS, weights("b", 5)]),
        r"Conv 'y': biases of 5 are illegal: they must be 4",
    ),
    "kernel": (model([node("Conv", "x w", kernel_shape=[2, 2])], [WEIGHTS]), r"kernel_shape=\(2, 2\) is illegal for"),
    "dimensions": (model([node("Conv", "x w")], [weights("w", 4, 3, 1, 1, 1, 1)]), r"4 dimensions of a window are ill"),
    "product": (
        model([node("MatMul", "x w")], [weights("w", 7, 2)]),
        r"MatMul 'y' does not fit .* 1 x 3 x 8 x 8 and 7 x 2",
    ),
    "sum": (model([node("Add", "x w")], [weights("w", 5)]), r"Add 'y' does not fit its inputs of 1 x 3 x 8 x 8 and 5"),
    "statistics": (
        model([node("BatchNormalization", "x a a a b")], [weights("a", 3), weights("b", 2)]),
        r"BatchNormalization 'y' does not fit",
    ),
    "statistics, sizes open": (
        model([node("BatchNormalization", "x a a a b")], [weights("a", 3), weights("b", 2)], inputs=[("x", ["n"] * 4)]),
        r"BatchNormalization 'y': vectors of 3 and 3 and 3 and 2 are illegal",
    ),
    "biases, sizes open": (
        model([node("Conv", "x w b")], [WEIGHTS, weights("b", 1)], inputs=[("x", ["n"] * 4)]),
        r"Conv 'y': biases of 1 are illegal: they must be 4",
    ),
    "reshape": (
        model([node("Reshape", "x s")], [numpy_helper.from_array(np.array([5, -1]), "s")]),
        r"Reshape 'y' does not fit its inputs of 1 x 3 x 8 x 8 and 2",
    ),
    "permutation": (model([node("Transpose", perm=[0, 0, 1, 2])]), r"Transpose 'y' does not fit"),
    "axis": (model([node("Softmax", axis=7)]), r"Softmax 'y': axis=7 is illegal for 4 dimensions"),
    "squeeze": (model([node("Squeeze", axes=[1])], opset=11), r"Squeeze 'y': axes=\[1\] is illegal"),
    "split": (model([node("Split", "x", "y z", axis=1, split=[1, 1])], opset=11), r"Split 'y' does not fit"),
    "upsample": (model([node("Upsample", scales=[1.0, 1.0])], opset=7), r"Upsample 'y': 2 scales or sizes are illegal"),
    **{
        f"a scale of {scale}": (
            model([node("Upsample", scales=[1.0, 1.0, scale, 1.0])], opset=7),
            r"Upsample 'y': scales=\[.*\] is illegal: they must be > 0 and < 2147483648",
        )
        for scale in (0.0, -1.0, float("nan"), float("inf"), 3e38)
    },
    "numbers of two dimensions": (
        model(
            [node("Range", "a b a", "r"), node("Add", "x r")],
            [numpy_helper.from_array(np.array(v), n) for v, n in (([[1]], "a"), ([[9]], "b"))],
        ),
        r"it cannot be computed from constants: Range 'r' needs the numbers of 'a', 'b': tensors without values",
    ),
    "mode": (model([node("Upsample", mode="areal", scales=[1.0, 1, 2, 2])], opset=7), r"mode='areal' is illegal"),
    "inputs": (model([node("Relu", "x x")]), r"Relu 'y' has 2 inputs: it must have 1"),
    "input left out": (model([node("Conv", " w")], [WEIGHTS]), r"Conv 'y' has 2 inputs: it must have 2 to 3"),
    "outputs": (model([node("Relu", "x", "y z")]), r"Relu 'y' has 2 outputs: it must have 1"),
    "output unnamed": (model([node("Relu", "x", "")]), r"a node 'Relu' has no output"),
    "circle": (
        model([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b")]),
        r"these operators feed each other: (a -> b -> a|b -> a -> b)",
    ),
    "its own output": (model([node("Add", "x y")]), r"these operators feed each other: y -> y"),
    "nothing makes it": (model([node("Relu", "z")]), r"Relu 'y' takes 'z', which nothing makes"),
    "output of nothing": (model([node("Relu")], outputs=["yy"]), r"output 'yy' is made by nothing; did you mean 'y'"),
    "made twice": (model([node("Relu"), node("Abs")]), r"two tensors have the name 'y'"),
    "two weights of one name": (model([node("Conv", "x w")], [WEIGHTS, WEIGHTS]), r"two tensors have the name 'w'"),
    "input made again": (model([node("Relu", "x", "x")]), r"two tensors have the name 'x'"),
    "two inputs": (
        model([node("Add", "x z")], inputs=[X, ("z", [1])]),
        r"it has 2 inputs: x, z; a network has one here",
    ),
    "no input": (model([node("Relu", "w")], [WEIGHTS]), r"output 'y' is a constant"),
    "input handed on": (model([node("Relu")], outputs=["x"]), r"output 'x' is an input"),
    "sizes lie": (model([node("Conv", "x w")], [lying(4, 3, 3, 3)]), r"tensor 'w' is damaged"),
    "sizes lie much": (model([node("Conv", "x w")], [lying(2**40, 2**20)]), r"tensor 'w' is damaged"),
    "sizes below 0": (model([node("Conv", "x w")], [lying(-1, -4)]), r"tensor 'w' is damaged|'w' of \[-1"),
    "text": (model([node("Conv", "x w")], [typed(TensorProto.STRING)]), r"tensor 'w' is refused: it holds text"),
    "complex": (
        model([node("Conv", "x w")], [typed(TensorProto.COMPLEX64)]),
        r"'w' is refused: it holds complex numbers",
    ),
    "few bits": (model([node("Conv", "x w")], [typed(TensorProto.FLOAT8E4M3FN)]), r"it holds numbers of few bits"),
    "no type": (model([node("Conv", "x w")], [typed(0)]), r"it holds no type"),
    "sparse outside": (with_sparse(sparse([1.0], [999], [4, 3, 3, 3])), r"sparse tensor 'w' is damaged"),
    "sparse too many": (with_sparse(sparse([1.0, 2.0], [5], [4, 3, 3, 3])), r"sparse tensor 'w' is damaged"),
    "sparse and huge": (with_sparse(sparse([1.0], [0], [2**31, 2**31])), r"sparse tensor 'w' of .* is refused"),
    "a constant that is huge": (
        model(
            [node("ConstantOfShape", "s", "c"), node("Add", "x c")],
            [numpy_helper.from_array(np.array([2**40]), "s")],
        ),
        r"ConstantOfShape 'c': a tensor of 1099511627776 is refused",
    ),
    "an output that is huge": (
        model([node("Tile", "x s")], [numpy_helper.from_array(np.array([1, 2**30, 1, 1]), "s")]),
        r"Tile 'y' is refused: its output of 1 x 3221225472 x 8 x 8 has more than",
    ),
    "an input of no size": (model([node("Relu")], inputs=[("x", [])]), r"input 'x' is a single number"),
    "a Range of step 0": (
        model(
            [node("Range", "a b c", "r"), node("Add", "x r")],
            [numpy_helper.from_array(np.array(v), n) for v, n in ((0, "a"), (8, "b"), (0, "c"))],
        ),
        r"Range 'r': delta=0 is illegal",
    ),
    "an input that is huge": (
        model([node("Relu")], inputs=[("x", [1, 3, 2**40, 2**40])]),
        r"input 'x' of \[1, 3, 1099511627776, 1099511627776\] is refused: it has more than",
    ),
    "an input that is large": (
        model([node("Relu")], inputs=[("x", [1, 3, 2**20, 2**20])]),
        r"input 'x' of \[1, 3, 1048576, 1048576\] is refused: it has more than",
    ),
    **{
        f"sizes that grow without end by {op}": (
            model([node("Shape", "x", "s0"), *growing, node("Reshape", "x s40")]),
            rf"{op} 's\d+': a number of \d\d+ bits is illegal",
        )
        for op, growing in {
            "Mul": [node("Mul", f"s{i} s{i}", f"s{i + 1}") for i in range(40)],
            "ReduceProd": [
                one
                for i in range(0, 40, 2)
                for one in (
                    node("Concat", f"s{i} s{i}", f"s{i + 1}", axis=0),
                    node("ReduceProd", f"s{i + 1}", f"s{i + 2}"),
                )
            ],
        }.items()
    },
    "a type to cast to": (model([node("Cast", to=TensorProto.STRING)]), r"Cast 'y': ONNX's type 8 is refused"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_and_the_node_is_named(name, tmp_path):
    made, message = BROKEN[name]
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(WrongValue, match=message) as refused:
        DeepNetCell.load_from_ONNX(None, tmp_path / "net.onnx")
    assert str(refused.value).startswith(f"{tmp_path / 'net.onnx'} cannot be read as a network: ")
    assert len(str(refused.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not a network", b"\0" * 1000, b"\x08\x07"])
def test_a_file_that_is_no_onnx_is_refused(content, tmp_path):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(WrongValue, match=r"net\.onnx cannot be read as a network"):
        read_graph(tmp_path / "net.onnx")


def test_tensors_in_files_of_their_own(tmp_path):
    path = tmp_path / "net.onnx"
    made = model([node("Conv", "x w")], [weights("w", 40, 3, 3, 3)])
    onnx.save(made, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert read_graph(path).constants["w"].shape == (40, 3, 3, 3)
    whole = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(whole[:100])
    with pytest.raises(WrongValue, match=r"net\.onnx cannot be read as a network: .*"):
        read_graph(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(WrongValue, match=r"net\.onnx cannot be read as a network: .*weights\.bin"):
        read_graph(path)


def test_tensors_outside_of_the_folder_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(b"\0" * 432)
    (tmp_path / "in").mkdir()
    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3, 3, 3], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="../secret")
    (tmp_path / "in" / "net.onnx").write_bytes(model([node("Conv", "x w")], [outside]).SerializeToString())
    with pytest.raises(WrongValue, match="cannot be read as a network"):
        read_graph(tmp_path / "in" / "net.onnx")


def test_whatever_happens_to_its_bytes_a_file_is_read_or_refused(tmp_path):
    files = [made.SerializeToString() for made, _ in BROKEN.values()]
    files += [model([node("Conv", "x w", "a"), node("Relu", "a")], [WEIGHTS]).SerializeToString()] * 20
    draw = random.Random(0)  # noqa: S311 - no secret
    path, refused = tmp_path / "net.onnx", 0
    for _ in range(300):
        content = bytearray(draw.choice(files))
        for _ in range(draw.choice([1, 1, 2, 5])):
            place = draw.randrange(len(content))
            if draw.random() < 0.7:
                content[place] = draw.choice([0, 1, 127, 128, 255, draw.randrange(256)])
            else:
                del content[place : place + draw.randrange(1, 9)]
        path.write_bytes(content)
        try:
            DeepNetCell.load_from_ONNX(None, path)
        except WrongValue:
            refused += 1
    assert refused > 100


def test_a_sparse_initializer_is_read_in_both_ways_of_writing_positions(tmp_path):
    flat = sparse([1.0, 2.0, 3.0], [0, 40, 107], [4, 3, 3, 3])
    rows = sparse([1.0, 2.0, 3.0], [[0, 0, 0, 0], [1, 1, 1, 1], [3, 2, 2, 2]], [4, 3, 3, 3])
    for number, tensor in enumerate((flat, rows)):
        onnx.save(with_sparse(tensor), tmp_path / f"{number}.onnx")
    first, second = (read_graph(tmp_path / f"{number}.onnx").constants["w"] for number in (0, 1))
    assert torch.equal(first, second)
    assert first.count_nonzero() == 3


@pytest.mark.parametrize(
    "name", ["w", "a.b", "a/b", "/conv/weight", "Größe", "x y", "training", "onnx::Conv_12", ".", "0"]
)
def test_tensors_may_have_any_name(name, tmp_path):
    made = model(
        [helper.make_node("Conv", ["x", name], [f"{name}!"])], [weights(name, 4, 3, 3, 3)], outputs=[f"{name}!"]
    )
    onnx.save(made, tmp_path / "net.onnx")
    net = DeepNetCell.load_from_ONNX(None, tmp_path / "net.onnx")
    assert isinstance(net[f"{name}!"], Conv)
    assert net(torch.ones(2, 3, 8, 8))[0, 0, 0, 0] == 27


def test_nodes_in_any_order_and_idle_ones(tmp_path):
    nodes = [node("Relu", "b"), node("Abs", "x", "idle"), node("Neg", "a", "b"), node("Conv", "x w", "a")]
    onnx.save(model(nodes, [WEIGHTS]), tmp_path / "net.onnx")
    assert [one.op for one in read_graph(tmp_path / "net.onnx").nodes] == ["Conv", "Neg", "Relu"]


def test_constants_are_computed_once(tmp_path):
    nodes = [
        node("Transpose", "w", "t", perm=[0, 1, 3, 2]),
        node("Constant", "", "c", value_float=2.0),
        node("Mul", "t c", "m"),
        node("Conv", "x m"),
    ]
    onnx.save(model(nodes, [WEIGHTS]), tmp_path / "net.onnx")
    net = DeepNetCell.load_from_ONNX(None, tmp_path / "net.onnx")
    assert [type(cell) for cell in net] == [Conv]
    assert (net["y"].weight == 2).all()


def test_initializers_may_stand_among_the_inputs_as_old_files_have_them(tmp_path):
    onnx.save(model([node("Conv", "x w")], [WEIGHTS], inputs=[X, ("w", [4, 3, 3, 3])], opset=7), tmp_path / "net.onnx")
    assert read_graph(tmp_path / "net.onnx").input == "x"


def test_older_versions_are_converted(tmp_path):
    onnx.save(model([node("Relu", "x", "a"), node("Add", "a w")], [weights("w", 8)], opset=6), tmp_path / "net.onnx")
    net = DeepNetCell.load_from_ONNX(None, tmp_path / "net.onnx")
    assert torch.equal(net(torch.ones(1, 3, 8, 8)), torch.full((1, 3, 8, 8), 2.0))


def test_functions_of_the_file_are_read_as_what_they_do(tmp_path):
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    function = helper.make_function("own", "ReluNeg", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
    made = model([helper.make_node("ReluNeg", ["x"], ["y"], domain="own")], domain="own")
    made.functions.append(function)
    onnx.save(made, tmp_path / "net.onnx")
    assert torch.equal(
        DeepNetCell.load_from_ONNX(None, tmp_path / "net.onnx")(torch.ones(1, 3, 8, 8)), -torch.ones(1, 3, 8, 8)
    )


def test_what_is_ignored_must_be_there_and_at_the_end(tmp_path):
    onnx.save(model([node("Relu", "x", "a"), node("Neg", "a", "b"), node("Abs", "b")]), tmp_path / "net.onnx")
    for ignore, message in (
        (["yy"], r"ignore='yy' is illegal; did you mean 'y'"),
        (["b"], r"ignore='b' is illegal: 'y' takes"),
    ):
        with pytest.raises(WrongValue, match=message):
            read_graph(tmp_path / "net.onnx", ignore=ignore)
    with pytest.raises(WrongInputType, match="ignore='y' is illegal: it must be a list of texts"):
        read_graph(tmp_path / "net.onnx", ignore="y")
    assert read_graph(tmp_path / "net.onnx", ignore=["b", "y"]).outputs == ("a",)
    with pytest.raises(WrongValue, match=re.escape("nothing comes out of it")):
        read_graph(tmp_path / "net.onnx", ignore=["a", "b", "y"])
