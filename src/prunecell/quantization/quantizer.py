"""Quantizer: keeps the weights of a model at integers times a step while it trains.

The model stays as it is, as under a Pruner. Outside of an optimizer's step every weight is a step times an integer.
During the step its latent, which is no whole number, stands in the parameter, with a gradient of its own; afterwards
the rounded weight and the user's gradient stand there again.
"""

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from prunecell.checks import check_count, check_number
from prunecell.described import shown
from prunecell.enforcement.holds import Holds
from prunecell.enforcement.keeping import check_still_there, checked_epoch_size
from prunecell.enforcement.levels import maximized_by, parameters_of
from prunecell.enforcement.stepping import Watches
from prunecell.enforcement.steps import Steps
from prunecell.errors import OptionError, StateError, UnfinishedWarning, nearest, quoted
from prunecell.plan import Key, resolve
from prunecell.quantization.beside import Beside
from prunecell.quantization.group import Group, check_wanted_bytes, diverged_message, groups_of
from prunecell.quantization.specs import IntSpec, QuantizationSpec, RateSpec
from prunecell.quantization.state import state_of, take_state
from prunecell.quantization.targets import QUANTIZING, weights_of
from prunecell.quantization.whole import Whole
from prunecell.report.facts import Report, WeightFacts
from prunecell.schedules import Clock

QuantizationPlan = Mapping[Key, QuantizationSpec | None]

LATENTS_LR, STEPS_LR = 0.03, 2e-3
"""Learning rates for Adam: of latents in units of their step, and of the logarithms of steps."""
_PATIENCE = 100
"""Steps of optimizers after which a warning says that the clock does not go on."""
_TINY = 1e-10
"""Adam's eps, because gradients are as small as the price of a bit."""


class Quantizer:
    """Keeps weights at integers times a step, by hooks around the steps of optimizers.

    Args:
        model: any module; its weights are rounded at once.
        plan: as of a `Pruner`, with `RateSpec` and `IntSpec` for specs; or one spec for all that it takes by default.
            A `RateSpec` takes matrices, kernels, embeddings and biases, an `IntSpec` matrices and kernels.
        optimizer: the optimizer of the weights, or what wraps it; more by `attach`. For a RateSpec let
            `param_groups` make its groups.
        epoch_size: samples in one epoch, for specs that count epochs.

    Raises:
        PlanError: the plan does not fit the model, or a weight under a RateSpec is float16.
        OptionError: a spec counts epochs and `epoch_size` is missing; inf or NaN in a weight; a weight lies in
            memory that another parameter has too; another Quantizer has one of the weights, or a Pruner whose weights
            may revive. Nothing was changed.

    >>> net = nn.Linear(20, 10)
    >>> quantizer = Quantizer(net, RateSpec(lam=1e-3, steps=50))
    >>> optimizer = torch.optim.Adam(quantizer.param_groups(lr=1e-3))
    >>> quantizer.attach(optimizer)
    >>> for _ in range(50):
    ...     optimizer.zero_grad()
    ...     net(torch.randn(8, 20)).square().mean().backward()
    ...     optimizer.step()
    ...     quantizer.step(8)
    >>> torch.equal(net.weight, quantizer.step_sizes["weight"] * quantizer.integers["weight"])
    True
    """

    def __init__(
        self,
        model: nn.Module,
        plan: QuantizationPlan | QuantizationSpec,
        *,
        optimizer: Optimizer | None = None,
        epoch_size: int | None = None,
    ) -> None:
        targets, self.skipped = resolve(model, plan, QUANTIZING)
        self._weights = weights_of(targets)
        self._groups = groups_of(self._weights.values())
        self._whole = Whole(model, [*self._weights.values()])
        check_wanted_bytes(self._groups, self._whole)
        self._clock = Clock(epoch_size=checked_epoch_size(epoch_size, _counting(self._groups)))
        self._beside = Beside(self._held)
        self._holds = Holds()
        self._model, self._finalized = model, False
        self._depth = 0  # of steps: of a wrapper, and of what it wraps
        self._steps = Steps()
        self._watches = Watches("quantized weights")
        if optimizer is not None:
            self.attach(optimizer)
        self._holds.begin(self, self._held.values())
        with torch.no_grad():  # last, so that what is refused leaves the model as it was
            for weight in self._weights.values():
                weight.write_()
            self._advance(self._clock)

    def __repr__(self) -> str:
        state = ", finalized" if self._finalized else ""
        n = len(self._weights)
        return (
            f"<Quantizer of {n} weight{'s' * (n != 1)}, {self.sparsity:.2%} zeros at step {self._clock.steps:,}{state}>"
        )

    def attach(self, optimizer: Optimizer) -> None:
        """Act around the steps of one more optimizer, and of all that it wraps.

        Raises:
            OptionTypeError: it is no optimizer.
            OptionError: it holds none of the quantized weights, or is attached already.
            StateError: this quantizer was finalized.
        """
        self._check_active()
        self._watches.add(self, optimizer, self._parameters)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The logarithms of the steps: parameters of this quantizer that an optimizer may learn."""
        return (weight.log_step for weight in self._weights.values())

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """The groups for an optimizer, best Adam: what is learned in units of its step, the steps, and the rest.

        Args:
            lr: > 0, of what is not quantized, and of weights under an IntSpec.

        Returns:
            Groups without weight decay, at rates that do not depend on the scale of a layer, and one of the rest at
            `lr`. Let a schedule of learning rates bring all of them to zero until the end.
        """
        check_number("lr", lr, low=0, open_low=True)
        weights = self._weights.values()
        latents = [weight.parameter for weight in weights if isinstance(weight.spec, RateSpec)]
        taken = {id(parameter) for parameter in latents}
        rest = [parameter for parameter in self._model.parameters() if id(parameter) not in taken]
        learned = {"weight_decay": 0.0, "eps": _TINY}
        groups = [
            {"params": latents, "lr": LATENTS_LR, **learned},
            {"params": [w.log_step for w in weights if isinstance(w.spec, RateSpec)], "lr": STEPS_LR, **learned},
            {"params": [w.log_step for w in weights if isinstance(w.spec, IntSpec)], "lr": lr, "weight_decay": 0.0},
            {"params": rest, "lr": lr},
        ]
        return [group for group in groups if group["params"]]

    @torch.no_grad()
    def step(self, n_samples: int) -> None:
        """Advance the clock by one optimizer step over `n_samples` >= 1 samples.

        Raises:
            StateError: this quantizer was finalized, or a weight is no longer the model's; or weights have gradients,
                but no optimizer was attached; or inf or NaN stands in a weight, because the training diverged. The
                clock stands still then.
            OptionError: the step is of more samples than an epoch. Nothing was changed.
        """
        self._check_active()
        check_count("n_samples", n_samples, low=1)
        if not self._watches.levels and any(weight.parameter.grad is not None for weight in self._weights.values()):
            raise StateError("no optimizer is attached to this Quantizer, which cannot round its steps: attach() it")
        clock = self._clock.stepped(int(n_samples))
        self._steps.tell()
        check_still_there(self._model, self._held, "Quantizer")
        self._beside.check()
        self._advance(clock)
        self._clock = clock

    @property
    def epoch_size(self) -> int | None:
        """Samples in one epoch; may be set when the data becomes known."""
        return self._clock.epoch_size

    @epoch_size.setter
    def epoch_size(self, samples: int | None) -> None:
        self._clock = replace(self._clock, epoch_size=checked_epoch_size(samples, _counting(self._groups)))

    @property
    def integers(self) -> dict[str, Tensor]:
        """Parameter name -> its integers, of its shape and dtype."""
        self._take_changes()
        return {name: weight.integers for name, weight in self._weights.items()}

    @property
    def step_sizes(self) -> dict[str, Tensor]:
        """Parameter name -> its step size, float32: one number, or (channels, 1, ...)."""
        return {name: weight.step.clone() for name, weight in self._weights.items()}

    @property
    def sparsity(self) -> float:
        """The fraction of all quantized weights that is zero now."""
        n_kept = sum(int(weight.parameter.count_nonzero()) for weight in self._weights.values())
        return 1 - n_kept / max(sum(weight.parameter.numel() for weight in self._weights.values()), 1)

    @property
    def n_bytes(self) -> int:
        """What the model takes in an archive, about; what is not quantized counts as it is."""
        return sum(group.n_bytes for group in self._groups) + self._whole.bytes_beside(self._weights.values())

    def lam(self, name: str) -> float:
        """What a bit of a weight costs when its price has grown; it moves where `target_bytes` was given.

        Raises:
            OptionError: no weight under a RateSpec has this name.
        """
        found = {w.name: group.lam for group in self._groups for w in group.weights if _is_priced(group)}
        if name not in found:
            raise OptionError(
                f"name={quoted(name)} is illegal: no weight under a RateSpec has it{nearest(name, found)}"
            )
        return found[name]

    def report(self) -> Report:
        """The facts: every quantized weight, and what was left alone and why."""
        sizes = [p.numel() for p in self._model.parameters() if not isinstance(p, UninitializedParameter)]
        return Report(
            weights=tuple(
                WeightFacts(
                    name=w.name,
                    shape=tuple(w.parameter.shape),
                    n_weights=w.parameter.numel(),
                    n_kept=int(w.parameter.count_nonzero()),
                    target_sparsity=None,
                    filler=shown(w.spec),
                    schedule="",
                    bytes_dense=w.parameter.numel() * w.parameter.element_size(),
                    bytes_estimated=w.n_bytes,
                )
                for w in self._weights.values()
            ),
            n_parameters=sum(sizes),
            done=QUANTIZING.done,
            skipped=tuple((s.name, s.reason) for s in self.skipped),
        )

    def finalize(self, *, early: bool = False) -> Report:
        """Let go: the model is plain, and its weights are what they are, steps times integers.

        Whoever trains on from here trains plain weights. A second call changes nothing.

        Args:
            early: whether it is meant to let go before the end, so that nothing is to be said of it.

        Warns:
            UnfinishedWarning: the price of bits has not grown yet, or zeros are not fixed.
            RuntimeWarning: the model takes much less than `target_bytes`.
        """
        missed = [told for group in self._groups if (told := group.missed(self._clock))]
        for short in [] if early or self._finalized else [group.short_of_target(self._whole) for group in self._groups]:
            if short:
                warnings.warn(short, RuntimeWarning, stacklevel=2)
        if missed and not (early or self._finalized):
            untold = self._steps.untold("quantizer", n_counted=self._clock.steps)
            miscounted = self._clock.miscounted if any(_counting(self._groups)) else ""
            hint = untold or miscounted or "train on, or give the spec a shorter training"
            warnings.warn(f"the training is not done: {'; '.join(missed)}: {hint}", UnfinishedWarning, stacklevel=2)
        self._watches.end()
        self._holds.end()
        self._finalized = True
        return self.report()

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs beside the model's and the optimizer's own: clock, latents, steps, prices.

        It holds numbers, text and tensors only, so `torch.load(weights_only=True)` reads it back.
        """
        self._take_changes()
        return state_of(self._clock, self._groups)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, which has the weights too; load the model's own state before or after.

        Raises:
            StateError: it was made under another plan or for another model, or this quantizer was finalized; nothing
                was changed.
        """
        self._check_active()
        take_state(state, self._groups)
        self._clock = replace(self._clock, samples=state["samples"], steps=state["steps"])
        for weight in self._weights.values():
            weight.write_()

    # ---- around a step, as `stepping.Watcher` says

    @torch.no_grad()
    def before_step(self, optimizer: Any) -> None:  # noqa: ANN401 - optimizers come in wrappers
        """Put the latents and their gradients into the parameters."""
        self._depth += 1
        self._steps.count(optimizer, nested=self._depth > 1)
        if self._steps.n_untold == _PATIENCE and self._depth == 1 and any(map(_is_priced, self._groups)):
            warnings.warn(
                f"{_PATIENCE} steps of an optimizer have ended without Quantizer.step(n_samples): call it after each,"
                " or no price grows and no zero is fixed",
                RuntimeWarning,
                stacklevel=2,
            )
        self._enter(optimizer)

    @torch.no_grad()
    def after_step(self, optimizer: Any) -> None:  # noqa: ANN401
        """Round what the optimizer has made, and put the gradients back; a StateError where the steps diverged.

        Where one wraps another, this is when the outermost has ended: ZeroRedundancyOptimizer sends around what the
        inner one has made, and others must get latents.
        """
        self._depth = max(self._depth - 1, 0)
        if not self._depth:
            self._leave(optimizer)

    def around_closure(self, optimizer: Any, closure: Callable[..., Any]) -> Callable[..., Any]:  # noqa: ANN401
        """A closure that evaluates the rounded model, though the optimizer that calls it works on latents."""

        @functools.wraps(closure)
        def evaluate(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            with torch.no_grad():
                self._leave(optimizer)
            with torch.enable_grad():
                loss = closure(*args, **kwargs)
            with torch.no_grad():
                self._enter(optimizer)
            return loss

        return evaluate

    def _enter(self, optimizer: object) -> None:
        held, maximized, scale = parameters_of(optimizer), maximized_by(optimizer), _scale_of(optimizer)
        for group in self._groups:
            price = group.price(self._clock)
            for weight in group.weights:
                latent, log_step = id(weight.parameter) in held, id(weight.log_step) in held
                if latent or log_step:
                    signed = -scale if id(weight.parameter) in maximized else scale
                    weight.enter_(price, signed, latent=latent, log_step=log_step)

    def _leave(self, optimizer: object) -> None:
        held = parameters_of(optimizer)
        diverged = []
        for weight in self._weights.values():
            latent, log_step = id(weight.parameter) in held, id(weight.log_step) in held
            if (latent or log_step) and not weight.leave_(log_step=log_step):
                diverged.append(weight.name)
        if diverged:
            raise StateError(diverged_message(diverged, "a step size of zero, inf or NaN; the one before was kept"))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _depth=0, _steps=Steps())  # a copy that a closure makes, within a step, is in none
        if not self._finalized:
            self._watches.begin_again(self, self._parameters)
            self._holds.begin_again(self, self._held.values())

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for w in self._weights.values() for parameter in (w.parameter, w.log_step)]

    @torch.no_grad()
    def _take_changes(self) -> None:
        if not self._finalized:
            for weight in self._weights.values():
                weight.take_changes_()

    @property
    def _held(self) -> dict[str, nn.Parameter]:
        return {name: weight.parameter for name, weight in self._weights.items()}

    def _advance(self, clock: Clock) -> None:
        for group in self._groups:
            group.advance(clock, self._whole)

    def _check_active(self) -> None:
        if self._finalized:
            raise StateError("this Quantizer was finalized and has let go of the model: make a new one")


def _scale_of(optimizer: object) -> float:
    """By which a fused optimizer divides gradients in its step: a GradScaler leaves that to it."""
    scale = getattr(optimizer, "grad_scale", None)
    return float(scale) if isinstance(scale, Tensor) else 1.0


def _is_priced(group: Group) -> bool:
    return isinstance(group.spec, RateSpec)


def _counting(groups: Iterable[Group]) -> Iterator[str]:
    """The specs that count epochs."""
    return (str(group.spec) for group in groups if group.spec.counts_epochs)
