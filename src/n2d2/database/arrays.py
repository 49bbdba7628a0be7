"""Stimuli that the script already has, as numpy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from n2d2.database.base import Database, Stimuli
from n2d2.error_handler import WrongInputType, WrongValue, check_choice


@dataclass(eq=False, repr=False)
class Numpy(Database):
    """Arrays with labels, given by `load`."""

    def load(
        self,
        stimuli_list: Sequence[np.ndarray],
        labels_list: Sequence[int] | None = None,
        partition: str = "Unpartitioned",
        channels_first: bool = True,  # noqa: FBT001, FBT002 (N2D2's signature)
    ) -> None:
        """Add stimuli to a partition.

        Args:
            stimuli_list: arrays of one shape and type: (channels, height, width) or (height, width); bytes stay
                bytes, everything else becomes float32.
            labels_list: their labels, from 0; None: all 0.
            partition: Learn, Validation, Test or Unpartitioned.
            channels_first: False: the arrays are (height, width, channels).

        Raises:
            WrongValue: the arrays differ in shape, are not images, or there is not one label per array.
        """
        check_choice("partition", partition, ("Learn", "Validation", "Test", "Unpartitioned"))
        if len({(array.shape, array.dtype) for array in stimuli_list}) != 1:
            raise WrongValue("stimuli_list must have arrays, all of one shape and type")
        images = torch.from_numpy(np.stack([_channels_first(array, channels_first) for array in stimuli_list]))
        labels = torch.as_tensor([0] * len(images) if labels_list is None else labels_list)
        if labels.shape != images.shape[:1] or labels.is_floating_point() or int(labels.min()) < 0:
            raise WrongValue(f"labels_list must have {len(images)} whole numbers from 0, one per stimulus")
        self._add(images if images.dtype == torch.uint8 else images.float(), labels.long(), partition)

    def _add(self, images: torch.Tensor, labels: torch.Tensor, partition: str) -> None:
        old = self.stimuli
        added = torch.arange(len(old.labels), len(old.labels) + len(images))
        if isinstance(old.images, torch.Tensor):
            if (old.images.shape[1:], old.images.dtype) != (images.shape[1:], images.dtype):
                raise WrongValue(f"stimuli of shape {tuple(images.shape[1:])} do not go with {old.images.shape[1:]}")
            images = torch.cat((old.images, images))
        labels = torch.cat((old.labels, labels))
        partitions = old.partitions | {partition: torch.cat((self.indices(partition), added))}
        names = [str(label) for label in range(int(labels.max()) + 1)]
        self._stimuli = Stimuli(images, labels, names, partitions)


def _channels_first(array: np.ndarray, already: object) -> np.ndarray:
    if array.ndim == 2:  # noqa: PLR2004 (height, width)
        return array[None]
    if array.ndim != 3:  # noqa: PLR2004
        raise WrongInputType(f"a stimulus must be a 2-d or 3-d array, not one of shape {array.shape}")
    return array if already else array.transpose(2, 0, 1)
