"""An INI file to what it describes: its cells, how they are pruned, what is measured, and where its data comes from."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from n2d2.cells.naming import weight_name
from n2d2.ini import Document, IniError, IniWarning
from n2d2.network.environment import Environment, read_environment
from n2d2.network.graph import Graph, read_graph
from n2d2.network.layers import check_model
from n2d2.network.parameters import refuse, warn_of_idle
from n2d2.network.refused import IDLE_GLOBALS, REFUSED_GLOBALS
from n2d2.network.targets import read_targets
from n2d2.provider import DataProvider
from n2d2.pruning import of_cell
from n2d2.quantizer import PruneCell
from n2d2.target import IGNORED, Score, squared_error
from prunecell.plan import Key, Plan
from prunecell.spec import PruneSpec

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(eq=False)
class Network:
    """What an INI file describes; `n2d2.cells.DeepNetCell.of` assembles it.

    No data was opened, unless a value of the file hangs on it.

    Attributes:
        output: the cell whose output is measured.
        targets: what is measured there; the first says what is learned.
        quantizers: cell -> its PruneCell, which is not on it: the cells are dense.
    """

    document: Document
    environment: Environment
    graph: Graph
    output: str
    targets: list[Score]
    quantizers: dict[str, PruneCell]

    @property
    def name(self) -> str:
        """Of the file, without its folder and suffix."""
        return Path(self.document.file).stem

    @property
    def provider(self) -> DataProvider:
        """The batches."""
        return self.environment.provider

    @property
    def n_classes(self) -> int:
        """How many outputs the cell has that is measured."""
        return self.graph.shapes[self.output][0]

    @property
    def loss(self) -> Loss:
        """(output of the network in learning mode, labels) -> a scalar."""
        if self.graph.cells[self.output].options.get("with_loss"):
            return cross_entropy
        options = self.targets[0].options
        return partial(squared_error, target_value=options.target_value, default_value=options.default_value)

    def plan(self, seed: int = 0) -> Plan:
        """The PruneCells as prunecell's plan: parameter name -> spec; each cell draws apart from the others."""
        plan: dict[Key, PruneSpec | None] = {}
        for name, quantizer in self.quantizers.items():
            spec = quantizer.spec
            connections = self.graph.cells[name].connections
            plan[weight_name(name)] = spec and of_cell(replace(spec, seed=seed), name, connections)
        return plan

    def check_labels(self) -> None:
        """Open the data; refuse labels that the output has no place for.

        Raises:
            IniError: there are more labels than outputs.
        """
        labels, output = self.provider.database.stimuli.labels, self.output
        n_labels = int(labels.max()) + 1 if len(labels) else 0
        if n_labels > self.n_classes:
            problem = f"[{output}] has {self.n_classes} outputs, and the data has {n_labels} labels"
            raise IniError(problem, self.document.section(output).place)


def read_network(document: Document, *, data_path: str | Path | None = None) -> Network:
    """Read what a file describes; fillers draw the weights from torch's generator.

    Args:
        document: the file; every key of it must have been of use at the end.
        data_path: the folder of the data, in place of the file's `DataPath`.

    Raises:
        IniError: something is unknown, missing, illegal, refused or not used; with its file and line.

    >>> from n2d2 import ini
    >>> network = read_network(ini.parse('''
    ...     [database]
    ...     Type=MNIST_IDX_Database
    ...     [sp]
    ...     SizeX=28
    ...     SizeY=28
    ...     [fc]
    ...     Input=sp
    ...     Type=Fc
    ...     NbOutputs=10
    ...     QWeight=Prune
    ...     QWeight.PruningMode=Static
    ...     QWeight.Threshold=0.9
    ...     [fc.Target]
    ... '''))
    >>> network.graph.shapes["fc"], network.plan()["fc.layer.weight"].schedule
    ((10,), Static(sparsity=0.9))
    """
    _read_globals(document)
    environment = read_environment(document, data_path=data_path)
    graph = read_graph(document, environment)
    output, targets = read_targets(document, graph, environment.provider)
    document.check_all_read()
    _warn_of_zeros(document, graph)
    return Network(document, environment, graph, output, targets, graph.quantizers)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of logits (batch, classes) or (batch, classes, 1, 1); what has no label counts for nothing."""
    return F.cross_entropy(logits.flatten(1), labels, ignore_index=IGNORED)


def _read_globals(document: Document) -> None:
    section = document.globals
    check_model(section, "DefaultModel", "DefaultDataType")
    refuse(section, REFUSED_GLOBALS)
    warn_of_idle(section, IDLE_GLOBALS)


def _warn_of_zeros(document: Document, graph: Graph) -> None:
    for name, quantizer in graph.quantizers.items():
        prunes_zeros = quantizer.prune_mode != "Identity" and quantizer.prune_filler == "IterNonStruct"
        if prunes_zeros and not graph.cells[name].weight.any():
            why = f"[{name}] begins with zeros, and IterNonStruct prunes all zeros: it would learn nothing"
            better = "use another PruningFiller, a WeightsFiller.Scaling > 0, or weights that are trained"
            warnings.warn(f"{document.file}: {why}; {better}", IniWarning, stacklevel=3)
