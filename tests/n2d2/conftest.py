"""A small network on a small data set, for the command."""

import struct

import numpy as np
import pytest

INI = """
[database]
Type=MNIST_IDX_Database
DataPath=data
Validation=0.2
[sp]
SizeX=8
SizeY=8
BatchSize=32
[conv1]
Input=sp
Type=Conv
KernelDims=3 3
NbOutputs=4
ActivationFunction=Rectifier
ConfigSection=config
[bn1]
Input=conv1
Type=BatchNorm
NbOutputs=4
ConfigSection=config
[drop1]
Input=bn1
Type=Dropout
Dropout=0.1
NbOutputs=4
[fc1]
Input=drop1
Type=Fc
NbOutputs=10
ConfigSection=config
[softmax]
Input=fc1
Type=Softmax
NbOutputs=10
WithLoss=1
[softmax.Target]
[config]
Solvers.LearningRate=0.1
Solvers.Momentum=0.9
"""
PRUNED = """
QWeight=Prune
QWeight.PruningMode=Gradual
QWeight.PruningFiller=IterNonStruct
QWeight.StartThreshold=0.3
QWeight.GammaThreshold=0.1
QWeight.Threshold=0.6
QWeight.StepSizeThreshold=320
"""


def write_data(folder, n_train=400, n_test=100):
    """Bright squares, whose place is the label, in noise: IDX files like MNIST's, 8 x 8."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for start, n in (("train", n_train), ("t10k", n_test)):
        labels = np.arange(n, dtype=np.uint8) % 10
        pixels = random.integers(0, 100, (n, 8, 8), dtype=np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            y, x = divmod(int(label), 4)
            image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] += 150
        shape = struct.pack(">4B3I", 0, 0, 8, 3, n, 8, 8)
        (folder / f"{start}-images-idx3-ubyte").write_bytes(shape + pixels.tobytes())
        (folder / f"{start}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, n) + labels.tobytes())


@pytest.fixture
def workplace_with_pictures(tmp_path, monkeypatch):
    """A working folder with data/, dense.ini and net.ini, which is pruned gradually."""
    write_data(tmp_path / "data")
    (tmp_path / "dense.ini").write_text(INI)
    (tmp_path / "net.ini").write_text(INI + PRUNED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def workplace(workplace_with_pictures, monkeypatch):
    """The same; no pictures are drawn, which takes longer than all the learning."""
    for drawing in ("n2d2.target", "prunecell.report.picture"):
        monkeypatch.setattr(f"{drawing}.can_draw", lambda: False)
    return workplace_with_pictures
