"""How fast sparse layers and models are on the CPU, beside the dense ones of torch, ONNX Runtime and OpenVINO.

    python benchmarks/runtime_speed.py [WORD ...]

Tables of layers, of layers of bfloat16, of a sweep over sparsities, of int8 arithmetic, of whole models, and of
threads; with words, only the rows whose name has one of them ("bfloat16", "sweep", "int8" or "threads" stands before
the names in these tables). Everything takes turns in one process, on one thread and one core but for the table of
threads; times are medians of calls after others of the same task, when caches are hot. "cold": a layer inside a model
of so many, one after the other, that its weights are in no cache when its turn comes. A ratio is the time of the
fastest dense float32 over the sparse one's, copies included. "asked" is what the project wants to reach. OpenVINO
runs where it is installed.

"limit" is what the machine allows: for many samples the entries of the matrix at the rate of a small matrix whose
inputs stay in the first-level cache; for one sample the same for a small vector; cold, at least the bytes of the packed
matrix at the bandwidth of memory. All three are measured at the beginning.
"""

import copy
import io
import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from measure import interleaved, one_core
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from torch import Tensor, nn
from torch.nn import functional as F

from prunecell.errors import NothingSparseWarning
from prunecell.graph import fold_batchnorm_
from prunecell.sparse.compress import compress
from prunecell.sparse.convert import compact_
from prunecell.sparse.joints import SparseSequential
from prunecell.sparse.layers import SparseConvolution, SparseLinear

SPARSITIES = (0.9, 0.95)
HOT: Any = {"warm": 4, "patience": 4.0}  # caches are, when a call is timed; and nobody waits long for slow rivals
Task = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layer and its input."""

    make: Callable[[], nn.Module]
    x: tuple[int, ...]
    asked: tuple[float, float] = (0, 0)
    deepsparse: float | None = None  # at 90 %, measured in 2025 on a machine like ours
    n_layers: int = 1  # one after the other
    rounds: int = 60


def linear(size: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(size, size)


def conv(channels: int, out: int, kernel: int) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(channels, out, kernel, padding=kernel // 2)


LAYERS = {
    "linear 1024, batch 1": Row(make=linear(1024), x=(1, 1024), asked=(6, 9), rounds=300),
    "linear 1024, batch 1, cold": Row(make=linear(1024), x=(1, 1024), asked=(8, 16), n_layers=200, rounds=20),
    "linear 1024, batch 64": Row(make=linear(1024), x=(64, 1024), asked=(5.3, 8.5), deepsparse=3.4, rounds=100),
    "linear 1024, batch 256": Row(make=linear(1024), x=(256, 1024), asked=(5.3, 8), rounds=50),
    "linear 4096, batch 1": Row(make=linear(4096), x=(1, 4096), asked=(8, 15), deepsparse=4.0),
    "linear 4096, batch 64": Row(make=linear(4096), x=(64, 4096), asked=(7.5, 12.5), deepsparse=5.3, rounds=15),
    "conv 3x3 64-64, 32x32": Row(make=conv(64, 64, 3), x=(1, 64, 32, 32), asked=(5, 7.5), deepsparse=4.8, rounds=150),
    "conv 3x3 256-256, 14x14": Row(make=conv(256, 256, 3), x=(1, 256, 14, 14), asked=(5.2, 8.3), rounds=100),
    "conv 3x3 128-128, 28x28": Row(make=conv(128, 128, 3), x=(1, 128, 28, 28), asked=(4.8, 7.5), rounds=100),
    "conv 1x1 256-1024, 14x14": Row(
        make=conv(256, 1024, 1), x=(1, 256, 14, 14), asked=(5, 7.8), deepsparse=3.0, rounds=150
    ),
}
HALVES = {
    "linear 4096, batch 1, cold": Row(make=linear(4096), x=(1, 4096), asked=(4.5, 0), n_layers=16, rounds=15),
    "linear 4096, batch 16, cold": Row(make=linear(4096), x=(16, 4096), asked=(3.8, 0), n_layers=16, rounds=10),
    "linear 4096, batch 64, cold": Row(make=linear(4096), x=(64, 4096), asked=(3, 0), n_layers=16, rounds=6),
    "linear 4096, batch 1": Row(make=linear(4096), x=(1, 4096)),
    "linear 4096, batch 16": Row(make=linear(4096), x=(16, 4096), rounds=30),
    "linear 4096, batch 64": Row(make=linear(4096), x=(64, 4096), rounds=15),
    "linear 1024, batch 1": Row(make=linear(1024), x=(1, 1024), rounds=300),
    "linear 1024, batch 64": Row(make=linear(1024), x=(64, 1024), rounds=100),
    "conv 3x3 128-128, 28x28": Row(make=conv(128, 128, 3), x=(1, 128, 28, 28), rounds=60),
    "conv 1x1 256-1024, 14x14": Row(make=conv(256, 1024, 1), x=(1, 256, 14, 14), rounds=100),
}
SWEEP = {
    **{f"linear {n}, batch {b}": (linear(n), (b, n)) for n in (256, 1024, 2048) for b in (1, 16, 128)},
    **{f"conv 3x3 {c}-{c}, 16x16, batch {b}": (conv(c, c, 3), (b, c, 16, 16)) for c in (16, 64, 256) for b in (1, 8)},
    **{f"conv 1x1 {c}-{c}, 16x16, batch {b}": (conv(c, c, 1), (b, c, 16, 16)) for c in (64, 256) for b in (1, 8)},
}
INT8 = {f"linear {n}, batch {b}": (n, b) for n in (1024, 4096) for b in (1, 64)}
SWEPT = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
THREADS = (
    *("linear 4096, batch 1", "linear 4096, batch 64", "linear 1024, batch 64"),
    *("conv 3x3 64-64, 32x32", "conv 3x3 256-256, 14x14"),
)


# ---- rivals ----------------------------------------------------------------------------------------------------------


def thinned(model: nn.Module, sparsity: float) -> nn.Module:
    """The model with the smallest weights of every matrix set to zero, in place."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1 and sparsity:
                flat = weight.abs().flatten()
                weight[weight.abs() <= flat.kthvalue(round(sparsity * len(flat))).values] = 0
    return model.eval()


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
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    session = onnxruntime.InferenceSession(onnx_of(layers), options, providers=["CPUExecutionProvider"])
    feed = {"x0": x.numpy()}
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


def sparse_of(layer: nn.Module) -> nn.Module:
    matrix = compress(layer.get_parameter("weight"))
    if isinstance(layer, nn.Conv2d):
        return SparseConvolution(matrix, layer.bias, layer)
    return SparseLinear(matrix, layer.get_parameter("bias"), dtype=layer.get_parameter("weight").dtype)


def in_a_row(layers: list[nn.Module], kind: type[nn.Sequential] = nn.Sequential) -> nn.Module:
    return layers[0] if len(layers) == 1 else kind(*layers)


def calling(model: nn.Module, x: Tensor) -> Task:
    return partial(model, x)


def tasks_of(row: Row) -> dict[str, Task]:
    """Every way to compute a row."""
    x = torch.randn(row.x)
    layers = [row.make().eval() for _ in range(row.n_layers)]
    dense = in_a_row(layers)
    tasks = {
        "torch": calling(dense, x),
        "bf16": calling(copy.deepcopy(dense).bfloat16(), x.bfloat16()),
        "onnxruntime": in_onnxruntime(layers, x),
    }
    if (task := in_openvino(layers, x)) is not None:
        tasks["openvino"] = task
    for sparsity in SPARSITIES:
        sparse = [sparse_of(thinned(copy.deepcopy(layer), sparsity)) for layer in layers]
        tasks[f"{sparsity}"] = calling(in_a_row(sparse, SparseSequential), x)
    return tasks


def measured(row: Row) -> dict[str, float]:
    """Median seconds of a layer, computed in every way."""
    with torch.inference_mode():
        times = interleaved(tasks_of(row), row.rounds, **HOT)
    return {name: time / row.n_layers for name, time in times.items()}


def best_dense(times: Mapping[str, float]) -> float:
    return min(times[name] for name in ("torch", "onnxruntime", "openvino") if name in times)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the machine allows.

    Attributes:
        of_many: seconds for an entry times 64 samples.
        of_one: seconds for an entry times one sample.
        memory: bytes a second that are read from memory.
    """

    of_many: float
    of_one: float
    memory: float

    @classmethod
    def of_this_machine(cls) -> "Limits":
        """Measure them: matrices of 64 rows that take part of the first-level cache, and a sum over 1 GiB."""
        small = sparse_of(thinned(nn.Linear(128, 64), 0.5))
        larger = sparse_of(thinned(nn.Linear(128, 1024), 0.5))
        big = torch.ones(1 << 28)
        tasks: dict[str, Task] = {"memory": big.sum}
        for n in (1, 64):
            x = torch.randn(n, 128)
            tasks |= {f"small {n}": calling(small, x), f"larger {n}": calling(larger, x)}
        with torch.inference_mode():
            times = interleaved(tasks, 20, warm=2)
        entries = 0.5 * 128 * (1024 - 64)
        of_one, of_many = ((times[f"larger {n}"] - times[f"small {n}"]) / entries for n in (1, 64))
        return cls(of_many=of_many, of_one=of_one, memory=big.nbytes / times["memory"])

    def seconds(self, row: Row, sparsity: float) -> float:
        """The least that a layer can take."""
        layer = row.make()
        n_entries = (1 - sparsity) * layer.get_parameter("weight").numel()
        n_positions = row.x[0] * math.prod(row.x[2:])
        if n_positions > 1:
            return n_entries * n_positions / 64 * self.of_many
        return max(n_entries * self.of_one, (n_entries * 5 / self.memory) if row.n_layers > 1 else 0.0)


def layer_table(rows: Mapping[str, Row]) -> None:
    limits = Limits.of_this_machine()
    print(
        f"an entry times 64 samples {limits.of_many * 1e9:.2f} ns, times one {limits.of_one * 1e9:.2f} ns, "
        f"memory {limits.memory / 1e9:.1f} GB/s"
    )
    rivals = ("torch", "onnxruntime", "openvino", "bf16")
    heads = "".join(f"{head:>12}" for head in (*rivals, "90 %", "95 %"))
    print(f"{'microseconds':28}{heads}   {'limit':13}{'ratio':13}{'asked':13}{'over bf16':17}DeepSparse at 90 %")
    for name, row in rows.items():
        times = measured(row)
        cells = "".join(f"{times[rival] * 1e6:12.0f}" if rival in times else f"{'-':>12}" for rival in rivals)
        sparse = [times[f"{sparsity}"] for sparsity in SPARSITIES]
        cells += "".join(f"{time * 1e6:12.0f}" for time in sparse)
        ratios = " / ".join(f"{best_dense(times) / time:.1f}" for time in sparse)
        asked = " / ".join(f"{ratio:g}" for ratio in row.asked) if any(row.asked) else ""
        over_half = " / ".join(f"{times['bf16'] / time:.1f}" for time in sparse)
        limit = " / ".join(f"{limits.seconds(row, sparsity) * 1e6:.0f}" for sparsity in SPARSITIES)
        print(f"{name:28}{cells}   {limit:13}{ratios:13}{asked:13}{over_half:17}{row.deepsparse or ''}", flush=True)


def half_table(rows: Mapping[str, Row]) -> None:
    """Layers of bfloat16, of which the weights are the same where there are several: each is in memory of its own."""
    heads = "".join(f"{head:>12}" for head in ("torch, fp32", "torch, bf16", "90 %", "95 %"))
    print(f"\n{'microseconds, bfloat16':28}{heads}   {'over torch':13}asked at 90 %")
    for name, row in rows.items():
        layer, x = row.make().eval(), torch.randn(row.x)
        half, half_x = copy.deepcopy(layer).bfloat16(), x.bfloat16()
        dense = {"fp32": (layer, x), "bf16": (half, half_x)}
        tasks = {rival: calling(in_a_row(copies(of, row.n_layers)), given) for rival, (of, given) in dense.items()}
        for sparsity in SPARSITIES:
            sparse = sparse_of(thinned(copy.deepcopy(layer), sparsity).bfloat16())
            tasks[f"{sparsity}"] = calling(in_a_row(copies(sparse, row.n_layers), SparseSequential), half_x)
        with torch.inference_mode():
            times = interleaved(tasks, row.rounds, **HOT)
        cells = "".join(f"{time / row.n_layers * 1e6:12.0f}" for time in times.values())
        ratios = " / ".join(f"{times['bf16'] / times[f'{sparsity}']:.1f}" for sparsity in SPARSITIES)
        print(f"{name:28}{cells}   {ratios:13}{row.asked[0] or ''}", flush=True)


def copies(layer: nn.Module, n: int) -> list[nn.Module]:
    return [layer, *(copy.deepcopy(layer) for _ in range(n - 1))]


def sweep_table(rows: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]) -> None:
    print("\nwhat compact_ makes of a layer, as times of the dense one; asked <= 1.05. d: it stays dense")
    print(f"{'at sparsity':34}{''.join(f'{sparsity:9.0%}' for sparsity in SWEPT)}")
    for name, (make, shape) in rows.items():
        dense, x = make().eval(), torch.randn(shape)
        tasks: dict[str, Task] = {"dense": calling(dense, x)}
        kept_dense = set()
        for sparsity in SWEPT:
            small = compact_(thinned(copy.deepcopy(dense), sparsity))
            tasks[f"{sparsity}"] = calling(small, x)
            kept_dense |= {sparsity} if isinstance(small, nn.Linear | nn.Conv2d) else set()
        with torch.inference_mode():
            times = interleaved(tasks, 40, **HOT)
        marks = ((times[f"{s}"] / times["dense"], "d" if s in kept_dense else " ") for s in SWEPT)
        print(f"{name:34}{''.join(f'{ratio:8.2f}{mark}' for ratio, mark in marks)}", flush=True)


def in_blocks(layer: nn.Linear, sparsity: float) -> nn.Linear:
    """The layer with the blocks of 1 x 4 weights that have the smallest sums of magnitudes set to zero, in place."""
    with torch.no_grad():
        sums = layer.weight.abs().unflatten(1, (-1, 4)).sum(2)
        kept = sums > sums.flatten().kthvalue(round(sparsity * sums.numel())).values
        layer.weight *= kept.repeat_interleave(4, 1)
    return layer


def in_onnxruntime_int8(layer: nn.Module, x: Tensor) -> Task:
    """A dense layer whose inputs ONNX Runtime quantises, all samples together, by a scale of each row of weights."""
    with tempfile.TemporaryDirectory() as folder:
        dense, small = Path(folder) / "dense.onnx", Path(folder) / "int8.onnx"
        dense.write_bytes(onnx_of([layer]))
        quantize_dynamic(dense, small, per_channel=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
        session = onnxruntime.InferenceSession(small, options, providers=["CPUExecutionProvider"])
    feed = {"x0": x.numpy()}
    return lambda: session.run(None, feed)


def difference(layer: nn.Linear, y: Tensor, x: Tensor) -> str:
    """How far results are from those in float32: the length of the difference over theirs, and the least cosine."""
    expected = layer(x) - layer.bias
    error = float(((y - layer.bias - expected).norm() / expected.norm()).detach())
    return f"{error:.4f} {float(F.cosine_similarity(y - layer.bias, expected).min().detach()):.5f}"


def int8_table(rows: Mapping[str, tuple[int, int]]) -> None:
    """Weights in blocks of 1 x 4 and inputs, both normal."""
    heads = [f"{head} {sparsity:.0%}" for sparsity in SPARSITIES for head in ("float", "1 x 4", "single")]
    print(
        f"\n{'int8, microseconds':24}{''.join(f'{head:>12}' for head in ('torch', 'onnxruntime', 'ort int8', *heads))}"
    )
    print(
        f"{'':24}float: sparse float32 of single weights; 1 x 4, single: int8 arithmetic with weights in blocks, or not"
    )
    for name, (size, batch) in rows.items():
        dense, x = nn.Linear(size, size).eval(), torch.randn(batch, size)
        tasks: dict[str, Task] = {
            "torch": calling(dense, x),
            "onnxruntime": in_onnxruntime([dense], x),
            "ort int8": in_onnxruntime_int8(dense, x),
        }
        errors = {}
        for sparsity in SPARSITIES:
            single = thinned(copy.deepcopy(dense), sparsity)
            blocks = in_blocks(copy.deepcopy(dense), sparsity)
            tasks[f"float {sparsity}"] = calling(sparse_of(single), x)
            for kind, layer in (("1 x 4", blocks), ("single", single)):
                matrix = compress(layer.get_parameter("weight"), values="int8")
                small = SparseLinear(matrix, layer.get_parameter("bias"), activations="int8")
                tasks[f"{kind} {sparsity}"] = calling(small, x)
                errors[f"{kind} {sparsity:.0%}"] = difference(layer, small(x), x)  # type: ignore[arg-type] # it is linear
        with torch.inference_mode():
            times = interleaved(tasks, 100 if size < 4096 else 20, **HOT)
        print(f"{name:24}{''.join(f'{time * 1e6:12.0f}' for time in times.values())}", flush=True)
        dense_y = torch.from_numpy(tasks["ort int8"]()[0])  # type: ignore[index] # a list of arrays
        print(f"{'  error, cosine':24}ort int8 {difference(dense, dense_y, x)}", end="")
        print("".join(f"; {kind} {error}" for kind, error in errors.items()))


def on(n_threads: int, task: Task) -> Task:
    """The task on so many threads."""

    def run() -> None:
        torch.set_num_threads(n_threads)
        task()

    return run


def thread_table(rows: Mapping[str, Row]) -> None:
    """Each task takes turns with itself only: torch's threads wait for work so busily that they hold a core."""
    print(f"\n{'two threads, times one thread':34}{'90 %':>12}{'95 %':>12}{'torch':>12}   asked 1.85")
    for name, row in rows.items():
        tasks, ratios = tasks_of(row), []
        with torch.inference_mode():
            for task in (tasks["0.9"], tasks["0.95"], tasks["torch"]):
                times = interleaved({str(n): on(n, task) for n in (1, 2)}, row.rounds, **HOT)
                ratios.append(times["1"] / times["2"])
        print(f"{name:34}{''.join(f'{ratio:12.2f}' for ratio in ratios)}", flush=True)
    torch.set_num_threads(1)


# ---- whole models ----------------------------------------------------------------------------------------------------


def lenet() -> nn.Module:
    """LeNet-5 as in Caffe: 431,000 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = (
            nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            if stride > 1 or channels != out
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same with `out` channels, each side over the stride."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet18() -> nn.Module:
    """ResNet-18 for inputs of 32 x 32: 11 million weights."""
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        *(Block(*width) for width in [*widths, (512, 512, 1)]),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)),
    )


def minilm() -> nn.Module:
    """The encoder of all-MiniLM-L6: 6 layers, 384 features, 12 heads, 10.6 million weights."""
    layer = nn.TransformerEncoderLayer(384, 12, 1536, activation="gelu", batch_first=True)
    return nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "LeNet-5, batch 1": (lenet, (1, 1, 28, 28)),
    "LeNet-5, batch 64": (lenet, (64, 1, 28, 28)),
    "ResNet-18 32x32, batch 1": (resnet18, (1, 3, 32, 32)),
    "ResNet-18 32x32, batch 16": (resnet18, (16, 3, 32, 32)),
    "MiniLM encoder, 1 x 128 tokens": (minilm, (1, 128, 384)),
    "MiniLM encoder, 8 x 128 tokens": (minilm, (8, 128, 384)),
}


def exported(model: nn.Module, x: Tensor) -> Task:
    """A dense model in ONNX Runtime."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), file, dynamo=False, input_names=["x"])  # type: ignore[arg-type] # it takes files
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    feed = {"x": x.numpy()}
    return lambda: session.run(None, feed)


def model_table(models: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]) -> None:
    """BatchNorm is folded into the convolutions before, for all."""
    print(
        f"\n{'milliseconds':34}{'torch':>12}{'onnxruntime':>12}{'bf16':>12}{'0 %':>12}{'90 %':>12}{'95 %':>12}   ratio"
    )
    for name, (make, shape) in models.items():
        dense, x = make().eval(), torch.randn(shape)
        if any(isinstance(module, nn.BatchNorm2d) for module in dense.modules()):
            fold_batchnorm_(dense, example=x)
        half, half_x = copy.deepcopy(dense).bfloat16(), x.bfloat16()
        tasks: dict[str, Task] = {"torch": calling(dense, x), "onnxruntime": exported(dense, x)}
        tasks["bf16"] = calling(half, half_x)
        for sparsity in (0.0, *SPARSITIES):
            small = compact_(thinned(copy.deepcopy(dense), sparsity))
            tasks[f"{sparsity}"] = calling(small, x)
        with torch.inference_mode():
            times = interleaved(tasks, 15, **HOT)
        cells = "".join(f"{time * 1e3:12.2f}" for time in times.values())
        ratios = " / ".join(f"{best_dense(times) / times[f'{sparsity}']:.2f}" for sparsity in (0.0, *SPARSITIES))
        print(f"{name:34}{cells}   {ratios}", flush=True)


def main(words: list[str]) -> None:
    """Print the tables."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    np.seterr(all="raise")
    warnings.simplefilter("ignore", NothingSparseWarning)  # the tables mark what stays dense

    def show(table: Callable[[Any], None], rows: Mapping[str, Any], title: str = "") -> None:
        if chosen := {name: row for name, row in rows.items() if not words or any(w in title + name for w in words)}:
            table(chosen)

    with one_core():
        show(layer_table, LAYERS)
        show(half_table, HALVES, "bfloat16 ")
        show(sweep_table, SWEEP, "sweep ")
        show(int8_table, INT8, "int8 ")
        show(model_table, MODELS)
    show(thread_table, {name: LAYERS[name] for name in THREADS}, "threads ")


if __name__ == "__main__":
    main(sys.argv[1:])
