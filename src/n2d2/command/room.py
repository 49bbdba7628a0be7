"""How many bytes a run of the command will write, by a low estimate: so it is told early that room is missing."""

from collections.abc import Iterable
from pathlib import Path

from n2d2.command.options import BEST, INTEGERS, PRUNED, WEIGHTS
from n2d2.command.session import Session
from n2d2.experiment.storing import checkpoint_bytes, integers_checkpoint_bytes

_KEPT, _PRUNED, _MASK = 10, 2, 2
"""Bytes in a `.syntxt` file: of a weight, of a pruned weight, and of its place in the mask."""


def bytes_to_write(session: Session) -> int:
    """What comes to the disk beside what is there; what the run replaces or removes is taken off."""
    options = session.options
    folders = [WEIGHTS] * options.learns + [PRUNED] * options.prunes + [INTEGERS] * session.becomes_integers
    if options.trains and session.network.provider.database.get_nb_stimuli("Validation"):
        folders.append(BEST)
    n_bytes = _text_bytes(session) * len(folders)
    if options.trains:
        trainings = bool(options.learns) + bool(options.finetuning)
        n_bytes += checkpoint_bytes(session.optimizer) * trainings
    if session.becomes_integers:
        n_bytes += integers_checkpoint_bytes(session.model)
    replaced = [*folders, *options.checkpoints.values()]
    if not options.resume:
        replaced = [path.with_name(f"{path.name}.old") for path in replaced]
    return n_bytes - sum(map(_size, replaced))


def _text_bytes(session: Session) -> int:
    """Of a folder of weights, when all are pruned as far as they will be."""
    n_bytes = sum(parameter.numel() for parameter in session.model.parameters()) * _KEPT
    for name, sparsity in _sparsities(session).items():
        pruned = (_KEPT - _PRUNED) * sparsity
        n_bytes += int(session.network.graph.cells[name].weight.numel() * (_MASK - pruned))
    return n_bytes


def _sparsities(session: Session) -> dict[str, float]:
    """Cell -> how far it will be pruned; under the default plan all are taken together."""
    asked, plan = session.network.default_plan, session.experiment.plan
    if asked is not None:
        return {cell: asked.sparsity for cell, name in session.parameter_names.items() if plan.get(name)}
    return {cell: one.threshold for cell, one in session.network.quantizers.items() if one.spec is not None}


def _size(path: Path) -> int:
    files: Iterable[Path] = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
