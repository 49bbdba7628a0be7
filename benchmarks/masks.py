"""How long masks take to make and to apply, beside one pass of torch.sum over the same weights and beside others.

    python benchmarks/masks.py [ROUNDS]

One thread; medians over ROUNDS (9) in which all take turns with torch.sum; the others, which are slow and leave no
memory as it was, among themselves. "memory" is the peak of the process above the weights, as a multiple of them.
"torch" is prunecell without its compiled kernels.
"""

import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from measure import interleaved, kernels_at, one_core, peak_bytes
from torch import Tensor, nn
from torch.nn.utils import prune

from prunecell import IterNonStruct, Lowest, Random
from prunecell.allocation import global_ranking
from prunecell.bits.mask import Mask
from prunecell.evidence import Evidence
from prunecell.fillers import Filler

SPARSITY = 0.9
ROUNDS = next((int(word) for word in sys.argv[1:] if word.isdigit()), 9)
Task = Callable[[], object]


def evidence(weight: Tensor, name: str = "weight") -> Evidence:
    generator = torch.Generator().manual_seed(0)
    return Evidence(name=name, weight=weight, mask=Mask.full(weight.shape), generator=generator)


def at_level(level: str, task: Task) -> Task:
    def run() -> None:
        with kernels_at(level):
            task()

    return run


def both(name: str, task: Task) -> dict[str, Task]:
    return {f"prunecell {name}": at_level("", task), f"prunecell {name}, torch": at_level("none", task)}


def table(title: str, weights: Sequence[Tensor], ours: Mapping[str, Task], others: Mapping[str, Task]) -> None:
    """Print milliseconds, passes and extra memory of every task."""
    print(f"\n{title}\n{'':44} {'ms':>8} {'passes':>8} {'memory':>8}")
    n_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
    for group in (ours, others):
        tasks = {"torch.sum": lambda: [weight.sum() for weight in weights], **group}
        times = interleaved(tasks, ROUNDS if group is ours else -(-ROUNDS // 3))
        for name, task in tasks.items():
            if group is ours or name in group:
                passes, memory = times[name] / times["torch.sum"], peak_bytes(task) / n_bytes
                print(f"{name:44} {times[name] * 1e3:8.1f} {passes:8.2f} {memory:8.3f}")


# ---- others ----------------------------------------------------------------------------------------------------------


def by_kthvalue(weight: Tensor) -> Tensor:
    magnitudes = weight.abs().view(-1)
    return magnitudes > magnitudes.kthvalue(int(SPARSITY * weight.numel())).values


def by_partition(weight: Tensor) -> Tensor:
    magnitudes = weight.abs().view(-1)
    m = int(SPARSITY * weight.numel())
    return magnitudes > float(np.partition(magnitudes.numpy(), m - 1)[m - 1])


def linear(weight: Tensor) -> nn.Linear:
    module = nn.Linear(1, 1, bias=False)
    module.weight = nn.Parameter(weight)
    return module


def torch_prune(method: Callable[..., object], weight: Tensor) -> Task:
    return lambda: method(linear(weight), "weight", SPARSITY)


def torch_prune_global(weights: Sequence[Tensor]) -> Task:
    def run() -> None:
        modules = [(linear(weight), "weight") for weight in weights]
        prune.global_unstructured(modules, pruning_method=prune.L1Unstructured, amount=SPARSITY)

    return run


# ---- tables ----------------------------------------------------------------------------------------------------------


def making(weight: Tensor) -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    fillers: list[Filler] = [Lowest(), IterNonStruct(), Random()]
    for filler in fillers:
        tasks |= both(f"{type(filler).__name__}", lambda filler=filler: filler(evidence(weight), SPARSITY))  # type: ignore[misc]
    return tasks


def others_making(weight: Tensor) -> dict[str, Task]:
    return {
        "kthvalue": lambda: by_kthvalue(weight),
        "np.partition": lambda: by_partition(weight),
        "torch.nn.utils.prune.l1_unstructured": torch_prune(prune.l1_unstructured, weight),
        "torch.nn.utils.prune.random_unstructured": torch_prune(prune.random_unstructured, weight),
    }


def applying(weight: Tensor) -> dict[str, Task]:
    mask = Lowest()(evidence(weight), SPARSITY)
    hidden = mask.take_pruned_(weight)
    return {
        **both("zero_pruned_", lambda: mask.zero_pruned_(weight)),
        **both("take_pruned_", lambda: mask.take_pruned_(weight)),
        **both("take_pruned_, memory=", lambda: mask.take_pruned_(weight, memory=hidden)),
        **both("put_pruned_", lambda: mask.put_pruned_(weight, hidden)),
    }


def others_applying(weight: Tensor) -> dict[str, Task]:
    keep = weight.abs() > 1.6
    floats = keep.float()
    return {
        "weight.mul_(float mask)": lambda: weight.mul_(floats),
        "weight.mul_(bool mask)": lambda: weight.mul_(keep),
        "weight * float mask": lambda: weight * floats,
        "torch.where(mask, weight, 0)": lambda: torch.where(keep, weight, 0),
    }


def resnet50_shapes() -> list[tuple[int, ...]]:
    """The 53 convolutions and the linear layer of ResNet-50: 25.5 M weights."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7)]
    channels = 64
    for width, n_blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(n_blocks):
            shapes += [(width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            shapes += [(4 * width, channels, 1, 1)] if block == 0 else []
            channels = 4 * width
    return [*shapes, (1000, 2048)]


def globally(weights: Sequence[Tensor]) -> list[Mask]:
    evidences = [evidence(weight, str(i)) for i, weight in enumerate(weights)]
    shares = global_ranking(evidences, SPARSITY)
    return [Lowest()(e, share) for e, share in zip(evidences, shares, strict=True)]


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    weight = torch.randn(4096, 4096)
    table("A mask of 4096 x 4096 fp32 weights, 90 %", [weight], making(weight), others_making(weight))
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        other = torch.randn(4096, 4096).to(dtype)
        tasks = both("Lowest", lambda other=other: Lowest()(evidence(other), SPARSITY))  # type: ignore[misc]
        table(f"The same in {dtype}", [other], tasks, {})
    table("Applying it", [weight], applying(weight), others_applying(weight))
    weights = [torch.randn(shape) for shape in resnet50_shapes()]
    ours, others = both("global_ranking", lambda: globally(weights)), torch_prune_global(weights)
    title = f"One threshold over the {len(weights)} weights of ResNet-50, 90 %"
    table(title, weights, ours, {"torch.nn.utils.prune.global_unstructured": others})


if __name__ == "__main__":
    with one_core():
        main()
