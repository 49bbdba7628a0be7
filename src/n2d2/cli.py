"""The command `n2d2`, with N2D2's options: `n2d2 net.ini -learn-epoch 10 -test`."""

import argparse
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from n2d2.command.export import EXPORTS, check_export
from n2d2.command.options import FILLERS, Options
from prunecell.checks import LARGEST_SEED
from prunecell.console.terminal import as_a_command, say
from prunecell.errors import OptionError, UnknownNameError, nearest, percent

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""

_QUANTIZATION = "quantization is another subject; -export pcell -nbbits 8 writes small integers"
_SPIKES = "spikes have no meaning here"
_CALIBRATION = "nothing is calibrated here; -export pcell -nbbits 8 writes small integers"
REFUSED = {
    **dict.fromkeys(("-learn-stdp", "-present-time", "-ts"), _SPIKES),
    **dict.fromkeys(("-calib", "-calib-reload", "-calibOnly", "-no-unsigned", "-no-cle", "-db-export"), _CALIBRATION),
    **dict.fromkeys(("-c-round-mode", "-b-round-mode", "-wt-round-mode", "-wt-clipping-mode"), _CALIBRATION),
    **dict.fromkeys(("-act-clipping-mode", "-act-rescaling-mode", "-act-rescale-per-output"), _CALIBRATION),
    **dict.fromkeys(("-act-quantile-value", "-export-parameters"), _CALIBRATION),
    **dict.fromkeys(("-testQAT", "-qat-sat"), _QUANTIZATION),
    "-cfg": "the INI file is the configuration",
    "-check": "gradients are torch's; torch.autograd.gradcheck checks them",
    "-find-lr": "try some values of LearningRate over -learn 10000",
    "-fuse": "what runs an exported network fuses BatchNorm itself; use -export ONNX",
    "-log-db-stats": "use n2d2.database and get_partition_summary() in Python",
    "-log-json": "success and confusion are written as .dat tables",
    "-log-kernels": "weights/ has them as text",
    "-log-outputs": "call the network in Python: n2d2.cells.DeepNetCell.load_from_INI",
    "-multidev": "one device learns; use -dev",
    "-pre-samples": "read a batch in Python: n2d2.provider.DataProvider",
    "-save-test-set": "the test set is where it was read from",
    "-stop-valid": "validation falls whenever more is pruned; weights_validation/ has the best weights",
    "-test-id": "the whole test set is measured; use -test",
    "-test-index": "the whole test set is measured; use -test",
    "-testAdv": "adversarial studies are not here; use -test",
    "-valid-metric": "the best weights are those of the highest validation success",
}
"""What N2D2 has and this command has not -> why, or what to use."""

IDLE = {"-bench": 0, "-dynamic-allocation": 0, "-report": 1, "-verbose": 1, "-ws": 1}
"""What N2D2 has and has no effect here -> how many arguments follow. A warning tells it."""


_VERSION = f"n2d2 of prunecell {version('prunecell')}, torch {version('torch')}"
_NUMBER = re.compile(r"-[0-9.]+")


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is illegal: it must be a whole number >= 0")
    return int(text)


def _seed(text: str) -> int:
    number = _count(text)
    if number > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is illegal: it must be a whole number in [0, {LARGEST_SEED}]")
    return number


def _count_or_all(text: str) -> int:
    if not re.fullmatch("-1|0*[1-9][0-9]{0,17}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is illegal: it must be a whole number >= 1, or -1")
    return int(text)


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is illegal: it must be a number in [0, 1]{percent(number)}")
    return number


_N: dict[str, Any] = {"type": _count, "metavar": "N"}
_DIR: dict[str, Any] = {"type": Path, "metavar": "DIR"}
_FLAG: dict[str, Any] = {"action": "store_true"}
OPTIONS: dict[str, dict[str, Any]] = {
    "-learn": {**_N, "help": "learn N samples, rounded up to batches"},
    "-learn-epoch": {**_N, "help": "learn N epochs"},
    "-log": {**_N, "help": "validate and print a line every N samples"},
    "-log-epoch": {**_N, "help": "validate and print a line every N epochs [1]"},
    "-seed": {"type": _seed, "metavar": "N", "help": "of everything random [0]"},
    "-test": {**_FLAG, "help": "measure the test stimuli"},
    "-nb-test": {"type": _count_or_all, "metavar": "N", "help": "measure the first N test stimuli only; -1: all [-1]"},
    "-w": {**_DIR, "help": "begin with the weights of a folder; with /dev/null: with those of the fillers"},
    "-w-ignore": {**_FLAG, "help": "cells without files in that folder keep what their fillers drew"},
    "-pruning": {"choices": ["None", *FILLERS], "help": "prune all Conv, Deconv and Fc after the learning"},
    "-pruning-threshold": {"type": _fraction, "metavar": "T", "help": "the share of weights to prune, in [0, 1]"},
    "-finetuning": {**_N, "help": "learn N more epochs after -pruning"},
    "-export": {"metavar": "NAME", "help": f"write the network as {' or '.join(EXPORTS)}"},
    "-nbbits": {"type": int, "metavar": "N", "help": "bits of a weight in an exported pcell: -32 [exact], -16, 8 to 1"},
    "-dev": {**_N, "help": "compute on this CUDA device [on the CPU]"},
    "-l": {**_DIR, "help": "go on with the state that a run has left in another folder"},
    "-resume": {**_FLAG, "help": "go on with the state in this folder, after Ctrl-C or kill (N2D2 has no such option)"},
    "-lenient": {**_FLAG, "help": "warn of unknown keys, do not refuse them (N2D2 has no such option)"},
    "-v": {"action": "version", "version": _VERSION, "help": "tell the version"},
    "-h": {"action": "help", "help": "tell this"},
}
"""Name -> what argparse needs to know."""

ALIASES = {"--lenient": "-lenient", "-help": "-h", "--help": "-h", "--version": "-v"}


class _Parser(argparse.ArgumentParser):
    """argparse, because N2D2's long options have one dash, which typer cannot have. Its errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise OptionError(f"{message}; n2d2 -h tells more")


def parser() -> argparse.ArgumentParser:
    """N2D2's options."""
    made = _Parser(
        prog="n2d2",
        description="Learn, prune, test and export the network of an N2D2 INI file.",
        epilog="All is written in the working folder. docs/n2d2.md compares every option and key with N2D2's.",
        add_help=False,
    )
    made.add_argument("net", type=Path, metavar="net.ini", help="the network, its data, its solvers, its pruning")
    for name, arguments in OPTIONS.items():
        made.add_argument(name, default=argparse.SUPPRESS, **arguments)
    return made


def parse(arguments: list[str]) -> Options:
    """Read a command line.

    Raises:
        OptionError: an option is unknown (the nearest is offered) or refused, or options do not go together.

    >>> parse(["net.ini", "-learn-epoch", "10", "-test"]).learn_epoch
    10
    """
    options = Options(**vars(parser().parse_args(list(_known(arguments)))))
    _check(options)
    return options


def _known(arguments: list[str]) -> Iterator[str]:
    """The words of a command line with the first names of options, without those that have no effect."""
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if not word.startswith("-") or _NUMBER.fullmatch(word):
            yield word
        elif name in IDLE:
            warnings.warn(f"{name} has no effect here", stacklevel=2)
            if IDLE[name] and not equals:
                next(words, None)
        elif name in REFUSED:
            raise OptionError(f"{name} is refused: {REFUSED[name]}")
        elif ALIASES.get(name, name) not in OPTIONS:
            raise UnknownNameError(f"{name} is no option{nearest(name, OPTIONS)}")
        else:
            yield f"{ALIASES.get(name, name)}{equals}{value}"


def _check(options: Options) -> None:
    """Refuse options that do not go together."""
    if options.learn and options.learn_epoch:
        raise OptionError("-learn and -learn-epoch are illegal together: one counts samples, the other epochs")
    if options.log and options.log_epoch:
        raise OptionError("-log and -log-epoch are illegal together: one counts samples, the other epochs")
    if options.prunes and options.pruning_threshold is None:
        raise OptionError(f"-pruning {options.pruning} needs -pruning-threshold T, the share of weights to prune")
    for name, given in (("-pruning-threshold", options.pruning_threshold), ("-finetuning", options.finetuning)):
        if given and not options.prunes:
            raise OptionError(f"{name} is illegal without -pruning {' or '.join(FILLERS)}")
    if options.nb_test != -1 and not options.test:
        raise OptionError("-nb-test is illegal without -test")
    if options.w_ignore and options.w is None:
        raise OptionError("-w-ignore is illegal without -w DIR")
    if options.nbbits is not None and options.export is None:
        raise OptionError("-nbbits is illegal without -export: learning is done in float32")
    if options.export is not None:
        check_export(options.export, options.nbbits)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; what goes wrong on purpose is one message, and the exit status is not 0."""
    words = sys.argv[1:] if arguments is None else arguments
    with as_a_command():
        options = parse(words)
        from n2d2.command.run import run  # noqa: PLC0415 - it loads torch, which takes seconds, and `-h` must not

        try:
            run(options, Console())
        except KeyboardInterrupt:
            say(Console(stderr=True), f"\ninterrupted{_how_to_go_on(options, words)}")
            sys.exit(INTERRUPTED)
        except OSError as error:
            error.add_note(_how_to_go_on(options, words))
            raise


def _how_to_go_on(options: Options, words: list[str]) -> str:
    if not options.trains or not any(path.exists() for path in options.checkpoints.values()):
        return ""
    return f"; to go on: {shlex.join(['n2d2', *words, *(() if '-resume' in words else ('-resume',))])}"
