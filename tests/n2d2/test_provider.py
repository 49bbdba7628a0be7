"""The provider: every stimulus once an epoch, the same order from the same generator, from memory as from files."""

import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from n2d2.database import DIR, MNIST, Numpy, reading
from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.provider import DataProvider
from n2d2.tensor import Tensor
from n2d2.transform import Composite, Distortion, Flip, PadCrop, RangeAffine, Rescale, SliceExtraction


def database(n=23, n_validation=4, shape=(1, 6, 5), dtype=np.uint8):
    """Stimuli whose first pixel is their number, and whose label is that number modulo 7."""
    pixels = np.random.default_rng(0).integers(0, 256, (n + n_validation, *shape)).astype(dtype)
    pixels[:, 0, 0, 0] = np.arange(n + n_validation)
    made = Numpy()
    made.load(list(pixels[:n]), [i % 7 for i in range(n)], "Learn")
    if n_validation:
        made.load(list(pixels[n:]), [i % 7 for i in range(n, n + n_validation)], "Validation")
    return made


def provider(batch_size=4, size=(5, 6, 1), **arguments):
    return DataProvider(database(**arguments), size, batch_size=batch_size)


def epoch(feed, seed=0, partition="Learn", **arguments):
    generator = torch.Generator().manual_seed(seed)
    return list(feed.batches(partition, shuffle=True, generator=generator, **arguments))


def numbers(batches):
    return [int(x) for images, _ in batches for x in images[:, 0, 0, 0]]


@given(n=st.integers(1, 40), batch_size=st.integers(1, 45), drop_last=st.booleans(), shuffle=st.booleans())
def test_every_stimulus_once_an_epoch(n, batch_size, drop_last, shuffle):
    batches = list(provider(batch_size, n=n).batches("Learn", shuffle=shuffle, drop_last=drop_last))
    seen = numbers(batches)
    assert len(batches) == (n // batch_size if drop_last else math.ceil(n / batch_size))
    assert len(set(seen)) == len(seen) == (n - n % batch_size if drop_last else n)
    assert shuffle or seen == sorted(seen)
    for images, labels in batches:
        assert images.dtype == torch.float32
        assert labels.tolist() == [int(x) % 7 for x in images[:, 0, 0, 0]]


def test_the_order_is_the_generators_alone():
    feed = provider()
    first = numbers(epoch(feed, 3))
    feed.read_random_batch()
    torch.manual_seed(9)
    assert numbers(epoch(feed, 3)) == first == numbers(epoch(provider(), 3))
    assert numbers(epoch(feed, 4)) != first


def test_what_is_drawn_on_the_fly_is_the_generators_too():
    feed = provider()
    feed.add_on_the_fly_transformation(Distortion(3, 1.0, 2.0, 10, 10))
    first, again, other = (torch.cat([x for x, _ in epoch(feed, seed)]) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first.sort(0).values, other.sort(0).values)


def test_an_epoch_can_be_left_early():
    for _ in provider().batches("Learn", shuffle=True):
        break


def test_an_empty_partition_has_no_batches_and_cannot_be_read():
    feed = provider(n_validation=0)
    assert list(feed.batches("Validation", shuffle=False)) == []
    feed.set_partition("Validation")
    with pytest.raises(WrongValue, match=r"partition Validation of Numpy.* is empty"):
        feed.read_random_batch()
    with pytest.raises(WrongValue, match="is empty"):
        feed.read_batch(0)
    assert list(feed) == []


def test_values_are_bytes_or_normalized_or_what_transformations_make_them():
    x = database().stimuli.images[:23].float()
    feed = provider(23)
    assert torch.equal(feed.read_batch(0).values, x)
    feed.normalize_stimuli()
    assert torch.equal(feed.read_batch(0).values, x / 255)
    feed.add_transformation(RangeAffine("Minus", 128.0))
    assert torch.equal(feed.read_batch(0).values, x - 128)


def test_transformations_are_done_once_and_on_the_fly_ones_at_each_reading():
    calls = []

    class Counted(PadCrop):
        def __call__(self, x, generator=None):
            calls.append(len(x))
            return super().__call__(x, generator)

    feed = provider(10)
    feed.add_transformation(Counted(5, 6))
    epoch(feed)
    epoch(feed)
    assert calls == [23]
    feed.add_on_the_fly_transformation(Counted(5, 6))
    calls.clear()
    epoch(feed)
    assert calls == [10, 10, 3]


def test_transformations_added_later_and_in_composites_count():
    feed = provider(23)
    plain = feed.read_batch(0).values
    feed.add_transformation(Composite([Flip(horizontal_flip=True), Flip(vertical_flip=True)]))
    assert torch.equal(feed.read_batch(0).values, plain.flip(-1).flip(-2))
    feed.add_on_the_fly_transformation(Flip(horizontal_flip=True))
    assert torch.equal(feed.read_batch(0).values, plain.flip(-2))


def test_apply_to_chooses_partitions():
    feed = provider(4)
    feed.add_transformation(Flip(horizontal_flip=True, apply_to="LearnOnly"))
    feed.add_on_the_fly_transformation(Flip(vertical_flip=True, apply_to="NoLearn"))
    images = database().stimuli.images.float()
    assert torch.equal(feed.read_batch(0).values, images[:4].flip(-1))
    feed.set_partition("Validation")
    assert torch.equal(feed.read_batch(0).values, images[23:].flip(-2))


def test_chance_in_a_transformation_that_is_done_once_is_the_same_always():
    one, two = provider(23), provider(23)
    for feed in (one, two):
        feed.add_transformation(Flip(random_horizontal_flip=True))
        torch.manual_seed(5)
    torch.rand(3)
    assert torch.equal(one.read_batch(0).values, two.read_batch(0).values)


def test_a_shape_that_is_not_the_providers_is_explained():
    with pytest.raises(
        WrongValue, match=r"shape \[1, 6, 5\] .* size \[8, 8, 1\] .*asks for \[1, 8, 8\]: add a Rescale"
    ):
        provider(size=(8, 8, 1)).read_batch(0)


def test_stimuli_that_are_added_later_are_seen():
    made = database(n_validation=0)
    feed = DataProvider(made, (5, 6, 1), 50)
    assert feed.read_batch(0).values.shape[0] == 23
    made.load([np.zeros((6, 5), np.uint8)], [0], "Learn")
    assert feed.read_batch(0).values.shape[0] == 24


def test_random_batches_show_each_stimulus_before_any_again():
    feed = provider(4, n=23)
    seen = [int(x) for _ in range(23) for x in feed.read_random_batch().values[:, 0, 0, 0]]
    for start in range(0, 92, 23):
        assert sorted(seen[start : start + 23]) == list(range(23))


def test_reading_at_an_index():
    feed = provider(4)
    assert feed.read_batch(2).values[:, 0, 0, 0].tolist() == [2, 3, 4, 5]
    assert feed.get_labels().tolist() == [2, 3, 4, 5]
    assert feed.read_batch(idx=21).shape() == [2, 1, 6, 5]
    assert feed.get_data() == feed.read_batch(21)
    for idx in (-1, 23):
        with pytest.raises(WrongValue, match=f"idx={idx} is illegal: Learn has stimuli 0 to 22"):
            feed.read_batch(idx)


def test_iterating_in_order_and_by_chance():
    feed = provider(4)
    assert [int(x) for batch in feed for x in batch.values[:, 0, 0, 0]] == list(range(23))
    assert feed.batch_number() == 6
    first = next(iter(feed))
    assert isinstance(first, Tensor)
    assert first.trace.provider is feed
    feed.set_reading_randomly(True)
    assert [int(x) for batch in feed for x in batch.values[:, 0, 0, 0]] != list(range(23))


def test_n2d2s_names():
    feed = provider(4, size=[5, 6, 1])
    assert (feed.shape(), feed.dims(), feed.get_size()) == ([4, 1, 6, 5], [5, 6, 1, 4], [5, 6, 1])
    assert (feed.get_batch_size(), feed.get_name(), feed.get_partition()) == (4, "sp", "Learn")
    assert (feed.epoch_size, feed.get_database().get_nb_stimuli("Validation")) == (23, 4)


def test_printing():
    feed = DataProvider(MNIST(validation=0.1), [32, 32, 1], batch_size=24)
    feed.add_transformation(PadCrop(32, 32))
    feed.add_on_the_fly_transformation(Flip(random_horizontal_flip=True, apply_to="LearnOnly"))
    assert repr(feed) == (
        "'sp' DataProvider(database=MNIST(validation=0.1), size=[32, 32, 1], batch_size=24)"
        "[Transformations=PadCrop(width=32, height=32)]"
        "[OnTheFlyTransformations=Flip(random_horizontal_flip=True, apply_to='LearnOnly')]"
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("MNIST", [1, 1, 1]), WrongInputType, "database='MNIST' is illegal"),
        ((Numpy(), [1, 1]), WrongValue, r"must be \[width, height, channels\]"),
        ((Numpy(), [0, 1, 1]), WrongValue, "width=0 is illegal"),
        ((Numpy(), [1, 1, 1], 0), WrongValue, "batch_size=0 is illegal"),
        ((Numpy(), [1, 1, 1.5]), WrongInputType, "channels=1.5 is illegal"),
    ],
)
def test_illegal_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        DataProvider(*arguments)


def test_other_illegal_arguments_are_named():
    with pytest.raises(WrongValue, match="labels per pixel"):
        DataProvider(Numpy(), [1, 1, 1], composite_stimuli=True)
    with pytest.raises(WrongValue, match=r"partition='Train' is illegal"):
        provider().set_partition("Train")
    with pytest.raises(WrongInputType, match="is no transformation"):
        provider().add_transformation("Flip")
    with pytest.raises(WrongValue, match=r"name='median' is illegal"):
        provider().global_value("median")


def test_global_values_are_of_what_was_added_before_them():
    feed = provider()
    mean, deviation = feed.global_value("mean"), feed.global_value("stdDev")
    feed.add_transformation(RangeAffine("Minus", mean, "Divides", deviation))
    learn = database().stimuli.images[:23].double()
    assert mean() == pytest.approx(float(learn.mean()))
    assert deviation() == pytest.approx(float(learn.std(correction=0)))
    values = torch.cat([x for x, _ in feed.batches("Learn", shuffle=False)])
    assert float(values.mean()) == pytest.approx(0, abs=1e-5)
    assert float(values.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert repr(mean) == "GlobalValue(mean of Learn)"


def test_nothing_is_opened_before_the_first_stimulus(monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNECELL_DATA", str(tmp_path))
    feed = DataProvider(MNIST(validation=0.1), [28, 28, 1], 10)
    feed.add_transformation(RangeAffine("Minus", feed.global_value("mean")))
    feed.set_partition("Learn")
    assert feed.epoch_size == 54000
    assert not list(tmp_path.iterdir())


@pytest.fixture
def folder(tmp_path):
    """Sixty images of several sizes in three folders; the red of each says which it is."""
    for i in range(60):
        place = tmp_path / "abc"[i % 3]
        place.mkdir(exist_ok=True)
        Image.new("RGB", (8 + i % 4, 9 + i % 5), (i, 7, 9)).save(place / f"{i:02}.png")
    return tmp_path


def from_files(folder, batch_size=7):
    feed = DataProvider(DIR(folder, learn=1.0), (8, 8, 3), batch_size)
    feed.add_transformation(Rescale(10, 10))
    feed.add_on_the_fly_transformation(SliceExtraction(8, 8, random_offset_x=True, random_offset_y=True))
    return feed


def test_files_are_read_each_once_an_epoch_in_the_generators_order(folder):
    feed = from_files(folder)
    first, again = epoch(feed, 1), epoch(feed, 1)
    reds = [int(red) for x, _ in first for red in x[:, 2, 0, 0]]
    assert sorted(reds) == list(range(60))
    assert reds == [int(red) for x, _ in epoch(from_files(folder), 1) for red in x[:, 2, 0, 0]]
    for (x, labels), (x_again, _) in zip(first, again, strict=True):
        assert torch.equal(x, x_again)
        assert labels.tolist() == [int(red) % 3 for red in x[:, 2, 0, 0]]


def test_files_are_kept_as_far_as_there_is_room(folder, monkeypatch):
    opened = []
    real = reading.Stimuli.image
    monkeypatch.setattr(reading.Stimuli, "image", lambda self, index: opened.append(index) or real(self, index))
    feed = from_files(folder)
    epoch(feed)
    assert sorted(opened) == list(range(60))
    epoch(feed)
    assert len(opened) == 60
    monkeypatch.setattr(reading, "ROOM", 20 * 300)
    feed = from_files(folder)
    epoch(feed)
    epoch(feed)
    assert len(opened) == 60 + 60 + 40


def test_files_of_several_sizes_are_cut_alike_on_the_fly(folder):
    feed = DataProvider(DIR(folder, learn=1.0), (8, 8, 3), 9)
    feed.add_on_the_fly_transformation(PadCrop(8, 8))
    assert sum(len(x) for x, _ in epoch(feed)) == 60


def test_an_epoch_of_files_can_be_left_early(folder):
    batches = from_files(folder).batches("Learn", shuffle=True)
    next(batches)
    batches.close()


def test_a_damaged_file_is_named_when_it_is_read(folder):
    (folder / "a" / "00.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a/00\.png: not an image"):
        epoch(from_files(folder))


def test_mnist_from_idx_files(tmp_path):
    for start, n in (("train", 20), ("t10k", 5)):
        head = struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28)
        (tmp_path / f"{start}-images-idx3-ubyte").write_bytes(head + bytes(n * 28 * 28))
        (tmp_path / f"{start}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, n) + bytes(n))
    feed = DataProvider(MNIST(tmp_path, validation=0.25), [32, 32, 1], batch_size=8)
    feed.add_transformation(PadCrop(32, 32))
    assert [len(x) for x, _ in feed.batches("Learn", shuffle=True)] == [8, 7]
    assert feed.read_random_batch().shape() == [8, 1, 32, 32]
