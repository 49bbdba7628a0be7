"""Dense initializers of an ONNX network -> sparse ones; needs the library onnx.

The specification: https://github.com/onnx/onnx/blob/main/docs/IR.md (SparseTensorProto, from version 5 on).
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper


def checked(network: bytes, *, sparse: bool) -> bytes:
    """Make the weights of a network sparse if that is asked for and smaller; pass it through ONNX's checker."""
    model = onnx.load_model_from_string(network)
    if sparse:
        _make_sparse_(model.graph)
    onnx.checker.check_model(model)
    written: bytes = model.SerializeToString(deterministic=True)
    return written


def _make_sparse_(graph: onnx.GraphProto) -> None:
    """Replace every dense initializer of two or more dimensions by a sparse one that takes fewer bytes."""
    dense = list(graph.initializer)
    del graph.initializer[:]
    for tensor in dense:
        smaller = _sparse(tensor) if len(tensor.dims) > 1 else None  # a vector may be a shape, which must stay dense
        if smaller is not None and smaller.ByteSize() < tensor.ByteSize():
            graph.sparse_initializer.append(smaller)
        else:
            graph.initializer.append(tensor)


def _sparse(tensor: onnx.TensorProto) -> onnx.SparseTensorProto:
    """The same tensor as its non-zero values and their positions in the flattened tensor.

    -0.0 is a zero too: it arises where a pruned weight is multiplied by a negative scale of a normalisation. Positions
    must be int64. As raw bytes they would take 8 bytes each; a list of them is written with 7 bits to the byte by a
    protocol buffer: 3 bytes each in a matrix of up to 2 million weights, 4 bytes in one of up to 268 million.
    """
    values = numpy_helper.to_array(tensor).reshape(-1)
    kept = np.flatnonzero(values)
    positions = helper.make_tensor(f"{tensor.name}_positions", onnx.TensorProto.INT64, kept.shape, kept)
    return helper.make_sparse_tensor(numpy_helper.from_array(values[kept], tensor.name), positions, list(tensor.dims))
