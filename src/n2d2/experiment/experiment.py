"""Experiment: an INI file under a seed: its network, how that is pruned, and the data that it learns."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from n2d2 import ini
from n2d2.cells.deepnet_cell import DeepNetCell
from n2d2.experiment.planning import planned
from n2d2.ini import Document
from n2d2.network.network import Network, read_network
from n2d2.provider import DataProvider
from n2d2.solver import SolverOptimizer, build_optimizer
from prunecell.errors import DataError, StateError
from prunecell.kinds import COUNT, TEXT, check_fields
from prunecell.plan import Plan
from prunecell.training.accuracy import Batches


@dataclass(frozen=True, eq=False)
class Experiment:
    """What is trained, and under which seed.

    Attributes:
        network: what the file describes.
        model: its cells as their fillers drew them, dense.
        seed: >= 0, of the weights, the masks, the order of the data and its augmentation.
    """

    network: Network
    model: DeepNetCell
    seed: int
    _random: Tensor = field(default_factory=torch.get_rng_state, init=False, repr=False)

    @property
    def name(self) -> str:
        """In titles and file names."""
        return self.network.name

    @property
    def provider(self) -> DataProvider:
        """The batches."""
        return self.network.provider

    @property
    def plan(self) -> Plan:
        """What is pruned: parameter name -> spec."""
        return self.plan_from(0.0)

    def plan_from(self, start: float) -> Plan:
        """The same; the default plan begins with the sparsity `start`, in [0, 1], that the model has already."""
        asked = self.network.default_plan
        if asked is None:
            return self.network.plan_of_cells(self.seed)
        return planned(self.model, asked, seed=self.seed, start=start)

    @property
    def setting(self) -> "Setting":
        """What a checkpoint of it hangs on."""
        return Setting(seed=self.seed, description=self.network.document.description)

    def fresh(self) -> DeepNetCell:
        """A copy of `model`, and torch's generator as it was when the fillers had drawn."""
        torch.set_rng_state(self._random)
        return copy.deepcopy(self.model)

    def optimizer(self, model: DeepNetCell) -> SolverOptimizer:
        """The solvers of the file for a model, which is to learn.

        Raises:
            IniError: see `Network.check_solvers`.
        """
        self.network.check_solvers()
        return build_optimizer(model, batch_size=self.provider.batch_size)

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, from 0: the same whenever they are asked for.

        Raises:
            IniError: there are more labels than outputs.
        """
        self.network.check_labels()
        return self.provider.epoch(epoch, self.seed)

    def check_data(self, *partitions: str) -> None:
        """Open the data, and see at the beginning that there is what will be wanted.

        Raises:
            DataError: it is not there, or a partition has no stimuli.
            IniError: there are more labels than outputs.
        """
        database = self.provider.database
        for partition in partitions:
            if not database.get_nb_stimuli(partition):
                raise DataError(f"{database} has no stimuli in its partition {partition}")
            self.network.check_labels()

    def stimuli(self, partition: str) -> Batches:
        """The batches of a partition, in its order."""
        return self.provider.batches(partition, shuffle=False)

    def tested(self, model: nn.Module) -> float:
        """The accuracy of a model on the test stimuli."""
        return self.network.accuracy(model, self.stimuli("Test"))


def build(document: Document, *, data_path: str | Path | None = None, seed: int = 0) -> Experiment:
    """Build the network of a file; its fillers draw from torch's generator, which is seeded.

    Args:
        document: the file.
        data_path: the folder of the data, in place of the file's `DataPath`.
        seed: of everything random.

    Raises:
        IniError: see `n2d2.network.network.read_network`.
    """
    torch.manual_seed(seed)
    network = read_network(document, data_path=data_path)
    return Experiment(network, DeepNetCell.of(network), seed)


def read(path: str | Path, *, data_path: str | Path | None = None, lenient: bool = False, seed: int = 0) -> Experiment:
    """Read an INI file as an experiment; with `lenient`, keys that nothing reads are warnings. Else as `build`."""
    return build(ini.read(path, lenient=lenient), data_path=data_path, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a checkpoint was made under; it goes on under the same only."""

    seed: int
    description: str

    def state_dict(self) -> dict[str, Any]:
        """Numbers and text."""
        return {"seed": self.seed, "description": self.description}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare.

        Raises:
            StateError: it was made under another setting.
        """
        check_fields(state, {"seed": COUNT, "description": TEXT}, "the setting")
        if state["seed"] != self.seed:
            raise StateError(f"it was made with seed {state['seed']}, not {self.seed}")
        there, here = (set(text.splitlines()) for text in (state["description"], self.description))
        if there != here:
            raise StateError(f"then [{'; '.join(sorted(there - here))}], now [{'; '.join(sorted(here - there))}]")
