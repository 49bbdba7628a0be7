"""Strategies: ways to make a model small, each with one knob that a search turns.

A strategy is a frozen dataclass: where its knob begins, by which factor a clearly smaller file is made, what knobs are
legal, how a model is made, and the same as text to paste. To add one, write such a class and put it into `STRATEGIES`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Adam

from prunecell.codecs.encode import Scaled
from prunecell.codecs.modes import ValueMode, is_weight, value_mode
from prunecell.described import shown
from prunecell.graph import tidied_
from prunecell.plan import Plan
from prunecell.pruning import Pruner
from prunecell.quantization import Quantizer, RateSpec
from prunecell.schedules import Cubic, Static
from prunecell.sharing import share_
from prunecell.structured import RemoveSpec, remove_
from prunecell.tuning.bench import Bench, Run
from prunecell.tuning.defaults import plan_of
from prunecell.tuning.pasted import as_text, loop, program
from prunecell.tuning.trials import Trial, best_of

_COMPACT = "from prunecell.tuning.strategies import Compact"
_TIDY = "from prunecell.graph import tidied_"
_EXAMPLE = "example = next(batches.epoch(0))[0][:1]"
_TIDIED = "tidied_(model, example=example)"
_GIVEN = "make_optimizer(model.parameters())  # the optimizer that tune was given"


class Strategy(Protocol):
    """A way to make a model small.

    Attributes:
        knob: what its knob is.
        factor: the knob times this one makes a file that is clearly smaller.
        low, high: the legal knobs.
        trains: whether a trial takes long.
    """

    knob: ClassVar[str]
    factor: ClassVar[float]
    low: ClassVar[float]
    high: ClassVar[float]
    trains: ClassVar[bool]

    def first(self, bench: Bench, trials: Sequence[Trial]) -> float:
        """Where the search begins, from what was tried until now."""
        ...

    def make(self, run: Run, knob: float) -> tuple[nn.Module, str | ValueMode]:
        """The small model, and with which values it is saved."""
        ...

    def recipe(self, bench: Bench, knob: float) -> str:
        """The same as Python text, for a `model` and a `train` loader."""
        ...


@dataclass(frozen=True, kw_only=True)
class Compact:
    """A value mode: weights by another mode, and all other floats rounded to the 8 significant bits of bfloat16.

    Attributes:
        weights: the name of the mode for tensors of two or more dimensions.
    """

    weights: str

    def __call__(self, name: str, tensor: Tensor) -> Tensor | Scaled:
        """Return what is stored instead."""
        if is_weight(tensor) or not tensor.is_floating_point():
            return value_mode(self.weights)(name, tensor)
        return tensor.detach().to(torch.bfloat16).to(tensor.dtype)


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """Prune at once, without training, and save with shared values.

    Attributes:
        values: of the archive.
    """

    knob: ClassVar[str] = "density"
    factor: ClassVar[float] = 0.5
    low: ClassVar[float] = 1e-4
    high: ClassVar[float] = 1.0
    trains: ClassVar[bool] = False

    values: str = "codebook5"

    def __post_init__(self) -> None:
        value_mode(self.values)

    def first(self, bench: Bench, trials: Sequence[Trial]) -> float:  # noqa: ARG002 - one signature for all
        """A quarter of the weights."""
        return 0.25

    def make(self, run: Run, knob: float) -> tuple[nn.Module, str | ValueMode]:
        """See `Strategy`."""
        Pruner(run.model, self._plan(run.bench, knob)).finalize()
        return tidied_(run.model, example=run.bench.example), Compact(weights=self.values)

    def recipe(self, bench: Bench, knob: float) -> str:
        """See `Strategy`."""
        plan = as_text(self._plan(bench, knob))
        prune = "pc.Pruner(model, plan).finalize()"
        return program(
            bench, f"{_COMPACT}\n{_TIDY}", plan, prune, _EXAMPLE, _TIDIED, values=Compact(weights=self.values)
        )

    @staticmethod
    def _plan(bench: Bench, knob: float) -> Plan:
        return plan_of(bench.model, sparsity := round(1 - knob, 6), Static(sparsity=sparsity))


_LR = 1e-3
"""Of what is not quantized, where the search has an optimizer of its own."""

_SHARE_AT = 0.75
"""The part of a trial's epochs after which weights share values."""


@dataclass(frozen=True, kw_only=True)
class PruneAndShare:
    """Prune while the model trains, then let weights share values, and train on (Deep Compression, Han et al. 2016).

    Attributes:
        bits: of the shared values.
    """

    knob: ClassVar[str] = "density"
    factor: ClassVar[float] = 0.5
    low: ClassVar[float] = 1e-4
    high: ClassVar[float] = 1.0
    trains: ClassVar[bool] = True

    bits: int = 5

    def __post_init__(self) -> None:
        value_mode(f"codebook{self.bits}")

    def first(self, bench: Bench, trials: Sequence[Trial]) -> float:  # noqa: ARG002
        """Where a file as small as the best one is to be expected; else a fifth of what one-shot pruning keeps."""
        one_shot = [t for t in trials if t.strategy.startswith(OneShot.__name__) and t.n_bytes]
        best = best_of(trials).n_bytes or 0
        if not one_shot:
            return 1 / 30
        nearest = min(one_shot, key=lambda t: abs((t.n_bytes or 0) - best))
        passed = [t.knob for t in one_shot if t.passed]
        guess = nearest.knob * best / (nearest.n_bytes or 1)
        return float(f"{max(min(guess, min(passed, default=1.0) / 5), self.low):.3g}")

    def make(self, run: Run, knob: float) -> tuple[nn.Module, str | ValueMode]:
        """See `Strategy`."""
        optimizer = run.bench.make_optimizer(run.model.parameters())
        pruner = Pruner(run.model, self._plan(run.bench, knob), optimizer=optimizer)
        before = self._epochs(run.bench)
        run.train(optimizer, before, keeper=pruner)
        sharing = share_(run.model, self.bits, optimizer=optimizer)
        run.train(optimizer, run.bench.epochs - before, keeper=pruner, beside={"sharing": sharing})
        sharing.finalize()
        pruner.finalize()
        return tidied_(run.model, example=run.bench.example), Compact(weights=f"codebook{self.bits}")

    def recipe(self, bench: Bench, knob: float) -> str:
        """See `Strategy`."""
        epochs, share = self._epochs(bench), f"sharing = pc.share_(model, bits={self.bits}, optimizer=optimizer)"
        is_last = epochs == bench.epochs  # then nothing is trained after it
        make = f"torch.optim.Adam(model.parameters(), lr={bench.lr!r})" if bench.lr else _GIVEN
        return program(
            bench,
            f"{_COMPACT}\n{_TIDY}",
            as_text(self._plan(bench, knob)),
            f"optimizer = {make}",
            "pruner = pc.Pruner(model, plan, optimizer=optimizer)",
            loop(bench, "pruner", between="" if is_last else f"    if epoch == {epochs}:\n        {share}\n"),
            share if is_last else "",
            "sharing.finalize()\npruner.finalize()",
            _EXAMPLE,
            _TIDIED,
            values=Compact(weights=f"codebook{self.bits}"),
        )

    @staticmethod
    def _epochs(bench: Bench) -> int:
        """Those before the sharing."""
        return min(max(round(_SHARE_AT * bench.epochs), 1), bench.epochs)

    @staticmethod
    def _plan(bench: Bench, knob: float) -> Plan:
        steps = max(round(0.6 * bench.n_steps), 1)
        return plan_of(bench.model, sparsity := round(1 - knob, 6), Cubic(sparsity=sparsity, steps=steps))


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Learn integer weights under the price of their bits; see `prunecell.quantization`.

    It trains by Adam at its own rates, which do not depend on the scale of a layer, whatever optimizer the search has.
    """

    knob: ClassVar[str] = "lam"
    factor: ClassVar[float] = 3.0
    low: ClassVar[float] = 1e-15
    high: ClassVar[float] = 1.0
    trains: ClassVar[bool] = True

    def first(self, bench: Bench, trials: Sequence[Trial]) -> float:  # noqa: ARG002
        """A price at which all weights together may cost some units of the loss, if a weight takes a bit."""
        return float(f"{3 / max(bench.n_weights, 1):.3g}")

    def make(self, run: Run, knob: float) -> tuple[nn.Module, str | ValueMode]:
        """See `Strategy`."""
        quantizer = Quantizer(run.model, RateSpec(lam=knob, steps=run.bench.n_steps))
        optimizer = Adam(quantizer.param_groups(lr=run.bench.lr or _LR))
        quantizer.attach(optimizer)
        run.train(optimizer, run.bench.epochs, keeper=quantizer)
        quantizer.finalize()
        return tidied_(run.model, example=run.bench.example), "exact"

    def recipe(self, bench: Bench, knob: float) -> str:
        """See `Strategy`."""
        return self.recipe_after(bench, knob)

    @staticmethod
    def recipe_after(bench: Bench, knob: float, needed: str = "", *before: str) -> str:
        """The recipe, with something done to the dense model before."""
        return program(
            bench,
            f"{needed}\n{_TIDY}",
            _EXAMPLE,
            *before,
            f"quantizer = pc.Quantizer(model, pc.RateSpec(lam={knob!r}, steps={bench.n_steps_told}))",
            f"optimizer = torch.optim.Adam(quantizer.param_groups(lr={bench.lr or _LR!r}))",
            "quantizer.attach(optimizer)",
            loop(bench, "quantizer"),
            "quantizer.finalize()",
            _TIDIED,
        )


@dataclass(frozen=True, kw_only=True)
class Structured:
    """Remove whole units first, then learn integer weights as `Rate`: the model is faster everywhere, too.

    It needs the extra `structured`; see `prunecell.structured`.

    Attributes:
        flops: in (0, 1], the part of the multiplications that stays.
    """

    knob: ClassVar[str] = "lam"
    factor: ClassVar[float] = Rate.factor
    low: ClassVar[float] = Rate.low
    high: ClassVar[float] = Rate.high
    trains: ClassVar[bool] = True

    flops: float = 0.5

    def __post_init__(self) -> None:
        RemoveSpec(flops=self.flops)

    def first(self, bench: Bench, trials: Sequence[Trial]) -> float:
        """The price at which integers alone made the smallest good file."""
        return max(
            (t.knob for t in trials if t.strategy == shown(Rate()) and t.passed), default=Rate().first(bench, ())
        )

    def make(self, run: Run, knob: float) -> tuple[nn.Module, str | ValueMode]:
        """See `Strategy`."""
        remove_(run.model, RemoveSpec(flops=self.flops), run.bench.example)
        return Rate().make(run, knob)

    def recipe(self, bench: Bench, knob: float) -> str:
        """See `Strategy`."""
        removal = f"remove_(model, RemoveSpec(flops={self.flops!r}), example)"
        return Rate.recipe_after(bench, knob, "from prunecell.structured import RemoveSpec, remove_", removal)


STRATEGIES: tuple[Strategy, ...] = (OneShot(), Rate(), Structured(), PruneAndShare())
"""What a search tries by default, in this order."""
