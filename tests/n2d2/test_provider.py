"""The provider: every stimulus once an epoch, the same order from the same generator, from memory as from files."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from n2d2.database import DIR, MNIST, Numpy, reading
from n2d2.error_handler import ImplementationError, UndefinedParameterError, WrongInputType, WrongValue
from n2d2.provider import DataProvider, MultipleOutputsProvider, TensorPlaceholder
from n2d2.tensor import Tensor
from n2d2.transform import Composite, Distortion, Flip, PadCrop, RangeAffine, Rescale, SliceExtraction


def database(n=23, n_validation=4, shape=(1, 6, 5), dtype=np.float32):
    """Stimuli whose first pixel is their number, and whose label is that number modulo 7."""
    pixels = np.random.default_rng(0).integers(0, 256, (n + n_validation, *shape)).astype(dtype)
    pixels[:, 0, 0, 0] = np.arange(n + n_validation)
    made = Numpy()
    made.load(list(pixels[:n]), [i % 7 for i in range(n)], "Learn")
    if n_validation:
        made.load(list(pixels[n:]), [i % 7 for i in range(n, n + n_validation)], "Validation")
    return made


def provider(batch_size=4, size=(5, 6, 1), **arguments):
    made = DataProvider(database(**arguments), size, batch_size=batch_size)
    made.set_partition("Learn")
    return made


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


LARGEST = {"uint8": 255, "int8": 127, "uint16": 65_535, "int16": 32_767, "int32": 2**31 - 1}


@pytest.mark.parametrize("dtype", [*LARGEST, "float16", "float32", "float64"])
@pytest.mark.parametrize("normalized", [False, True])
def test_integers_reach_the_network_divided_by_the_largest_of_their_type(dtype, normalized):
    if dtype in LARGEST:
        limits = np.iinfo(dtype)
        pixels = np.array([0, 1, 2, limits.max // 2, limits.max, limits.min], dtype)
    else:
        pixels = np.array([0, 1, 0.5, -3, 200, 255], dtype)
    made = Numpy()
    made.load([pixels.reshape(2, 3)], [0], "Test")
    feed = DataProvider(made, [3, 2, 1])
    if normalized:
        feed.normalize_stimuli()
    expected = pixels.astype(np.float64) / LARGEST.get(dtype, 1)
    np.testing.assert_allclose(feed.read_batch(0).to_numpy().flatten(), expected, rtol=1e-6)
    feed.add_transformation(Flip(horizontal_flip=True))
    np.testing.assert_allclose(
        feed.read_batch(0).to_numpy()[0, 0], expected.reshape(2, 3)[:, ::-1], rtol=1e-6
    )  # integers stay integers
    feed.add_transformation(RangeAffine("Minus", 128.0))
    unscaled = pixels.astype(np.float32).reshape(2, 3)[:, ::-1] - np.float32(128)
    np.testing.assert_allclose(feed.read_batch(0).to_numpy()[0, 0], unscaled, rtol=1e-6)  # of the image's own values


@pytest.mark.parametrize(
    ("save", "largest"),
    [
        (lambda path: Image.fromarray(np.full((2, 2), 200, np.uint8)).save(f"{path}.png"), 200 / 255),
        (lambda path: Image.fromarray(np.full((2, 2), 40_000, np.uint16)).save(f"{path}.png"), 40_000 / 65_535),
        (lambda path: Image.fromarray(np.full((2, 2), 3.5, np.float32)).save(f"{path}.tif"), 3.5),
        (lambda path: Path(f"{path}.csv").write_text("1, 2.5\n3;10\n"), 10),
        (lambda path: Path(f"{path}.txt").write_text("1 2\n\n-3\t10\n"), 10),
    ],
)
def test_files_of_every_type_reach_the_network_scaled_alike(tmp_path, save, largest):
    save(tmp_path / "stimulus")
    feed = DataProvider(DIR(tmp_path, learn=0.0), [2, 2, 1])
    assert feed.read_batch(0).to_numpy().max() == pytest.approx(largest)


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
    feed = DataProvider(made, (5, 6, 1), batch_size=50)
    feed.set_partition("Learn")
    assert feed.read_batch(0).values.shape[0] == 23
    made.load([np.zeros((6, 5), np.float32)], [0], "Learn")
    assert feed.read_batch(0).values.shape[0] == 24


def test_random_batches_show_each_stimulus_before_any_again():
    feed = provider(4, n=23)
    seen = [int(x) for _ in range(23) for x in feed.read_random_batch().values[:, 0, 0, 0]]
    for start in range(0, 92, 23):
        assert sorted(seen[start : start + 23]) == list(range(23))


def test_reading_at_an_index():
    feed = provider(4)
    assert feed.read_batch(2).values[:, 0, 0, 0].tolist() == [2, 3, 4, 5]
    assert feed.labels.tolist() == feed.get_labels().to_numpy().flatten().tolist() == [2, 3, 4, 5]
    assert (feed.get_labels().shape(), feed.get_labels().data_type(), feed.get_labels()[1]) == ([4, 1, 1, 1], "int", 3)
    assert feed.read_batch(idx=21).shape() == [2, 1, 6, 5]
    assert feed.get_data() == feed.read_batch(21)
    for idx, error, message in (
        (-1, WrongValue, r"idx=-1 is illegal: it must be a whole number >= 0"),
        (23, WrongValue, r"idx=23 is illegal: Learn has stimuli 0 to 22"),
        (1.0, WrongInputType, r"idx=1.0 is illegal"),
    ):
        with pytest.raises(error, match=message):
            feed.read_batch(idx)


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_that_are_laid_out_give_each_stimulus_once(shuffle):
    feed = provider(4)
    assert feed.all_batchs_provided()
    with pytest.raises(WrongValue, match=r"read_batch\(\) needs set_batch\(\) first"):
        feed.read_batch()
    for _ in range(2):
        feed.set_batch(shuffle=shuffle)
        seen = []
        while not feed.all_batchs_provided():
            seen += feed.read_batch().values[:, 0, 0, 0].int().tolist()
        assert sorted(seen) == list(range(23))
        assert (seen == sorted(seen)) is not shuffle
        with pytest.raises(WrongValue, match=r"all batches of Learn have been read: set_batch\(\) lays them out again"):
            feed.read_batch()
    feed.set_batch()
    feed.set_partition("Validation")
    assert feed.all_batchs_provided()  # each partition has its own
    feed.set_partition("Learn")
    assert not feed.all_batchs_provided()


def test_what_was_read_last_is_zeros_before_anything_was():
    feed = provider(4)
    assert feed.get_data() == Tensor([4, 1, 6, 5])
    assert feed.get_labels() == Tensor([4, 1, 1, 1], datatype="int")


def test_an_iteration_ends():
    feed = provider(4)
    for _ in range(6):
        next(feed)
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(feed)


def test_the_transformations_of_a_partition():
    feed = provider()
    feed.add_transformation(Composite([Flip(vertical_flip=True), Composite([Rescale(5, 6, apply_to="NoLearn")])]))
    feed.add_on_the_fly_transformation(Flip(apply_to="LearnOnly"))
    assert feed.get_transformations() == [Flip(apply_to="LearnOnly"), Flip(vertical_flip=True)]
    feed.set_partition("Test")
    assert feed.get_transformations() == [Flip(vertical_flip=True), Rescale(5, 6, apply_to="NoLearn")]


def test_a_transformation_that_changes_later_changes_no_provider():
    feed, flip = provider(), Flip(horizontal_flip=True)
    feed.add_transformation(flip)
    flip.horizontal_flip = False
    assert feed.get_transformations() == [Flip(horizontal_flip=True)]


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
    assert DataProvider(database(), [5, 6, 1]).get_partition() == "Test"
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
        ((Numpy(), [1]), WrongValue, r"size=\[1\] is illegal: it must be \[width, height, channels\]"),
        ((Numpy(), 28), WrongValue, r"size=28 is illegal: it must be \[width, height, channels\]"),
        ((Numpy(), [0, 1, 1]), WrongValue, "width=0 is illegal"),
        ((Numpy(), [1, 1, 1], 128), WrongInputType, "random_read=128 is illegal: it must be True or False"),
        ((Numpy(),), WrongInputType, r"size is missing; it is DataProvider\(database, size,"),
        ((Numpy(), [1, 1, 1.5]), WrongInputType, "channels=1.5 is illegal"),
    ],
)
def test_illegal_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        DataProvider(*arguments)


def test_other_illegal_arguments_are_named():
    with pytest.raises(WrongValue, match="batch_size=0 is illegal"):
        DataProvider(Numpy(), [1, 1, 1], batch_size=0)
    with pytest.raises(UndefinedParameterError, match="no parameter 'batchsize'; did you mean 'batch_size'"):
        DataProvider(Numpy(), [1, 1, 1], batchsize=2)
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
    feed = DataProvider(MNIST(validation=0.1), [28, 28, 1], batch_size=10)
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
    feed = DataProvider(DIR(folder, learn=1.0), (8, 8, 3), batch_size=batch_size)
    feed.add_transformation(Rescale(10, 10))
    feed.add_on_the_fly_transformation(SliceExtraction(8, 8, random_offset_x=True, random_offset_y=True))
    return feed


def red_of(x):
    return (x[:, 2, 0, 0] * 255).round().int().tolist()


def test_files_are_read_each_once_an_epoch_in_the_generators_order(folder):
    feed = from_files(folder)
    first, again = epoch(feed, 1), epoch(feed, 1)
    reds = [red for x, _ in first for red in red_of(x)]
    assert sorted(reds) == list(range(60))
    assert reds == [red for x, _ in epoch(from_files(folder), 1) for red in red_of(x)]
    for (x, labels), (x_again, _) in zip(first, again, strict=True):
        assert torch.equal(x, x_again)
        assert labels.tolist() == [red % 3 for red in red_of(x)]


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
    feed = DataProvider(DIR(folder, learn=1.0), (8, 8, 3), batch_size=9)
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
    feed.set_partition("Learn")
    assert feed.read_random_batch().shape() == [8, 1, 32, 32]


def test_parameters_of_a_provider():
    feed = provider(4)
    assert feed.get_parameter("batch_size") == 4
    feed.set_parameter("random_read", value=True)
    assert feed.get_parameter("random_read") is True
    for name in ("batch_size", "size", "database", "composite_stimuli"):
        with pytest.raises(WrongValue, match=f"{name} of a DataProvider cannot change any more: make another one"):
            feed.set_parameter(name, 2)
    with pytest.raises(WrongInputType, match="random_read=2 is illegal"):
        feed.random_read = 2
    with pytest.raises(UndefinedParameterError, match="DataProvider has no parameter 'random'"):
        feed.random = 2


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: MultipleOutputsProvider([3, 3]), ImplementationError, "networks have one input here"),
        (provider().N2D2, ImplementationError, "N2D2 is refused"),
        (lambda: provider().set_deepnet(None), ImplementationError, r"set_deepnet is refused: .*get_deepnet\(\)"),
        (lambda: provider().read_batchs(), UndefinedParameterError, "no parameter 'read_batchs'; did you mean 'read_b"),
    ],
)
def test_what_is_refused_says_what_to_use(use, error, message):
    with pytest.raises(error, match=message):
        use()


def test_a_size_of_two_numbers_is_for_one_channel():
    made = Numpy()
    made.load([np.arange(12.0).reshape(4, 3)] * 3, [0, 1, 2], "Test")
    feed = DataProvider(made, [3, 4], batch_size=2)
    assert (feed.shape(), feed.read_batch(0).shape()) == ([2, 4, 3], [2, 4, 3])


def test_a_placeholder_gives_its_tensor_and_labels():
    inputs = Tensor([3, 2, 4, 5], value=0.25)
    feed = TensorPlaceholder(inputs, labels=Tensor([3, 1, 1, 1], value=2, datatype="int"), name="data")
    assert feed() is inputs
    assert inputs.trace.provider is feed
    assert (feed.shape(), feed.dims(), feed.get_size(), feed.get_batch_size()) == (
        [3, 2, 4, 5],
        [5, 4, 2, 3],
        [5, 4, 2],
        3,
    )
    assert (feed.labels.tolist(), feed.get_partition(), feed.get_name()) == ([2, 2, 2], "Learn", "data")
    feed.set_partition("Test")
    assert feed.get_partition() == "Test"
    assert TensorPlaceholder(inputs).get_name() == "TensorPlaceholder"
    with pytest.raises(WrongValue, match="TensorPlaceholder has no labels"):
        _ = TensorPlaceholder(inputs).labels


@pytest.mark.parametrize(
    ("inputs", "labels", "error", "message"),
    [
        (
            Tensor([2, 3], datatype="int"),
            None,
            WrongInputType,
            "inputs must be a .*of floats, not one of int",
        ),
        (np.zeros((2, 3)), None, WrongInputType, "inputs must be a n2d2.Tensor of floats, not a ndarray"),
        (Tensor([2, 3]), Tensor([2]), WrongInputType, "labels must be a n2d2.Tensor of integers, not one of float"),
        (Tensor([2, 3]), [0, 1], WrongInputType, "labels must be a n2d2.Tensor of integers, not a list"),
        (Tensor([2, 3]), Tensor([3], datatype="int"), WrongValue, "there are 3 labels for 2 samples"),
        (Tensor([]), None, WrongValue, "inputs have no dimensions"),
    ],
)
def test_a_placeholder_takes_floats_and_a_whole_number_for_each(inputs, labels, error, message):
    with pytest.raises(error, match=message):
        TensorPlaceholder(inputs, labels)
    with pytest.raises(ImplementationError, match="size of TensorPlaceholder is refused"):
        TensorPlaceholder(inputs, size=[3, 3, 1])
