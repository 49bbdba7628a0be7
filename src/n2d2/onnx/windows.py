"""The windows of convolutions and pools: how ONNX's attributes say where each begins and ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from n2d2.error_handler import WrongValue, check_choice
from n2d2.onnx.graph import Node

Pads = list[tuple[Any, Any]]
"""For each dimension, how many elements stand before and after; less than 0 cuts off."""


AUTO = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
"""Who says what is padded: the file, nobody, or the input, such that outputs are input / stride."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows over one or more dimensions, y before x.

    Attributes:
        sizes: of the window. strides, dilations: one for each dimension.
        pads: (before, after) of each dimension; None where they follow from the input, by `auto`.
        auto: "NOTSET", "VALID", "SAME_UPPER" or "SAME_LOWER".
        ceil: whether a last window that is not full counts.
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...] | None
    auto: str = "NOTSET"
    ceil: bool = False

    @classmethod
    def of(cls, node: Node, sizes: Sequence[int]) -> Self:
        """Read a node's attributes; `sizes` are those of its kernel."""
        n, auto = len(sizes), node["auto_pad"] or "NOTSET"
        check_choice("auto_pad", auto, AUTO)
        for name, count in (("strides", n), ("dilations", n), ("pads", 2 * n)):
            if node[name] and len(node[name]) != count:
                raise WrongValue(
                    f"{name}={node[name]} is illegal: there must be {count} for a window of {n} dimensions"
                )
        given = list(node["pads"] or (0,) * 2 * n) if auto == "NOTSET" else [0] * 2 * n
        return cls(
            sizes=tuple(sizes),
            strides=tuple(node["strides"] or (1,) * n),
            dilations=tuple(node["dilations"] or (1,) * n),
            pads=None if auto.startswith("SAME") else tuple(zip(given[:n], given[n:], strict=True)),
            auto=auto,
            ceil=bool(node["ceil_mode"]),
        )

    @property
    def even(self) -> tuple[int, ...] | None:
        """The padding of each dimension where it is the same before and after and no window is cut; else None."""
        if self.pads is None or self.ceil or any(before != after for before, after in self.pads):
            return None
        return tuple(before for before, _ in self.pads)

    @property
    def reaches(self) -> tuple[int, ...]:
        """How many elements a window spans in each dimension."""
        return tuple((size - 1) * dilation + 1 for size, dilation in zip(self.sizes, self.dilations, strict=True))

    def padding(self, sizes: Sequence[Any]) -> Pads:
        """What is padded around an input of these sizes: what the file asks for, without what `ceil` adds."""
        if self.pads is not None:
            return list(self.pads)
        totals = [
            max((-(-size // stride) - 1) * stride + reach - size, 0)
            for size, stride, reach in zip(sizes, self.strides, self.reaches, strict=True)
        ]
        halves = [(total // 2, total - total // 2) for total in totals]
        return [(after, before) for before, after in halves] if self.auto == "SAME_LOWER" else halves

    def covered(self, sizes: Sequence[Any]) -> Pads:
        """What is padded such that windows that are full are exactly the windows that count."""
        pads = self.padding(sizes)
        if not self.ceil:
            return pads
        return [
            (before, _last_end(size, before, after, stride, reach))
            for size, (before, after), stride, reach in zip(sizes, pads, self.strides, self.reaches, strict=True)
        ]


def _last_end(size: Any, before: int, after: int, stride: int, reach: int) -> Any:  # noqa: ANN401 - a number or a symbol
    """How far behind the input the last window ends that begins in the input or before it."""
    count = -(-(size + before + after - reach) // stride) + 1
    count -= (count - 1) * stride >= size + before
    return (count - 1) * stride + reach - before - size
