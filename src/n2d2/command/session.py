"""Session: what one run of the command `n2d2` works on, how it begins, and what it prints of the network."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import torch
from rich.console import Console
from torch import Tensor

from n2d2 import global_variables
from n2d2.cells.deepnet_cell import DeepNetCell
from n2d2.cells.naming import weight_name
from n2d2.command.options import Options
from n2d2.experiment.experiment import Experiment, read
from n2d2.experiment.integers import Integers
from n2d2.files import save_weights
from n2d2.network.default_plan import PLAN_SECTION, DefaultPlan
from n2d2.network.network import Network
from n2d2.network.rate import Rate
from n2d2.pruning import sparsity_of
from n2d2.quantizer import PruneCell
from n2d2.solver import SolverOptimizer
from n2d2.summary import summarize
from n2d2.updating import UNKNOWN_EPOCH
from prunecell.console.terminal import columns_of, say
from prunecell.errors import OptionError
from prunecell.plan import Plan
from prunecell.pruning import Pruner
from prunecell.schedules import Clock, last_of


@dataclass(eq=False)
class Session:
    """One run of the command.

    Attributes:
        inputs: cell -> how many channels each of its inputs brings, where it has several.
        plan: name of a weight -> how it is pruned in this run.
        pruner: of the network; None where nothing is pruned, or not yet.
        integers: what makes integers of the network afterwards; None where nothing does, or not yet.
        successes: target -> what was measured on the test stimuli: (when, success).
    """

    options: Options
    console: Console
    experiment: Experiment
    inputs: dict[str, list[int]]
    plan: Plan
    pruner: Pruner | None = None
    integers: Integers | None = None
    successes: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    @property
    def network(self) -> Network:
        """What the INI file describes."""
        return self.experiment.network

    @property
    def model(self) -> DeepNetCell:
        """What learns."""
        return self.experiment.model

    @property
    def becomes_integers(self) -> bool:
        """Whether the network becomes integers when it was learned, or pruned and fine-tuned."""
        return self.network.rate is not None and self.options.trains

    @cached_property
    def optimizer(self) -> SolverOptimizer:
        """Of the learning, and then of the fine-tuning; only a network that learns needs one."""
        return self.experiment.optimizer(self.model)

    def say(self, text: object = "") -> None:
        """Print it as it is."""
        say(self.console, text)

    @property
    def parameter_names(self) -> dict[str, str]:
        """Cell -> the name of its weight in the model."""
        return {cell.name: weight_name(cell.name) for cell in self.model}

    @property
    def masks(self) -> dict[str, Tensor]:
        """Cell -> the mask of its weight."""
        masks = {} if self.pruner is None else self.pruner.masks
        return {cell: masks[name] for cell, name in self.parameter_names.items() if name in masks}

    def prune(self, masks: Mapping[str, Tensor] = MappingProxyType({})) -> None:
        """Put one Pruner on all cells that are pruned, by a PruneCell or the default plan, in place of another.

        Args:
            masks: cell -> the mask that was read; what it prunes is what Gradual, or the default plan, goes on from.
        """
        if self.pruner is not None:
            self.pruner.finalize(early=True)
        begun = self._begun(masks)
        for cell, quantizer in self.network.quantizers.items():
            if cell in begun:
                quantizer.begin_at(begun[cell])
        self.plan = self.experiment.plan_from(max(begun.values(), default=0.0))
        if any(self.plan.values()):
            trains = self.options.trains
            size = self.network.provider.epoch_size if trains else UNKNOWN_EPOCH  # asking for it opens the data
            optimizer = self.optimizer if trains or self.options.goes_on else None
            self.pruner = Pruner(self.model, self.plan, optimizer=optimizer, epoch_size=size)

    def make_integers(self, rate: Rate) -> Integers:
        """End the pruning, and make integers of the network."""
        if self.pruner is not None:
            self.pruner.finalize(early=True)
        self.integers = Integers.of(self.model, rate, self.network.provider)
        return self.integers

    def _begun(self, masks: Mapping[str, Tensor]) -> dict[str, float]:
        """Cell -> the sparsity of the masks that its pruning went on from in the run that is resumed, or does now.

        It is one for all cells under the default plan.
        """
        checkpoint, cells = self.options.checkpoints["learning"], self.network.graph.cells
        if self.options.goes_on and checkpoint.exists():
            return dict(starts_in(checkpoint, self.parameter_names))
        if self.network.default_plan is None:
            return {cell: sparsity_of(mask, cells[cell].connections) for cell, mask in masks.items()}
        there = [mask.flatten() if (c := cells[cell].connections) is None else mask[c] for cell, mask in masks.items()]
        return dict.fromkeys(masks, sparsity_of(torch.cat(there))) if there else {}

    def save_weights(self, folder: Path) -> None:
        """Write the `.syntxt` files of the network, with the masks of what is pruned; integers have none."""
        masks = self.masks if self.integers is None else {}
        save_weights(self.model.get_cells().values(), folder, self.inputs, masks)


def starts_in(checkpoint: Path, names: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    """The cells that a checkpoint prunes from a sparsity of their own on, and that; nothing where it is damaged.

    Args:
        checkpoint: the file; who goes on from it says what is wrong with it.
        names: cell -> the name of its weight.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["keeper"]
        fields = {
            weight: state["specs"][entry["spec"]]["schedule"]["fields"] for weight, entry in state["weights"].items()
        }
    except Exception:  # noqa: BLE001 - torch raises what its parsers raise
        return
    for cell, weight in names.items():
        start = fields.get(weight, {}).get("start")
        if isinstance(start, float):
            yield cell, start


def start(options: Options, console: Console) -> Session:
    """Build the network. No data is opened."""
    if options.dev is not None:
        if options.dev >= torch.cuda.device_count():
            raise OptionError(f"-dev {options.dev} is illegal: torch finds {torch.cuda.device_count()} CUDA devices")
        global_variables.default_model, global_variables.cuda_device = "Frame_CUDA", options.dev
    experiment = read(options.net, lenient=options.lenient, seed=options.seed)
    network = experiment.network
    for target in network.targets:
        if not Path(target.name).resolve().is_relative_to(Path.cwd()):
            raise OptionError(f"section [{target.name}] is illegal: its folder would lie outside of {Path.cwd()}")
    plan = experiment.plan
    if options.prunes and any(plan.values()):
        by = "QWeight=Prune" if network.default_plan is None else f"[{PLAN_SECTION}]"
        raise OptionError(
            f"-pruning {options.pruning} is illegal here: {options.net} has {by}; prune by one of the two"
        )
    if options.trains:
        network.check_solvers()
    return Session(options, console, experiment, input_channels(experiment), plan)


def input_channels(experiment: Experiment) -> dict[str, list[int]]:
    """Cell -> the channels that each of its inputs brings, where it has several."""
    shape, model = experiment.provider.shape()[1:], experiment.model
    channels = {cell.name: row.shape[0] for cell, row in zip(model, summarize(model, shape).rows, strict=True)}
    several = {cell: sources for cell, sources in model.inputs.items() if len(sources) > 1}
    return {cell: [channels.get(source, shape[0]) for source in sources] for cell, sources in several.items()}


def greet(session: Session) -> None:
    """Print what the run works on."""
    network, options = session.network, session.options
    session.say(f"{options.net} on {global_variables.device()}, seed {options.seed}")
    session.say(f"{network.provider.database}, {network.provider.batch_size} stimuli in a batch")


def show(session: Session) -> None:
    """Print the layers with the weights that they have now, and how they are pruned."""
    network = session.network
    session.say()
    session.say(summarize(session.model, network.provider.shape()[1:]))
    if network.quantizers:
        lines = [PRUNING, *(pruning_of(cell, quantizer) for cell, quantizer in network.quantizers.items())]
        session.say("\n".join(["", *columns_of(lines)]))
    if network.default_plan is not None:
        session.say(f"\nPruning: {told_of(network.default_plan, session)}")


def told_of(plan: DefaultPlan, session: Session) -> str:
    """The default plan in one line."""
    dense = [cell for cell, name in session.parameter_names.items() if session.plan.get(name, True) is None]
    rest = f"; dense: {', '.join(dense)}" if dense else ""
    pruned = [spec for spec in session.plan.values() if spec is not None]
    sparsity = max((last_of(spec.schedule, Clock()) for spec in pruned), default=plan.sparsity)
    return f"{sparsity:.4g} of all weights by [{PLAN_SECTION}], within {plan.epochs} epochs{rest}"


PRUNING = ("Pruning", "Mode", "Filler", "Threshold", "Start", "Gamma", "Step (samples)", "Delta")


def pruning_of(cell: str, quantizer: PruneCell) -> tuple[str, ...]:
    """One line under PRUNING; what has no effect there is a dash."""
    gradual, steps = quantizer.prune_mode == "Gradual", quantizer.prune_filler == "IterNonStruct"
    told = (
        (quantizer.threshold, quantizer.prune_mode != "Identity"),
        (quantizer.start, gradual),
        (quantizer.gamma, gradual),
    )
    step = (f"{quantizer.stepsize:,}" if quantizer.stepsize else "an epoch", gradual)
    values = (str(value) if matters else "-" for value, matters in (*told, step, (quantizer.delta, steps)))
    return (cell, quantizer.prune_mode, quantizer.prune_filler, *values)
