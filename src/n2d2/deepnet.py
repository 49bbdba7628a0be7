"""DeepNet: the graph of cells behind a tensor, or of a DeepNetCell."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from n2d2.checks import check_text
from n2d2.drawing import draw_graph
from n2d2.error_handler import UndefinedItemError, WrongValue
from n2d2.files import save_weights
from n2d2.named import Named
from n2d2.summary import summary_of, write_stats
from n2d2.updating import update
from prunecell.errors import nearest

INPUT = "input"
"""What a picture calls data that comes from no provider."""


class DeepNet(Named):
    """A view of cells and of what each took; it holds nothing of its own.

    `tensor.get_deepnet()` gives the graph of the cells that made a tensor, as it was computed; `get_deepnet()` and
    `get_embedded_deepnet()` of a DeepNetCell give the graph that it computes. Networks are made of `n2d2.cells`:
    a DeepNet that is made by itself is empty.

    Args:
        name: what it is called.
        links: cell -> what made its inputs, a cell, a provider or None; in the order of computation.
        provider: of the data.
        source: the tensor or the DeepNetCell that it is the graph of.
    """

    def __init__(
        self,
        name: str = "DeepNet",
        *,
        links: Mapping[Any, tuple[Any, ...]] | None = None,
        provider: Any = None,  # noqa: ANN401 - any provider
        source: Any = None,  # noqa: ANN401 - a Tensor, an Interface or a DeepNetCell
    ) -> None:
        check_text("name", name)
        self.name, self._links, self._provider, self._source = name, dict(links or {}), provider, source

    def get_name(self) -> str:
        """The name."""
        return self.name

    def get_cells(self) -> dict[str, Any]:
        """All cells by name, in the order of computation."""
        return {cell.get_name(): cell for cell in self._links}

    def get_input_cells(self) -> list[Any]:
        """The cells that take data."""
        return [cell for cell, makers in self._links.items() if not all(maker in self._links for maker in makers)]

    def get_output_cells(self) -> list[Any]:
        """The cells whose outputs no other cell takes."""
        taken = {id(maker) for makers in self._links.values() for maker in makers}
        return [cell for cell in self._links if id(cell) not in taken]

    def get_provider(self) -> Any:  # noqa: ANN401
        """The provider of the data, or None."""
        return self._provider

    def set_provider(self, provider: Any) -> None:  # noqa: ANN401
        """Take the data from another provider: a DeepNetCell learns and tests on it from now on."""
        if hasattr(self._source, "set_provider"):
            self._source.set_provider(provider)
        self._provider = provider

    def back_propagate(self) -> None:
        """Gradients for all cells, of the loss that this is the graph of.

        Raises:
            WrongValue: it is the graph of something else.
        """
        if not hasattr(self._source, "back_propagate"):
            raise WrongValue(
                "back_propagate() needs a loss: call it on what a Target returned, or on its get_deepnet()"
            )
        self._source.back_propagate()

    def update(self) -> None:
        """Step the solvers of all cells, then the clocks of their PruneCells, for the batch that they saw last."""
        if hasattr(self._source, "update"):
            self._source.update()
            return
        cells = list(self._links)
        n_samples = max((cell.get_outputs().trace.n_samples for cell in cells), default=1)
        update(cells, n_samples, getattr(self._provider, "epoch_size", None))

    def remove(self, cell_name: str, reconnect: bool = False) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Take a cell out of the DeepNetCell that this is the graph of, see `DeepNetCell.remove`.

        Raises:
            UndefinedItemError: there is no such cell.
            WrongValue: it is the graph of a tensor, which is what was computed.
        """
        if cell_name not in self.get_cells():
            raise UndefinedItemError(f"{self.name!r} has no cell {cell_name!r}{nearest(cell_name, self.get_cells())}")
        if not hasattr(self._source, "remove"):
            raise WrongValue(
                "the graph of a tensor is what was computed: take cells out of the Sequence or the DeepNetCell,"
                " and compute again"
            )
        self._source.remove(cell_name, reconnect)
        self._links = self._source.get_deepnet()._links  # noqa: SLF001 - of its own kind

    def draw_graph(self, filename: str | Path) -> None:
        """Draw the cells and what each takes.

        Graphviz draws where its program `dot` is installed, else matplotlib; where neither is there, the graph is
        written as text for Graphviz, with a warning.

        Args:
            filename: of the picture; `.png` is added where it has no ending of a picture.
        """
        data = {maker for makers in self._links.values() for maker in makers if maker not in self._links}
        boxes: dict[Hashable, str] = {id(one): str(getattr(one, "name", INPUT)) for one in data}
        boxes |= {id(cell): f"{cell.get_name()}\n{cell.get_type()}" for cell in self._links}
        draw_graph(filename, boxes, [(id(maker), id(cell)) for cell, makers in self._links.items() for maker in makers])

    draw = draw_graph

    def export_network_free_parameters(self, dirname: str | Path) -> None:
        """Write the weights, biases and masks of all cells as `.syntxt` files into a folder."""
        save_weights(self._links, dirname)

    def log_stats(self, dirname: str | Path) -> None:
        """Write the table of the cells, their sizes, parameters and multiplications, to `stats.log` in a folder."""
        write_stats(dirname, summary_of(self._links))

    def __str__(self) -> str:
        lines = (f"\t{cell}" for cell in self._links)
        return "\n".join([f"DeepNet({self.name!r})(", *lines, ")"])

    __repr__ = __str__
