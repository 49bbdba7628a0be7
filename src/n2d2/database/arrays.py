"""Stimuli that the script already has, as numpy arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch

from n2d2.checks import check_flag
from n2d2.database.base import PARTITIONS, Database, Stimuli
from n2d2.error_handler import WrongInputType, WrongValue, check_choice

DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "float16", "float32", "float64")

KEPT = {"uint8": np.uint8, "int8": np.int8, "uint16": np.int32, "int16": np.int16, "int32": np.int32}  # others: floats


@dataclass(eq=False, repr=False)
class Numpy(Database):
    """Arrays with labels, given by `load`."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        **Database.REFUSED,
        "data_path": "arrays are given by load(); DIR takes folders",
    }

    def load(  # type: ignore[override] # N2D2's signature: arrays, and no folder
        self,
        stimuli_list: Sequence[np.ndarray[Any, Any]],
        labels_list: Sequence[int] | None = None,
        partition: str | None = None,
        channels_first: bool = True,  # noqa: FBT001, FBT002 (N2D2's signature)
    ) -> None:
        """Add stimuli to a partition.

        Args:
            stimuli_list: arrays of one type of `DTYPES`: (channels, height, width) or (height, width). Integers reach
                the network divided by the largest value of their type; floats as they are.
            labels_list: their labels, from 0; None: all 0.
            partition: Learn, Validation, Test or Unpartitioned, which is the default.
            channels_first: False: the arrays are (height, width, channels).

        Raises:
            WrongValue, WrongInputType: the arrays are of several types or no images, or there is not one label per
                array. Nothing has been added.
        """
        partition = "Unpartitioned" if partition is None else partition
        check_choice("partition", partition, PARTITIONS)
        check_flag("channels_first", channels_first)
        arrays = _arrays(stimuli_list)
        dtype = arrays[0].dtype
        kept = np.dtype(KEPT.get(dtype.name, np.float32))
        images = [_image(array, kept, channels_first) for array in arrays]
        labels = _labels(labels_list, len(images))
        self._add(images, labels, partition, wide=2**16 - 1 if dtype == np.uint16 else 2**31 - 1)

    def _add(self, images: list[torch.Tensor], labels: torch.Tensor, partition: str, wide: int) -> None:
        old = self.stimuli
        added = torch.arange(len(old.labels), len(old.labels) + len(images))
        before = [old.image(index) for index in range(len(old.labels))]
        if before and (before[0].dtype, old.wide) != (images[0].dtype, wide):
            raise WrongValue(f"stimuli of {images[0].dtype} do not go with those of {before[0].dtype} before them")
        images = [*before, *images]
        labels = torch.cat((old.labels, labels))
        alike = len({image.shape for image in images}) == 1
        partitions = old.partitions | {partition: torch.cat((self.indices(partition), added))}
        names = [str(label) for label in range(int(labels.max()) + 1)]
        self._stimuli = Stimuli(torch.stack(images) if alike else images, labels, names, partitions, wide)


def _arrays(given: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    if not isinstance(given, list | tuple | np.ndarray) or not len(given):
        raise WrongValue("stimuli_list must be a list with at least one array")
    for place, array in enumerate(given):
        if not isinstance(array, np.ndarray):
            raise WrongInputType(f"stimuli_list must have numpy arrays; number {place} is a {type(array).__name__}")
        if array.dtype != given[0].dtype:
            raise WrongValue(f"stimuli_list must have arrays of one type, not {given[0].dtype} and {array.dtype}")
        if array.ndim not in (2, 3) or not array.size:
            raise WrongInputType(f"a stimulus must be a 2-d or 3-d array, not one of shape {array.shape}")
    if given[0].dtype.name not in DTYPES:
        raise WrongInputType(
            f"stimuli of {given[0].dtype} are illegal; legal: {', '.join(DTYPES)}: convert each by array.astype(...)"
        )
    return list(given)


def _image(array: np.ndarray[Any, Any], kept: np.dtype[Any], channels_first: object) -> torch.Tensor:
    if array.ndim == 2:  # noqa: PLR2004 (height, width)
        array = array[None]
    elif not channels_first:
        array = array.transpose(2, 0, 1)
    return torch.from_numpy(np.array(array, kept, order="C"))


def _labels(given: Sequence[int] | None, n: int) -> torch.Tensor:
    if given is None:
        return torch.zeros(n, dtype=torch.int64)
    if not isinstance(given, list | tuple | np.ndarray):
        raise WrongInputType(f"labels_list must be a list of whole numbers from 0, not a {type(given).__name__}")
    if len(given) != n or not all(isinstance(label, Integral) and int(label) >= 0 for label in given):
        raise WrongValue(f"labels_list must have {n} whole numbers from 0, one per stimulus")
    return torch.tensor([int(label) for label in given])
