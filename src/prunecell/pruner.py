"""Pruner: keeps the pruned weights of a model at +0.0 while it trains, and prunes more as time goes by.

The model stays as it is: no module and no parameter is wrapped or renamed. Three kinds of hooks do the work, on the
parameters (gradients are masked as they accumulate) and on the optimizers (before and after each step).
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunecell.bits.mask import Mask
from prunecell.errors import OptionError, OptionTypeError, StateError, check_count
from prunecell.evidence import Evidence
from prunecell.plan import Plan, PruneSpec, label, resolve
from prunecell.report.facts import Report, WeightFacts
from prunecell.schedules import Clock
from prunecell.weight import REST_EVERY, PrunedWeight, hidden_during, revealed

_VERSION = 1


class Pruner:
    """Prunes the weights of a model, at once and as training goes on.

    Args:
        model: any module; it is pruned to the schedule's first sparsity at once.
        plan: a `Plan`, or one `PruneSpec` for all matrices and kernels.
        optimizer: the optimizer of the pruned weights, made before or after; more by `attach`.
        epoch_size: samples in one epoch, for schedules that count epochs.

    Raises:
        PlanError: the plan does not fit the model.
        OptionError: a schedule counts epochs and `epoch_size` is missing; or another pruner, not finalized, holds one
            of the weights, and one of the two keeps hidden values.

    >>> from prunecell import Cubic
    >>> net = nn.Linear(20, 10)
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    >>> pruner = Pruner(net, PruneSpec(schedule=Cubic(sparsity=0.9, steps=5)), optimizer=optimizer)
    >>> for _ in range(5):
    ...     optimizer.zero_grad()
    ...     net(torch.randn(8, 20)).square().mean().backward()
    ...     optimizer.step()
    ...     pruner.step(8)
    >>> pruner.sparsity
    0.9
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Plan | PruneSpec,
        *,
        optimizer: Optimizer | None = None,
        epoch_size: int | None = None,
    ) -> None:
        targets, self.skipped = resolve(model, plan)
        self._weights = {
            t.name: PrunedWeight(t.name, t.parameter, t.spec, Mask.full(t.parameter.shape, t.parameter.device))
            for t in targets
        }
        self._clock = Clock(epoch_size=_checked_epoch_size(epoch_size, self._weights.values()))
        self._model, self._finalized = model, False
        self._optimizers: list[Optimizer] = []
        self._hooks: list[Any] = []
        self._watched: set[str] = set()
        for weight in self._weights.values():
            weight.check_alone()
        self._watch_gradients()
        if optimizer is not None:
            self.attach(optimizer)
        self.refill()

    def attach(self, optimizer: Optimizer) -> None:
        """Act around the steps of one more optimizer.

        Raises:
            OptionError: it holds none of the pruned weights, or is attached already.
            StateError: this pruner was finalized.
        """
        self._check_active()
        if not isinstance(optimizer, Optimizer):
            raise OptionTypeError(f"optimizer is a {type(optimizer).__name__}: it must be a torch.optim.Optimizer")
        if any(optimizer is known for known in self._optimizers):
            raise OptionError(f"optimizer {type(optimizer).__name__} is attached already")
        if not self._held_by(optimizer):
            raise OptionError(
                f"optimizer {type(optimizer).__name__} holds none of the pruned weights: was it made of another model?"
            )
        self._optimizers.append(optimizer)
        self._watch_steps(optimizer)
        self._clear_moments(self._held_by(optimizer))

    def step(self, n_samples: int) -> None:
        """Advance the clock by one optimizer step over `n_samples` >= 1 samples, and prune more where it is time.

        Raises:
            StateError: this pruner was finalized, or a weight is no longer the model's.
        """
        self._check_active()
        check_count("n_samples", n_samples, low=1)
        self._check_still_there()
        self._watch_gradients()
        self._clock = self._clock.advanced(n_samples)
        due = [w for w in self._weights.values() if _wanted(w.spec, self._clock) != w.sparsity]
        if due:
            self._fill({w.spec for w in due})
        if self._clock.steps % REST_EVERY == 1:
            self._clear_moments(self._weights.values())
        held = {id(p) for o in self._optimizers for g in o.param_groups for p in g["params"]}
        for weight in self._weights.values():
            if id(weight.parameter) not in held:
                weight.hide_()

    def refill(self) -> None:
        """Fill every mask afresh, on the weights that are there now: after an import of other weights, say."""
        self._check_active()
        self._clear_moments(self._weights.values(), rest=False)
        for weight in self._weights.values():
            weight.hidden = None
            weight.mask = Mask.full(weight.mask.shape, weight.mask.bits.device)
        self._fill({w.spec for w in self._weights.values()})

    @property
    def epoch_size(self) -> int | None:
        """Samples in one epoch; may be set when the data becomes known."""
        return self._clock.epoch_size

    @epoch_size.setter
    def epoch_size(self, samples: int | None) -> None:
        self._clock = replace(self._clock, epoch_size=_checked_epoch_size(samples, self._weights.values()))

    @property
    def masks(self) -> dict[str, Tensor]:
        """Parameter name -> bool tensor of its shape, True keeps."""
        return {name: weight.mask.to_bool() for name, weight in self._weights.items()}

    @property
    def sparsity(self) -> float:
        """The fraction of all prunable weights that is pruned now."""
        return self.report().sparsity

    def current_threshold(self, name: str) -> float:
        """The sparsity that the schedule asked for when this weight's mask was last filled."""
        if name not in self._weights:
            raise OptionError(f"name={name!r} is illegal: the pruned weights are {', '.join(self._weights)}")
        return self._weights[name].sparsity

    def report(self) -> Report:
        """The facts: every pruned weight, and what was left alone and why."""
        return Report(
            weights=tuple(
                WeightFacts(
                    name=w.name,
                    shape=tuple(w.mask.shape),
                    n_weights=w.mask.shape.numel() - getattr(w.spec.filler, "n_absent", 0),
                    n_kept=w.mask.n_kept,
                    threshold=w.sparsity,
                    filler=label(w.spec.filler),
                    schedule=label(w.spec.schedule),
                    bytes_dense=w.mask.shape.numel() * w.parameter.element_size(),
                )
                for w in self._weights.values()
            ),
            skipped=tuple((s.name, s.reason) for s in self.skipped),
        )

    def finalize(self) -> Report:
        """Let go: remove every hook and drop the hidden values. The model is plain, its pruned weights are +0.0.

        Whoever trains on from here trains them too. A second call changes nothing.
        """
        report = self.report()
        if self._finalized:
            return report
        self._finalized = True
        self._clear_moments(self._weights.values(), rest=False)
        for weight in self._weights.values():
            weight.hide_()
            weight.hidden = weight.memory = None
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._optimizers.clear()
        return report

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs beside the model's and the optimizer's own: clock, masks, hidden values.

        It holds numbers, text and tensors only, so `torch.load(weights_only=True)` reads it back.
        """
        return {
            "version": _VERSION,
            "samples": self._clock.samples,
            "steps": self._clock.steps,
            "weights": {
                name: {
                    "spec": repr(w.spec),
                    "sparsity": w.sparsity,
                    "bits": w.mask.bits.clone(),
                    "hidden": None if w.hidden is None else w.hidden.clone(),
                }
                for name, w in self._weights.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; load the model's own state too, before or after.

        Raises:
            StateError: it was made under another plan or for another model, or this pruner was finalized; nothing was
                changed.
        """
        self._check_active()
        saved = _checked_state(state, self._weights)
        self._clock = replace(self._clock, samples=state["samples"], steps=state["steps"])
        for name, weight in self._weights.items():
            entry, device = saved[name], weight.parameter.device
            weight.mask = Mask(entry["bits"].to(device, copy=True), weight.mask.shape)
            weight.sparsity = entry["sparsity"]
            weight.hidden = None if entry["hidden"] is None else entry["hidden"].to(device, copy=True)
            weight.mask.zero_pruned_(weight.parameter.data)

    def __getstate__(self) -> dict[str, Any]:
        # A copy, made together with the model and the optimizers, hangs its own hooks on them.
        return vars(self) | {"_hooks": [], "_watched": set()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if not self._finalized:
            self._watch_gradients()
            for optimizer in self._optimizers:
                self._watch_steps(optimizer)

    def _watch_gradients(self) -> None:
        """Mask the gradients of all weights that have some by now: frozen ones may thaw."""
        for name, weight in self._weights.items():
            if name not in self._watched and weight.parameter.requires_grad and weight.parameter.is_leaf:
                hook = weight.parameter.register_post_accumulate_grad_hook(weight.mask_gradient_)  # type: ignore[no-untyped-call] # torch's
                self._hooks.append(hook)
                self._watched.add(name)

    def _watch_steps(self, optimizer: Optimizer) -> None:
        self._hooks += [
            optimizer.register_step_pre_hook(self._before_optimizer),
            optimizer.register_step_post_hook(self._after_optimizer),
        ]

    def _check_active(self) -> None:
        if self._finalized:
            raise StateError("this Pruner was finalized and has let go of the model: make a new one")

    def _check_still_there(self) -> None:
        """Notice that parameters were replaced. DTensors are not looked for: FSDP swaps them back and forth."""
        present = {id(p) for p in self._model.parameters()}
        for name, weight in self._weights.items():
            if id(weight.parameter) not in present and type(weight.parameter) is nn.Parameter:
                raise StateError(
                    f"parameter {name!r} of the Pruner is no longer one of the model's: it was removed, or replaced"
                    " (by load_state_dict(assign=True), by tying, by a new layer?); make a new Pruner of the model"
                )

    @torch.no_grad()
    def _fill(self, specs: set[PruneSpec]) -> None:
        """Fill the masks of all weights that have one of these specs, at the sparsity of now."""
        for spec in specs:
            group = [w for w in self._weights.values() if w.spec == spec]
            sparsity = _wanted(spec, self._clock)
            with revealed(group):
                evidences = [self._evidence(w) for w in group]
                shares = spec.allocation(evidences, sparsity)
                masks = [_as_mask(spec.filler(e, s), e) for e, s in zip(evidences, shares, strict=True)]
                revived = [w for w, mask in zip(group, masks, strict=True) if mask.revives(w.mask)]
                self._clear_moments(revived, rest=False)
                for weight, mask in zip(group, masks, strict=True):
                    weight.mask, weight.sparsity = mask, sparsity
            self._clear_moments(group)

    def _evidence(self, weight: PrunedWeight) -> Evidence:
        # The draw depends on seed, name and time only: resumed and parallel runs draw the same.
        text = f"{weight.spec.seed}/{weight.name}/{self._clock.samples}"
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
        return Evidence(
            name=weight.name,
            weight=weight.parameter.detach(),
            mask=weight.mask,
            generator=torch.Generator().manual_seed(seed),
        )

    def _held_by(self, optimizer: Optimizer) -> list[PrunedWeight]:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return [w for w in self._weights.values() if id(w.parameter) in held]

    def _clear_moments(self, weights: Iterable[PrunedWeight], *, rest: bool = True) -> None:
        for weight in weights:
            for optimizer in self._optimizers:
                weight.clear_moments_(optimizer, rest=rest)

    @torch.no_grad()
    def _before_optimizer(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:  # noqa: ANN401 - torch's hook
        """Show the solver the hidden values, so that momentum and decay act on them; a closure still sees zeros."""
        parked = [w for w in self._held_by(optimizer) if w.spec.parks]
        for weight in parked:
            weight.reveal_()
        if not parked or ("closure" not in kwargs and len(args) < 2):  # noqa: PLR2004 - args[0] is the optimizer
            return None
        if "closure" in kwargs:
            return args, {**kwargs, "closure": hidden_during(parked, kwargs["closure"])}
        return (args[0], hidden_during(parked, args[1]), *args[2:]), kwargs

    @torch.no_grad()
    def _after_optimizer(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ANN401, ARG002 - torch's hook
        for weight in self._held_by(optimizer):
            weight.after_step_(optimizer)


def _wanted(spec: PruneSpec, clock: Clock) -> float:
    sparsity = spec.schedule(clock)
    if not 0 <= sparsity <= 1:
        raise OptionError(f"{spec.schedule} returned the sparsity {sparsity!r}: it must be a number in [0, 1]")
    return sparsity


def _as_mask(filled: Mask | Tensor, evidence: Evidence) -> Mask:
    """Accept what a filler returned, or say what is wrong with it."""
    if isinstance(filled, Mask) and filled.shape == evidence.weight.shape:
        return filled
    if isinstance(filled, Tensor) and filled.dtype == torch.bool and filled.shape == evidence.weight.shape:
        return Mask.from_bool(filled.to(evidence.weight.device))
    raise OptionTypeError(
        f"the filler returned {type(filled).__name__} for {evidence.name}: it must be a Mask or a bool tensor"
        f" of shape {tuple(evidence.weight.shape)}"
    )


def _checked_epoch_size(epoch_size: int | None, weights: Iterable[PrunedWeight]) -> int | None:
    if epoch_size is not None:
        check_count("epoch_size", epoch_size, low=1)
        return epoch_size
    for weight in weights:
        if getattr(weight.spec.schedule, "needs_epoch_size", False):
            raise OptionError(
                f"epoch_size=None is illegal: {label(weight.spec.schedule)} of {weight.name} counts epochs;"
                " give the number of samples in one epoch, a whole number >= 1"
            )
    return None


def _checked_state(state: Mapping[str, Any], weights: Mapping[str, PrunedWeight]) -> Mapping[str, dict[str, Any]]:
    if not isinstance(state, Mapping):
        raise OptionTypeError(f"state is a {type(state).__name__}: it must be what Pruner.state_dict() returned")
    if state.get("version") != _VERSION:
        raise StateError(f"version={state.get('version')!r} of the pruner's state is unknown: it must be {_VERSION}")
    if missing := {"samples", "steps", "weights"} - state.keys():
        raise StateError(f"the state is not whole: it lacks {', '.join(sorted(missing))}")
    saved = cast("Mapping[str, dict[str, Any]]", state["weights"])
    if saved.keys() != weights.keys():
        raise StateError(f"the state prunes {sorted(saved)}, this pruner {sorted(weights)}")
    for name, weight in weights.items():
        entry = saved[name]
        if missing := {"spec", "sparsity", "bits", "hidden"} - entry.keys():
            raise StateError(f"{name}: the state is not whole: it lacks {', '.join(sorted(missing))}")
        if entry["spec"] != repr(weight.spec):
            raise StateError(f"{name}: the state was made under {entry['spec']}, this pruner has {weight.spec!r}")
        if entry["bits"].shape != weight.mask.bits.shape:
            raise StateError(f"{name}: the saved mask does not fit a weight of shape {tuple(weight.mask.shape)}")
        n_hidden = Mask(entry["bits"], weight.mask.shape).n_pruned if weight.spec.parks else None
        if n_hidden != (None if entry["hidden"] is None else len(entry["hidden"])):
            raise StateError(f"{name}: the state holds the wrong number of hidden values")
    return saved
