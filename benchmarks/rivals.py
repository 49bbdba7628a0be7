"""Layers and models as the speed benchmarks compare them: dense in other programs, and sparse.

ONNX Runtime cannot be kept from AVX-512. So where torch is limited by ONEDNN_MAX_CPU_ISA, it takes no part.
"""

import copy
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from torch import Tensor, nn

from prunecell.sparse.compress import compress
from prunecell.sparse.layers import SparseConvolution, SparseLinear

SPARSITIES = (0.9, 0.95)
HOT: Any = {"warm": 4, "patience": 4.0}  # caches are, when a call is timed; and nobody waits long for slow rivals
IS_LIMITED = "ONEDNN_MAX_CPU_ISA" in os.environ
Task = Callable[[], object]


def thinned(model: nn.Module, sparsity: float) -> nn.Module:
    """The model with the smallest weights of every matrix set to zero, in place."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1 and sparsity:
                flat = weight.abs().flatten()
                weight[weight.abs() <= flat.kthvalue(round(sparsity * len(flat))).values] = 0
    return model.eval()


def sparse_of(layer: nn.Module) -> nn.Module:
    matrix = compress(layer.get_parameter("weight"))
    if isinstance(layer, nn.Conv2d):
        return SparseConvolution(matrix, layer.bias, layer)
    return SparseLinear(matrix, layer.get_parameter("bias"), dtype=layer.get_parameter("weight").dtype)


def in_a_row(layers: list[nn.Module], kind: type[nn.Sequential] = nn.Sequential) -> nn.Module:
    return layers[0] if len(layers) == 1 else kind(*layers)


def calling(model: nn.Module, x: Tensor) -> Task:
    return partial(model, x)


def copies(layer: nn.Module, n: int) -> list[nn.Module]:
    return [layer, *(copy.deepcopy(layer) for _ in range(n - 1))]


def best_dense(times: Mapping[str, float]) -> float:
    return min(times[name] for name in ("torch", "onnxruntime", "openvino") if name in times)


def onnx_of(layers: list[nn.Module]) -> bytes:
    """Dense layers, one after the other, as an ONNX model."""
    nodes, parameters = [], []
    for i, layer in enumerate(layers):
        names = [f"x{i}", f"weight{i}", f"bias{i}"]
        if isinstance(layer, nn.Conv2d):
            pads = [*layer.padding, *layer.padding]
            how: Any = {"pads": pads, "strides": [*layer.stride], "group": layer.groups}
            nodes.append(helper.make_node("Conv", names, [f"x{i + 1}"], **how))
        else:
            nodes.append(helper.make_node("Gemm", names, [f"x{i + 1}"], transB=1))
        parameters += [numpy_helper.from_array(p.detach().numpy(), f"{n}{i}") for n, p in layer.named_parameters()]
    rank = layers[0].get_parameter("weight").ndim
    shapes = ([f"{end}{axis}" for axis in range(rank)] for end in "xy")
    ends: Any = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in zip(("x0", f"x{len(layers)}"), shapes, strict=True)
    ]
    x, y = ends
    graph = helper.make_graph(nodes, "layers", x, y, parameters)
    opset = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString())


def in_onnxruntime(layers: list[nn.Module], x: Tensor) -> Task:
    return _running(onnx_of(layers), {"x0": x.numpy()})


def _running(model: Any, feed: Mapping[str, Any]) -> Task:  # noqa: ANN401 - bytes or a path
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)


def in_openvino(layers: list[nn.Module], x: Tensor) -> Task | None:
    try:
        import openvino  # noqa: PLC0415 - not everybody has it
    except ImportError:
        return None
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    model = openvino.Core().read_model(onnx_of(layers))
    model.reshape(list(x.shape))
    request = openvino.compile_model(model, "CPU", options).create_infer_request()
    array = x.numpy()
    return lambda: request.infer([array], share_inputs=True)


def in_onnxruntime_int8(layer: nn.Module, x: Tensor) -> Task:
    """A dense layer whose inputs ONNX Runtime quantises, all samples together, by a scale of each row of weights."""
    with tempfile.TemporaryDirectory() as folder:
        dense, small = Path(folder) / "dense.onnx", Path(folder) / "int8.onnx"
        dense.write_bytes(onnx_of([layer]))
        quantize_dynamic(dense, small, per_channel=True)
        return _running(small, {"x0": x.numpy()})


def exported(model: nn.Module, x: Tensor) -> Task:
    """A dense model in ONNX Runtime."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), file, dynamo=False, input_names=["x"])  # type: ignore[arg-type] # it takes files
    return _running(file.getvalue(), {"x": x.numpy()})
