"""How fast whole models are saved and loaded, beside gzip of their state_dict, and safetensors.

    python benchmarks/archive_speed.py [ROUNDS]

One thread; medians of the processor's time over ROUNDS (3) in which all take turns, with files on disk. Matrices of
2048 x 2048 are learned by a Quantizer: integers of 8 and 4 bits with a step for each row, of normal weights, dense and
with 80 % of them zero. The many tensors are 8,000 vectors of 16 to 300 elements and matrices of 64 x 3: normal
numbers, and those of a Quantizer.
"""

import gzip
import io
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import process_time

import safetensors.torch
import torch
from torch import Tensor, nn

from prunecell import IntSpec, Quantizer
from prunecell.archive import load, save

SIDE = 2048
MANY = 8000


def quantized(weights: Mapping[str, Tensor], bits: int) -> dict[str, Tensor]:
    """What a Quantizer makes of weights."""
    model = nn.ParameterDict({name.replace(".", "_"): nn.Parameter(weight) for name, weight in weights.items()})
    Quantizer(model, dict.fromkeys(model, IntSpec(bits=bits))).finalize()
    return {name: weight.detach() for name, weight in model.items()}


def many() -> dict[str, Tensor]:
    """Tensors of a model of many small layers."""
    sizes = torch.randint(16, 301, (MANY,)).tolist()
    return {f"layers.{i}": torch.randn(64, 3) if i % 4 == 0 else torch.randn(size) for i, size in enumerate(sizes)}


def models() -> dict[str, Callable[[], dict[str, Tensor]]]:
    """What is saved, by name."""

    def matrix(dtype: torch.dtype, bits: int, density: float = 1.0) -> Callable[[], dict[str, Tensor]]:
        return lambda: quantized(
            {"weight": (torch.randn(SIDE, SIDE) * (torch.rand(SIDE, SIDE) < density)).to(dtype)}, bits
        )

    return {
        **{f"{bits} bits, {str(dtype)[6:]}": matrix(dtype, bits) for bits in (8, 4) for dtype in FLOATS},
        "8 bits, 80 % zero": matrix(torch.float32, 8, 0.2),
        "many": many,
        "many, 8 bits": lambda: quantized(many(), 8),
        "many, bfloat16": lambda: {name: tensor.bfloat16() for name, tensor in many().items()},
    }


FLOATS = (torch.float32, torch.bfloat16)


def gzip_state(state: dict[str, Tensor], path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.write_bytes(gzip.compress(buffer.getvalue(), 6))


def gunzip_state(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(io.BytesIO(gzip.decompress(path.read_bytes())))
    return state


WAYS: dict[str, tuple[Callable[[dict[str, Tensor], Path], object], Callable[[Path], dict[str, Tensor]]]] = {
    "prunecell": (save, load),
    "gzip -6": (gzip_state, gunzip_state),
    "safetensors": (safetensors.torch.save_file, safetensors.torch.load_file),
}


def measured(state: dict[str, Tensor], rounds: int, folder: Path) -> None:
    """Print a line for each kind of file."""
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, (write, read) in WAYS.items():
            path = folder / way.replace(" ", "")
            start = process_time()
            write(state, path)
            middle = process_time()
            back = read(path)
            times[way].append((middle - start, process_time() - middle))
            if not all(back[name].equal(tensor) for name, tensor in state.items()):
                raise AssertionError(f"{way} loses something")
    n_weights = sum(tensor.numel() for tensor in state.values())
    for way, taken in times.items():
        saving, loading = (median(t) for t in zip(*taken, strict=True))
        size = (folder / way.replace(" ", "")).stat().st_size
        print(f"  {way:12}{size:12,}{saving:9.2f}{loading:8.2f}", end="")
        print(f"{n_weights / saving / 1e6:9.1f}{n_weights / loading / 1e6:8.1f}")


def main() -> None:
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{'':14}{'bytes':>12}{'save s':>9}{'load s':>8}{'M/s in':>9}{'out':>8}")
    for name, made in models().items():
        torch.manual_seed(0)
        print(name)
        with tempfile.TemporaryDirectory() as folder:
            measured(made(), rounds, Path(folder))


if __name__ == "__main__":
    main()
