"""How fast whole models with sparse layers are on the CPU, beside the dense ones of torch and ONNX Runtime.

    python benchmarks/model_speed.py [WORD ...]

With words, only the models whose name has one of them. All take turns in one process, on one thread and one core;
times are medians of calls after others of the same task, when caches are hot. BatchNorm is folded into the convolutions
before, for all. A ratio is the time of the fastest dense float32 over the sparse one's.
"""

import copy
import sys
import warnings
from collections.abc import Callable

import torch
from measure import interleaved, one_core
from rivals import HOT, IS_LIMITED, SPARSITIES, Task, best_dense, calling, exported, thinned
from torch import Tensor, nn
from torch.nn import functional as F

from prunecell.errors import NothingSparseWarning
from prunecell.graph import fold_batchnorm_
from prunecell.sparse.convert import compact_


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


def show(name: str, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    dense, x = make().eval(), torch.randn(shape)
    if any(isinstance(module, nn.BatchNorm2d) for module in dense.modules()):
        fold_batchnorm_(dense, example=x)
    half, half_x = copy.deepcopy(dense).bfloat16(), x.bfloat16()
    tasks: dict[str, Task] = {"torch": calling(dense, x), "bf16": calling(half, half_x)}
    if not IS_LIMITED:
        tasks["onnxruntime"] = exported(dense, x)
    for sparsity in (0.0, *SPARSITIES):
        small = compact_(thinned(copy.deepcopy(dense), sparsity))
        tasks[f"{sparsity}"] = calling(small, x)
    with torch.inference_mode():
        times = interleaved(tasks, 15, **HOT)
    cells = "".join(f"{time * 1e3:12.2f}" for time in times.values())
    ratios = " / ".join(f"{best_dense(times) / times[f'{sparsity}']:.2f}" for sparsity in (0.0, *SPARSITIES))
    print(f"{name:34}{cells}   {ratios}", flush=True)


def main(words: list[str]) -> None:
    """Print the table."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", NothingSparseWarning)
    rivals = ("torch", "bf16", *(() if IS_LIMITED else ("onnxruntime",)))
    print(f"{'milliseconds':34}{''.join(f'{head:>12}' for head in (*rivals, '0 %', '90 %', '95 %'))}   ratio")
    chosen = {name: model for name, model in MODELS.items() if not words or any(word in name for word in words)}
    with one_core():
        for name, (make, shape) in chosen.items():
            show(name, make, shape)


if __name__ == "__main__":
    main(sys.argv[1:])
