"""CIFAR in its published files: the binary and the Python version hold the same; a hostile pickle does nothing."""

import os
import pickle
import random
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from prunecell.data import pickles
from prunecell.data.cifar import COARSE, FINE, TEN, cifar10, cifar100
from prunecell.errors import DataError, FormatError

N = 4  # images in a file
RNG = np.random.default_rng(0)


def batch():
    return RNG.integers(0, 256, (N, 3072), dtype=np.uint8), RNG.integers(0, 10, (2, N))


def write_binary(path, pixels, labels):
    path.with_suffix(".bin").write_bytes(np.concatenate([labels.T.astype(np.uint8), pixels], axis=1).tobytes())


def write_python(path, pixels, labels, protocol=2):
    keys = [b"labels"] if len(labels) == 1 else [b"coarse_labels", b"fine_labels"]
    content = {b"data": pixels} | {key: row.tolist() for key, row in zip(keys, labels, strict=True)}
    path.write_bytes(pickle.dumps(content, protocol=protocol))


@pytest.fixture
def ten(tmp_path):
    """CIFAR-10's files in both versions, and what is in them."""
    parts = {name: batch() for name in (*TEN.train, TEN.test)}
    for name, (pixels, labels) in parts.items():
        for version, write in (("bin", write_binary), ("py", write_python)):
            (tmp_path / version).mkdir(exist_ok=True)
            write(tmp_path / version / name, pixels, labels[:1])
    return tmp_path, parts


@pytest.mark.parametrize("version", ["bin", "py"])
def test_both_versions_hold_the_same(ten, version):
    folder, parts = ten
    found = cifar10(folder / version)
    pixels = np.concatenate([parts[name][0] for name in TEN.train]).reshape(-1, 3, 32, 32)
    assert torch.equal(found.train_images, torch.from_numpy(pixels))
    assert found.train_labels.tolist() == [label for name in TEN.train for label in parts[name][1][0]]
    assert torch.equal(found.test_images, torch.from_numpy(parts[TEN.test][0].reshape(-1, 3, 32, 32)))
    assert found.test_labels.tolist() == parts[TEN.test][1][0].tolist()


@pytest.mark.parametrize("write", [write_binary, write_python])
@pytest.mark.parametrize(("coarse", "row"), [(True, 0), (False, 1)])
def test_a_hundred_kinds_fine_or_coarse(tmp_path, write, coarse, row):
    for name in ("train", "test"):
        pixels, labels = batch()
        write(tmp_path / name, pixels, labels)
    found = cifar100(tmp_path, coarse=coarse)
    assert found.test_labels.tolist() == labels[row].tolist()
    assert found.name == (COARSE if coarse else FINE).title


@pytest.mark.parametrize("folder", TEN.folders)
def test_the_published_folders_in_the_cache_are_found(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("PRUNECELL_DATA", str(tmp_path))
    (tmp_path / folder).mkdir()
    write = write_binary if folder == TEN.folders[0] else write_python
    for name in (*TEN.train, TEN.test):
        pixels, labels = batch()
        write(tmp_path / folder / name, pixels, labels[:1])
    assert len(cifar10().train_labels) == 5 * N


def test_files_that_are_missing_are_named(tmp_path):
    with pytest.raises(DataError, match=r"CIFAR-10 is not in .*: put data_batch_1, .* test_batch there"):
        cifar10(tmp_path)


def test_a_binary_file_that_is_cut_is_refused(ten):
    folder, _ = ten
    path = folder / "bin" / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match="no whole number of 3073-byte records"):
        cifar10(folder / "bin")


class Hostile:
    def __reduce__(self):
        return os.system, ("touch executed",)


class HostileNumpy:
    def __reduce__(self):
        return np.load, ("anything",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"data": Hostile(), b"labels": []}),
        pickle.dumps({b"data": HostileNumpy(), b"labels": []}),
        pickle.dumps({b"data": np.zeros((1, 3072)), b"labels": [0]}),
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [0, 1]}),
        pickle.dumps({b"data": np.zeros((1, 3071), np.uint8), b"labels": [0]}),
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": "abc"}),
        pickle.dumps([1, 2]),
        b"",
        b"\x80\x02garbage",
    ],
    ids=["system", "numpy.load", "doubles", "labels", "pixels", "text", "list", "empty", "garbage"],
)
def test_a_pickle_that_is_no_batch_is_refused_and_not_run(ten, content, monkeypatch):
    folder, _ = ten
    monkeypatch.chdir(folder)
    (folder / "py" / "test_batch").write_bytes(content)
    with pytest.raises(FormatError, match="test_batch: "):
        cifar10(folder / "py")
    assert not (folder / "executed").exists()


def test_a_pickle_as_python_2_and_its_numpy_wrote_it(ten):
    folder, _ = ten
    pixels = bytes(range(256)) * 12
    (folder / "py" / "test_batch").write_bytes(
        b"\x80\x02}(U\x06labels](K\x07eU\x04data"
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x01M\x00\x0c\x86"
        b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T\x00\x0c\x00\x00" + pixels + b"tbu."
    )
    found = cifar10(folder / "py")
    assert bytes(found.test_images.flatten().tolist()) == pixels
    assert found.test_labels.tolist() == [7]


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol_either_reads_or_is_refused(ten, protocol):
    folder, parts = ten
    pixels, labels = parts[TEN.test]
    write_python(folder / "py" / "test_batch", pixels, labels[:1], protocol)
    if protocol < 5:
        assert cifar10(folder / "py").test_labels.tolist() == labels[0].tolist()
    else:
        with pytest.raises(FormatError, match="it asks for numpy"):
            cifar10(folder / "py")


# ---- pickles that are small and would become large, or crash

ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
ENCODE = b"c_codecs\nencode\n"
BOMBS = {
    "a memo of 2^28 places": b"Nr\x00\x00\x00\x10.",
    "a memo of 2^32 places, in text": b"Np4294967295\n.",
    "an array whose bytes are a number": ARRAY + b"J\xff\xff\xff\x7f\x85b.",
    "an array whose bytes are a large number": ARRAY + b"\x8a\x05\x00\x28\x6b\xee\x00\x85b.",
    "an array whose state is a number": ARRAY + b"J\xff\xff\xff\x7fb.",
    "more bytes than are there": b"B\xff\xff\xff\x7f.",
    "far more bytes than are there": b"\x8e" + struct.pack("<Q", 1 << 40) + b".",
    "a bytearray of more than is there": b"\x96" + struct.pack("<Q", 1 << 40) + b".",
    "text of more than is there": b"X\xff\xff\xff\x7f.",
    "a frame of more than is there": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"K\x01",
    "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "a tuple of tuples as a key": b"}N" + b"\x85" * 20_000 + b"K\x01s.",
    "a list of lists": b"]" * 20_000 + b"a" * 19_999 + b".",
    "a text that is decoded often": b"X\x10\x27\0\0" + b"x" * 10_000 + b"q\0" + (ENCODE + b"h\0\x85R") * 10_000 + b".",
    "a name that doubles": b")" + b"q\x01h\x01h\x01\x86" * 100 + b"q\x02X\1\0\0\0xh\x02\x93.",
    "a dtype that doubles": b")" + b"q\x01h\x01h\x01\x86" * 100 + b"q\x02cnumpy\ndtype\nh\x02\x85R.",
    "a list in itself": b"]q\0h\0a.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_pickle_stays_small(ten, name):
    folder, _ = ten
    path = folder / "py" / "test_batch"
    path.write_bytes(BOMBS[name])
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="test_batch: not a batch of CIFAR-10: "):
            cifar10(folder / "py")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000 + 20 * len(BOMBS[name])
    finally:
        tracemalloc.stop()


def test_a_pickle_has_an_end(monkeypatch):
    monkeypatch.setattr(pickles, "_MOST_STEPS", 1000)
    with pytest.raises(FormatError, match="the pickle makes more than 1,000 steps"):
        pickles.read_pickle(b"(" * 2000)


@pytest.mark.parametrize("protocol", range(6))
def test_any_bytes_of_a_pickle_are_read_or_refused(protocol):
    drawn = random.Random(protocol)  # noqa: S311 - the same every time
    content = {b"data": np.zeros((1, 12), np.uint8), b"labels": [1, 2, 300, 70_000], b"names": [b"a", b"bc", b"a"]}
    good = pickle.dumps(content, protocol=protocol)
    for _ in range(400):
        bad = bytearray(good)
        for _ in range(drawn.randint(1, 3)):
            at = drawn.randrange(len(bad))
            bad[at : at + drawn.randint(0, 2)] = drawn.randbytes(drawn.randint(0, 3))
        try:
            pickles.read_pickle(bytes(bad))
        except FormatError as error:
            assert len(str(error)) < 300  # noqa: PT017 - it may as well be read
