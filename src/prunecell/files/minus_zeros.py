"""-0.0 among the weights: it is no zero to an archive, which is exact, so a model that is full of it packs badly."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from prunecell.archive import Alias
from prunecell.codecs.dtypes import words_of

_MATTER = 0.01
"""The part of the weights from which on -0.0 is worth a warning."""


@dataclass
class MinusZeros:
    """Counts -0.0 in tensors that pass by.

    Attributes:
        n: floating-point elements that are -0.0.
        n_weights: floating-point elements.
    """

    n: int = 0
    n_weights: int = 0

    def counted(self, items: Iterator[tuple[str, Tensor | Alias]]) -> Iterator[tuple[str, Tensor | Alias]]:
        """Give every pair on, after its tensor was counted."""
        for name, item in items:
            if isinstance(item, Tensor) and item.is_floating_point() and item.element_size() > 1:
                self._count(item)
            yield name, item

    def _count(self, tensor: Tensor) -> None:
        if tensor.is_sparse or tensor.is_meta or tensor.is_quantized:
            return  # it is refused where it is written
        words = words_of(tensor)
        self.n_weights += len(words)
        self.n += int(np.count_nonzero(words == 1 << (8 * tensor.element_size() - 1)))

    @property
    def matter(self) -> bool:
        """Whether they make the file larger to speak of."""
        return self.n > _MATTER * self.n_weights

    def __str__(self) -> str:
        return (
            f"{self.n:,} of {self.n_weights:,} weights are -0.0, which multiplying by a mask makes, and are kept as "
            "values: add 0.0 to the tensors before they are saved, and the archive gets smaller"
        )
