"""-0.0 among the weights: it is no zero to an archive, which is exact, so a model that is full of it packs badly."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from prunecell.codecs.dtypes import words_of
from prunecell.codecs.encode import Scaled
from prunecell.codecs.modes import ValueMode

_MATTER = 0.01
"""The part of the numbers from which on -0.0 is worth a warning."""


@dataclass(repr=False)
class MinusZeros:
    """A value mode that counts the -0.0 in what another mode leaves to be stored; most modes make them +0.0.

    Attributes:
        mode: the other.
        n: floating-point numbers that are stored as -0.0.
        n_numbers: floating-point numbers.
    """

    mode: ValueMode
    n: int = 0
    n_numbers: int = 0

    def __repr__(self) -> str:
        return repr(self.mode)

    def __call__(self, name: str, tensor: Tensor) -> Tensor | Scaled:
        """What the mode makes of the tensor, counted."""
        made = self.mode(name, tensor)
        if tensor.is_floating_point() and tensor.element_size() > 1:
            self.n_numbers += tensor.numel()
            if isinstance(made, Tensor) and made.dtype == tensor.dtype:  # another one is refused where it is written
                self.n += int(np.count_nonzero(words_of(made) == 1 << (8 * made.element_size() - 1)))
        return made

    @property
    def matter(self) -> bool:
        """Whether they make the file larger to speak of."""
        return self.n > _MATTER * self.n_numbers

    def __str__(self) -> str:
        return (
            f"{self.n:,} of {self.n_numbers:,} numbers are -0.0, which multiplying by a mask makes, and are kept as "
            "values: add 0.0 to the tensors before they are saved, and the archive gets smaller"
        )
