"""The working folder of the command `n2d2`: what a run writes there, and what it puts aside of the run before."""

import shutil
import warnings
from pathlib import Path

from n2d2.command.options import BEST, INTEGERS, PRUNED, WEIGHTS
from n2d2.command.session import Session
from prunecell.disk.atomic import replacing
from prunecell.errors import DataError


def prepare_folder(session: Session) -> None:
    """Take the state of another folder; put aside what an earlier run left where this one begins anew."""
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
        _begin_all_the_same(paths["learning"])
    elif not options.resume:
        still_read = options.w or (None if options.learns else BEST)
        outdated = [path for path in _outdated(session) if path.exists()]
        if outdated:
            session.say()
        for path in outdated:
            session.say(f"beginning anew, without -resume: {put_aside(path, still_read)}")


def _begin_all_the_same(checkpoint: Path) -> None:
    """Let a script that always says -resume begin; but not where a run was put aside that it may mean."""
    old = old_of(checkpoint)
    if old.exists():
        raise DataError(
            f"there is no {checkpoint} here; {old} is of the run before it: rename it to go on with that run, or leave"
            " -resume out to begin anew"
        )
    warnings.warn(f"-resume: there is no {checkpoint} here to go on with; the run begins anew", stacklevel=2)


def old_of(path: Path) -> Path:
    """What a file or folder is called when it was put aside."""
    return path.with_name(f"{path.name}.old")


def written_by(session: Session) -> list[Path]:
    """The folders and files that the learning of a run and what comes after it write."""
    options, checkpoints = session.options, session.options.checkpoints
    targets = [Path(target.name) for target in session.network.targets]
    paths = []
    if options.learns:
        paths += [WEIGHTS, BEST, *targets, checkpoints["learning"]]
    if options.prunes:
        paths += [PRUNED]
    if options.finetuning:
        paths += [BEST, *targets, checkpoints["finetuning"]]
    if session.becomes_integers:
        paths += [INTEGERS, checkpoints["integers"]]
    if options.learns or options.prunes:
        paths += [options.archive]
    return list(dict.fromkeys(paths))


def _outdated(session: Session) -> list[Path]:
    """What is of older weights than those of the run. It keeps the log of a learning that it only prunes after."""
    options = session.options
    if not (options.learns or options.prunes):
        return []
    logs = [] if options.learns else [Path(target.name) for target in session.network.targets]
    paths = [*written_by(session), options.checkpoints["finetuning"], options.checkpoints["integers"]]
    paths += [path for path in (PRUNED, INTEGERS) if path != options.w]
    return [path for path in dict.fromkeys(paths) if path not in logs]


def put_aside(path: Path, still_read: Path | None = None) -> str:
    """Give a file or folder the ending `.old`; an older one of this name is removed. Return a sentence on it.

    Args:
        path: it exists.
        still_read: a folder of which a copy is put aside, because it is read later.
    """
    old = old_of(path)
    if old.is_dir():
        shutil.rmtree(old)
    if still_read is not None and still_read.exists() and path.samefile(still_read):
        shutil.copytree(path, old)
    else:
        path.replace(old)
    return f"the old {'folder' if old.is_dir() else 'file'} {path} is now {old}"
