"""Transformations of ImageNet's images (ILSVRC) for networks of 224 x 224 pixels."""  # noqa: N999 - N2D2's name

from n2d2.transform import ColorSpace, Composite, Flip, PadCrop, RangeAffine, Rescale, SliceExtraction

MEANS_BGR, SCALE = [103.94, 116.78, 123.68], [0.017]
"""Of ImageNet's pixels, 0 to 255."""

MEANS_RGB, DEVIATIONS_RGB = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""Of ImageNet's pixels, 0 to 1."""


def ILSVRC_preprocessing(size: int = 224, margin: int = 32) -> tuple[Composite, Composite]:  # noqa: N802 - N2D2's name
    """For training: BGR around 0; a slice at random, mirrored at random, for learning, the middle one otherwise.

    Args:
        size: of the images that come out, in pixels.
        margin: by how much the images that they are cut from are larger.

    Returns:
        Transformations for `provider.add_transformation`, and those for `provider.add_on_the_fly_transformation`.
    """
    whole, middle = size + margin, margin // 2
    once = Composite(
        [
            Rescale(whole, whole, keep_aspect_ratio=True, resize_to_fit=False),
            PadCrop(whole, whole),
            ColorSpace("BGR"),
            RangeAffine("Minus", MEANS_BGR, second_operator="Multiplies", second_value=SCALE),
            SliceExtraction(size, size, offset_x=middle, offset_y=middle, apply_to="NoLearn"),
        ]
    )
    each_time = Composite(
        [
            SliceExtraction(size, size, random_offset_x=True, random_offset_y=True, apply_to="LearnOnly"),
            Flip(random_horizontal_flip=True, apply_to="LearnOnly"),
        ]
    )
    return once, each_time


def onnx_preprocessing(size: int = 224, margin: int = 32) -> Composite:
    """For networks of the ONNX model zoo: the middle of the image, RGB, standardized; arguments as above."""
    return Composite(
        [
            Rescale(size + margin, size + margin, keep_aspect_ratio=False, resize_to_fit=False),
            PadCrop(size, size),
            RangeAffine("Divides", [255.0]),
            ColorSpace("RGB"),
            RangeAffine("Minus", MEANS_RGB, second_operator="Divides", second_value=DEVIATIONS_RGB),
        ]
    )
