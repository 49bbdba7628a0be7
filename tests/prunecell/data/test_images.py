"""Folders of images: which files are listed, and what a file becomes."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from prunecell.data.images import list_images, read_image
from prunecell.errors import DataError, FormatError


@pytest.fixture
def tree(tmp_path):
    for name in ("b.png", "a.PPM", "one/c.png", "one/two/d.jpg", ".hidden/e.png", "one/.f.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, ["a.PPM", "b.png", "one/c.png", "one/two/d.jpg"]),
        ({"depth": 0}, ["a.PPM", "b.png"]),
        ({"depth": 1}, ["a.PPM", "b.png", "one/c.png"]),
        ({"extensions": ("png", ".ppm")}, ["a.PPM", "b.png", "one/c.png"]),
    ],
)
def test_listing(tree, arguments, names):
    assert [str(path.relative_to(tree)) for path in list_images(tree, **arguments)] == names


def test_a_folder_that_is_missing_or_empty_is_named(tree):
    with pytest.raises(DataError, match=r"there is no folder .*absent"):
        list_images(tree / "absent")
    with pytest.raises(DataError, match=r"no images in .* extensions \['gif'\]"):
        list_images(tree, extensions=("gif",))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)])
def test_an_image_is_gray_or_red_green_blue(tmp_path, mode, channels):
    rgb = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
    Image.fromarray(rgb).convert(mode).save(tmp_path / "image.png")
    image = read_image(tmp_path / "image.png")
    assert (image.shape, image.dtype) == ((channels, 2, 3), torch.uint8)
    if mode in ("RGB", "RGBA"):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), rgb)


@pytest.mark.parametrize(("dtype", "read"), [(np.uint16, torch.int32), (np.float32, torch.float32)])
def test_gray_images_of_16_bits_and_of_floats_keep_their_values(tmp_path, dtype, read):
    pixels = np.array([[0, 1, 255], [256, 40_000, 65_535]], dtype)
    Image.fromarray(pixels).save(tmp_path / "deep.tif")
    image = read_image(tmp_path / "deep.tif")
    assert (image.shape, image.dtype) == ((1, 2, 3), read)
    assert image.flatten().tolist() == pixels.flatten().tolist()


def test_32_bit_integers_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.int32)).save(tmp_path / "deep.tif")
    with pytest.raises(FormatError, match=r"deep\.tif: mode I has 32-bit integers"):
        read_image(tmp_path / "deep.tif")


def test_a_damaged_image_is_refused_by_name(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(path)
    for content in (path.read_bytes()[:60], b"text", b""):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"image\.png: not an image that can be read"):
            read_image(path)
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "absent.png")


@pytest.mark.parametrize("kind", ["PNG", "PPM", "BMP", "GIF", "TIFF", "JPEG", "WEBP", "TGA", "PCX", "SGI"])
def test_any_bytes_of_an_image_are_read_or_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # what a header says is believed up to that
    drawn = random.Random(kind)  # noqa: S311 - the same every time
    path = tmp_path / f"image.{kind.lower()}"
    Image.fromarray(np.arange(7 * 5 * 3, dtype=np.uint8).reshape(7, 5, 3)).save(path, kind)
    good = path.read_bytes()
    for _ in range(60):
        bad = bytearray(good)
        for _ in range(drawn.randint(1, 3)):
            at = drawn.randrange(len(bad))
            bad[at : at + drawn.randint(0, 2)] = drawn.randbytes(drawn.randint(0, 3))
        path.write_bytes(bad)
        try:
            assert read_image(path).dtype == torch.uint8
        except FormatError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017 - it may as well be read
