"""TensorPlaceholder: one tensor as a provider."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch

from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.provider.base import Provider
from n2d2.tensor import Tensor


class TensorPlaceholder(Provider):
    """Gives one tensor, and its labels to a target.

    Args:
        inputs: floats, the batch first.
        labels: whole numbers, one for each sample; a target needs them.

    Raises:
        WrongInputType: `inputs` are no floats, or `labels` no integers.
        WrongValue: there is not one label for each sample.

    >>> from n2d2 import Tensor
    >>> provider = TensorPlaceholder(Tensor([2, 1, 4, 4], value=0.5), labels=Tensor([2], value=1, datatype="int"))
    >>> provider().shape(), provider.labels.tolist()
    ([2, 1, 4, 4], [1, 1])
    """

    REFUSED: ClassVar[Mapping[str, str]] = dict.fromkeys(Provider.REFUSED, "the tensor alone is given, as it is")

    def __init__(self, inputs: Tensor, labels: Tensor | None = None, *, name: str = "") -> None:
        super().__init__(name)
        if not isinstance(inputs, Tensor) or not inputs.values.is_floating_point():
            raise WrongInputType(f"inputs must be a n2d2.Tensor of floats, not {_described(inputs)}")
        if not inputs.nb_dims():
            raise WrongValue("inputs have no dimensions: the first is the batch")
        self._tensor = inputs
        self._size, self._batch_size = inputs.dims()[:-1], len(inputs.values)
        if labels is not None:
            if not isinstance(labels, Tensor) or labels.values.is_floating_point():
                raise WrongInputType(f"labels must be a n2d2.Tensor of integers, not {_described(labels)}")
            if len(labels) != self._batch_size:
                raise WrongValue(f"there are {len(labels)} labels for {self._batch_size} samples")
            self._labels = labels.values.reshape(-1).long()
        self._given = labels is not None
        inputs.trace = replace(inputs.trace, provider=self)

    @property
    def labels(self) -> torch.Tensor:
        """The labels, int64 (n,).

        Raises:
            WrongValue: none were given.
        """
        if not self._given:
            raise WrongValue(f"{self.name} has no labels: TensorPlaceholder(inputs, labels=...) takes them")
        return self._labels

    @property
    def epoch_size(self) -> int:
        """The number of samples."""
        return self._batch_size

    def __call__(self) -> Tensor:
        """The tensor."""
        return self._tensor

    def __repr__(self) -> str:
        return f"'{self.name}' TensorPlaceholder"


def _described(thing: object) -> str:
    return f"one of {thing.data_type()}" if isinstance(thing, Tensor) else f"a {type(thing).__name__}"
