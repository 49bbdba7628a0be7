"""An INI file to what it describes: its cells, how they are pruned, what is measured, and where its data comes from."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from n2d2.cells.naming import weight_name
from n2d2.ini import Document, IniError, IniWarning
from n2d2.network.default_plan import PLAN_SECTION, DefaultPlan, read_default_plan
from n2d2.network.environment import Environment, read_environment
from n2d2.network.graph import Graph, read_graph
from n2d2.network.imported import solver_keys
from n2d2.network.layers import check_model
from n2d2.network.parameters import in_keys, refuse, warn_of_idle
from n2d2.network.parts import OWNERS
from n2d2.network.rate import RATE_SECTION, Rate, read_rate
from n2d2.network.refused import IDLE_GLOBALS, REFUSED_GLOBALS
from n2d2.network.targets import Scores, learned_cells, read_targets
from n2d2.provider import DataProvider
from n2d2.pruning import of_cell
from n2d2.quantizer import PruneCell
from n2d2.tally import check_batch, of_classes
from n2d2.target import IGNORED, Score, squared_error
from prunecell.plan import Key, Plan
from prunecell.plan.spec import PruneSpec
from prunecell.training.accuracy import Batches

Loss = Callable[[Tensor, Tensor], Tensor]
Answers = Tensor | list[Tensor]
"""What a network makes: (n, classes, ...); a list where several cells are measured."""


@dataclass(eq=False)
class Network:
    """What an INI file describes; `n2d2.cells.DeepNetCell.of` assembles it.

    No data was opened, unless a value of the file hangs on it.

    Attributes:
        measured: cell whose output is measured -> its targets; the first says what is learned. The first cell is that
            of the network's answer, the others learn beside it.
        quantizers: cell -> its PruneCell, which is not on it: the cells are dense.
        default_plan: how the whole network is pruned, in place of quantizers; None: by these.
        rate: how the learned network is made small afterwards; None: it stays as it was learned.
    """

    document: Document
    environment: Environment
    graph: Graph
    measured: dict[str, list[Score]]
    quantizers: dict[str, PruneCell]
    default_plan: DefaultPlan | None = None
    rate: Rate | None = None

    @property
    def name(self) -> str:
        """Of the file, without its folder and suffix."""
        return Path(self.document.file).stem

    @property
    def provider(self) -> DataProvider:
        """The batches."""
        return self.environment.provider

    @property
    def outputs(self) -> list[str]:
        """The cells whose outputs are measured; that of the network's answer is the first."""
        return [*self.measured]

    @property
    def targets(self) -> list[Score]:
        """What is measured."""
        return [target for targets in self.measured.values() for target in targets]

    @property
    def target(self) -> Any:  # noqa: ANN401 - a Score, or Scores
        """What a script learns by."""
        first = [targets[0] for targets in self.measured.values()]
        return first[0] if len(first) == 1 else Scores(first)

    @property
    def n_classes(self) -> int:
        """How many classes the network tells."""
        return self.graph.shapes[self.outputs[0]][0]

    @property
    def for_commands(self) -> list[str]:
        """The names of the file's sections that the commands act on, and scripts do not."""
        asked = {PLAN_SECTION: self.default_plan, RATE_SECTION: self.rate}
        return [section for section, value in asked.items() if value is not None]

    def answers(self, made: Answers) -> list[tuple[Score, Tensor]]:
        """Every target, and what it measures of what the network made."""
        of_cell = zip(self.measured.values(), made if isinstance(made, list) else [made], strict=True)
        return [(target, scores) for targets, scores in of_cell for target in targets]

    def loss(self, made: Answers, labels: Tensor) -> Tensor:
        """The loss of what the network made in learning mode, a scalar: the sum over the cells that are measured."""
        scores = made if isinstance(made, list) else [made]
        losses = (self._loss_of(cell)(one, labels) for cell, one in zip(self.measured, scores, strict=True))
        return reduce(torch.add, losses)

    @torch.no_grad()
    def accuracy(self, model: nn.Module, batches: Batches) -> float:
        """The fraction of the stimuli with a label that the first target finds right, as `prunecell`'s metrics.

        The model, a copy of the network's or its sparse twin, is left in evaluation mode.
        """
        model.eval()
        right = n = 0
        for images, labels in batches:
            target, made = self.answers(model(images))[0]
            scores = made.flatten(1)
            check_batch(target.name, scores, labels)
            best = of_classes(scores, target.options.binary_threshold).argmax(1)
            right += int((best == labels).sum())  # no class is IGNORED
            n += int((labels != IGNORED).sum())
        return right / max(n, 1)

    def _loss_of(self, cell: str) -> Loss:
        if self.graph.cells[cell].options.get("with_loss"):
            return cross_entropy
        options = self.measured[cell][0].options
        return partial(squared_error, target_value=options.target_value, default_value=options.default_value)

    def plan_of_cells(self, seed: int = 0) -> Plan:
        """The PruneCells as prunecell's plan: parameter name -> spec; each cell draws apart from the others."""
        plan: dict[Key, PruneSpec | None] = {}
        for name, quantizer in self.quantizers.items():
            spec = quantizer.spec
            weight, there = weight_name(name), self.graph.cells[name].connections
            connections = {} if there is None else {weight: there}
            plan[weight] = spec and of_cell(replace(spec, seed=seed), name, connections)
        return plan

    def check_solvers(self) -> None:
        """Refuse solvers that nothing can be learned by. Whoever only tests a network does not need them.

        Raises:
            IniError: a schedule that ends has no end; with the line of the key.
        """
        for cell in self.graph.cells.values():
            for option, key in solver_keys(cell).items():
                solver, section = cell.options[option], self.document.get(cell.name) or self.document.globals
                with in_keys(section, type(solver), f"{key}.", "Solvers."):
                    solver.check()

    def check_labels(self) -> None:
        """Open the data; refuse labels that the output has no place for.

        Raises:
            IniError: there are more labels than outputs.
        """
        labels = self.provider.database.stimuli.labels
        n_labels = int(labels.max()) + 1 if len(labels) else 0
        for output in self.measured:
            n_outputs = self.graph.shapes[output][0]
            if n_labels > n_outputs:
                problem = f"[{output}] has {n_outputs} outputs, and the data has {n_labels} labels"
                section = self.document.get(output)
                raise IniError(problem, section.place if section else None)


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
    >>> network.graph.shapes["fc"], network.plan_of_cells()["fc.layer.weight"].schedule
    ((10,), Static(sparsity=0.9))
    """
    _read_globals(document)
    environment = read_environment(document, data_path=data_path)
    graph = read_graph(document, environment, learned_cells(document))
    measured = read_targets(document, graph, environment.provider)
    plan, integers = read_default_plan(document, graph), read_rate(document)
    document.check_all_read(OWNERS)
    _warn_of_zeros(document, graph)
    return Network(document, environment, graph, measured, graph.quantizers, plan, integers)


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
