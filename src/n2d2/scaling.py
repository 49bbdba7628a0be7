"""N2D2's scaling of quantized values, refused by name."""

from n2d2.refusal import refused_class

_INSTEAD = (
    "quantization to few bits is another subject; prunecell.save(model, path, values=...) stores values in few bits"
)

ScalingObject = refused_class("n2d2.scaling.ScalingObject", _INSTEAD)
DoubleShiftScaling = refused_class("n2d2.scaling.DoubleShiftScaling", _INSTEAD)
SingleShiftScaling = refused_class("n2d2.scaling.SingleShiftScaling", _INSTEAD)
FixedPointScaling = refused_class("n2d2.scaling.FixedPointScaling", _INSTEAD)
FloatingPointScaling = refused_class("n2d2.scaling.FloatingPointScaling", _INSTEAD)
