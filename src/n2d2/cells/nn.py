"""The cells that compute, by the names of `n2d2.cells.nn`."""

from n2d2.cells.operators import (
    Activation,
    Dropout,
    ElemWise,
    GlobalPool2d,
    Padding,
    Pool,
    Pool2d,
    PoolGlobal2d,
    Reshape,
    Scaling,
    Softmax,
    Transformation,
    Transpose,
)
from n2d2.cells.resizing import Resize
from n2d2.cells.weights import BatchNorm2d, Conv, ConvDepthWise, ConvPointWise, Deconv, Fc

__all__ = [
    "Activation",
    "BatchNorm2d",
    "Conv",
    "ConvDepthWise",
    "ConvPointWise",
    "Deconv",
    "Dropout",
    "ElemWise",
    "Fc",
    "GlobalPool2d",
    "Padding",
    "Pool",
    "Pool2d",
    "PoolGlobal2d",
    "Reshape",
    "Resize",
    "Scaling",
    "Softmax",
    "Transformation",
    "Transpose",
]
