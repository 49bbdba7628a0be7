"""N2D2's transformations of stimuli: callables on batches, with N2D2's parameters.

A batch is of integers or float32, (n, channels, height, width), colours in the order blue, green, red. As in N2D2,
integers stay integers (bytes in 0..255, rounded) until RangeAffine makes them floats; what is still integer at the end
is scaled to [0, 1] by the provider. Chance comes from the generator that is passed in, None being torch's own.

base                     what all share, and several in one
values, colors, geometry   what changes values, colour spaces, places
pixels                   the arithmetic under them
numbers                  numbers as they are given, checked
refused                  those that are not here
"""

from typing import TYPE_CHECKING, NoReturn

from n2d2.error_handler import no_such_name
from n2d2.transform.base import APPLY_TO, Composite, Transformation
from n2d2.transform.colors import CHANNELS, COLOR_SPACES
from n2d2.transform.geometry import Distortion, Flip, PadCrop, RandomResizeCrop, Rescale, Reshape, SliceExtraction
from n2d2.transform.refused import (
    DCT,
    DFT,
    Affine,
    Apodization,
    CentroidCrop,
    CompressionNoise,
    Custom,
    ExpandLabel,
    Filter,
    GradientFilter,
    LabelExtraction,
    LabelFilter,
    LabelSliceExtraction,
    MagnitudePhase,
    MorphologicalReconstruction,
    Morphology,
    Normalize,
    RandomAffine,
    RangeClipping,
    StripeRemove,
    Threshold,
    Trim,
    WallisFilter,
)
from n2d2.transform.values import ChannelExtraction, Channels, ColorSpace, Equalize, RangeAffine

__all__ = [
    "APPLY_TO",
    "CHANNELS",
    "COLOR_SPACES",
    "DCT",
    "DFT",
    "TRANSFORMATIONS",
    "Affine",
    "Apodization",
    "CentroidCrop",
    "ChannelExtraction",
    "Channels",
    "ColorSpace",
    "Composite",
    "CompressionNoise",
    "Custom",
    "Distortion",
    "Equalize",
    "ExpandLabel",
    "Filter",
    "Flip",
    "GradientFilter",
    "LabelExtraction",
    "LabelFilter",
    "LabelSliceExtraction",
    "MagnitudePhase",
    "MorphologicalReconstruction",
    "Morphology",
    "Normalize",
    "PadCrop",
    "RandomAffine",
    "RandomResizeCrop",
    "RangeAffine",
    "RangeClipping",
    "Rescale",
    "Reshape",
    "SliceExtraction",
    "StripeRemove",
    "Threshold",
    "Transformation",
    "Trim",
    "WallisFilter",
]

TRANSFORMATIONS: dict[str, type[Transformation]] = {  # N2D2's names in INI files
    "ChannelExtractionTransformation": ChannelExtraction,
    "ColorSpaceTransformation": ColorSpace,
    "DistortionTransformation": Distortion,
    "EqualizeTransformation": Equalize,
    "FlipTransformation": Flip,
    "PadCropTransformation": PadCrop,
    "RandomResizeCropTransformation": RandomResizeCrop,
    "RangeAffineTransformation": RangeAffine,
    "RescaleTransformation": Rescale,
    "ReshapeTransformation": Reshape,
    "SliceExtractionTransformation": SliceExtraction,
}


if not TYPE_CHECKING:  # a type checker would take every name for a member

    def __getattr__(name: str) -> NoReturn:
        raise no_such_name(__name__, name, globals())
