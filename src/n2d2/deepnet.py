"""An INI file to a network that learns: its cells, how they are pruned, and where its data comes from.

document      n2d2.ini
environment   [database] and [sp]: a provider that opens nothing
graph         the cells, in the order of their Input
here          the targets, and all of it as a DeepNetCell or as a job for `prunecell run`
"""

import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from n2d2 import ini
from n2d2.cells.containers import key_of
from n2d2.cells.deepnet_cell import DeepNetCell
from n2d2.ini import Document, IniError, IniWarning, Section
from n2d2.ini.errors import hint
from n2d2.network.environment import Environment, read_environment
from n2d2.network.graph import Graph, read_graph
from n2d2.network.keys import IDLE_GLOBALS, IDLE_TARGET, REFUSED_GLOBALS, REFUSED_TARGET_KEYS, REFUSED_TARGETS
from n2d2.network.layers import check_model
from n2d2.network.parameters import chosen, located, refuse, warn_of_idle
from n2d2.provider import DataProvider
from n2d2.quantizer import PruneCell
from n2d2.solver import build_optimizer
from n2d2.target import IGNORED, Score, squared_error
from prunecell.plan import Key, Plan
from prunecell.problem import Problem
from prunecell.spec import PruneSpec

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(eq=False)
class Network:
    """What an INI file describes. No data was opened, unless a value of the file hangs on it.

    Attributes:
        model: gives the output of the target's cell; it has neither provider nor target, so it can be copied.
        quantizers: cell -> its PruneCell, which is not on it before `attach`: the model is dense.
        targets: what is measured, all at one cell; the first says what is learned.
        n_classes: how many outputs that cell has.
    """

    document: Document
    environment: Environment
    model: DeepNetCell
    quantizers: dict[str, PruneCell]
    targets: list[Score]
    n_classes: int

    @property
    def provider(self) -> DataProvider:
        """The batches."""
        return self.environment.provider

    @property
    def loss(self) -> Loss:
        """(output of the model in learning mode, labels) -> a scalar."""
        cell = self.model[self.model.outputs[0]]
        if cell.options.get("with_loss"):
            return cross_entropy
        options = self.targets[0].options
        return partial(squared_error, target_value=options.target_value, default_value=options.default_value)

    def attach(self) -> DeepNetCell:
        """Put the PruneCells on their cells, and the data to the model; return it."""
        for name, quantizer in self.quantizers.items():
            self.model[name].quantizer = quantizer
        self.model.provider, self.model.target = self.provider, self.targets[0]
        return self.model

    def plan(self, seed: int = 0) -> Plan:
        """The PruneCells as prunecell's plan: parameter name -> spec; each cell draws apart from the others."""
        plan: dict[Key, PruneSpec | None] = {}
        for name, quantizer in self.quantizers.items():
            spec = quantizer.spec_for(self.model[name])
            own_seed = zlib.crc32(f"{seed}/{name}".encode())
            plan[f"{key_of(self.model[name])}.layer.weight"] = spec and replace(spec, seed=own_seed)
        return plan

    def check_labels(self) -> None:
        """Open the data; refuse labels that the output has no place for.

        Raises:
            IniError: there are more labels than outputs.
        """
        labels, output = self.provider.database.stimuli.labels, self.model.outputs[0]
        n_labels = int(labels.max()) + 1 if len(labels) else 0
        if n_labels > self.n_classes:
            problem = f"[{output}] has {self.n_classes} outputs, and the data has {n_labels} labels"
            raise IniError(problem, self.document.section(output).place)


def build(document: Document, *, data_path: str | Path | None = None) -> Network:
    """Make the network that a file describes, with fillers that draw from torch's generator.

    Args:
        document: the file; every key of it must have been of use at the end.
        data_path: the folder of the data, in place of the file's `DataPath`.

    Raises:
        IniError: something is unknown, missing, illegal, refused or not used; with its file and line.

    >>> network = build(ini.parse('''
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
    >>> [(name, tuple(weight.shape)) for name, weight in network.model.named_parameters()]
    [('fc.layer.weight', (10, 784)), ('fc.layer.bias', (10,))]
    >>> network.plan()["fc.layer.weight"].schedule
    Static(sparsity=0.9)
    """
    _read_globals(document)
    environment = read_environment(document, data_path=data_path)
    graph = read_graph(document, environment)
    output, targets = _read_targets(document, graph, environment.provider)
    document.check_all_read()
    _warn_of_zeros(document, graph)
    model = _assembled(document, graph, output)
    return Network(document, environment, model, graph.quantizers, targets, graph.shapes[output][0])


def load(path: str | Path, *, data_path: str | Path | None = None, lenient: bool = False) -> DeepNetCell:
    """Read an INI file: its network with its PruneCells on, its provider and its target.

    Args:
        path: the file.
        data_path: the folder of the data, in place of the file's `DataPath`.
        lenient: keys that nothing reads are warnings.
    """
    return build(ini.read(path, lenient=lenient), data_path=data_path).attach()


def problem(path: str | Path, *, data_path: str | Path | None = None, lenient: bool = False, seed: int = 0) -> Problem:
    """Read an INI file as a job for `prunecell.job.run`.

    Args:
        path: the file.
        data_path: the folder of the data, in place of the file's `DataPath`.
        lenient: keys that nothing reads are warnings.
        seed: >= 0, of the order of the training data, of its augmentation, and of masks that are drawn.

    Raises:
        IniError: see `build`; also where nothing in the file is pruned.
    """
    network = build(ini.read(path, lenient=lenient), data_path=data_path)
    provider, plan = network.provider, network.plan(seed)
    if not any(plan.values()):
        raise IniError(f"{path}: nothing is pruned: no section has QWeight=Prune with a PruningMode but Identity")

    def rebuilt() -> DeepNetCell:
        graph = read_graph(network.document, network.environment)
        return _assembled(network.document, graph, network.model.outputs[0])

    def train(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        network.check_labels()
        return provider.epoch(epoch, seed)

    has_validation = provider.database.get_nb_stimuli("Validation") > 0
    return Problem(
        name=Path(path).stem,
        build=rebuilt,
        plan=plan,
        make_optimizer=lambda model: build_optimizer(model, batch_size=provider.batch_size),
        train=train,
        validation=partial(provider.batches, "Validation", shuffle=False) if has_validation else None,
        test=partial(provider.batches, "Test", shuffle=False),
        epoch_size=provider.epoch_size,
        loss=network.loss,
        description=network.document.description,
    )


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of logits (batch, classes) or (batch, classes, 1, 1); what has no label counts for nothing."""
    return F.cross_entropy(logits.flatten(1), labels, ignore_index=IGNORED)


def _assembled(document: Document, graph: Graph, output: str) -> DeepNetCell:
    return DeepNetCell(graph.cells.values(), graph.inputs, outputs=[output], name=Path(document.file).stem)


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


_TARGET: Mapping[str, tuple[str, Callable[[Section, str], Any]]] = {
    "TargetValue": ("target_value", Section.get_float),
    "DefaultValue": ("default_value", Section.get_float),
    "TopN": ("top_n", Section.get_int),
}


def _read_targets(document: Document, graph: Graph, provider: DataProvider) -> tuple[str, list[Score]]:
    """The cell whose output is measured, and how."""
    owners = {name: name.rpartition(".Target")[0] for name in document.sections if ".Target" in name}
    sections = {name: document.section(name) for name, cell in owners.items() if cell in graph.cells}
    if not sections:
        raise _no_target(document, graph)
    targets = [_target(section, provider) for section in sections.values()]
    cell = owners[next(iter(sections))]
    for name, section in sections.items():
        if owners[name] != cell:
            problem = f"{section}is refused: [{cell}] has a target already; several are for detection and segmentation"
            raise IniError(problem, section.place)
        if any(side != 1 for side in graph.shapes[cell][1:]):
            size = " x ".join(map(str, graph.shapes[cell]))
            problem = f"{section}is illegal: [{cell}] gives {size} values; a target takes one value for each class"
            raise IniError(problem, section.place)
    return cell, targets


def _no_target(document: Document, graph: Graph) -> IniError:
    if not graph.cells:
        return IniError(f"{document.file}: no section has an Input, so there is no cell")
    wanted = f"{[*graph.cells][-1]}.Target"
    return IniError(
        f"{document.file}: section [{wanted}] is missing, no other cell has one{hint(wanted, document.sections)}"
    )


def _target(section: Section, provider: DataProvider) -> Score:
    if "Type" in section:
        chosen(section, "Type", {"TargetScore": True}, REFUSED_TARGETS)
    refuse(section, REFUSED_TARGET_KEYS)
    warn_of_idle(section, IDLE_TARGET)
    options = {name: get(section, key) for key, (name, get) in _TARGET.items() if key in section}
    with located(section.place, section):
        return Score(provider, name=section.name, **options)
