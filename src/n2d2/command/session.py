"""Session: what one run of the command `n2d2` works on, how it begins, and what it prints of the network."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from rich.console import Console
from torch import Tensor

from n2d2 import global_variables
from n2d2.cells.deepnet_cell import DeepNetCell
from n2d2.cells.naming import weight_name
from n2d2.cells.summary import summarize
from n2d2.command.options import BEST, PRUNED, WEIGHTS, Options
from n2d2.experiment.experiment import Experiment, read
from n2d2.files import save_weights
from n2d2.network.network import Network
from n2d2.pruning import sparsity_of
from n2d2.quantizer import PruneCell
from n2d2.solver import SolverOptimizer
from n2d2.updating import UNKNOWN_EPOCH
from prunecell.disk.atomic import replacing
from prunecell.errors import DataError, OptionError
from prunecell.pruner import Pruner
from prunecell.report.terminal import columns_of, say


@dataclass(eq=False)
class Session:
    """One run of the command.

    Attributes:
        inputs: cell -> how many channels each of its inputs brings, where it has several.
        optimizer: of the learning, and then of the fine-tuning.
        pruner: of the network; None where nothing is pruned, or not yet.
        successes: target -> what was measured on the test stimuli: (when, success).
    """

    options: Options
    console: Console
    experiment: Experiment
    inputs: dict[str, list[int]]
    optimizer: SolverOptimizer
    pruner: Pruner | None = None
    successes: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    @property
    def network(self) -> Network:
        """What the INI file describes."""
        return self.experiment.network

    @property
    def model(self) -> DeepNetCell:
        """What learns."""
        return self.experiment.model

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
        """Put one Pruner on all cells that have a PruneCell, in place of another.

        Args:
            masks: cell -> the mask that was read; what it prunes is the threshold that Gradual goes on from.
        """
        if self.pruner is not None:
            self.pruner.finalize()
        for cell, sparsity in self._begun(masks).items():
            self.network.quantizers[cell].begin_at(sparsity)
        plan = self.experiment.plan
        if any(plan.values()):
            learns = self.options.learns or self.options.finetuning
            size = self.network.provider.epoch_size if learns else UNKNOWN_EPOCH  # asking for it opens the data
            self.pruner = Pruner(self.model, plan, optimizer=self.optimizer, epoch_size=size)

    def _begun(self, masks: Mapping[str, Tensor]) -> dict[str, float]:
        """Cell -> the sparsity of the masks that its pruning goes on from, in the run that is resumed or in this one."""
        quantizers, checkpoint = self.network.quantizers, self.options.checkpoints["learning"]
        if self.options.goes_on and checkpoint.exists():
            return {cell: start for cell, start in starts_in(checkpoint, self.parameter_names) if cell in quantizers}
        cells = self.network.graph.cells
        return {cell: sparsity_of(mask, cells[cell].connections) for cell, mask in masks.items() if cell in quantizers}

    def save_weights(self, folder: Path) -> None:
        """Write the `.syntxt` files of the network."""
        save_weights(self.model.get_cells().values(), folder, self.inputs, self.masks)


def starts_in(checkpoint: Path, names: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    """The cells that a checkpoint prunes from a sparsity of their own on, and that; nothing where it is damaged.

    Args:
        checkpoint: the file; who goes on from it says what is wrong with it.
        names: cell -> the name of its weight.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["pruner"]
        fields = {weight: state["specs"][entry["spec"]]["schedule"]["fields"] for weight, entry in state["weights"].items()}
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
    if options.prunes and any(network.plan().values()):
        raise OptionError(
            f"-pruning {options.pruning} is illegal here: {options.net} has QWeight=Prune; prune by one of the two"
        )
    optimizer = experiment.optimizer(experiment.model)
    return Session(options, console, experiment, input_channels(experiment), optimizer)


def input_channels(experiment: Experiment) -> dict[str, list[int]]:
    """Cell -> the channels that each of its inputs brings, where it has several."""
    shape, model = experiment.provider.shape()[1:], experiment.model
    channels = {cell.name: row.shape[0] for cell, row in zip(model, summarize(model, shape).rows, strict=True)}
    several = {cell: sources for cell, sources in model.inputs.items() if len(sources) > 1}
    return {cell: [channels.get(source, shape[0]) for source in sources] for cell, sources in several.items()}


def show(session: Session) -> None:
    """Print the layers, and how they are pruned."""
    network, options = session.network, session.options
    session.say(f"{options.net} on {global_variables.device()}, seed {options.seed}")
    session.say(f"{network.provider.database}, {network.provider.batch_size} stimuli in a batch\n")
    session.say(summarize(session.model, network.provider.shape()[1:]))
    if network.quantizers:
        lines = [PRUNING, *(pruning_of(cell, quantizer) for cell, quantizer in network.quantizers.items())]
        session.say("\n".join(["", *columns_of(lines)]))


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


def prepare_folder(session: Session) -> None:
    """Take the state of another folder; put aside what the run would write over where it begins anew."""
    options, paths = session.options, session.options.checkpoints
    if options.l is not None:
        found = [options.l / path for path in paths.values() if (options.l / path).exists()]
        if not found:
            raise DataError(f"-l {options.l} is illegal: there is no {paths['learning']} in it")
        for path in found:
            if path.resolve() != Path(path.name).resolve():
                with path.open("rb") as old, replacing(Path(path.name)) as new:
                    shutil.copyfileobj(old, new)
    elif options.resume and not any(path.exists() for path in paths.values()):
        session.say(f"there is no {paths['learning']} here: beginning anew")
    elif not options.resume:
        session.say()
        still_read = options.w or (None if options.learns else BEST)
        for path in (path for path in _written_over(session) if path.exists()):
            session.say(f"beginning anew, without -resume: the old {path} is now {put_aside(path, still_read)}")


def _written_over(session: Session) -> list[Path]:
    """What the run will write, but for what it reads first."""
    options, checkpoints = session.options, session.options.checkpoints
    paths = []
    if options.learns:
        paths += [WEIGHTS, BEST, checkpoints["learning"], *(Path(target.name) for target in session.network.targets)]
    if options.prunes:
        paths += [PRUNED, *([BEST] if options.finetuning else [])]
    if options.learns or options.prunes:
        paths += [options.archive, checkpoints["finetuning"]]
    return list(dict.fromkeys(paths))


def put_aside(path: Path, still_read: Path | None = None) -> Path:
    """Give a file or folder the ending `.old`; an older one of this name is removed. Return where it is.

    Args:
        path: it exists.
        still_read: a folder of which a copy is put aside, because it is read later.
    """
    old = path.with_name(f"{path.name}.old")
    if old.is_dir():
        shutil.rmtree(old)
    if still_read is not None and still_read.exists() and path.samefile(still_read):
        shutil.copytree(path, old)
    else:
        path.replace(old)
    return old
