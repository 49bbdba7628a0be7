"""N2D2's transformations: each against a slow reference, integers kept, chance from the generator alone."""

import colorsys
import copy
import pickle
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from n2d2.error_handler import ImplementationError, UndefinedParameterError, WrongInputType, WrongValue
from n2d2.network.keys import ini_keys
from n2d2.transform import (
    APPLY_TO,
    CHANNELS,
    COLOR_SPACES,
    TRANSFORMATIONS,
    Affine,
    ChannelExtraction,
    ColorSpace,
    Composite,
    Distortion,
    Equalize,
    Flip,
    PadCrop,
    RandomResizeCrop,
    RangeAffine,
    Rescale,
    Reshape,
    SliceExtraction,
    Transformation,
    pixels,
)

NUMPY_MODES = {
    "ReplicateBorder": "edge",
    "ReflectBorder": "symmetric",
    "WrapBorder": "wrap",
    "MinusOneReflectBorder": "reflect",
    "ConstantBorder": "constant",
}
EXAMPLES = {  # one of each, that any image of 3 x 12 x 10 or 1 x 12 x 10 can go through
    "ChannelExtractionTransformation": ChannelExtraction("Gray"),
    "ColorSpaceTransformation": ColorSpace("YCrCb"),
    "DistortionTransformation": Distortion(5, 2.0, 3.0, 10, 10),
    "EqualizeTransformation": Composite([ChannelExtraction("Gray"), Equalize()]),
    "FlipTransformation": Flip(random_horizontal_flip=True, random_vertical_flip=True),
    "PadCropTransformation": PadCrop(14, 8),
    "RandomResizeCropTransformation": RandomResizeCrop(8, 8),
    "RangeAffineTransformation": RangeAffine("Minus", 127.5, "Divides", 127.5),
    "RescaleTransformation": Rescale(20, 5),
    "ReshapeTransformation": Reshape(6),
    "SliceExtractionTransformation": SliceExtraction(
        6, 6, random_offset_x=True, random_offset_y=True, random_rotation=True, random_scaling=True
    ),
}


def images(n=4, channels=3, height=12, width=10, dtype=torch.uint8):
    return torch.randint(0, 256, (n, channels, height, width), generator=torch.Generator().manual_seed(1)).to(dtype)


def apply(transformation, x, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for one in transformation if isinstance(transformation, Composite) else [transformation]:
        x = one(x, generator)
    return x


def test_there_is_an_example_of_each():
    assert EXAMPLES.keys() == TRANSFORMATIONS.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_same_generator_same_result_and_the_input_is_left_alone(name):
    x = images()
    first, second = apply(EXAMPLES[name], x), apply(EXAMPLES[name], x)
    assert torch.equal(first, second)
    assert torch.equal(x, images())
    assert first.shape[0] == len(x)


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"RangeAffineTransformation"}))
def test_integers_stay_integers(name):
    assert apply(EXAMPLES[name], images()).dtype == torch.uint8


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"EqualizeTransformation"}))
def test_floats_stay_floats(name):
    assert apply(EXAMPLES[name], images(dtype=torch.float32)).dtype == torch.float32


@pytest.mark.parametrize("kind", TRANSFORMATIONS.values())
def test_every_parameter_has_its_own_ini_key(kind):
    assert sorted(ini_keys(kind).values()) == sorted(field.name for field in fields(kind))
    assert "ApplyTo" in ini_keys(kind)


def test_ini_keys_are_n2d2s():
    assert set(ini_keys(SliceExtraction)) >= {"RandomOffsetX", "OffsetY", "AllowPadding", "BorderType"}
    assert set(ini_keys(PadCrop)) == {"Width", "Height", "AdditiveWH", "BorderType", "BorderValue", "ApplyTo"}


@pytest.mark.parametrize("border", NUMPY_MODES)
@given(height=st.integers(1, 20), width=st.integers(1, 20), new=st.tuples(st.integers(1, 50), st.integers(1, 50)))
def test_pad_crop_is_numpys_pad_and_a_slice(border, height, width, new):
    x = images(2, 3, height, width)
    y = PadCrop(new[1], new[0], border_type=border, border_value=7)(x)
    before = [max(0, -((have - want) // 2)) for have, want in ((height, new[0]), (width, new[1]))]
    after = [max(0, want - have - b) for have, want, b in ((height, new[0], before[0]), (width, new[1], before[1]))]
    extra = {"constant_values": 7} if border == "ConstantBorder" else {}
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), *zip(before, after, strict=True)), mode=NUMPY_MODES[border], **extra)
    top, left = (max(0, (have - want) // 2) for have, want in ((height, new[0]), (width, new[1])))
    assert np.array_equal(y.numpy(), padded[:, :, top : top + new[0], left : left + new[1]])


def test_the_mean_border_is_the_mean_colour():
    x = images(2, 3, 4, 4)
    y = PadCrop(6, 6, border_type="MeanBorder")(x)
    assert torch.equal(y[:, :, 0, 0], x.float().mean((2, 3)).round().to(torch.uint8))
    assert torch.equal(y[:, :, 1:5, 1:5], x)


def test_a_constant_border_has_a_value_per_channel():
    y = PadCrop(4, 4, border_type="ConstantBorder", border_value=[1, 2, 3])(images(1, 3, 2, 2))
    assert y[0, :, 0, 0].tolist() == [1, 2, 3]
    for value, channels, expected in (([1, 2, 3], 1, [1]), ([5], 3, [5, 0, 0]), (5, 3, [5] * 3), ([], 2, [0, 0])):
        y = PadCrop(4, 4, border_type="ConstantBorder", border_value=value)(images(1, channels, 2, 2))
        assert y[0, :, 0, 0].tolist() == expected  # as in N2D2


def test_additive_pad():
    assert PadCrop(4, 2, additive_wh=True)(images(1, 1, 12, 10)).shape == (1, 1, 14, 14)


@pytest.mark.parametrize(
    ("transformation", "size", "shape"),
    [
        (Rescale(6, 6), (20, 10), (6, 6)),
        (Rescale(6, 6, keep_aspect_ratio=True), (20, 10), (6, 3)),
        (Rescale(6, 6, keep_aspect_ratio=True, resize_to_fit=False), (20, 10), (12, 6)),
        (Rescale(5, 5, keep_aspect_ratio=True), (9, 8), (5, 4)),  # 4.44: fractions are cut off, as in N2D2
        (Rescale(5, 5, keep_aspect_ratio=True), (8, 5), (5, 3)),  # 3.125
        (Rescale(3, 3, keep_aspect_ratio=True), (20, 2), (3, 1)),  # 0.3: at least one pixel
    ],
)
def test_rescale_sizes(transformation, size, shape):
    assert transformation(images(1, 1, *size)).shape[2:] == shape


def test_rescale_is_bilinear_between_pixel_centres():
    x = torch.tensor([[[[0, 100]]]], dtype=torch.uint8)
    assert Rescale(4, 1)(x).flatten().tolist() == [0, 25, 75, 100]
    assert torch.equal(Rescale(10, 12)(images()), images())


def test_flips():
    x = images()
    assert torch.equal(Flip(horizontal_flip=True)(x), x.flip(-1))
    assert torch.equal(Flip(vertical_flip=True)(x), x.flip(-2))
    flipped = apply(Flip(random_horizontal_flip=True), images(200))
    turned = [bool(torch.equal(a, b.flip(-1))) for a, b in zip(flipped, images(200), strict=True)]
    assert all(done or torch.equal(a, b) for done, a, b in zip(turned, flipped, images(200), strict=True))
    assert 60 < sum(turned) < 140


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("Minus", 1.0, "Divides", 2.0), 4.5),
        (("Divides", 4), 2.5),
        (("Multiplies", 3.0, "Plus", 1.0), 31.0),
    ],
)
def test_range_affine(arguments, expected):
    y = RangeAffine(*arguments)(torch.full((1, 1, 1, 1), 10, dtype=torch.uint8))
    assert (y.item(), y.dtype) == (expected, torch.float32)
    assert RangeAffine(*arguments, truncate=True)(torch.full((1, 1, 1, 1), 10.0)).item() == int(expected)


def test_range_affine_takes_a_value_per_channel_or_one_that_is_known_later():
    x = torch.full((2, 3, 1, 1), 10, dtype=torch.uint8)
    assert RangeAffine("Minus", [1.0, 2.0, 3.0])(x)[0].flatten().tolist() == [9, 8, 7]
    assert RangeAffine("Minus", lambda: 4.0)(x).unique().tolist() == [6]
    with pytest.raises(WrongValue, match="2 values for 3 channels"):
        RangeAffine("Minus", [1.0, 2.0])(x)


def test_a_slice_is_where_it_is_asked_for():
    x = images()
    assert torch.equal(SliceExtraction(4, 5, 3, 2)(x), x[:, :, 2:7, 3:7])
    with pytest.raises(WrongValue, match=r"SliceExtraction\(width=4, height=5, offset_x=8\) does not lie in the image"):
        SliceExtraction(4, 5, 8)(x)
    with pytest.raises(WrongValue, match="allow_padding"):
        SliceExtraction(11, 5)(x)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (0, 0), (0, 2)), mode="reflect")  # at the right, as in N2D2
    assert np.array_equal(SliceExtraction(12, 5, allow_padding=True)(x).numpy(), padded[:, :, :5])
    assert torch.equal(SliceExtraction(0, 0)(x), x)
    assert torch.equal(SliceExtraction(0, 5, offset_y=1)(x), x[:, :, 1:6])


def test_random_slices_are_windows_and_reach_every_corner():
    x = images(1).expand(300, -1, -1, -1)
    y = apply(SliceExtraction(8, 9, random_offset_x=True, random_offset_y=True), x)
    windows = {x[0, :, t : t + 9, s : s + 8].numpy().tobytes(): (t, s) for t in range(4) for s in range(3)}
    assert {windows[one.numpy().tobytes()] for one in y} == set(windows.values())


@pytest.mark.parametrize("border", NUMPY_MODES)
@given(places=st.lists(st.tuples(st.integers(-30, 30), st.integers(-30, 30)), min_size=1, max_size=5))
def test_sampling_at_whole_pixels_is_numpys_pad(border, places):
    x = images(2, 3, 7, 6)
    extra = {"constant_values": 9} if border == "ConstantBorder" else {}
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (31, 31), (31, 31)), mode=NUMPY_MODES[border], **extra)
    rows, columns = torch.tensor(places).T.float()[:, None, None].expand(-1, 2, -1, -1)
    y = pixels.sampled(x, columns, rows, border, torch.full((1, 1, 1), 9.0))
    for index, (row, column) in enumerate(places):
        assert np.array_equal(y[:, :, 0, index].numpy(), padded[:, :, row + 31, column + 31])


def test_sampling_between_pixels_is_bilinear():
    x = torch.tensor([[[[0, 100], [200, 40]]]], dtype=torch.uint8)
    columns, rows = torch.tensor([[[0.5, 0.0, 0.25]]]), torch.tensor([[[0.0, 0.5, 0.5]]])
    y = pixels.sampled(x, columns, rows, "ReplicateBorder", torch.zeros(1, 1, 1))
    assert y.flatten().tolist() == [50, 100, round(0.75 * 100 + 0.25 * 70)]


def test_slices_are_turned_counterclockwise_and_shrunk():
    x = images(2, 3, 9, 9, torch.float32)
    for quarter in range(4):
        turn = {"random_rotation": True, "random_rotation_range": [90.0 * quarter] * 2}
        torch.testing.assert_close(SliceExtraction(9, 9, **turn)(x), x.rot90(-quarter, (2, 3)), atol=1e-2, rtol=0)
    larger = SliceExtraction(4, 4, random_scaling=True, random_scaling_range=[2.0, 2.0])(x)
    torch.testing.assert_close(larger, Rescale(4, 4)(x[:, :, :8, :8]), atol=1e-3, rtol=0)
    with pytest.raises(WrongValue, match=r"does not lie in the image: -1 pixels remain"):
        SliceExtraction(5, 5, random_scaling=True, random_scaling_range=[2.0, 2.0])(x)


@pytest.mark.parametrize("border", pixels.BORDERS)
def test_a_turned_slice_of_one_colour_stays_so_but_for_constant_borders(border):
    x = torch.full((3, 1, 8, 8), 9, dtype=torch.uint8)
    y = apply(SliceExtraction(8, 8, random_rotation=True, random_rotation_range=[45, 45], border_type=border), x)
    assert (set(y.unique().tolist()) == {9}) is (border != "ConstantBorder")
    assert int(y[0, 0, 0, 0]) == (0 if border == "ConstantBorder" else 9)


def test_a_random_resized_crop_of_everything_is_a_rescale():
    crop = RandomResizeCrop(7, 5, scale_min=1.0, ratio_min=10 / 12, ratio_max=10 / 12)
    assert torch.equal(apply(crop, images()), Rescale(7, 5)(images()))


@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        ({}, {(10, 10)}),  # N2D2's defaults: all pixels, as a square; it does not fit: the largest square
        ({"scale_min": 0.2, "scale_max": 0.2}, {(5, 5)}),
        ({"scale_min": 0.3, "ratio_min": 0.5, "ratio_max": 2.0}, None),
        ({"ratio_min": 0.0}, {(12, 10)}),  # 0 has no logarithm, so no draw fits; the image's ratio is legal
    ],
)
def test_random_crops_have_the_area_and_the_ratio_that_are_asked_for(monkeypatch, arguments, sizes):
    seen = set()
    monkeypatch.setattr(pixels, "resized", lambda x, *_: seen.add(tuple(x.shape[2:])) or x[..., :1, :1])
    apply(RandomResizeCrop(4, 4, **arguments), images(200))
    if sizes:
        assert seen == sizes
    else:
        assert len(seen) > 10
        for height, width in seen:
            assert 0.25 < height * width / 120 < 1.05
            assert 0.4 < width / height < 2.5


@pytest.mark.parametrize(("rows", "columns", "channels"), [(6, 0, 0), (4, 0, 1), (0, 5, 6), (0, 0, 0), (1, 360, 1)])
def test_reshape_reads_the_channels_of_a_pixel_together(rows, columns, channels):
    x = images()
    flat = x.permute(0, 2, 3, 1).flatten(1)
    y = Reshape(rows, nb_cols=columns, nb_channels=channels)(x)
    assert y.shape[1:3] == (channels or 3, rows or 12)
    assert torch.equal(y.permute(0, 2, 3, 1).flatten(1), flat)


def test_a_reshape_that_does_not_fit_is_told():
    for arguments in ({"nb_rows": 7}, {"nb_rows": 6, "nb_cols": 21}):
        with pytest.raises(WrongValue, match=r"Reshape\(.*\) does not fit images of 10 x 12 pixels of 3 channels"):
            Reshape(**arguments)(images())


def test_each_direction_is_magnified_by_itself():
    x = torch.arange(21.0).reshape(1, 1, 1, 21).expand(1, 1, 21, 21)
    y = apply(Distortion(scaling=50.0), torch.cat((x, x.mT), 1))
    steps = y[0, 0, 10, 8:12].diff(), y[0, 1, 8:12, 10].diff()
    assert not torch.allclose(*steps)
    for step in steps:
        assert 0.5 <= float(step.mean()) <= 1.5


def test_no_distortion_changes_nothing_and_some_changes_something():
    x = images(2, 1, 28, 28)
    assert torch.equal(apply(Distortion(), x), x)
    assert not torch.equal(apply(Distortion(elastic_scaling=8.0), x), x)


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_is_luma(channels):
    x = images(2, channels)
    weights = np.array([0.114, 0.587, 0.299]).reshape(3, 1, 1)
    expected = x.numpy() if channels == 1 else np.rint((x.numpy() * weights).sum(1, keepdims=True))
    assert np.array_equal(ChannelExtraction("Gray")(x).numpy(), expected)


def test_hue_saturation_value_are_the_standard_librarys():
    x = images(1, 3, 6, 6, torch.float32) / 255
    y = ColorSpace("HSV")(x)
    for place in np.ndindex(6, 6):
        blue, green, red = x[0, :, *place].tolist()
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        assert y[0, :, *place].tolist() == pytest.approx([hue * 360, saturation, value], abs=1e-4)


def test_hue_of_bytes_is_halved_in_a_colour_space_and_fills_the_range_as_a_channel():
    red = torch.tensor([0, 0, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    blue = red.flip(1)
    assert ColorSpace("HSV")(red).flatten().tolist() == [0, 255, 255]
    assert ColorSpace("HSV")(blue).flatten().tolist() == [120, 255, 255]
    assert ChannelExtraction("Hue")(blue).flatten().tolist() == [170]
    assert ChannelExtraction("Hue")(blue / 255).flatten().tolist() == [240]


def test_luma_and_colour_differences():
    gray = torch.full((1, 3, 1, 1), 77, dtype=torch.uint8)
    assert ColorSpace("YCrCb")(gray).flatten().tolist() == [77, 128, 128]
    red = torch.tensor([0, 0, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert ColorSpace("YCrCb")(red).flatten().tolist() == [76, 255, 85]


def test_colour_orders():
    x = images()
    assert torch.equal(ColorSpace("BGR")(x), x)
    assert torch.equal(ColorSpace("RGB")(x), x.flip(1))
    assert torch.equal(ColorSpace("RGB_to_HSV")(x.flip(1)), ColorSpace("HSV")(x))
    assert ColorSpace("RGB")(images(2, 1)).shape[1] == 3
    assert torch.equal(ChannelExtraction("Red")(x), x[:, 2:])


@pytest.mark.parametrize("space", COLOR_SPACES)
def test_every_colour_space_has_three_channels(space):
    assert ColorSpace(space)(images()).shape == images().shape


OPENCV = {  # what OpenCV 5 makes of the bytes (30, 200, 90) and of the floats (0.25, 0.5, 0.75), blue first
    "HSV": ([49, 217, 200], [30.0, 0.6667, 0.75]),
    "HLS": ([49, 115, 188], [30.0, 0.5, 0.5]),
    "YCrCb": ([148, 87, 61], [0.5462, 0.6453, 0.3329]),
    "CIELab": ([184, 70, 195], [58.7769, 18.5938, 43.7969]),
    "CIELuv": ([183, 59, 217], [58.7767, 50.2421, 45.1263]),
}


@pytest.mark.parametrize("space", OPENCV)
def test_colour_spaces_are_opencvs(space):
    of_bytes, of_floats = OPENCV[space]
    bytes_, floats = torch.tensor([30, 200, 90], dtype=torch.uint8), torch.tensor([0.25, 0.5, 0.75])
    y = ColorSpace(space)(bytes_.reshape(1, 3, 1, 1)).flatten().int()
    assert (y - torch.tensor(of_bytes)).abs().max() <= 1
    y = ColorSpace(space)(floats.reshape(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(y, torch.tensor(of_floats), atol=0.05, rtol=1e-3)


@pytest.mark.parametrize("space", ["HSV", "HLS", "YCrCb", "CIELab", "CIELuv"])
def test_colour_spaces_and_back(space):
    x = images(dtype=torch.float32) / 255
    torch.testing.assert_close(ColorSpace(f"{space}_to_BGR")(ColorSpace(space)(x)), x, atol=2e-3, rtol=0)
    there = ColorSpace(f"RGB_to_{space}")(x)
    torch.testing.assert_close(ColorSpace(f"{space}_to_RGB")(there), x, atol=2e-3, rtol=0)
    with pytest.raises(WrongValue, match=f"BGR to {space} needs three channels of bytes or floats, not 1 of"):
        ColorSpace(space)(images(1, 1))


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel_is_one(channel):
    assert ChannelExtraction(channel)(images()).shape == (4, 1, 12, 10)


def test_equalize_against_the_definition():
    x = images(3, 1) // 4
    y = Equalize()(x)
    for before, after in zip(x, y, strict=True):
        values = before.flatten().tolist()
        lowest = values.count(min(values))
        for old, new in zip(values, after.flatten().tolist(), strict=True):
            below = sum(value <= old for value in values)
            assert new == round((below - lowest) * 255 / (len(values) - lowest))
    assert torch.equal(Equalize()(torch.full((1, 1, 2, 2), 9, dtype=torch.uint8)), torch.zeros(1, 1, 2, 2).byte())
    grays = (images(3, 1) // 4 + 60).expand(-1, 3, -1, -1)
    spread = Equalize()(grays)  # of colours, the lightness alone
    assert (spread.amax(1).int() - spread.amin(1).int()).max() <= 2
    assert (int(spread.min()), int(spread.max())) == (0, 255)
    with pytest.raises(WrongValue, match=r"Equalize needs bytes, not torch.float32: put it before RangeAffine"):
        Equalize()(images(dtype=torch.float32))


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Rescale, {"width": 0, "height": 4}, r"width=0 is illegal: it must be a whole number >= 1"),
        (PadCrop, {"width": 4, "height": 4, "border_type": "ReflectBorders"}, r"did you mean 'ReflectBorder'"),
        (PadCrop, {"width": 4, "height": 4, "apply_to": "Learn"}, r"apply_to='Learn' is illegal; did you mean"),
        (RangeAffine, {"first_operator": "Add"}, r"first_operator='Add' is illegal"),
        (ColorSpace, {"color_space": "CIELap"}, r"color_space='CIELap' is illegal; did you mean 'CIELab'"),
        (ChannelExtraction, {"channel": "Grey"}, r"did you mean 'Gray'"),
        (Distortion, {"elastic_sigma": 0.0}, r"elastic_sigma=0.0 is illegal"),
        (
            SliceExtraction,
            {"width": 4, "height": 4, "random_scaling_range": (2, 1)},
            r"random_scaling_range=\(2, 1\) is illegal: it must be \[lowest, highest\]",
        ),
        (
            RangeAffine,
            {"first_value": float("nan")},
            r"first_value=nan is illegal: it must be a number, or a list with",
        ),
        (RangeAffine, {"first_operator": "Divides"}, r"first_value=0.0 is illegal: it divides, so it must not be 0"),
        (RangeAffine, {"second_operator": "Divides", "second_value": [2, 0]}, r"second_value=\[2, 0\] is illegal"),
        (PadCrop, {"width": 4, "height": 4, "border_value": [0, float("inf")]}, r"border_value=\[0, inf\] is illegal"),
        (RandomResizeCrop, {"width": 4, "height": 4, "scale_max": 1.5}, r"scale_max=1.5 is illegal"),
        (Equalize, {"method": "CLAHE"}, r"method='CLAHE' is illegal"),
    ],
)
def test_illegal_arguments_are_named(kind, arguments, message):
    with pytest.raises(WrongValue, match=message):
        kind(**arguments)


def test_wrong_types_are_named():
    with pytest.raises(WrongInputType, match=r"width=4\.5 is illegal"):
        Rescale(4.5, 4)
    with pytest.raises(WrongInputType, match=r"horizontal_flip='yes' is illegal"):
        Flip(horizontal_flip="yes")
    with pytest.raises(WrongInputType, match=r"'Flip' is no transformation"):
        Composite(["Flip"])
    with pytest.raises(WrongInputType, match=r"must be a list of transformations"):
        Composite(Flip())
    with pytest.raises(WrongInputType, match=r"random_scaling_range=2.0 is illegal: it must be \[lowest, highest\]"):
        SliceExtraction(4, 4, random_scaling_range=2.0)
    with pytest.raises(WrongInputType, match=r"second_value='1' is illegal: it must be a number, or a list with"):
        RangeAffine("Plus", 1.0, second_value="1")
    with pytest.raises(WrongValue, match=r"at least one"):
        Composite([])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Rescale(4), WrongInputType, r"height is missing; it is Rescale\(width, height,"),
        (lambda: Flip(1, 0, 1, 0, 1), WrongInputType, r"5 by their place are too many: 4 at most.* it is Flip\("),
        (
            lambda: Rescale(4, 4, widht=3),
            UndefinedParameterError,
            r"Rescale has no parameter 'widht'; did you mean",
        ),
        (lambda: Composite([Flip()], apply_to="All"), ImplementationError, r"apply_to of Composite is refused: each"),
        (lambda: Flip().set_parameter("flip", 1), UndefinedParameterError, r"Flip has no parameter 'flip'"),
        (lambda: Flip().get_parameter("flip"), UndefinedParameterError, r"Flip has no parameter 'flip'"),
        (lambda: setattr(Flip(), "flip", 1), UndefinedParameterError, r"Flip has no parameter 'flip'"),
        (lambda: Flip().aply_to, UndefinedParameterError, r"Flip has no parameter 'aply_to'; did you mean 'apply_to'"),
        (lambda: setattr(Rescale(4, 4), "width", 0), WrongValue, r"width=0 is illegal"),
        (lambda: Flip().N2D2(), ImplementationError, r"N2D2 is refused"),
        (Affine, ImplementationError, r"n2d2.transform.Affine is refused: transform the images beforehand"),
    ],
)
def test_what_is_not_there_is_told_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("name", EXAMPLES)
def test_parameters_can_be_read_and_changed_and_copies_are_alike(name):
    one = EXAMPLES[name]
    assert copy.deepcopy(one) == one == pickle.loads(pickle.dumps(one))  # noqa: S301 - our own
    assert one.get_apply_set() == "All"
    if not isinstance(one, Composite):
        other = copy.copy(one)
        other.set_parameter("apply_to", "NoTest")
        assert (other.get_parameter("apply_to"), other.get_apply_set()) == ("NoTest", "NoTest")
        assert one.apply_to == "All"


def test_a_composite_is_a_transformation_and_grows():
    both = Composite([Flip(horizontal_flip=True)])
    both.append(Composite([Flip(vertical_flip=True)]))
    assert isinstance(both, Transformation)
    assert torch.equal(both(images()), images().flip(-1).flip(-2))
    assert both.get_transformations() == [Flip(horizontal_flip=True), Composite([Flip(vertical_flip=True)])]


def test_printing_shows_what_is_not_default():
    assert repr(PadCrop(24, 24)) == "PadCrop(width=24, height=24)"
    both = Composite([Rescale(8, 8), Flip(horizontal_flip=True, apply_to="LearnOnly")])
    assert repr(both) == "Composite(Rescale(width=8, height=8), Flip(horizontal_flip=True, apply_to='LearnOnly'))"


def test_partitions_and_their_complements():
    for only, no in (("LearnOnly", "NoLearn"), ("ValidationOnly", "NoValidation"), ("TestOnly", "NoTest")):
        assert APPLY_TO[only] | APPLY_TO[no] == {"Learn", "Validation", "Test"}
        assert not APPLY_TO[only] & APPLY_TO[no]
