"""n2d2.provider: batches of stimuli, transformed, for N2D2's scripts and for torch's loops."""

from n2d2.provider.base import Provider
from n2d2.provider.data import DataProvider
from n2d2.provider.global_value import GlobalValue
from n2d2.provider.placeholder import TensorPlaceholder
from n2d2.refusal import refused_class

MultipleOutputsProvider = refused_class(
    "n2d2.provider.MultipleOutputsProvider", "networks have one input here: give it by a TensorPlaceholder"
)

__all__ = ["DataProvider", "GlobalValue", "MultipleOutputsProvider", "Provider", "TensorPlaceholder"]
