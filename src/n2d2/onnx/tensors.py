"""Tensors of an ONNX file in torch: dense and sparse ones, and those in files of their own."""

import math
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from n2d2.error_handler import WrongValue
from n2d2.global_variables import dtype

REFUSED: dict[int, str] = {
    onnx.TensorProto.STRING: "text",
    onnx.TensorProto.COMPLEX64: "complex numbers",
    onnx.TensorProto.COMPLEX128: "complex numbers",
    onnx.TensorProto.UNDEFINED: "no type",
}
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
WHOLE = (*range(onnx.TensorProto.UINT8, onnx.TensorProto.INT64 + 1), onnx.TensorProto.UINT32, onnx.TensorProto.UINT64)
LARGEST = 2**31
"""Elements of a sparse tensor at most, once it is dense: its size is a claim that costs a file nothing."""


def to_torch(proto: onnx.TensorProto) -> Tensor:
    """A tensor of the file: whole numbers as they are, floats of all sizes in N2D2's `default_datatype`.

    Raises:
        WrongValue: a type that is not computed with here, or another number of values than its sizes say.
    """
    kind = proto.data_type
    if kind not in (*FLOATS, *WHOLE, onnx.TensorProto.BOOL):
        what = REFUSED.get(kind, f"numbers of few bits (ONNX's type {kind})")
        raise WrongValue(f"tensor {proto.name!r} is refused: it holds {what}")
    try:
        array = numpy_helper.to_array(proto)
    except (ValueError, TypeError, OverflowError) as error:
        raise WrongValue(f"tensor {proto.name!r} is damaged: {error}") from None
    if kind in FLOATS:
        return torch.from_numpy(np.array(array, np.float64 if kind == onnx.TensorProto.DOUBLE else np.float32)).to(
            dtype()
        )
    wide = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64, np.dtype(np.uint64): np.int64}
    return torch.from_numpy(np.array(array, wide.get(array.dtype, array.dtype)))


def to_dense(proto: onnx.SparseTensorProto) -> Tensor:
    """A sparse tensor of the file with its zeros.

    Raises:
        WrongValue: as `to_torch`; or its positions lie outside, or are not as many as its values.
    """
    values, indices = to_torch(proto.values).reshape(-1), to_torch(proto.indices)
    name, sizes = proto.values.name, [int(size) for size in proto.dims]
    if any(size < 0 for size in sizes) or math.prod(sizes) > LARGEST:
        raise WrongValue(f"sparse tensor {name!r} of {sizes} is refused: sizes are >= 0, of {LARGEST} elements at most")
    places = _places(indices, sizes)
    n = math.prod(sizes)
    if places is None or len(places) != len(values) or (len(places) and not 0 <= places.min() <= places.max() < n):
        raise WrongValue(f"sparse tensor {name!r} is damaged: its positions do not fit {len(values)} values in {sizes}")
    dense = torch.zeros(n, dtype=values.dtype)
    dense[places] = values
    return dense.reshape(sizes)


def _places(indices: Tensor, sizes: Sequence[int]) -> Tensor | None:
    """Places in the flattened tensor: they are written so, or as one coordinate for each dimension."""
    if indices.is_floating_point() or indices.dim() not in (1, 2):
        return None
    if indices.dim() == 1:
        return indices.long()
    if indices.shape[1] != len(sizes) or not ((indices >= 0) & (indices < torch.tensor(sizes))).all():
        return None
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    return (indices * torch.tensor(strides)).sum(1)
