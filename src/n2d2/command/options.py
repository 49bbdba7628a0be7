"""What the command `n2d2` can be asked for."""

from dataclasses import dataclass
from pathlib import Path

FILLERS = {"Random": "Random", "Iter": "IterNonStruct"}
"""What `-pruning` may be, beside None -> the filler of the PruneCells."""

WEIGHTS, BEST, PRUNED = Path("weights"), Path("weights_validation"), Path("weights_pruned")
"""The folders of weights in the working folder: the last, those of the best validation, those after `-pruning`."""
INTEGERS = Path("weights_integers")
"""That of the weights that became integers, where the INI file has `[prunecell.Rate]`."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line; `n2d2.cli` says what each option means."""

    net: Path
    seed: int = 0
    learn: int = 0
    learn_epoch: int = 0
    log: int = 0
    log_epoch: int = 0
    test: bool = False
    nb_test: int = -1
    w: Path | None = None
    w_ignore: bool = False
    l: Path | None = None  # noqa: E741 - N2D2's name
    resume: bool = False
    export: str | None = None
    nbbits: int | None = None
    dev: int | None = None
    pruning: str = "None"
    pruning_threshold: float | None = None
    finetuning: int = 0
    lenient: bool = False

    @property
    def learns(self) -> bool:
        """Whether learning is asked for."""
        return bool(self.learn or self.learn_epoch)

    @property
    def works(self) -> bool:
        """Whether anything is asked for beside a look at the network."""
        return bool(self.learns or self.prunes or self.test or self.export or self.goes_on)

    @property
    def trains(self) -> bool:
        """Whether the weights will change by learning."""
        return bool(self.learns or self.finetuning)

    @property
    def prunes(self) -> bool:
        """Whether pruning after the learning is asked for."""
        return self.pruning != "None"

    @property
    def goes_on(self) -> bool:
        """Whether the run begins where another one stopped."""
        return self.resume or self.l is not None

    @property
    def restores(self) -> bool:
        """Whether the network is that of a stopped learning, with nothing more to learn."""
        return self.goes_on and not self.learns and not self.prunes and self.checkpoints["learning"].exists()

    @property
    def archive(self) -> Path:
        """The small file of the working folder."""
        return Path(f"{self.net.stem}.pcell")

    @property
    def checkpoints(self) -> dict[str, Path]:
        """The files of the working folder from which a run goes on, for learning and what comes after it."""
        stem = self.net.stem
        after = {name: Path(f"{stem}.{name}.checkpoint") for name in ("finetuning", "integers")}
        return {"learning": Path(f"{stem}.checkpoint"), **after}
