"""What providers share: a size, a partition, and the labels of the batch that was given last."""

from collections.abc import Mapping
from typing import ClassVar

import torch

from n2d2.checked import Checked
from n2d2.checks import check_text
from n2d2.database import PARTITIONS
from n2d2.error_handler import check_choice
from n2d2.refusal import Refused

_NO_DEEPNET = "the network is the tensor's: get_deepnet() of what the cells returned"
_OF_DATA = "make a DataProvider"


class Provider(Checked, shared=True):
    """What providers share. Never made itself.

    Args:
        name: what it is called.

    Attributes:
        labels: of the batch that was given last, int64 (n,).
    """

    REFUSED: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("batch_size", "composite_stimuli", "database", "random_read", "size"), _OF_DATA
    )

    def __init__(self, name: str = "") -> None:
        check_text("name", name)
        self.name = name or type(self).__name__
        self._partition = "Learn"
        self._size: list[int] = []
        self._batch_size = 1
        self._labels = torch.zeros(0, dtype=torch.int64)

    @property
    def labels(self) -> torch.Tensor:
        """The labels of the batch that was given last, int64 (n,)."""
        return self._labels

    @property
    def partition(self) -> str:
        """The partition that is read."""
        return self._partition

    def set_partition(self, partition: str) -> None:
        """Read from Learn, Validation, Test or Unpartitioned from now on."""
        check_choice("partition", partition, PARTITIONS)
        self._partition = partition

    def get_partition(self) -> str:
        """The partition that is read."""
        return self._partition

    def get_name(self) -> str:
        """The name."""
        return self.name

    def get_size(self) -> list[int]:
        """[width, height, channels]."""
        return list(self._size)

    def get_batch_size(self) -> int:
        """The number of stimuli in a batch."""
        return self._batch_size

    def shape(self) -> list[int]:
        """[batch, channels, height, width]."""
        return [self._batch_size, *reversed(self._size)]

    def dims(self) -> list[int]:
        """[width, height, channels, batch]."""
        return [*self._size, self._batch_size]

    get_deepnet = Refused(_NO_DEEPNET)
    set_deepnet = Refused(_NO_DEEPNET)
