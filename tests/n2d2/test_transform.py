"""N2D2's transformations: each against a slow reference, integers kept, chance from the generator alone."""

import colorsys
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.network.keys import ini_keys
from n2d2.transform import (
    APPLY_TO,
    CHANNELS,
    COLOR_SPACES,
    TRANSFORMATIONS,
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
    before = [max(0, (want - have) // 2) for have, want in ((height, new[0]), (width, new[1]))]
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
    with pytest.raises(WrongValue, match="3 values for 1 channels"):
        PadCrop(4, 4, border_type="ConstantBorder", border_value=[1, 2, 3])(images(1, 1, 2, 2))


def test_additive_pad():
    assert PadCrop(4, 2, additive_wh=True)(images(1, 1, 12, 10)).shape == (1, 1, 14, 14)


@pytest.mark.parametrize(
    ("transformation", "shape"),
    [
        (Rescale(6, 6), (6, 6)),
        (Rescale(6, 6, keep_aspect_ratio=True), (6, 3)),
        (Rescale(6, 6, keep_aspect_ratio=True, resize_to_fit=False), (12, 6)),
    ],
)
def test_rescale_sizes(transformation, shape):
    assert transformation(images(1, 1, 20, 10)).shape[2:] == shape


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
    assert torch.equal(SliceExtraction(12, 5, allow_padding=True)(x), PadCrop(12, 12)(x)[:, :, :5])


def test_random_slices_are_windows_and_reach_every_corner():
    x = images(1).expand(300, -1, -1, -1)
    y = apply(SliceExtraction(8, 9, random_offset_x=True, random_offset_y=True), x)
    windows = {x[0, :, t : t + 9, s : s + 8].numpy().tobytes(): (t, s) for t in range(4) for s in range(3)}
    assert {windows[one.numpy().tobytes()] for one in y} == set(windows.values())


def test_turning_by_right_angles_and_magnifying():
    x = images(2, 3, 9, 9, torch.float32)
    n = torch.ones(2)
    for quarter in range(4):
        y = pixels.turned(x, 90.0 * quarter * n, n, "ReplicateBorder")
        torch.testing.assert_close(y, x.rot90(quarter, (2, 3)), atol=1e-2, rtol=0)
    doubled = pixels.turned(x, 0 * n, 2 * n, "ReplicateBorder")
    torch.testing.assert_close(doubled[:, :, ::2, ::2], x[:, :, 2:7, 2:7], atol=1e-2, rtol=0)


@pytest.mark.parametrize("border", pixels.WARPED)
def test_a_turned_slice_of_one_colour_stays_so_but_for_constant_borders(border):
    x = torch.full((3, 1, 8, 8), 9, dtype=torch.uint8)
    y = apply(SliceExtraction(8, 8, random_rotation=True, border_type=border), x)
    assert set(y.unique().tolist()) == ({9} if border != "ConstantBorder" else set(y.unique().tolist()) | {0})


def test_a_random_resized_crop_of_everything_is_a_rescale():
    crop = RandomResizeCrop(7, 5, scale_min=1.0, ratio_min=10 / 12, ratio_max=10 / 12)
    assert torch.equal(apply(crop, images()), Rescale(7, 5)(images()))


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


def test_hue_of_integers_is_halved():
    red = torch.tensor([0, 0, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    blue = red.flip(1)
    assert ColorSpace("HSV")(red).flatten().tolist() == [0, 255, 255]
    assert ColorSpace("HSV")(blue).flatten().tolist() == [120, 255, 255]


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
    with pytest.raises(WrongValue, match="one channel of integers"):
        Equalize()(images())


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Rescale, {"width": 0, "height": 4}, r"width=0 is illegal: it must be a whole number >= 1"),
        (PadCrop, {"width": 4, "height": 4, "border_type": "ReflectBorders"}, r"did you mean 'ReflectBorder'"),
        (PadCrop, {"width": 4, "height": 4, "apply_to": "Learn"}, r"apply_to='Learn' is illegal; did you mean"),
        (RangeAffine, {"first_operator": "Add"}, r"first_operator='Add' is illegal"),
        (ColorSpace, {"color_space": "CIELab"}, r"color_space='CIELab' is illegal;.* [Ll]egal: BGR, HSV"),
        (ChannelExtraction, {"channel": "Grey"}, r"did you mean 'Gray'"),
        (Distortion, {"elastic_sigma": 0.0}, r"elastic_sigma=0.0 is illegal"),
        (
            SliceExtraction,
            {"width": 4, "height": 4, "random_scaling_range": (2, 1)},
            r"random_scaling_range=1 is illegal",
        ),
        (
            SliceExtraction,
            {"width": 4, "height": 4, "random_rotation": True, "border_type": "WrapBorder"},
            r"border_type='WrapBorder' is illegal",
        ),
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
    with pytest.raises(WrongValue, match=r"at least one"):
        Composite([])
    with pytest.raises(TypeError, match="Transformation is what transformations share"):
        Transformation()(images())


def test_printing_shows_what_is_not_default():
    assert repr(PadCrop(24, 24)) == "PadCrop(width=24, height=24)"
    both = Composite([Rescale(8, 8), Flip(horizontal_flip=True, apply_to="LearnOnly")])
    assert repr(both) == "Composite(Rescale(width=8, height=8), Flip(horizontal_flip=True, apply_to='LearnOnly'))"


def test_partitions_and_their_complements():
    for only, no in (("LearnOnly", "NoLearn"), ("ValidationOnly", "NoValidation"), ("TestOnly", "NoTest")):
        assert APPLY_TO[only] | APPLY_TO[no] == {"Learn", "Validation", "Test"}
        assert not APPLY_TO[only] & APPLY_TO[no]
