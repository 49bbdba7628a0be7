"""N2D2's databases: nothing is opened before it is needed; partitions are exact, disjoint and always the same."""

import math
import struct
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from n2d2.database import (
    CIFAR10,
    CIFAR100,
    DATABASES,
    DIR,
    GTSRB,
    ILSVRC2012,
    MNIST,
    Cityscapes,
    Database,
    FashionMNIST,
    Numpy,
)
from n2d2.error_handler import ImplementationError, UndefinedParameterError, WrongInputType, WrongValue
from n2d2.network.keys import ini_keys
from n2d2.provider import DataProvider
from n2d2.transform import PadCrop
from prunecell.data import sets as data
from prunecell.errors import DataError, FormatError

PARTITIONS = ("Learn", "Validation", "Test", "Unpartitioned")


@pytest.fixture(autouse=True)
def nothing_is_kept(tmp_path, monkeypatch):
    """No data in the cache, none in the system's folders, and no way to fetch any."""
    monkeypatch.setenv("PRUNECELL_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "FASHION_MNIST_FOLDER", tmp_path / "debian")

    def fetch(*_, **__):
        raise DataError("nothing is fetched here")

    monkeypatch.setattr(data, "fetch", fetch)


def write_idx(folder, n_train=40, n_test=10):
    folder.mkdir(parents=True, exist_ok=True)
    for start, n in (("train", n_train), ("t10k", n_test)):
        pixels = np.arange(n * 28 * 28).astype(np.uint8)
        (folder / f"{start}-images-idx3-ubyte").write_bytes(
            struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28) + pixels.tobytes()
        )
        labels = bytes(i % 10 for i in range(n))
        (folder / f"{start}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, n) + labels)
    return folder


def write_images(folder, counts, suffix="png"):
    for label, n in counts.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.new("RGB", (4, 3), (i, 10, 20)).save(folder / label / f"{i:03}.{suffix}")
    return folder


def numbers(database):
    return [database.get_nb_stimuli(partition) for partition in PARTITIONS]


def all_indices(database):
    return torch.cat([database.indices(partition) for partition in PARTITIONS]).sort().values.tolist()


@pytest.mark.parametrize("kind", DATABASES.values())
def test_building_opens_nothing_and_using_says_what_is_missing(kind):
    database = kind()
    with pytest.raises(DataError, match=r"is not in|there is no folder|has no images yet"):
        _ = database.stimuli


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        (MNIST(), [60000, 0, 10000, 0]),
        (MNIST(validation=0.1), [54000, 6000, 10000, 0]),
        (FashionMNIST(data_path="/nowhere"), [60000, 0, 10000, 0]),
        (CIFAR10(validation=0.25), [37500, 12500, 10000, 0]),
        (CIFAR100(use_coarse=True), [50000, 0, 10000, 0]),
        (GTSRB(validation=0.2), [31367, 7842, 12630, 0]),
        (ILSVRC2012(learn=1.0), [1281167, 50000, 50000, 0]),
        (ILSVRC2012(0.9, use_validation_for_test=False), [1153050, 50000, 128117, 0]),
        (CIFAR10(validation=0.25, use_test_for_validation=True), [50000, 10000, 10000, 0]),
        (GTSRB(0.2), [31367, 7842, 12630, 0]),
        (GTSRB(0.5), [19605, 19604, 12630, 0]),  # as N2D2's own tests say
        (GTSRB(1.0), [0, 39209, 12630, 0]),
    ],
)
def test_published_numbers_are_known_without_the_data(database, expected):
    assert numbers(database) == expected


def test_numbers_per_label_are_not_known_without_the_data():
    with pytest.raises(DataError, match="MNIST is not in"):
        MNIST(stimuli_per_label_train=5).get_nb_stimuli("Learn")


def test_the_numbers_of_the_files_count_when_they_are_there(tmp_path):
    assert numbers(MNIST(write_idx(tmp_path), validation=0.25)) == [30, 10, 10, 0]


@given(validation=st.floats(0, 1), by_chance=st.booleans())
def test_validation_is_held_back_exactly(tmp_path_factory, validation, by_chance):
    folder = tmp_path_factory.getbasetemp() / "idx"
    database = MNIST(folder if folder.exists() else write_idx(folder), validation, random_partitioning=by_chance)
    again = MNIST(folder, validation, random_partitioning=by_chance)
    held = math.ceil(40 * validation - 0.5)  # a half goes to Learn
    assert numbers(database) == [40 - held, held, 10, 0]
    assert all_indices(database) == list(range(50))
    assert all(torch.equal(database.indices(name), again.indices(name)) for name in PARTITIONS)
    assert min(database.indices("Test").tolist()) == 40
    if not by_chance:
        assert database.indices("Learn").tolist() == list(range(40 - held))


def test_so_many_of_each_label(tmp_path):
    database = MNIST(write_idx(tmp_path), stimuli_per_label_train=3, stimuli_per_label_test=1, validation=0.5)
    assert numbers(database) == [15, 15, 10, 0]
    used = torch.cat((database.indices("Learn"), database.indices("Validation")))
    assert database.stimuli.labels[used].bincount().tolist() == [3] * 10


def test_gray_images_get_a_channel_and_colours_are_blue_green_red(tmp_path, monkeypatch):
    assert MNIST(write_idx(tmp_path)).stimuli.images.shape == (50, 1, 28, 28)
    rgb = torch.arange(2 * 3 * 4).reshape(2, 3, 2, 2).to(torch.uint8)
    labels = torch.tensor([0, 1])
    found = data.DataSet("CIFAR-10", rgb, labels, rgb, labels)
    monkeypatch.setattr(sys.modules[CIFAR10.__module__], "cifar10", lambda _: found)
    assert torch.equal(CIFAR10().stimuli.images[:2], rgb.flip(1))


def write_cifar(folder, train, test):
    for files, labels in ((range(1, 6), train), (["test"], test)):
        for file in files:
            name = "test_batch.bin" if file == "test" else f"data_batch_{file}.bin"
            (folder / name).write_bytes(b"".join(bytes([label]) + bytes([label] * 3072) for label in labels))


def test_labels_of_photographs_are_numbered_as_they_appear_and_named_by_the_published_file(tmp_path):
    write_cifar(tmp_path, [6, 2, 6], [0, 2])
    database = CIFAR10(tmp_path)
    assert database.stimuli.labels.tolist() == [0, 1, 0] * 5 + [2, 1]
    assert [database.get_label_name(label) for label in range(3)] == ["6", "2", "0"]
    (tmp_path / "batches.meta.txt").write_text(
        "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"
    )
    database = CIFAR10(tmp_path, use_test_for_validation=True)
    assert [database.get_label_name(label) for label in range(3)] == ["frog", "bird", "airplane"]
    assert numbers(database) == [15, 2, 2, 0]
    (tmp_path / "batches.meta.txt").write_text("airplane\n")
    with pytest.raises(FormatError, match=r"batches.meta.txt: 1 names for 7 labels"):
        _ = CIFAR10(tmp_path).stimuli


def test_load_takes_another_folder(tmp_path):
    database = MNIST(write_idx(tmp_path / "one", 20))
    assert database.get_nb_stimuli("Learn") == 20
    database.load(write_idx(tmp_path / "two", 30))
    assert database.get_nb_stimuli("Learn") == 30


def test_the_summary_is_n2d2s(tmp_path, capsys):
    MNIST(write_idx(tmp_path), validation=0.25).get_partition_summary()
    assert capsys.readouterr().out.splitlines() == [
        "Number of stimuli : 50",
        "Learn         : 30 stimuli (60.0%)",
        "Test          : 10 stimuli (20.0%)",
        "Validation    : 10 stimuli (20.0%)",
        "Unpartitioned : 0 stimuli (0.0%)",
    ]


def test_label_names(tmp_path):
    database = DIR(write_images(tmp_path, {"cat": 1, "ant": 1}))
    assert [database.get_label_name(label) for label in (0, 1)] == ["ant", "cat"]
    with pytest.raises(WrongValue, match="label_idx=2 is illegal: the database has 2 labels"):
        database.get_label_name(2)


def test_an_empty_database():
    assert numbers(Database()) == [0, 0, 0, 0]


def test_the_same_number_of_each_label_as_in_the_manual(tmp_path):
    counts = {"airplanes": 40, "car_side": 12, "Faces": 21, "Motorbikes": 39}
    database = DIR(write_images(tmp_path, counts), learn=0.4, validation=0.2)
    labels = database.stimuli.labels
    assert labels[database.indices("Learn")].bincount().tolist() == [5, 5, 5, 5]  # 0.4 of 12
    assert labels[database.indices("Validation")].bincount().tolist() == [2, 2, 2, 2]
    assert numbers(database) == [20, 8, 84, 0]
    assert all_indices(database) == list(range(112))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"learn": 0.5, "equiv_label_partitioning": False}, [7, 0, 7, 0]),
        ({"learn": 0.5, "validation": 0.5, "equiv_label_partitioning": False}, [7, 7, 0, 0]),
        ({"learn": 3, "validation": 2, "per_label_partitioning": False}, [3, 2, 9, 0]),
        ({"learn": 3, "validation": 2, "test": 4, "per_label_partitioning": False}, [3, 2, 4, 5]),
        ({"learn": 1.0, "label_depth": 0, "label_name": "thing"}, [14, 0, 0, 0]),
    ],
)
def test_partitioning_of_folders(tmp_path, arguments, expected):
    database = DIR(write_images(tmp_path, {"a": 4, "b": 10}), **arguments)
    assert numbers(database) == expected
    assert all_indices(database) == list(range(14))


def test_depths_names_masks_and_extensions(tmp_path):
    write_images(tmp_path, {".": 1, "x": 1, "x/deep": 1, "y": 1})
    write_images(tmp_path, {"y": 1}, suffix="jpg")
    assert len(DIR(tmp_path).stimuli.labels) == 4
    assert DIR(tmp_path).stimuli.label_names == ["", "x", "y"]
    assert DIR(tmp_path, label_name="all").stimuli.label_names == ["all", "all/x", "all/y"]
    assert DIR(tmp_path, depth=-1, label_depth=2).stimuli.label_names == ["", "x", "x/deep", "y"]
    assert DIR(tmp_path, depth=0).stimuli.label_names == [""]
    assert len(DIR(tmp_path, valid_extensions=["jpg"]).stimuli.labels) == 1
    assert DIR(tmp_path, ignore_mask=["*/x/*", "*/000.jpg"]).stimuli.label_names == ["", "y"]
    with pytest.raises(DataError, match="leaves none of 4"):
        _ = DIR(tmp_path, ignore_mask=["*"]).stimuli
    for name in ("ignore_mask", "valid_extensions"):
        with pytest.raises(WrongInputType, match=f"{name}='jpg' is illegal: it must be a list of texts"):
            DIR(tmp_path, **{name: "jpg"})


def test_loading_a_folder_and_dealing_it_out(tmp_path):
    database = DIR()
    database.load(write_images(tmp_path, {"a": 4, "b": 6}), 1, "", 1)
    assert numbers(database) == [0, 0, 0, 10]
    database.partition_stimuli(learn=0.5, validation=0.2, test=0.3)
    assert numbers(database) == [5, 2, 3, 0]
    database.load(write_images(tmp_path / "more", {"b": 2, "c": 3}))  # a second folder is added
    assert numbers(database) == [5, 2, 3, 5]
    assert database.stimuli.labels.tolist() == [0] * 4 + [1] * 6 + [1] * 2 + [2] * 3
    assert [database.get_label_name(label) for label in range(3)] == ["a", "b", "c"]
    with pytest.raises(WrongInputType, match=r"depth=1.5 is illegal"):
        database.load(tmp_path, depth=1.5)


def test_an_image_of_a_folder_is_blue_green_red(tmp_path):
    image = DIR(write_images(tmp_path, {"a": 1})).stimuli.image(0)
    assert (image.shape, image[:, 0, 0].tolist()) == ((3, 3, 4), [20, 10, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learn": 0.7, "validation": 0.4}, "must not sum to more than 1"),
        ({"learn": 5, "per_label_partitioning": False}, "2 images are in"),
        ({"learn": -0.1}, "learn=-0.1 is illegal"),
        ({"learn": 0.1, "test": -0.1}, "test=-0.1 is illegal"),
    ],
)
def test_more_than_there_is_is_refused(tmp_path, arguments, message):
    write_images(tmp_path, {"a": 2})
    with pytest.raises(WrongValue, match=message):
        _ = DIR(tmp_path, **arguments).stimuli


def test_traffic_signs(tmp_path):
    write_images(tmp_path / "Final_Training" / "Images", {"00000": 3, "00002": 5}, "ppm")
    write_images(tmp_path / "Final_Test", {"Images": 2}, "ppm")
    truth = tmp_path / "Final_Test" / "Images" / "GT-final_test.csv"
    with pytest.raises(DataError, match=r"there is no .*GT-final_test\.csv: it has the labels"):
        _ = GTSRB(data_path=tmp_path).stimuli
    truth.write_text(
        "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n001.ppm;4;3;0;0;4;3;1\n000.ppm;4;3;0;0;4;3;0\n"
    )
    database = GTSRB(0.25, data_path=tmp_path)
    assert numbers(database) == [6, 2, 2, 0]
    assert database.stimuli.labels.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 0]
    assert database.stimuli.image(8).shape == (3, 3, 4)
    assert database.get_label_name(1) == "2"
    truth.write_text("Filename;ClassId\n001.ppm;stop\n")
    with pytest.raises(FormatError, match=r"GT-final_test\.csv: 'stop' is no label"):
        _ = GTSRB(data_path=tmp_path).stimuli


def test_imagenet_with_folders_or_with_a_list(tmp_path):
    write_images(tmp_path / "train", {"n02": 4, "n01": 6})
    write_images(tmp_path / "val", {"n01": 1, "n02": 2})
    database = ILSVRC2012(learn=0.8, data_path=tmp_path)
    assert numbers(database) == [8, 3, 5, 0]
    assert database.indices("Validation").tolist() == [10, 11, 12]
    assert set(database.indices("Test").tolist()) > {10, 11, 12}
    assert numbers(ILSVRC2012(0.8, data_path=tmp_path, use_validation_for_test=False)) == [8, 3, 2, 0]
    assert database.stimuli.labels.tolist() == [0] * 6 + [1] * 4 + [0, 1, 1]
    (tmp_path / "synsets.txt").write_text("n02 dog\nn01 cat\n")
    assert ILSVRC2012(learn=0.8, data_path=tmp_path).stimuli.labels.tolist() == [1] * 6 + [0] * 4 + [1, 0, 0]
    write_images(tmp_path / "flat", {"val": 2})
    (tmp_path / "flat" / "train").symlink_to(tmp_path / "train")
    (tmp_path / "flat" / "val.txt").write_text("000.png 1\n001.png 0\n")
    database = ILSVRC2012(learn=1.0)
    database.load(tmp_path / "flat", label_path=tmp_path / "synsets.txt")
    assert database.stimuli.labels.tolist() == [1] * 6 + [0] * 4 + [1, 0]
    shifted = ILSVRC2012(data_path=tmp_path / "flat", background_class=True)
    assert shifted.stimuli.labels.tolist() == [1] * 6 + [2] * 4 + [2, 1]
    assert shifted.get_label_name(0) == "background"
    (tmp_path / "flat" / "val.txt").write_text("000.png 1\n001.png 2\n")
    database.load(tmp_path / "flat")
    with pytest.raises(FormatError, match="there is a label 2, of 2 labels"):
        _ = database.stimuli
    (tmp_path / "flat" / "val.txt").write_text("000.png 1\n")
    database.load(tmp_path / "flat")
    with pytest.raises(FormatError, match=r"001\.png: no label is given for '001\.png'"):
        _ = database.stimuli


def test_arrays_as_in_the_manual(capsys):
    database = Numpy()
    database.load(list(np.zeros((6, 28, 28), np.uint8)), [int(i) for i in range(6)])
    assert numbers(database) == [0, 0, 0, 6]
    database.partition_stimuli(1.0, 0.0, 0.0)
    database.load(list(np.ones((2, 28, 28), np.uint8)), [7, 8], partition="Validation")
    assert numbers(database) == [6, 2, 0, 0]
    assert database.stimuli.images.shape == (8, 1, 28, 28)
    assert database.stimuli.labels.tolist() == [0, 1, 2, 3, 4, 5, 7, 8]
    database.get_partition_summary()
    assert "Learn         : 6 stimuli (75.0%)" in capsys.readouterr().out


def test_arrays_of_other_layouts_and_types():
    database = Numpy()
    database.load([np.arange(24.0).reshape(2, 4, 3)], channels_first=False)
    assert (database.stimuli.images.shape, database.stimuli.images.dtype) == ((1, 3, 2, 4), torch.float32)
    assert database.stimuli.labels.tolist() == [0]
    assert database.stimuli.images[0, :, 0, 0].tolist() == [0, 1, 2]


@given(n=st.integers(0, 30), shares=st.lists(st.floats(0, 1), min_size=3, max_size=3), by_chance=st.booleans())
def test_dealing_out_what_is_free(n, shares, by_chance):
    total = max(1.0, sum(shares))
    learn, validation, test = (share / total for share in shares)
    database = Numpy(random_partitioning=by_chance)
    database.load([np.zeros((2, 2), np.uint8)] * (n + 1), list(range(n + 1)))
    database.partition_stimuli(learn, validation, test)
    assert all_indices(database) == list(range(n + 1))
    for got, share in zip(numbers(database)[:3], (learn, validation, test), strict=True):
        assert abs(got - share * (n + 1)) <= 1


@pytest.mark.parametrize(
    ("stimuli", "labels", "error", "message"),
    [
        ([], [], WrongValue, "must be a list with at least one array"),
        (np.zeros((0, 2, 2)), [], WrongValue, "must be a list with at least one array"),
        (5, [0], WrongValue, "must be a list with at least one array"),
        ([[1, 2]], [0], WrongInputType, "must have numpy arrays; number 0 is a list"),
        ([np.zeros((2, 2)), np.zeros((2, 2), np.uint8)], [0, 0], WrongValue, "of one type, not float64 and uint8"),
        ([np.zeros((2, 2), np.int64)], [0], WrongInputType, r"stimuli of int64 are illegal; legal: uint8, .*astype"),
        ([np.zeros((2, 2), bool)], [0], WrongInputType, "stimuli of bool are illegal"),
        ([np.zeros((2, 0))], [0], WrongInputType, "2-d or 3-d array"),
        ([np.zeros((2, 2))], 0, WrongInputType, "must be a list of whole numbers from 0, not a int"),
        ([np.zeros((2, 2))], [0, 1], WrongValue, "must have 1 whole numbers"),
        ([np.zeros((2, 2))], [-1], WrongValue, "whole numbers from 0"),
        ([np.zeros((2, 2))], [0.5], WrongValue, "whole numbers from 0"),
        ([np.zeros(2)], [0], WrongInputType, "2-d or 3-d array"),
    ],
)
def test_arrays_that_do_not_do(stimuli, labels, error, message):
    with pytest.raises(error, match=message):
        Numpy().load(stimuli, labels)


def test_arrays_that_do_not_go_together():
    database = Numpy()
    database.load([np.zeros((2, 2), np.uint8)], [0])
    for other in (np.int8, np.uint16, np.float32):
        with pytest.raises(WrongValue, match=r"do not go with those of torch.uint8 before them"):
            database.load([np.zeros((2, 2), other)], [0])
    assert numbers(database) == [0, 0, 0, 1]


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float16, np.float32, np.float64]
)
def test_arrays_keep_their_values(dtype):
    database = Numpy()
    database.load([np.array([[0, 1], [100, 127]], dtype)], [0])
    assert database.stimuli.images.flatten().tolist() == [0, 1, 100, 127]


def test_arrays_of_several_sizes_are_cut_alike():
    database = Numpy()
    database.load([np.full((n, n + 1), n, np.uint8) for n in (4, 5, 6)], [0, 1, 2], "Test")
    feed = DataProvider(database, [4, 4, 1], batch_size=3)
    feed.add_transformation(PadCrop(4, 4))
    assert (feed.read_batch(0).values * 255).round().mean((1, 2, 3)).tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("fractions", "error", "message"),
    [
        ((0.5, 0.5, 0.5), WrongValue, "their sum must be at most 1"),
        ((-0.1, 0.5, 0.5), WrongValue, r"learn=-0.1 is illegal: it must be a number in \[0, 1\]"),
        ((0.1, "a", 0.5), WrongInputType, r"validation='a' is illegal"),
        ((0.1, 0.2, float("nan")), WrongValue, r"test=nan is illegal"),
    ],
)
def test_fractions_that_do_not_do(fractions, error, message):
    with pytest.raises(error, match=message):
        Numpy().partition_stimuli(*fractions)


@pytest.mark.parametrize(
    ("n", "fractions", "expected"),
    [  # as N2D2 rounds: halves to Learn, then to Validation
        (5, (0.5, 0.5, 0.0), [3, 2, 0, 0]),
        (7, (0.5, 0.25, 0.25), [4, 2, 1, 0]),
        (123, (0.4, 0.2, 0.4), [49, 25, 49, 0]),
        (10, (0.2, 0.3, 0.2), [2, 3, 2, 3]),
        (100, (0.7, 0.2, 0.0), [70, 20, 0, 10]),
        (3, (1.0, 0.0, 0.0), [3, 0, 0, 0]),
        (3, (1, 0, 0), [3, 0, 0, 0]),
    ],
)
def test_how_many_a_fraction_is(n, fractions, expected):
    database = Numpy()
    database.load([np.zeros((2, 2), np.uint8)] * n)
    database.partition_stimuli(*fractions)
    assert numbers(database) == expected


def test_an_unknown_partition_is_refused():
    with pytest.raises(WrongValue, match="did you mean 'Learn'"):
        Numpy().get_nb_stimuli("learn")


@pytest.mark.parametrize("kind", DATABASES.values())
def test_every_parameter_has_its_own_ini_key(kind):
    assert sorted(ini_keys(kind).values()) == sorted(field.name for field in fields(kind) if field.init)
    assert {"DataPath", "RandomPartitioning", "Learn" if kind is ILSVRC2012 else "Validation"} <= set(ini_keys(kind))


def test_printing():
    assert repr(MNIST(validation=0.1)) == "MNIST(validation=0.1)"
    assert repr(DIR("/images", 0.5)) == "DIR(data_path='/images', learn=0.5)"


def test_numbers_in_text_files_are_stimuli(tmp_path):
    (tmp_path / "data.txt").write_text("10\n")
    (tmp_path / "notes.md").write_text("no stimulus")
    feed = DataProvider(DIR(tmp_path, 1.0), [1, 1, 1])
    feed.set_partition("Learn")
    assert feed.read_random_batch()[0] == 10
    for content, message in (
        ("1 2\n3\n", "not rows of numbers"),
        ("a\n", "could not convert"),
        ("\n", "no number in it"),
    ):
        (tmp_path / "data.txt").write_text(content)
        with pytest.raises(FormatError, match=rf"data\.txt: .*{message}"):
            DIR(tmp_path).stimuli.image(0)


LABELS = "airplanes 0\ncar side 1\n\nMotorbikes 3\nFaces 2\n"


def test_labels_out_of_a_file(tmp_path):
    folders = write_images(tmp_path / "images", {"airplanes": 2, "car side": 1, "Faces": 3, "Motorbikes": 2})
    (tmp_path / "label.dat").write_text(LABELS)
    database = DIR(folders, learn=1.0, label_path=tmp_path / "label.dat", label_depth=0)
    assert database.stimuli.label_names == ["airplanes", "car side", "Faces", "Motorbikes"]
    assert database.stimuli.labels.tolist() == [2, 2, 2, 3, 3, 0, 0, 1]  # sorted by path: F, M, a, c
    loaded = DIR()
    loaded.load(folders, 1, tmp_path / "label.dat", 0)
    assert loaded.stimuli.labels.tolist() == database.stimuli.labels.tolist()
    with pytest.raises(WrongValue, match="the labels of label_path do not go with those that are there: F"):
        DIR(folders).load(folders, 1, tmp_path / "label.dat")


def test_a_file_has_its_own_label_or_that_of_the_nearest_folder(tmp_path):
    folders = write_images(tmp_path / "images", {"a": 2, "a/deep": 1, "b": 1})
    (tmp_path / "label.dat").write_text("/a 1\na/001.png 0\na/deep 2\nb 1\n")
    database = DIR(folders, depth=-1, label_path=tmp_path / "label.dat")
    assert {
        path.relative_to(folders).as_posix(): int(label)
        for path, label in zip(database.stimuli.images, database.stimuli.labels, strict=True)
    } == {"a/000.png": 1, "a/001.png": 0, "a/deep/000.png": 2, "b/000.png": 1}
    assert database.stimuli.label_names == ["a/001.png", "a", "a/deep"]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, DataError, r"there is no file label_path='.*label.dat': it must have a line 'name number'"),
        ("a 0\nb\n", FormatError, r"label.dat:2: 'b' must be a name and its label"),
        ("a 0\na 1\n", FormatError, r"label.dat:2: 'a 1' must be a name and its label, one for each name"),
        ("a x\n", FormatError, r"label.dat:1: 'a x' must be"),
        ("b 0\n", FormatError, r"label.dat: no label is given for a/000.png; there are labels for b"),
    ],
)
def test_a_file_of_labels_that_does_not_do(tmp_path, content, error, message):
    folders = write_images(tmp_path / "images", {"a": 1})
    if content is not None:
        (tmp_path / "label.dat").write_text(content)
    with pytest.raises(error, match=message):
        _ = DIR(folders, label_path=tmp_path / "label.dat").stimuli


def test_labels_of_mnist_may_be_in_a_folder_of_their_own(tmp_path):
    write_idx(tmp_path / "images")
    (tmp_path / "labels").mkdir()
    for path in (tmp_path / "images").glob("*labels*"):
        path.rename(tmp_path / "labels" / path.name)
    database = MNIST(tmp_path / "images", label_path=tmp_path / "labels", extract_roi=True)
    assert database.stimuli.labels.tolist()[:3] == [0, 1, 2]
    with pytest.raises(DataError, match=r"MNIST is not in .*images: train-labels"):
        _ = MNIST(tmp_path / "images").stimuli
    other = MNIST()
    other.load(tmp_path / "images", label_path=tmp_path / "labels")
    assert numbers(other) == [40, 0, 10, 0]


def test_the_truth_of_traffic_signs_may_be_in_the_folder_itself(tmp_path):
    write_images(tmp_path / "Final_Training" / "Images", {"00000": 1}, "ppm")
    write_images(tmp_path / "Final_Test", {"Images": 1}, "ppm")
    (tmp_path / "GT-final_test.csv").write_text("Filename;ClassId\n000.ppm;0\n")
    database = GTSRB(0.0)
    database.load(tmp_path)
    assert database.stimuli.labels.tolist() == [0, 0]


def test_an_empty_database_knows_names_of_labels(tmp_path, capsys):
    (tmp_path / "labels.dat").write_text("tench, Tinca tinca\ngoldfish\n")
    database = Database()
    database.load("", tmp_path / "labels.dat")
    assert database.get_label_name(0) == "tench, Tinca tinca"
    database.get_partition_summary()
    assert capsys.readouterr().out == "No stimuli in the database\n"
    for arguments, error, message in (
        (("", tmp_path / "absent"), DataError, "must be a file with the name of a label in each line"),
        (("",), DataError, "label_path='' must be a file"),
        ((tmp_path,), WrongValue, "DIR takes folders, Numpy takes arrays"),
    ):
        with pytest.raises(error, match=message):
            database.load(*arguments)


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100, GTSRB, ILSVRC2012, MNIST, FashionMNIST])
def test_nothing_is_downloaded(kind, tmp_path):
    assert kind.is_downloadable() is False
    with pytest.raises(DataError, match=rf"{tmp_path}|{tmp_path / 'cache'}"):
        kind.download()
    with pytest.raises(DataError, match=str(tmp_path)):
        kind.download(tmp_path)


def test_a_download_of_what_is_there_is_done(tmp_path):
    MNIST.download(write_idx(tmp_path))
    with pytest.raises(ImplementationError, match=r"DIR.download is refused: this database is made of your own files"):
        DIR.download()


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: Cityscapes(inc_train_extra=True), ImplementationError, "n2d2.database.Cityscapes is refused: segment"),
        (
            lambda: DIR("/x", 1.0, roi_file="a"),
            ImplementationError,
            "roi_file of DIR is refused: stimuli are taken whole",
        ),
        (lambda: DIR("/x", 1.0, ignore_masks=[]), ImplementationError, "its name is ignore_mask"),
        (lambda: MNIST("/x", default_label="a"), ImplementationError, "default_label of MNIST is refused"),
        (lambda: ILSVRC2012(1.0, validation=0.1), ImplementationError, "validation of ILSVRC2012 is refused"),
        (lambda: GTSRB().load("/x", extract_ROIs=True), ImplementationError, "extract_ROIs is refused"),
        (lambda: CIFAR10().load("/x", "/labels"), WrongValue, "CIFAR10 has its labels with its images"),
        (
            lambda: MNIST("/x", validaton=0.1),
            UndefinedParameterError,
            "MNIST has no parameter .validaton",
        ),
        (lambda: MNIST(5), WrongInputType, "data_path=5 is illegal: it must be a path"),
        (lambda: DIR("/x").load(None), WrongInputType, "data_path=None is illegal"),
        (lambda: GTSRB("/x"), WrongInputType, "validation='/x' is illegal: it must be a number"),
        (
            lambda: DIR("/x", 1.0, ignore_mask="*.png"),
            WrongInputType,
            "ignore_mask='\\*.png' is illegal: it must be a list",
        ),
        (lambda: DIR("/x", 1.0, depth="deep"), WrongInputType, "depth='deep' is illegal"),
        (lambda: MNIST("/x").get_label_name("a"), WrongInputType, "label_idx='a' is illegal"),
        (lambda: MNIST("/x").get_nb_stimulis("Learn"), UndefinedParameterError, "did you mean 'get_nb_stimuli'"),
        (lambda: MNIST("/x").set_parameter("validation", 2), WrongValue, "validation=2 is illegal"),
        (lambda: MNIST("/x").set_parameter("test", 2), UndefinedParameterError, "MNIST has no parameter 'test'"),
        (lambda: MNIST("/x").N2D2(), ImplementationError, "N2D2 is refused"),
        (lambda: DIR("/nowhere", 1.0).stimuli, DataError, "there is no folder /nowhere"),
    ],
)
def test_what_is_not_here_is_told_by_name(use, error, message):
    with pytest.raises(error, match=message):
        use()


def test_a_parameter_that_changes_opens_the_data_again(tmp_path):
    database = MNIST(write_idx(tmp_path))
    assert database.get_nb_stimuli("Validation") == 0
    database.set_parameter("validation", 0.5)
    assert (database.get_parameter("validation"), database.get_nb_stimuli("Validation")) == (0.5, 20)


def test_a_folder_without_stimuli_is_named(tmp_path):
    (tmp_path / "sound.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=rf"no images in {tmp_path} \(depth 1, extensions"):
        _ = DIR(tmp_path).stimuli
    with pytest.raises(DataError, match=r"files .wav cannot be read; legal: bmp, csv"):
        _ = DIR(tmp_path, valid_extensions=["wav"]).stimuli
    assert DIR(tmp_path, ignore_mask=None, valid_extensions=None).ignore_mask is None
