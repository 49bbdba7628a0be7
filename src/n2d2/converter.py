"""N2D2's module of the way from C++ objects to Python's; there are none here."""

from n2d2.refusal import Refused

from_N2D2_object = Refused(  # noqa: N816 - N2D2's name
    "there are no C++ objects; DeepNetCell.load_from_INI, load_from_ONNX and pytorch_to_n2d2.wrap make cells",
    "n2d2.converter.from_N2D2_object",
)
