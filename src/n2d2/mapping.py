"""Mapping: a table of groups, which outputs of a cell see which of its channels."""

from n2d2.calling import CheckedCall
from n2d2.checks import check_counts
from n2d2.error_handler import WrongValue
from n2d2.tensor import Tensor


class Mapping(metaclass=CheckedCall):
    """Channels and outputs in blocks, one beside the other; an output sees the channels of its block.

    Args:
        nb_groups: >= 1, how many blocks there are; or
        nb_channels_per_group: >= 1, how many channels a block has.

    Raises:
        WrongValue: both are given, or none.

    >>> print(Mapping(nb_groups=2).create_mapping(4, 2).to_numpy().astype(int))
    [[1 0]
     [1 0]
     [0 1]
     [0 1]]
    """

    def __init__(self, nb_groups: int | None = None, nb_channels_per_group: int | None = None) -> None:
        given = {"nb_groups": nb_groups, "nb_channels_per_group": nb_channels_per_group}
        chosen = {name: value for name, value in given.items() if value is not None}
        if len(chosen) != 1:
            raise WrongValue(f"a Mapping takes nb_groups or nb_channels_per_group, not {'both' if chosen else 'none'}")
        check_counts(**chosen)
        self.nb_groups, self.nb_channels_per_group = nb_groups, nb_channels_per_group

    def create_mapping(self, nb_channels: int, nb_outputs: int) -> Tensor:
        """A bool tensor (nb_channels, nb_outputs), for the `mapping` of a cell: 1 where an output sees a channel.

        Outputs that the blocks do not divide go to them in turn. If the channels do not fill the last block, it has
        fewer.

        Raises:
            WrongValue: the groups do not divide the channels, or there are more of them than outputs.
        """
        check_counts(nb_channels=nb_channels, nb_outputs=nb_outputs)
        if self.nb_groups is not None and nb_channels % self.nb_groups:
            raise WrongValue(f"nb_groups={self.nb_groups} is illegal: it must divide the {nb_channels} channels")
        size = self.nb_channels_per_group or nb_channels // (self.nb_groups or 1)
        if size * nb_outputs < nb_channels:
            raise WrongValue(
                f"nb_outputs={nb_outputs} is illegal: each of the {-(-nb_channels // size)} groups needs one"
            )
        mapping = Tensor([nb_channels, nb_outputs], datatype="bool")
        for group, first in enumerate(range(0, nb_channels, size)):
            begin, end = (step * nb_outputs * size // nb_channels for step in (group, group + 1))
            mapping.values[first : first + size, begin:end] = True
        return mapping
