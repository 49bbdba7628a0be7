"""What removing half of the FLOPs of a ResNet-20 gains in time and bytes, and costs in accuracy, on Fashion-MNIST.

    python benchmarks/removal.py [EPOCHS] [--rounds 20]

EPOCHS (5; 0: times only) of dense training, then half of the filters of the first two stages are removed, then as many
epochs of fine-tuning; the last step counts. Times: one thread, batches of 64 images, medians over rounds in which both
networks take turns, as torch computes them. The smaller network is the one that is read back from its file.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from measure import interleaved, one_core
from networks import course_of, error_of, late, new_network, train
from torch import nn

import prunecell as pc
from prunecell.plan import Key
from prunecell.structured import RemoveSpec, remove_

BATCH = 64
LAST_STAGE = ("9.*", "10.*", "11.*")  # of few pixels: its filters cost little time
PLAN: dict[Key, RemoveSpec | None] = {**dict.fromkeys(LAST_STAGE), "*": RemoveSpec(sparsity=0.5)}


def timed(model: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def run() -> None:
        with torch.inference_mode():
            model(x)

    return run


def main() -> None:
    torch.set_num_threads(1)
    words = sys.argv[1:]
    epochs = int(words[0]) if words and words[0].isdigit() else 5
    rounds = int(words[words.index("--rounds") + 1]) if "--rounds" in words else 20
    course = course_of("fashion", shift=True, seed=0, bfloat16=False)
    networks = {"dense": new_network("resnet-20-fine", seed=0)}
    optimizer = torch.optim.Adam(networks["dense"].parameters(), lr=2e-3)
    train(networks["dense"], optimizer, course, epochs=epochs, rate=late)

    small = new_network("resnet-20-fine", seed=0)
    small.load_state_dict(networks["dense"].state_dict())
    optimizer = torch.optim.Adam(small.parameters(), lr=1e-3)
    removal = remove_(small, PLAN, course.test[0][:1] / 255, optimizer=optimizer)
    train(small, optimizer, course, epochs=epochs)
    print(removal)
    with tempfile.TemporaryDirectory() as folder:
        for name, model in (("dense", networks["dense"]), ("smaller", small)):
            pc.save(model, f"{folder}/{name}.pcell")
            print(f"{name:8} {Path(folder, f'{name}.pcell').stat().st_size:9,} bytes", end="")
            print(f"   test error {error_of(model, course.test):.2%}" if epochs else "")
        networks["smaller"] = pc.load_model(f"{folder}/smaller.pcell", new_network("resnet-20-fine", seed=1))
    x = (course.test[0][:BATCH] / 255).contiguous(memory_format=torch.channels_last)
    with one_core():
        times = interleaved({name: timed(model.eval(), x) for name, model in networks.items()}, rounds, warm=2)
    for name, taken in times.items():
        print(f"{name:8} {1e3 * taken:7.2f} ms for {BATCH} images   {times['dense'] / taken:5.2f} times as fast")


if __name__ == "__main__":
    main()
