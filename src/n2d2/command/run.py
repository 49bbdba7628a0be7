"""What the command `n2d2` does, step by step: read weights, learn, prune, fine-tune, report, test, export.

Everything is written in the working folder, as N2D2 does.
"""

import warnings
from dataclasses import replace
from itertools import islice
from math import ceil
from pathlib import Path

from rich.console import Console
from torch import Tensor

from n2d2.cells.weight_cell import WeightCell
from n2d2.command.export import export, exported_to
from n2d2.command.folder import prepare_folder, put_aside, written_by
from n2d2.command.logbook import TITLES, Logbook, measure
from n2d2.command.options import BEST, FILLERS, INTEGERS, PRUNED, WEIGHTS, Options
from n2d2.command.room import bytes_to_write
from n2d2.command.session import Session, greet, show, start
from n2d2.database.base import PARTITIONS
from n2d2.experiment.fitting import fit_shown
from n2d2.experiment.planning import unreached
from n2d2.experiment.storing import store
from n2d2.files import has_masks, load_weights
from n2d2.quantizer import PruneCell
from prunecell.disk.claim import alone_in
from prunecell.disk.room import check_room
from prunecell.errors import DataError
from prunecell.training.accuracy import Batches
from prunecell.training.checkpoint import Checkpoint
from prunecell.training.fitting import Task
from prunecell.training.progress import Progress

NO_WEIGHTS = Path("/dev/null")
AFTER = {"learning": ("integers",), "finetuning": ("integers",)}
"""A training -> those that begin with its weights; their checkpoints are of the past as soon as it goes on."""


def run(options: Options, console: Console) -> None:
    """Do what the options ask for.

    Raises:
        PrunecellError: something is wrong with the options, the INI file, the data or another file.
        KeyboardInterrupt: Ctrl-C; the checkpoint has all that was learned.
    """
    if options.works:
        with alone_in(Path.cwd()):
            work(options, console)
    else:
        session = start(options, console)
        greet(session)
        show(session)
        session.say("\nnothing else to do: -learn-epoch N learns, -test tests, -h tells more")


def work(options: Options, console: Console) -> None:
    """Do it, alone in the working folder."""
    session = start(options, console)
    greet(session)
    wanted = {"Learn": options.trains, "Test": options.test}
    session.experiment.check_data(*(partition for partition, needed in wanted.items() if needed))
    check_room(Path.cwd(), bytes_to_write(session))
    prepare_folder(session)
    session.prune()
    read_weights(session)
    if options.restores:
        learning(session)
    show(session)
    if options.learns:
        learning(session)
    if options.prunes:
        prune_afterwards(session)
    if session.becomes_integers:
        integers_afterwards(session)
    if options.learns or options.prunes:
        report(session)
    if options.test:
        examine(session)
    if options.export:
        file = exported_to(options.export, options.net.stem)
        if file.exists():
            session.say(put_aside(file))
        session.say(f"written: {export(session.experiment, options.export, options.nbbits, options.net.stem)}")


def read_weights(session: Session) -> None:
    """Read the folder that `-w` names, or that an earlier learning wrote; the weights are pruned, if they are to be."""
    options, cells = session.options, session.model.get_cells().values()
    folder = options.w or written_before(session)
    if folder in (None, NO_WEIGHTS):
        return

    pruned = session.masks.keys()
    masked = pruned if has_masks(folder, pruned) else ()  # without any, they are the weights of a dense network

    def read() -> dict[str, Tensor]:
        return load_weights(cells, folder, session.inputs, masked=masked, ignore_missing=options.w_ignore)

    masks = read()
    session.say(f"\nread: {folder}/")
    unpruned = pruned - masks.keys()
    if options.test and (options.learns or unpruned):
        measure_test(session, f"as read from {folder}")
    session.prune(masks)
    if session.pruner is None:
        return
    if masks:
        masks = read()  # the new filling zeroed some of what has a mask
    names = session.parameter_names
    session.pruner.set_masks({names[cell]: mask for cell, mask in masks.items() if cell in session.masks})


def written_before(session: Session) -> Path | None:
    """The folder of weights for a run that learns nothing itself: the integers, where the file asks for them."""
    options = session.options
    if options.learns or options.restores:
        return None
    last: tuple[Path, ...] = (INTEGERS,) if session.network.rate is not None and not options.prunes else ()
    found = [folder for folder in (*last, BEST, WEIGHTS) if folder.is_dir()]
    if not found:
        raise DataError(
            f"there is no {BEST} or {WEIGHTS} here: learn first, or give the folder by -w"
            f" (-w {NO_WEIGHTS}: what the fillers drew, or an ONNX file holds)"
        )
    return found[0]


def learning(session: Session) -> None:
    """Learn, and write what was learned."""
    options, provider = session.options, session.network.provider
    size, batch = provider.epoch_size, provider.batch_size
    epochs, rest = divmod(options.learn, size)
    total = (options.learn_epoch or epochs) * size + min(ceil(rest / batch) * batch, size)
    train(session, "learning", total)
    session.save_weights(WEIGHTS)


def prune_afterwards(session: Session) -> None:
    """What `-pruning` and `-finetuning` ask for."""
    options, network = session.options, session.network
    if options.test:
        measure_test(session, "before pruning")
    threshold = options.pruning_threshold or 0.0
    network.quantizers = {
        cell.name: PruneCell(prune_mode="Static", prune_filler=FILLERS[options.pruning], threshold=threshold)
        for cell in session.model
        if isinstance(cell, WeightCell)
    }
    session.prune()
    if session.pruner is not None:
        session.say(f"\npruned: {session.pruner.sparsity:.2%} of the weights")
    if options.finetuning:
        if options.test:
            measure_test(session, "pruned")
        size = session.network.provider.epoch_size
        train(session, "finetuning", options.finetuning * size, epochs_before=epochs_before(options, size))
    session.save_weights(PRUNED)
    session.say(f"written: {PRUNED}/, to be read by -w {PRUNED}")


def integers_afterwards(session: Session) -> None:
    """What `[prunecell.Rate]` asks for."""
    if session.options.test:
        measure_test(session, "before it became integers")
    tell_unreached(session)
    rate, size = session.network.rate, session.network.provider.epoch_size
    if rate is None:
        raise AssertionError("the file asks for no integers")
    integers = session.make_integers(rate)
    train(session, "integers", rate.epochs * size, epochs_before=epochs_before(session.options, size))
    integers.finish()
    session.save_weights(INTEGERS)
    session.say(f"written: {INTEGERS}/, to be read by -w {INTEGERS}")


def epochs_before(options: Options, size: int) -> int:
    """The epochs of the learning, begun ones included: what comes after it takes the data in another order."""
    return options.learn_epoch + ceil(options.learn / size)


def train(session: Session, name: str, total: int, *, epochs_before: int = 0) -> None:
    """Train on so many samples, going on from the checkpoint of this name; log, and keep the best weights.

    Args:
        session: of the network.
        name: of this training.
        total: samples.
        epochs_before: how many epochs of the data were seen before it.
    """
    network, options, provider = session.network, session.options, session.network.provider
    size, outdated, integers = provider.epoch_size, AFTER.get(name, ()), session.integers
    keeper = session.pruner if integers is None else integers.quantizer
    logbook = Logbook(
        experiment=session.experiment,
        keeper=keeper,
        every=options.log or (options.log_epoch or 1) * size,
        total=total,
        say=session.say,
        keep=(lambda: session.save_weights(BEST))
        if integers is None
        else (lambda: None),  # smallest, and best, at the end
    )

    def watch(progress: Progress) -> None:
        for one in outdated:
            options.checkpoints[one].unlink(missing_ok=True)
        logbook.watch(progress)

    def batches(epoch: int) -> Batches:
        n_batches = ceil(min(size, total - epoch * size) / provider.batch_size)
        return islice(provider.epoch(epochs_before + epoch, options.seed), n_batches)

    task = Task(
        model=session.model,
        optimizer=session.optimizer if integers is None else integers.optimizer,
        train=batches,
        loss=logbook.loss,
        keeper=keeper,
        scheduler=None if integers is None else integers.scheduler,
        beside={"logbook": logbook, **{target.name: target for target in network.targets}},
    )
    sizes = ", ".join(f"{part} {provider.database.get_nb_stimuli(part):,}" for part in PARTITIONS[:3])
    length = f": {total:,} samples, {total / size:.4g} epochs" if total else ""
    session.say(f"\n{name}{length} (stimuli: {sizes})\n{TITLES}")
    logbook.begin()
    checkpoint = Checkpoint(path=options.checkpoints[name])
    progress = fit_shown(
        task,
        ceil(total / size),
        checkpoint=checkpoint,
        epoch_size=size,
        console=session.console,
        watch=watch,
    )
    session.say(f"{progress.total_samples:,} samples in {sum(epoch.seconds for epoch in progress.epochs):.1f} s")
    draw(session, logbook, progress, "validation" if name == "learning" else name)


def draw(session: Session, logbook: Logbook, progress: Progress, name: str) -> None:
    """Draw success and validation of a training into the folders of the targets."""
    session.network.provider.set_partition("Validation")
    for target in session.network.targets:
        folder = Path(target.name)
        folder.mkdir(parents=True, exist_ok=True)
        if target.get_confusion_matrix().size:
            target.log_confusion_matrix(folder / f"ConfusionMatrix_{name}")
    logbook.write(Path(session.network.targets[0].name) / f"Success_{name}", session.options.net.stem, progress)


def report(session: Session) -> None:
    """Write the small file, and print what every layer and the file came to."""
    archive = session.options.archive
    stored = store(session.model, archive)
    keeper = session.pruner if session.integers is None else session.integers.quantizer
    if keeper is not None:
        session.say()
        session.say(replace(stored.entered(keeper.finalize(early=True)), skipped=()))
    if session.integers is None:
        tell_unreached(session)
    small, dense = stored.n_bytes, stored.n_bytes_dense
    session.say(f"\n{archive}: {small:,} bytes; all its tensors, dense: {dense:,} bytes; {dense / small:.1f} x smaller")
    there = (path for path in written_by(session) if path.exists())
    session.say("written: " + ", ".join(f"{path}/" if path.is_dir() else str(path) for path in there))


def tell_unreached(session: Session) -> None:
    """Say what was not pruned as far as the file wants, for the learning was too short."""
    pruner, pruned = session.pruner, session.masks.keys()
    reached = {} if pruner is None else {c: pruner.target_sparsity(session.parameter_names[c]) for c in pruned}
    if told := unreached(session.network, reached):
        session.say(f"{told}; a higher -learn-epoch with -resume goes on")


def measure_test(session: Session, when: str) -> None:
    """Measure the test stimuli, and print the success of every target."""
    n, asked = session.network.provider.database.get_nb_stimuli("Test"), session.options.nb_test
    if asked > n:
        warnings.warn(f"-nb-test {asked}: there are {n:,} test stimuli; all are measured", stacklevel=2)
    n = n if asked == -1 else min(n, asked)
    session.say()
    for target, success in zip(session.network.targets, measure(session.experiment, "Test", n), strict=True):
        session.say(f"{target.name}: test success {success:.2%} of {n:,} stimuli, {when}")
        session.successes.setdefault(target.name, []).append((when, success))


def examine(session: Session) -> None:
    """Measure the test stimuli at the end, compare, and draw what was taken for what."""
    measure_test(session, "at the end")
    for target in session.network.targets:
        found = session.successes[target.name]
        if len(found) > 1:
            session.say(f"{target.name}: " + ", ".join(f"{success:.2%} {when}" for when, success in found))
        path = Path(target.name) / "ConfusionMatrix_test"
        target.log_confusion_matrix(path)
        written = [f"{path}{ending}" for ending in (".dat", ".png") if Path(f"{path}{ending}").exists()]
        session.say(f"written: {', '.join(written)}")
