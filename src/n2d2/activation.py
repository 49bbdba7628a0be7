"""Activations: what a cell applies to its output. Callables on torch tensors with N2D2's parameters."""

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NoReturn

import torch.nn.functional as F
from torch import Tensor

from n2d2.checked import Declared
from n2d2.error_handler import RefusedParameter, no_such_name
from n2d2.fields import number

REFUSED = MappingProxyType(
    {
        "quantizer": "outputs keep their precision; a PruneCell goes on a cell with weights",
        "scaling": "outputs are not scaled to integers; BatchNorm2d learns a scale",
    }
)


class ActivationFunction(Declared, shared=True):
    """What the activations share: `isinstance(x, ActivationFunction)`. Never instantiated itself."""

    REFUSED: ClassVar[Mapping[str, str]] = REFUSED

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""

    def has_quantizer(self) -> bool:
        """Whether outputs are quantized: never."""
        return False

    def get_quantizer(self) -> None:
        """What quantizes outputs: nothing."""

    def set_quantizer(self, quantizer: object) -> None:
        """Refuse; None is what is there."""
        if quantizer is not None:
            raise RefusedParameter(f"quantizer of {self.get_type()} is refused: {REFUSED['quantizer']}")

    def has_scaling(self) -> bool:
        """Whether outputs are scaled to integers: never."""
        return False


class Linear(ActivationFunction):
    """Identity, between -clipping and clipping where clipping > 0."""

    clipping: float = number(default=0.0, low=0)

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return x.clamp(-self.clipping, self.clipping) if self.clipping else x


class Rectifier(ActivationFunction):
    """max(x, leak_slope x), at most clipping where clipping > 0.

    >>> import torch
    >>> Rectifier(clipping=1.5)(torch.tensor([-2.0, 1.0, 2.0]))
    tensor([0.0000, 1.0000, 1.5000])
    """

    leak_slope: float = number(default=0.0, low=0)
    clipping: float = number(default=0.0, low=0)

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        y = F.leaky_relu(x, self.leak_slope) if self.leak_slope else F.relu(x)
        return y.clamp(max=self.clipping) if self.clipping else y


class Tanh(ActivationFunction):
    """tanh(alpha x)."""

    alpha: float = number(default=1.0, low=0, open_low=True)

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return (x if self.alpha == 1 else x * self.alpha).tanh()


class Logistic(ActivationFunction):
    """1 / (1 + exp(-x))."""

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return x.sigmoid()


class Saturation(ActivationFunction):
    """x between -threshold and threshold."""

    threshold: float = number(default=1.0, low=0, open_low=True)

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return x.clamp(-self.threshold, self.threshold)


class Softplus(ActivationFunction):
    """log(1 + exp(x))."""

    REFUSED: ClassVar[Mapping[str, str]] = MappingProxyType(
        {**REFUSED, "clipping": "N2D2 has it, without effect; Rectifier and Linear clip"}
    )

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return F.softplus(x)


class Swish(ActivationFunction):
    """x / (1 + exp(-x))."""

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return F.silu(x)


Activation = ActivationFunction

ACTIVATIONS: dict[str, type[Activation]] = {
    "Linear": Linear,
    "Rectifier": Rectifier,
    "Tanh": Tanh,
    "Logistic": Logistic,
    "Saturation": Saturation,
    "Softplus": Softplus,
    "Swish": Swish,
}


if not TYPE_CHECKING:  # a type checker would take every name for a member

    def __getattr__(name: str) -> NoReturn:
        raise no_such_name(__name__, name, globals())
