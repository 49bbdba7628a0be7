"""A number that only the stimuli know."""

from collections.abc import Callable
from functools import cached_property

import torch

from n2d2.database.reading import Images, in_parts


class GlobalValue:
    """The mean or the standard deviation of images, computed when it is first called for.

    Args:
        images: gives the images.
        name: "mean" or "stdDev".
        partition: which the images are of, for printing.
    """

    def __init__(self, images: Callable[[], Images], name: str, partition: str) -> None:
        self.images, self.name, self.partition = images, name, partition

    def __call__(self) -> float:
        """Return it; the first call opens the data and goes through all of it.

        Raises:
            DataError: the data is not there.
        """
        return self._value

    @cached_property
    def _value(self) -> float:
        images = self.images()
        n, total, squares = 0, 0.0, 0.0
        for _, some in images.read(in_parts(torch.arange(len(images.indices)))):
            values = torch.cat([image.flatten() for image in some]).double()
            n, total, squares = n + len(values), total + values.sum().item(), squares + values.square().sum().item()
        mean = total / max(1, n)
        return float(mean if self.name == "mean" else max(0.0, squares / max(1, n) - mean**2) ** 0.5)

    def __repr__(self) -> str:
        return f"GlobalValue({self.name} of {self.partition})"
