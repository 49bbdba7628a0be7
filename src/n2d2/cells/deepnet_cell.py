"""Block, a container that says itself how it computes, and DeepNetCell, the graph of cells that it becomes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from n2d2 import global_variables, ini
from n2d2.calling import checked
from n2d2.cells import fitting
from n2d2.cells.holding import Holding, Item
from n2d2.cells.naming import key_of
from n2d2.cells.wiring import ends
from n2d2.checks import check_path
from n2d2.database import PARTITIONS
from n2d2.deepnet import DeepNet
from n2d2.error_handler import (
    ImplementationError,
    UndefinedItemError,
    WrongInputType,
    WrongValue,
    check_choice,
    n2d2_errors,
    refuse_unknown,
)
from n2d2.refusal import Refused
from n2d2.summary import write_stats
from n2d2.tensor import Tensor
from n2d2.updating import update
from n2d2.warning import warn_caller
from prunecell.checks import check_texts
from prunecell.errors import nearest, quoted

if TYPE_CHECKING:
    from n2d2.network.network import Network
    from n2d2.target import Score

TEST_OPTIONS = ("log", "report", "nb_test", "test_index", "test_id")

INPUT = "sp"
"""What the input of a network is called, as the section of an INI file; no cell's name."""


class Block(Holding):
    """Cells by name, without an order of computation: a subclass says in `forward` (or `__call__`) how it computes.

    Iteration goes one level deep; `get_cells()` all the way. `block[0]` and `block["name"]` find a cell, the latter at
    any depth.

    What is set on a container is set on its cells: `block.quantizer = PruneCell(...)` gives each cell with weights a
    PruneCell of its own with these settings; so with solvers, fillers and `back_propagate`. Other attributes are
    refused, but for those of a subclass of your own. A subclass may set cells as attributes, before its base's
    constructor too; the container holds those that the constructor gets, and each once.

    Args:
        cells: a list of cells or containers, of different names.
        name: by default the class and a number.

    Raises:
        WrongInputType, WrongValue: it is none.
    """

    _closed: ClassVar[bool] = True

    def _no_order(self, *_: Any) -> None:  # noqa: ANN401
        """Compute nothing, for a subclass whose own `__call__` computes.

        Raises:
            ImplementationError: it has none.
        """
        if type(self).__call__ is Block.__call__:
            raise ImplementationError(
                f"{self.name!r} has no order of computation: use a Sequence or a Layer, or define forward in a subclass"
            )

    forward: Callable[..., Any] = _no_order

    @checked
    def to_deepnet_cell(self, provider: Any, target: "Score | None" = None) -> "DeepNetCell":  # noqa: ANN401 - any provider
        """The same cells as a graph, as one stimulus of zeros finds them, without the containers between.

        Args:
            provider: where the network reads; its size is that of the stimulus.
            target: what `fit` and `run_test` measure; by default a Score.

        Raises:
            WrongInputType: it is no provider, or what comes out is no n2d2.Tensor.
            WrongValue: its stimuli do not fit the cells, a cell is called twice, or two have one name.
        """
        _check_provider(provider)
        calls, outputs = self._traced(provider)
        names = [cell.get_name() for cell in calls]
        for cell, ways in calls.items():
            if len(ways) > 1:
                raise WrongValue(
                    f"{cell.get_name()!r} is called twice: in a DeepNetCell each place has a cell of its own"
                )
            if names.count(cell.get_name()) > 1:
                raise WrongValue(f"two cells of {self.name!r} are called {cell.get_name()!r}: names must differ")
        inputs = {
            cell.get_name(): [maker.get_name() if maker in calls else INPUT for maker in ways[0]]
            for cell, ways in calls.items()
        }
        return DeepNetCell(calls, inputs, outputs=outputs, provider=provider, target=target, name=self.name)

    def _traced(self, provider: Any) -> tuple[dict[Any, Sequence[tuple[Any, ...]]], list[str]]:  # noqa: ANN401
        """Each cell that takes part with its calls, and the names of the cells whose outputs come out."""
        modes = {module: module.training for module in self.modules()}
        last_calls = {cell: cell.last_call() for cell in self._leaves()}
        stimulus = torch.zeros(
            1, *provider.shape()[1:], dtype=global_variables.dtype(), device=global_variables.device()
        )
        self.eval()
        try:
            made = self(Tensor.from_torch(stimulus, source=provider))
        finally:
            for module, training in modes.items():
                module.training = training
            for cell, call in last_calls.items():
                cell.put_last_call(call)
        tensors = list(made) if isinstance(made, list | tuple) else [made]
        if not tensors or not all(isinstance(one, Tensor) and one.trace.cells for one in tensors):
            raise WrongInputType(f"{self.name!r} must return n2d2.Tensors that its cells made, not {quoted(made)}")
        calls = {cell: ways for one in tensors for cell, ways in one.trace.calls().items()}
        return calls, [one.trace.maker.get_name() for one in tensors]


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

    _closed: ClassVar[bool] = True
    REFUSED: ClassVar[Mapping[str, str]] = {
        "N2D2_object": "a DeepNetCell is made by load_from_INI, load_from_ONNX, or to_deepnet_cell of a container"
    }
    inputs: Mapping[str, list[str]] = {}
    outputs: list[str] = []  # noqa: RUF012 - each has its own
    provider: Any = None
    _target: "Score | None" = None

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
        super().__init__([by_name[cell] for cell in _in_order(inputs) if cell in by_name], name)
        self.inputs = {cell.name: list(inputs[cell.name]) for cell in self}
        self.outputs = list(ends(self.inputs) if outputs is None else outputs)
        self.provider, self.target = provider, target

    def forward(self, x: Any) -> Any:  # noqa: ANN401 - torch tensors or ours
        """The output, or the list of outputs where there are several."""
        last_use = {source: cell for cell, sources in self.inputs.items() for source in sources}
        known: dict[str, Any] = {}
        for cell in self:
            known[cell.name] = cell(*(known.get(source, x) for source in self.inputs[cell.name]))
            for source in self.inputs[cell.name]:
                if last_use[source] == cell.name and source not in self.outputs:
                    known.pop(source, None)  # its memory is not needed any more
        results = [known[output] for output in self.outputs]
        return results[0] if len(results) == 1 else results

    @checked
    def remove(self, name: str, reconnect: bool = True) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Take a cell of this level out.

        Args:
            name: of the cell.
            reconnect: cells that took its output take its inputs instead; without it, there must be none.

        Raises:
            UndefinedItemError: there is no such cell.
            WrongValue: others take its output, or it is the last cell.
        """
        if name not in self.inputs:
            raise UndefinedItemError(f"{self.name!r} has no cell {quoted(name)}{nearest(str(name), self.inputs)}")
        takers = [cell for cell, sources in self.inputs.items() if name in sources]
        if takers and not reconnect:
            raise WrongValue(f"reconnect=False is illegal: {name!r} feeds {', '.join(takers)}")
        if len(self) == 1:
            raise WrongValue(f"{name!r} cannot be removed: it is the last cell of {self.name!r}")
        inputs = dict(self.inputs)
        sources = inputs.pop(name)
        for cell in takers:
            inputs[cell] = [new for old in inputs[cell] for new in (sources if old == name else [old])]
        out = [new for old in self.outputs for new in (sources if old == name else [old])]
        self.inputs, self.outputs = inputs, [cell for cell in dict.fromkeys(out) if cell in inputs]
        self._held.remove(key_of(name))
        del self._modules[key_of(name)]

    # ---- made of files

    @classmethod
    def of(cls, network: "Network") -> "DeepNetCell":
        """Assemble the cells of a network: dense, with neither provider nor target, so that it can be copied."""
        graph = network.graph
        return cls(graph.cells.values(), graph.inputs, outputs=network.outputs, name=network.name)

    @classmethod
    @checked
    def load_from_INI(  # noqa: N802 - N2D2's name
        cls, path: str | Path, *, data_path: str | Path | None = None, lenient: bool = False
    ) -> "DeepNetCell":
        """Read an INI file: its network with its PruneCells on, its provider and its target.

        Args:
            path: the file.
            data_path: the folder of the data, in place of the file's `DataPath`.
            lenient: keys that nothing reads are warnings.

        Raises:
            WrongInputType: the path is no text.
            IniError: the file is missing or wrong, with its line.
        """
        from n2d2.network.network import read_network  # noqa: PLC0415 - it needs cells; n2d2.network may come first

        check_path("path", path)
        network = read_network(ini.read(path, lenient=lenient), data_path=data_path)
        made = cls.of(network)
        for name, quantizer in network.quantizers.items():
            made[name].quantizer = quantizer
        for section in network.for_commands:
            told = f"{path}: [{section}] is for the commands prunecell run and n2d2, and has no effect in a script"
            warn_caller(told, ini.IniWarning)
        made.provider, made.target = network.provider, network.target
        return made

    @classmethod
    @checked
    def load_from_ONNX(  # noqa: N802 - N2D2's name
        cls,
        provider: Any,  # noqa: ANN401 - any provider
        model_path: str | Path,
        ini_file: str | Path | None = None,
        ignore_cells: Sequence[str] | None = None,
        ignore_input_size: bool = False,  # noqa: FBT001, FBT002 - N2D2's signature
    ) -> "DeepNetCell":
        """Build the network of an ONNX file; Conv and Fc cells can be pruned, and all that it holds can learn.

        Args:
            provider: what the network reads; None where it is not to be fitted.
            model_path: the file.
            ini_file: an INI file whose section [onnx] has `Ignore` and `IgnoreInputSize`, and whose others configure
                cells: [onnx:Conv_def] all of a type, [NAME] one.
            ignore_cells: first outputs of operators to leave out; what these take comes out of the network.
            ignore_input_size: the size in the file may be another than the provider's.

        Raises:
            WrongInputType: an argument is of the wrong type.
            WrongValue: the file cannot be read as a network, the provider's size is not the file's, or there is nothing
                to ignore; or onnx is not installed.
            IniError: the INI file is missing or wrong.
        """
        check_path("model_path", model_path)
        check_path("ini_file", ini_file or "")
        if provider is not None:
            _check_provider(provider)
        with n2d2_errors():
            ignore = [] if ignore_cells is None else list(check_texts("ignore_cells", ignore_cells))
        try:
            from n2d2.cells.onnx import read_onnx  # noqa: PLC0415 - wants an extra, for ONNX files only
        except ImportError as error:
            raise WrongValue(f"ONNX files need {error.name}: pip install 'prunecell[onnx]'") from None
        document = None if ini_file is None else ini.read(ini_file)
        owner = None if document is None else document.get("onnx")
        if owner is not None:
            ignore += owner.get_str("Ignore", "").split()
            ignore_input_size = owner.get_bool("IgnoreInputSize", default=False) or ignore_input_size
        wiring = read_onnx(model_path, ignore=ignore)
        size = wiring.input_shape
        if provider is not None and size is not None and not ignore_input_size:
            _check_size(model_path, size, provider.shape())
        cells = wiring.cells.values()
        made = cls(cells, wiring.inputs, outputs=wiring.outputs, provider=provider, name=Path(model_path).stem)
        if document is not None:
            from n2d2.network.imported import configure  # noqa: PLC0415 - it needs cells; n2d2.network may come first

            for cell in cells:
                quantizer = configure(document, owner or document.globals, cell)
                if quantizer is not None:
                    cell.quantizer = quantizer
            document.check_all_read()
        return made

    # ---- learning and testing

    @property
    def target(self) -> Any:  # noqa: ANN401 - any target
        """What `fit` and `run_test` measure; a Score of the provider, where none was given."""
        if self._target is None and self.provider is not None:
            from n2d2.target import Score  # noqa: PLC0415 - it needs cells; n2d2.target may come first

            self._target = Score(self.provider)
        return self._target

    @target.setter
    def target(self, target: "Score | None") -> None:
        self._target = target

    def set_provider(self, provider: Any) -> None:  # noqa: ANN401 - any provider
        """Read from another provider; the target compares with its labels.

        Raises:
            WrongInputType: it is none.
        """
        _check_provider(provider)
        self.provider = provider
        if self._target is not None:
            self._target.provider = provider

    @checked
    def fit(  # noqa: PLR0913, PLR0917 - N2D2's signature
        self,
        learn_epoch: int,
        log_epoch: int = 1,
        avg_window: int = 10_000,
        bench: bool = False,  # noqa: FBT001, FBT002 - N2D2's signature
        ban_multi_device: bool = False,  # noqa: FBT001, FBT002
        valid_metric: str = "Sensitivity",
        stop_valid: int = 0,
        log_kernels: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """Learn on the partition Learn; measure the partition Validation, if it has stimuli.

        Where the validation was best, the weights are written to `weights_validation/`, as N2D2 does.

        Args:
            learn_epoch: how many epochs.
            log_epoch: epochs between two lines, and two validations; 0: at the end only. (In N2D2 by default 1000.)
            avg_window: stimuli over which the success of the learning is averaged.
            bench: say how many stimuli are learned in a second.
            ban_multi_device: nothing changes, because one device learns.
            valid_metric: what the validation is measured by, of `n2d2.metrics`; of rates of errors the lowest is best.
            stop_valid: stop after so many validations that were no better than the best; 0: never.
            log_kernels: refused; the weights are text after `export_free_parameters`.

        Raises:
            WrongValue, WrongInputType: an option is illegal, there is no provider, or it has nothing to learn from.
        """
        fitting.check_idle("fit", {"log_kernels": log_kernels})
        fitting.fit(
            self,
            fitting.Fit(
                learn_epoch=learn_epoch,
                log_epoch=log_epoch,
                avg_window=avg_window,
                bench=bench,
                ban_multi_device=ban_multi_device,
                valid_metric=valid_metric,
                stop_valid=stop_valid,
            ),
        )

    @checked
    def run_test(
        self,
        log: int = 1000,
        report: int = 100,
        nb_test: int = -1,
        test_index: int = -1,
        test_id: int = -1,
        **refused: Any,  # noqa: ANN401 - legal at their defaults only
    ) -> float:
        """Measure the partition Test; return the success, in [0, 1]. `log_confusion_matrix` draws what was measured.

        Args:
            log: stimuli between two lines.
            report: stimuli between two states of the line that is written over.
            nb_test: measure so many, the first ones; -1: all.
            test_index: measure the one at this place of the partition.
            test_id: measure the one of this number in the database; it goes before `test_index`.
            refused: `qat_sat`, `wt_round_mode`, `b_round_mode`, `c_round_mode`, `act_scaling_mode` (quantization),
                `log_kernels`, `log_JSON`, `log_outputs` are legal at N2D2's defaults only.

        Raises:
            ImplementationError: one of these is not at its default.
            WrongValue, WrongInputType: an option is illegal, there is no provider, or it has nothing to test.
        """
        refuse_unknown("run_test", refused, [*TEST_OPTIONS, *fitting.IDLE])
        fitting.check_idle("run_test", refused)
        return fitting.run_test(self, log=log, report=report, nb_test=nb_test, test_index=test_index, test_id=test_id)

    def update(self) -> None:
        """Step the solvers of all cells, then the clocks of their PruneCells, for the batch that they saw last.

        Raises:
            WrongValue: there was none.
        """
        cells = self._leaves()
        last = [cell.get_outputs() for cell in cells]
        n_samples = max((one.trace.n_samples for one in last if one.trace.cells), default=0)
        if not n_samples:
            raise WrongValue(
                f"update() of {self.name!r} needs a batch: call it with one, and back_propagate() the loss"
            )
        update(cells, n_samples, getattr(self.provider, "epoch_size", None))

    # ---- what was measured

    @checked
    def log_confusion_matrix(self, file_name: str, partition: str = "Test") -> None:
        """Draw the confusion matrix of what was measured last on a partition, see `Score.log_confusion_matrix`.

        Raises:
            WrongValue: nothing was, or there is no such partition.
        """
        with self._at(partition):
            self.target.log_confusion_matrix(file_name)

    @checked
    def log_success(self, path: str, partition: str = "Test") -> None:
        """Draw the losses and the success, see `Score.log_success`.

        Raises:
            WrongValue: nothing was measured, or there is no such partition.
        """
        with self._at(partition):
            self.target.log_success(path)

    @contextmanager
    def _at(self, partition: str) -> Iterator[None]:
        """Let the target speak of a partition."""
        check_choice("partition", partition, PARTITIONS)
        fitting.n_stimuli(self, partition)
        before = self.provider.get_partition()
        if before != partition:
            self.provider.set_partition(partition)
        try:
            if not self.target.get_confusion_matrix().size:
                raise WrongValue(
                    f"partition {partition} of {self.name!r} was not measured: run_test() or fit() does it"
                )
            yield
        finally:
            if before != partition:
                self.provider.set_partition(before)

    def log_stats(self, path: str | Path) -> None:
        """Write the table of the cells, their sizes, parameters and multiplications, to `stats.log` in a folder."""
        write_stats(path, self._summary())

    # ---- its graph

    def get_deepnet(self) -> DeepNet:
        """The graph, see `DeepNet`."""
        by_name = {cell.name: cell for cell in self}
        links = {cell: tuple(by_name.get(source, self.provider) for source in self.inputs[cell.name]) for cell in self}
        return DeepNet(self.name, links=links, provider=self.provider, source=self)

    get_embedded_deepnet = get_deepnet

    def get_input_cells(self) -> list[Any]:
        """The cells that take the input of the network."""
        return self.get_deepnet().get_input_cells()

    def get_output_cells(self) -> list[Any]:
        """The cells whose outputs come out."""
        return [self[name] for name in self.outputs]

    concat_to_deepnet = Refused(
        "call the network with a tensor, y = net(x): y.get_deepnet() has the cells of both",
        "DeepNetCell.concat_to_deepnet",
    )


def _in_order(inputs: Mapping[str, Sequence[str]]) -> list[str]:
    """The names such that each comes after all its inputs."""
    try:
        return list(TopologicalSorter(inputs).static_order())
    except CycleError as error:
        raise WrongValue(f"these cells feed each other: {' -> '.join(error.args[1])}") from None


def _check_provider(provider: object) -> None:
    if not all(hasattr(provider, name) for name in ("shape", "read_batch", "get_labels")):
        raise WrongInputType(
            f"provider={quoted(provider)} is illegal: it must be a DataProvider, not a {type(provider).__name__}"
        )


def _check_size(path: str | Path, wanted: Sequence[int | None], given: Sequence[int]) -> None:
    """Refuse a provider of another size than the file's; of both with the batch."""
    if len(wanted) != len(given) or any(
        one not in (None, size) for one, size in zip(wanted[1:], given[1:], strict=True)
    ):
        free = [size or "any" for size in wanted[1:]]
        raise WrongValue(
            f"{path} takes stimuli of {free} (channels, y, x), and the provider gives {list(given[1:])}"
            ": give it a provider of that size, or ignore_input_size=True"
        )
