"""N2D2's wrapper of Keras networks, refused by name: a Keras network comes here through an ONNX file."""

from n2d2.refusal import Refused, refused_class

__all__ = ["CustomSequential", "wrap"]

_INSTEAD = (
    "Keras networks come through ONNX: model.export('net.onnx', format='onnx') in Keras 3, or tf2onnx; then"
    " n2d2.cells.DeepNetCell.load_from_ONNX(provider, 'net.onnx') learns and is pruned as other networks"
)

wrap = Refused(_INSTEAD, "keras_to_n2d2.wrap")
CustomSequential = refused_class("keras_to_n2d2.CustomSequential", _INSTEAD)
