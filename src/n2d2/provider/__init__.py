"""n2d2.provider: batches of stimuli, transformed, for N2D2's scripts and for torch's loops.

base           what providers share
data           DataProvider: batches of a database's stimuli
placeholder    TensorPlaceholder: one tensor
global_value   a number that only the stimuli know
"""

from typing import TYPE_CHECKING, NoReturn

from n2d2.error_handler import no_such_name
from n2d2.provider.base import Provider
from n2d2.provider.data import DataProvider
from n2d2.provider.global_value import GlobalValue
from n2d2.provider.placeholder import TensorPlaceholder
from n2d2.refusal import refused_class

MultipleOutputsProvider = refused_class(
    "n2d2.provider.MultipleOutputsProvider", "networks have one input here: give it by a TensorPlaceholder"
)

__all__ = ["DataProvider", "GlobalValue", "MultipleOutputsProvider", "Provider", "TensorPlaceholder"]


if not TYPE_CHECKING:  # a type checker would take every name for a member

    def __getattr__(name: str) -> NoReturn:
        raise no_such_name(__name__, name, globals())
