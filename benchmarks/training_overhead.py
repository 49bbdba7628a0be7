"""What pruning costs while a network trains: time of a step, and memory, beside the dense network and beside others.

    python benchmarks/training_overhead.py [ROUNDS] [--threads N]

Networks at 90 % sparsity under masks that do not change. Step times: in every one of ROUNDS (15) each way trains a
block of steps, and its median is divided by the dense median of the same round; the table has the median ratio.
Memory: every way in a process of its own (Linux), 192 MiB of weights, above what it held before the model was made.
"""

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median

import torch
from measure import interleaved, one_core, peak_bytes, seconds
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune
from torch.optim import Optimizer

from prunecell import Gradual, IntSpec, IterNonStruct, Pruner, PruneSpec, Quantizer, RateSpec, Static

SPARSITY = 0.9
Step = Callable[[], object]

# ---- networks --------------------------------------------------------------------------------------------------------


def mlp() -> nn.Module:
    hidden = (nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(1024, 10))


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - torch's
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet() -> nn.Module:
    """A small ResNet for 32 x 32 images: 0.7 M weights."""
    blocks = (Residual(16, 32, 1), Residual(32, 64, 2), Residual(64, 128, 2))
    stem = (nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def layer() -> nn.Module:
    return nn.Linear(4096, 4096, bias=False)


def wide() -> nn.Module:
    """Weights of 192 MiB."""
    return nn.Sequential(*(nn.Linear(4096, 4096, bias=False) for _ in range(3)))


INPUTS = {mlp: (128, 784), resnet: (32, 3, 32, 32), layer: (32, 4096), wide: (32, 4096)}

# ---- ways of pruning -------------------------------------------------------------------------------------------------


def momentum(model: nn.Module) -> Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)


def adam(model: nn.Module) -> Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-5)


def fused_adam(model: nn.Module) -> Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)


def layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]


class Times(nn.Module):
    """A parametrization: the weight times a mask."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = nn.Buffer(mask)

    def forward(self, weight: Tensor) -> Tensor:  # noqa: D102 - torch's
        return weight * self.mask


def with_hooks(model: nn.Module) -> None:
    for module in layers(model):
        prune.l1_unstructured(module, "weight", SPARSITY)


def with_parametrization(model: nn.Module, dtype: torch.dtype) -> None:
    for module in layers(model):
        mask = torch.rand_like(module.get_parameter("weight")) >= SPARSITY
        parametrize.register_parametrization(module, "weight", Times(mask.to(dtype)))


def prunecell(spec: PruneSpec) -> Callable[[nn.Module, Callable[[nn.Module], Optimizer]], tuple[Optimizer, Step]]:
    def make(model: nn.Module, optimizer: Callable[[nn.Module], Optimizer]) -> tuple[Optimizer, Step]:
        solver = optimizer(model)
        pruner = Pruner(model, spec, optimizer=solver)
        return solver, lambda: pruner.step(1)

    return make


def quantized(
    spec: RateSpec | IntSpec,
) -> Callable[[nn.Module, Callable[[nn.Module], Optimizer]], tuple[Optimizer, Step]]:
    def make(model: nn.Module, optimizer: Callable[[nn.Module], Optimizer]) -> tuple[Optimizer, Step]:
        solver = optimizer(model)
        quantizer = Quantizer(model, spec, optimizer=solver)
        solver.add_param_group({"params": [*quantizer.parameters()]})
        for _ in range(40):  # the price has grown
            quantizer.step(1)
        return solver, lambda: quantizer.step(1)

    return make


def foreign(way: Callable[[nn.Module], None]) -> Callable[..., tuple[Optimizer, Step]]:
    def make(model: nn.Module, optimizer: Callable[[nn.Module], Optimizer]) -> tuple[Optimizer, Step]:
        way(model)
        return optimizer(model), lambda: None

    return make


STILL = Gradual(sparsity=SPARSITY, start=SPARSITY - 0.01, gamma=0.01, every_samples=10**9)
WAYS = {
    "dense": foreign(lambda _: None),
    "prunecell": prunecell(PruneSpec(schedule=Static(sparsity=SPARSITY))),
    "prunecell, weights may revive": prunecell(PruneSpec(filler=IterNonStruct(), schedule=STILL)),
    "prunecell, RateSpec": quantized(RateSpec(lam=1e-6, steps=10**4)),
    "prunecell, IntSpec": quantized(IntSpec(bits=8)),
    "torch.nn.utils.prune": foreign(with_hooks),
    "parametrization, float mask": foreign(lambda model: with_parametrization(model, torch.float32)),
    "parametrization, bool mask": foreign(lambda model: with_parametrization(model, torch.bool)),
}


def trainer(network: Callable[[], nn.Module], optimizer: Callable[[nn.Module], Optimizer], way: str) -> Step:
    """What trains one step."""
    torch.manual_seed(0)
    model = network()
    solver, after = WAYS[way](model, optimizer)
    x = torch.randn(INPUTS[network])
    target = torch.randn_like(model(x))

    def step() -> None:
        solver.zero_grad()
        F.mse_loss(model(x), target).backward()
        solver.step()
        after()

    return step


# ---- tables ----------------------------------------------------------------------------------------------------------


def times(network: Callable[[], nn.Module], optimizer: Callable[[nn.Module], Optimizer], rounds: int) -> None:
    steps = {way: trainer(network, optimizer, way) for way in WAYS}
    ratios: dict[str, list[float]] = {way: [] for way in WAYS}
    blocks: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, step in steps.items():  # the first two of a block find the caches full of another network
            blocks[way].append(median([seconds(step) for _ in range(12)][2:]))
            ratios[way].append(blocks[way][-1] / blocks["dense"][-1])
    print(f"\nstep of {network.__name__}, {optimizer.__name__}: {median(blocks['dense']) * 1e3:.2f} ms dense")
    for way in WAYS:
        print(f"  {way:32} {median(ratios[way]):6.3f}")


def mask_time(rounds: int) -> None:
    """How many training steps of a layer of 4096 x 4096 weights, batch 32, the making of its mask takes."""
    step = trainer(layer, momentum, "dense")
    module, spec = layer(), PruneSpec(schedule=Static(sparsity=SPARSITY))
    tasks = {
        "step": step,
        "prunecell": lambda: Pruner(module, spec).finalize(),
        "torch.nn.utils.prune": lambda: prune.l1_unstructured(layer(), "weight", SPARSITY),
    }
    taken = interleaved(tasks, rounds)
    print(f"\nmask of 4096 x 4096 weights, in training steps of that layer ({taken['step'] * 1e3:.0f} ms)")
    for name in list(tasks)[1:]:
        print(f"  {name:32} {taken[name] / taken['step']:6.2f}")


def memory_of(task: str, way: str) -> None:
    """Print the peak, as a multiple of the weights: of training three steps, or of pruning alone."""
    torch.set_num_threads(1)
    trainer(mlp, momentum, way)()  # what is made once

    def train() -> None:
        step = trainer(wide, momentum, way)
        for _ in range(3):
            step()

    model = wide()
    n_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    if task == "train":
        del model
        print(peak_bytes(train) / n_bytes)
    else:
        kept = []
        print(1 + peak_bytes(lambda: kept.append(WAYS[way](model, momentum))) / n_bytes)


def memory() -> None:
    for task, title in (("train", "peak memory of training / dense"), ("prune", "peak memory of pruning / weights")):
        print(f"\n{title}, 192 MiB of weights, SGD with momentum")
        peaks = {way: _peak_elsewhere(task, way) for way in WAYS}
        for way, peak in peaks.items():
            print(f"  {way:32} {peak / (peaks['dense'] if task == 'train' else 1):6.3f}")


def _peak_elsewhere(task: str, way: str) -> float:
    command = [sys.executable, __file__, "--memory", task, way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603 - ourselves


def main() -> None:
    words = sys.argv[1:]
    if "--memory" in words:
        return memory_of(*words[1:])
    torch.set_num_threads(int(words[words.index("--threads") + 1]) if "--threads" in words else 1)
    rounds = int(words[0]) if words and words[0].isdigit() else 15
    with nullcontext() if "--threads" in words else one_core():
        for optimizer in (momentum, adam, fused_adam):
            times(mlp, optimizer, rounds)
        times(resnet, momentum, rounds)
        mask_time(rounds)
    return memory()


if __name__ == "__main__":
    main()
