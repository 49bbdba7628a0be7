"""Activations: what a cell applies to its output. Callables on torch tensors with N2D2's parameters."""

import torch.nn.functional as F
from torch import Tensor

from n2d2.fields import Declared, number


class Linear(Declared):
    """Identity, between -clipping and clipping where clipping > 0."""

    clipping: float = number(default=0.0, low=0)

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return x.clamp(-self.clipping, self.clipping) if self.clipping else x


class Rectifier(Declared):
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


class Tanh(Declared):
    """tanh(alpha x)."""

    alpha: float = number(default=1.0, low=0, open_low=True)

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return (x if self.alpha == 1 else x * self.alpha).tanh()


class Logistic(Declared):
    """1 / (1 + exp(-x))."""

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return x.sigmoid()


class Saturation(Declared):
    """x between -threshold and threshold."""

    threshold: float = number(default=1.0, low=0, open_low=True)

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return x.clamp(-self.threshold, self.threshold)


class Softplus(Declared):
    """log(1 + exp(x))."""

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return F.softplus(x)


class Swish(Declared):
    """x / (1 + exp(-x))."""

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        return F.silu(x)


Activation = Linear | Rectifier | Tanh | Logistic | Saturation | Softplus | Swish

ACTIVATIONS: dict[str, type[Activation]] = {
    "Linear": Linear,
    "Rectifier": Rectifier,
    "Tanh": Tanh,
    "Logistic": Logistic,
    "Saturation": Saturation,
    "Softplus": Softplus,
    "Swish": Swish,
}
