"""How small an archive is and how fast it is made and read, beside the limit and beside other files.

    python benchmarks/archive_size.py [ROUNDS] [--lenet]

One thread; medians over ROUNDS (5) in which all take turns. GB/s are of dense bytes, from and to memory. With
`--lenet` LeNet-300-100 is trained on MNIST to 90 and to 92 % sparsity (two minutes), and its files are weighed.

The limit of random sparse normal weights is the entropy of the mask, H(density) bits a weight, and of each kept value:
that of a normal variable on the grid of fp32, log2(2 pi e) / 2 + E[23 - floor(log2 |x|)] bits.
"""

import gzip
import io
import itertools
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunecell import Cubic, Pruner, PruneSpec
from prunecell.archive import load, save
from prunecell.codecs.decode import decode
from prunecell.codecs.dtypes import element_type, words_of
from prunecell.codecs.encode import Encoded, encode, encode_words
from prunecell.codecs.records import EncodedRecord
from prunecell.codecs.streams import InMemory
from prunecell.data import mnist
from prunecell.sharing import share_

SIDE = 4096
SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.99)


def entropy(probability: float) -> float:
    """Bits of one bit."""
    return -sum(p * math.log2(p) for p in (probability, 1 - probability) if p)


def limit_of(weight: Tensor) -> float:
    """Bytes that random sparse normal weights take at least."""
    kept = weight[weight != 0].double()
    bits_of_value = math.log2(2 * math.pi * math.e) / 2 + (23 - kept.abs().log2().floor()).mean().item()
    density = kept.numel() / weight.numel()
    return weight.numel() * (entropy(density) + density * bits_of_value) / 8


def seconds(work: Callable[..., object], *args: object, **kwargs: object) -> float:
    """Wall clock of one call."""
    start = perf_counter()
    work(*args, **kwargs)
    return perf_counter() - start


def torch_saved(weight: Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": weight}, buffer)
    return buffer.getvalue()


@dataclass(frozen=True)
class Blob:
    """What an archive has of a tensor: its record, and its bytes in one piece."""

    record: EncodedRecord
    data: bytes

    def decoded(self) -> Tensor:
        """Rebuild it."""
        return decode(self.record, InMemory(memoryview(self.data)))


def blob_of(encoded: Encoded) -> Blob:
    return Blob(encoded.record, b"".join(encoded.blob))


def random_weights(rounds: int) -> None:
    torch.manual_seed(0)
    normal, uniform = torch.randn(SIDE, SIDE), torch.rand(SIDE, SIDE)
    dense = normal.numel() * 4
    print(f"fp32 normal weights, {SIDE} x {SIDE}; bytes as a multiple of the limit\n")
    print("sparsity   limit  torch.save  safetensors  gzip -6  mask+fp32 |    zstd   in  out | pcodec   in  out  GB/s")
    for sparsity in SPARSITIES:
        weight = torch.where(uniform < sparsity, 0.0, normal)
        limit, n_kept = limit_of(weight), int((weight != 0).sum())
        rivals = [
            len(torch_saved(weight)),
            len(safetensors.torch.save({"weight": weight})),
            len(gzip.compress(weight.numpy().tobytes(), 6)),
            weight.numel() // 8 + n_kept * 4,
        ]
        made = {backend: blob_of(encode(weight, backend=backend)) for backend in ("zstd", "pcodec")}
        times: dict[str, list[tuple[float, float]]] = {backend: [] for backend in made}
        for _ in range(rounds):
            for backend, blob in made.items():
                times[backend].append((seconds(encode, weight, backend=backend), seconds(blob.decoded)))
        print(f"{sparsity:8.0%} {limit / 2**20:6.2f}M", end=" ")
        print("{:10.3f} {:12.3f} {:8.3f} {:10.3f}".format(*(rival / limit for rival in rivals)), end=" |")
        for backend, blob in made.items():
            write, read = (dense / median(t) / 1e9 for t in zip(*times[backend], strict=True))
            print(f" {blob.record.n_bytes / limit:7.4f} {write:4.2f} {read:4.2f}", end=" |")
        print()


def coders(rounds: int) -> None:
    """Print what zstd and zlib make of normal weights, and how fast."""
    print(f"\nnormal weights, {SIDE} x {SIDE}; part of the dense bytes, GB/s\n")
    print("dtype     sparsity |   zstd    in   out |   zlib    in   out | times as fast in, out")
    for dtype, sparsity in itertools.product((torch.bfloat16, torch.float32), (0.0, 0.5, 0.8, 0.9)):
        torch.manual_seed(0)
        weight = torch.where(torch.rand(SIDE, SIDE) < sparsity, 0.0, torch.randn(SIDE, SIDE) * 0.02).to(dtype)
        made = {backend: blob_of(encode(weight, backend=backend)) for backend in ("zstd", "zlib")}
        times: dict[str, list[tuple[float, float]]] = {backend: [] for backend in made}
        for _ in range(rounds):
            for backend, blob in made.items():
                times[backend].append((seconds(encode, weight, backend=backend), seconds(blob.decoded)))
        print(f"{str(dtype)[6:]:9} {sparsity:8.0%}", end=" |")
        speeds = {name: [weight.nbytes / median(t) / 1e9 for t in zip(*of, strict=True)] for name, of in times.items()}
        for backend, blob in made.items():
            write, read = speeds[backend]
            print(f" {blob.record.n_bytes / weight.nbytes:6.2%} {write:5.2f} {read:5.2f}", end=" |")
        print("  {:4.1f} {:4.1f}".format(*(new / old for new, old in zip(*speeds.values(), strict=True))))


def integer_weights() -> None:
    """Print what integers times a step take, where units differ in how many weights live, and how fast that is."""
    torch.manual_seed(0)
    print(f"\nintegers times a step, {SIDE} x {SIDE}; million weights a second of processor time\n")
    print("sparsity  bits a weight   in out  as streams")
    for sparsity in (0.9, 0.95, 0.98, 0.99):
        chance = torch.randn(SIDE, 1).exp() * torch.randn(SIDE).exp()
        kept = torch.rand(SIDE, SIDE) < chance * ((1 - sparsity) / chance.mean())
        sizes = torch.empty(SIDE, SIDE).geometric_(0.7) * torch.randn(SIDE, SIDE).sign()
        weight = torch.where(kept, sizes * 0.037, 0.0)
        start = process_time()
        encoded = encode(weight)
        write, blob = process_time() - start, blob_of(encoded)
        start = process_time()
        blob.decoded()
        write, read = (weight.numel() / t / 1e6 for t in (write, process_time() - start))
        streams = encode_words(words_of(weight), element_type(weight.dtype), (SIDE, SIDE), "zstd")
        bits, others = (8 * made.record.n_bytes / weight.numel() for made in (encoded, streams))
        print(f"{(~kept).float().mean():8.1%} {bits:14.3f} {write:4.0f} {read:3.0f} {others:11.3f}")


def lenet(sparsity: float, *, epochs: int = 8, batch: int = 128) -> tuple[nn.Sequential, Callable[[], float]]:
    """LeNet-300-100, pruned while it is trained, and what measures its error on the test images."""
    torch.manual_seed(0)
    data = mnist()
    x, y = data.train_images.flatten(1) / 255, data.train_labels
    test_x, test_y = data.test_images.flatten(1) / 255, data.test_labels
    hidden = (nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU())
    model = nn.Sequential(*hidden, nn.Linear(100, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, epochs * (len(x) // batch))
    spec = PruneSpec(schedule=Cubic(sparsity=sparsity, epochs=epochs // 2))
    pruner = Pruner(model, spec, optimizer=optimizer, epoch_size=len(x))
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(batch)[: len(x) // batch]:
            optimizer.zero_grad()
            F.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
            rate.step()
            pruner.step(len(chosen))
    pruner.finalize()

    @torch.no_grad()
    def error() -> float:
        return (model(test_x).argmax(1) != test_y).float().mean().item()

    return model, error


def weigh(model: nn.Module, error: Callable[[], float], folder: Path) -> None:
    """Print what each kind of file takes, and the error of the network read back from it."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(state, folder / "dense.pt")
    dense = (folder / "dense.pt").stat().st_size
    gzipped = len(gzip.compress((folder / "dense.pt").read_bytes()))
    print(f"  dense state_dict {dense:10,} bytes   error {error():.2%}\n  gzip of it       {gzipped:10,}")
    for values in ("exact", "fp16", "bf16", "int8", "codebook5", "codebook4"):
        for backend in ("zstd", "pcodec"):
            save(state, folder / "model.pcell", values=values, backend=backend)
            size = (folder / "model.pcell").stat().st_size
            model.load_state_dict(load(folder / "model.pcell"))
            print(f"  {values:9} {backend:6} {size:10,}  {dense / size:5.1f} x    error {error():.2%}")
    model.load_state_dict(state)
    share_(model, bits=5)
    save(model, folder / "model.pcell")
    print(f"  share_(bits=5)   {(folder / 'model.pcell').stat().st_size:10,}")


def main() -> None:
    torch.set_num_threads(1)
    rounds = next((int(word) for word in sys.argv[1:] if word.isdigit()), 5)
    random_weights(rounds)
    coders(rounds)
    integer_weights()
    if "--lenet" in sys.argv:
        for sparsity in (0.90, 0.92):
            model, error = lenet(sparsity)
            print(f"\nLeNet-300-100 on MNIST, {sparsity:.0%} of the weights of each layer pruned")
            with tempfile.TemporaryDirectory() as folder:
                weigh(model, error, Path(folder))


if __name__ == "__main__":
    main()
