"""Trace: what took part in making a tensor, so that a loss finds the cells to update, and a graph its lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from n2d2.error_handler import WrongInputType
from n2d2.updating import Updatable
from prunecell.errors import quoted


@dataclass(frozen=True, eq=False)
class Trace:
    """What took part in making a tensor: the provider of the data, the samples, and the cells in their order.

    Attributes:
        provider: of the data. n_samples: in the batch. cells: the last one made the tensor.
        before: the traces of what that cell took.
    """

    provider: Any = None
    n_samples: int = 1
    cells: tuple[Updatable, ...] = ()
    before: "tuple[Trace, ...]" = field(default=(), repr=False)

    @classmethod
    def of(cls, source: Any) -> "Trace":  # noqa: ANN401 - a cell, a provider or None
        """Of a tensor that is taken to come from this.

        Raises:
            WrongInputType: it is neither a cell nor a provider.
        """
        if source is None or hasattr(source, "get_labels"):
            return cls(provider=source)
        if hasattr(source, "step") and hasattr(source, "get_input_cells"):
            return cls(cells=(source,))
        raise WrongInputType(
            f"cell={quoted(source)} is illegal: it must be a cell or a provider, not a {type(source).__name__}"
        )

    @classmethod
    def after(cls, cell: Updatable, before: "Sequence[Trace]", n_samples: int) -> "Trace":
        """What took part after a cell made one tensor of those that came before."""
        provider = next((trace.provider for trace in before if trace.provider is not None), None)
        cells = [one for trace in before for one in trace.cells]
        return cls(provider, n_samples, tuple(dict.fromkeys([*cells, cell])), tuple(before))

    @property
    def maker(self) -> Any:  # noqa: ANN401 - a cell, a provider, or None
        """The cell that made the tensor, or the provider that read it."""
        return self.cells[-1] if self.cells else self.provider

    def calls(self) -> Mapping[Any, Sequence[tuple[Any, ...]]]:
        """Cell -> what made its inputs, once for each call that differs, in the order of computation.

        None stands for data of no provider.
        """
        found: dict[Any, dict[tuple[Any, ...], None]] = {}
        waiting, seen = [self], set()
        while waiting:
            trace = waiting.pop()
            if trace.cells and id(trace) not in seen:
                seen.add(id(trace))
                found.setdefault(trace.maker, {})[tuple(one.maker for one in trace.before)] = None
                waiting += trace.before
        return {cell: list(found[cell]) for cell in self.cells if cell in found}

    def links(self) -> Mapping[Any, tuple[Any, ...]]:
        """Cell -> what made its inputs, those of all its calls."""
        return {cell: tuple(maker for call in calls for maker in call) for cell, calls in self.calls().items()}
