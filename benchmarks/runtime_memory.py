"""How much memory a sparse model takes, and how much it takes to load it: four 4096 x 4096 layers, 90 % pruned.

    python benchmarks/runtime_memory.py

Every row is a fresh process. "resident" is what its memory grew by once the model was there and had computed one
sample; "peak" is the most by which it had grown until then. Both are told as fractions of the dense float32 weights,
and the peak of the resident. "asked" is what the project promises. "never dense" means compact_ of a model on the
meta device.
"""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SIZE, N_LAYERS, SPARSITY = 4096, 4, 0.9
DENSE = N_LAYERS * SIZE * SIZE * 4

WAYS = {
    "dense, torch.load": "model = net(); model.load_state_dict(torch.load(folder / 'dense.pt'))",
    "dense, torch.load(mmap), assign": (
        "model = net('meta'); model.load_state_dict(torch.load(folder / 'dense.pt', mmap=True), assign=True)"
    ),
    "dense, prunecell.load": "model = net('meta'); model.load_state_dict(load(folder / 'net.pcell'), assign=True)",
    "torch CSR, int64 indices": "model = nn.ModuleList(as_csr(w) for w in load(folder / 'net.pcell').values())",
    **{
        f"{prefer}, {values}, never dense": (
            f"model = compact_(net('meta'), folder / 'net.pcell', prefer='{prefer}', values='{values}')"
        )
        for prefer in ("speed", "memory")
        for values in ("fp32", "fp16", "int8")
    },
    **{
        f"{prefer}, bfloat16 model, never dense": (
            f"model = compact_(net('meta').bfloat16(), folder / 'net.pcell', prefer='{prefer}')"
        )
        for prefer in ("speed", "memory")
    },
}
ASKED = {"speed, fp32, never dense": 0.16, "memory, fp32, never dense": 0.13, "memory, fp16, never dense": 0.08}

SETTING = f"""
import ctypes, gc, sys
from pathlib import Path
import torch
from torch import nn
from prunecell.archive import load, save
from prunecell.sparse.convert import compact_

torch.set_num_threads(1)
folder = Path(sys.argv[1])

def net(device="cpu"):
    return nn.Sequential(*(nn.Linear({SIZE}, {SIZE}, bias=False, device=device) for _ in range({N_LAYERS})))

class as_csr(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight.to_sparse_csr()

    def forward(self, x):
        return (self.weight @ x.t()).t()

def kilobytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
"""

MAKE = """
torch.manual_seed(0)
model = net()
with torch.no_grad():
    for layer in model:
        layer.weight[torch.rand_like(layer.weight) < {sparsity}] = 0
torch.save(model.state_dict(), folder / "dense.pt")
save(model, folder / "net.pcell")
small = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 64))
nn.init.sparse_(small[0].weight, {sparsity})
save(small, folder / "small.pcell")
"""

MEASURE = """
# What is needed once, whatever the model, is there before: code, tables, caches.
for prefer in ("speed", "memory"):
    for values in ("fp32", "fp16", "bf16", "int8"):
        small = nn.Sequential(nn.Linear(512, 512, device="meta"), nn.Linear(512, 64, device="meta"))
        small = compact_(small, folder / "small.pcell", prefer=prefer, values=values)
        with torch.inference_mode():
            small(torch.randn(1, 512))
del small
x = torch.randn(1, {size})
ctypes.CDLL(None).malloc_trim(0)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = kilobytes("VmRSS")
{way}
with torch.inference_mode():
    for layer in model:
        layer(x.to(getattr(layer, "dtype", torch.float32)))  # a sparse layer has one
peak = kilobytes("VmHWM") - before
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
print((kilobytes("VmRSS") - before) * 1024, peak * 1024)
"""


@dataclass(frozen=True)
class Measured:
    """Bytes."""

    resident: int
    peak: int


def python(code: str, folder: Path) -> str:
    command = [sys.executable, "-W", "ignore", "-c", SETTING + code, str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own command


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python(MAKE.format(sparsity=SPARSITY), folder)
        print(f"{'of ' + str(DENSE >> 20) + ' MiB':38}{'resident':>12}{'peak':>12}{'peak/resident':>16}{'asked':>12}")
        for way, code in WAYS.items():
            measured = Measured(*map(int, python(MEASURE.format(size=SIZE, way=code), folder).split()))
            asked = f"{ASKED[way]} (1.15)" if way in ASKED else ""
            print(
                f"{way:38}{measured.resident / DENSE:12.3f}{measured.peak / DENSE:12.3f}"
                f"{measured.peak / measured.resident:16.2f}{asked:>14}",
                flush=True,
            )


if __name__ == "__main__":
    main()
