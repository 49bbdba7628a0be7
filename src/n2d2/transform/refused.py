"""Transformations that N2D2's program has and that are not here: their names say what to do instead."""

from n2d2.refusal import refused_class


def _refused(name: str) -> type:
    return refused_class(
        f"n2d2.transform.{name}", "transform the images beforehand, and read the results by database.DIR"
    )


Affine = _refused("Affine")
Apodization = _refused("Apodization")
CentroidCrop = _refused("CentroidCrop")
CompressionNoise = _refused("CompressionNoise")
Custom = _refused("Custom")
DCT = _refused("DCT")
DFT = _refused("DFT")
ExpandLabel = _refused("ExpandLabel")
Filter = _refused("Filter")
GradientFilter = _refused("GradientFilter")
LabelExtraction = _refused("LabelExtraction")
LabelFilter = _refused("LabelFilter")
LabelSliceExtraction = _refused("LabelSliceExtraction")
MagnitudePhase = _refused("MagnitudePhase")
MorphologicalReconstruction = _refused("MorphologicalReconstruction")
Morphology = _refused("Morphology")
Normalize = _refused("Normalize")
RandomAffine = _refused("RandomAffine")
RangeClipping = _refused("RangeClipping")
StripeRemove = _refused("StripeRemove")
Threshold = _refused("Threshold")
Trim = _refused("Trim")
WallisFilter = _refused("WallisFilter")
