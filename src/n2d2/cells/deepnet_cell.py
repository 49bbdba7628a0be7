"""DeepNetCell: a network as a graph of named cells, as INI and ONNX files describe it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from n2d2 import ini
from n2d2.cells.block import Block, Item
from n2d2.cells.naming import key_of
from n2d2.cells.wiring import ends
from n2d2.error_handler import WrongValue, refuse_unknown

if TYPE_CHECKING:
    from n2d2.network.network import Network
    from n2d2.target import Score

FIT_OPTIONS = ("log_epoch", "avg_window", "bench", "ban_multi_device", "valid_metric", "stop_valid", "log_kernels")


class DeepNetCell(Block):
    """Cells and what each takes as its input.

    Args:
        cells: in any order.
        inputs: cell name -> the names of its inputs; what is no cell stands for the input of the network.
        outputs: names of the cells whose outputs come out; by default those that no other cell takes.
        provider: where `fit` and `run_test` read. target: what they measure; by default a Score.
        name: by default the class and a number.

    Raises:
        WrongValue: cells feed each other in a circle, or one has no inputs.
    """

    def __init__(
        self,
        cells: Iterable[Item],
        inputs: Mapping[str, Sequence[str]],
        *,
        outputs: Sequence[str] | None = None,
        provider: Any = None,  # noqa: ANN401 - any provider
        target: "Score | None" = None,
        name: str | None = None,
    ) -> None:
        by_name = {cell.name: cell for cell in cells}
        for cell in by_name:
            if not inputs.get(cell):
                raise WrongValue(f"cell {cell!r} has no inputs")
        super().__init__((by_name[cell] for cell in _in_order(inputs) if cell in by_name), name)
        self.inputs = {cell.name: list(inputs[cell.name]) for cell in self}
        self.outputs = list(ends(self.inputs) if outputs is None else outputs)
        self.provider, self.target = provider, target

    def forward(self, x: Any) -> Any:  # noqa: ANN401 - torch tensors or ours
        """The output, or the list of outputs where there are several."""
        last_use = {source: cell for cell, sources in self.inputs.items() for source in sources}
        known: dict[str, Any] = {}
        for cell in self.items():
            known[cell.name] = cell(*(known.get(source, x) for source in self.inputs[cell.name]))
            for source in self.inputs[cell.name]:
                if last_use[source] == cell.name and source not in self.outputs:
                    known.pop(source, None)  # its memory is not needed any more
        results = [known[output] for output in self.outputs]
        return results[0] if len(results) == 1 else results

    def remove(self, name: str, reconnect: bool = True) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Take a cell of this level out.

        Args:
            name: of the cell.
            reconnect: cells that took its output take its inputs instead; without it, there must be none.
        """
        removed = self.get_cell(name)
        takers = [cell for cell, sources in self.inputs.items() if name in sources]
        if takers and not reconnect:
            raise WrongValue(f"reconnect=False is illegal: {name!r} feeds {', '.join(takers)}")
        sources = self.inputs.pop(name)
        for cell in takers:
            self.inputs[cell] = [new for old in self.inputs[cell] for new in (sources if old == name else [old])]
        ends = [new for old in self.outputs for new in (sources if old == name else [old])]
        self.outputs = [cell for cell in dict.fromkeys(ends) if cell in self.inputs]
        del self._modules[key_of(removed.name)]

    @classmethod
    def of(cls, network: "Network") -> "DeepNetCell":
        """Assemble the cells of a network: dense, with neither provider nor target, so that it can be copied."""
        graph = network.graph
        return cls(graph.cells.values(), graph.inputs, outputs=network.outputs, name=network.name)

    @classmethod
    def load_from_INI(  # noqa: N802 - N2D2's name
        cls, path: str | Path, *, data_path: str | Path | None = None, lenient: bool = False
    ) -> "DeepNetCell":
        """Read an INI file: its network with its PruneCells on, its provider and its target.

        Args:
            path: the file.
            data_path: the folder of the data, in place of the file's `DataPath`.
            lenient: keys that nothing reads are warnings.
        """
        from n2d2.network.network import read_network  # noqa: PLC0415 - it needs cells; n2d2.network may come first

        network = read_network(ini.read(path, lenient=lenient), data_path=data_path)
        made = cls.of(network)
        for name, quantizer in network.quantizers.items():
            made[name].quantizer = quantizer
        made.provider, made.target = network.provider, network.target
        return made

    @classmethod
    def load_from_ONNX(  # noqa: N802 - N2D2's name
        cls,
        provider: Any,  # noqa: ANN401 - any provider
        path: str | Path,
        *,
        ignore: Sequence[str] = (),
    ) -> "DeepNetCell":
        """Build the network of an ONNX file; Conv and Fc cells can be pruned, and all that it holds can learn.

        Args:
            provider: what the network reads.
            path: the file.
            ignore: first outputs of operators to leave out; what these take comes out of the network.

        Raises:
            WrongValue: the file cannot be read as a network, or there is nothing to ignore; or onnx is not installed.
        """
        try:
            from n2d2.cells.onnx import read_onnx  # noqa: PLC0415 - wants an extra, for ONNX files only
        except ImportError as error:
            raise WrongValue(f"ONNX files need {error.name}: pip install 'prunecell[onnx]'") from None
        wiring = read_onnx(path, ignore=ignore)
        cells = wiring.cells.values()
        return cls(cells, wiring.inputs, outputs=wiring.outputs, provider=provider, name=Path(path).stem)

    def fit(self, learn_epoch: int, **options: Any) -> None:  # noqa: ANN401 - N2D2's, without effect
        """Learn for so many epochs; after each, measure the validation partition, if there is one.

        The options that N2D2 has here are accepted, without effect.
        """
        refuse_unknown("fit", options, FIT_OPTIONS)
        provider, target = self._data()
        for epoch in range(learn_epoch):
            provider.set_partition("Learn")
            self.learn()
            target.clear_success()
            for _ in range(math.ceil(provider.epoch_size / provider.batch_size)):
                loss = target(self(provider.read_random_batch()))
                loss.back_propagate()
                loss.update()
            learned = f"epoch {epoch + 1}: loss {target.average_loss():.4f}, success {target.get_average_success():.2%}"
            validated = self._measure("Validation")
            print(learned if validated is None else f"{learned}, validation {validated:.2%}")  # noqa: T201 - N2D2 prints

    def run_test(self, **options: Any) -> float:  # noqa: ANN401
        """The success on the test partition, in [0, 1]."""
        refuse_unknown("run_test", options, ("log",))
        success = self._measure("Test")
        if success is None:
            raise WrongValue("the test partition has no stimuli")
        return success

    @torch.no_grad()
    def _measure(self, partition: str) -> float | None:
        provider, target = self._data()
        n = provider.database.get_nb_stimuli(partition)
        if not n:
            return None
        provider.set_partition(partition)
        self.test()
        target.clear_success()
        for first in range(0, n, provider.batch_size):
            target(self(provider.read_batch(first)))
        return target.get_average_success()

    def _data(self) -> "tuple[Any, Score]":
        if self.provider is None:
            raise WrongValue(f"{self.name!r} has no provider: give one when the network is made")
        if self.target is None:
            from n2d2.target import Score  # noqa: PLC0415 - it needs cells; n2d2.target may come first

            self.target = Score(self.provider)
        return self.provider, self.target


def _in_order(inputs: Mapping[str, Sequence[str]]) -> list[str]:
    """The names such that each comes after all its inputs."""
    try:
        return list(TopologicalSorter(inputs).static_order())
    except CycleError as error:
        raise WrongValue(f"these cells feed each other: {' -> '.join(error.args[1])}") from None
