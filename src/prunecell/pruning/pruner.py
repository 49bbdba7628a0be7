"""Pruner: keeps the pruned weights of a model at +0.0 while it trains, and prunes more as time goes by.

The model stays as it is: no module and no parameter is wrapped or renamed. Hooks do the work, on the parameters
(gradients are masked as they accumulate) and on the optimizers (before and after each step).
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from prunecell.bits.mask import Mask
from prunecell.checks import check_count, check_mapping
from prunecell.collect import Collector
from prunecell.described import shown
from prunecell.enforcement.keeping import check_still_there, checked_epoch_size, missing_in
from prunecell.errors import OptionError, OptionTypeError, StateError, UnfinishedWarning, nearest, quoted
from prunecell.plan import Plan, Target, resolve
from prunecell.plan.spec import PruneSpec
from prunecell.pruning.calibration import Calibration, CalibrationBatches, Loss, rounds_of
from prunecell.pruning.group import fill, groups_of
from prunecell.pruning.hooks import Enforcement
from prunecell.pruning.normed import n_starved
from prunecell.pruning.reach import check_end
from prunecell.pruning.state import SUMS, check_state, state_of
from prunecell.pruning.unfinished import in_words, missed, waiting
from prunecell.pruning.weight import REST_EVERY, PrunedWeight
from prunecell.report.facts import Report, WeightFacts
from prunecell.schedules import Clock, counts_epochs


class Pruner:
    """Prunes the weights of a model, at once and as training goes on.

    Args:
        model: any module; it is pruned to the schedule's first sparsity at once.
        plan: a `Plan`, or one `PruneSpec` for all that is pruned by default: matrices and kernels.
        optimizer: the optimizer of the pruned weights, or what wraps it; more by `attach`.
        epoch_size: samples in one epoch, for schedules that count epochs.

    Raises:
        PlanError: the plan does not fit the model.
        OptionError: a schedule counts epochs and `epoch_size` is missing; its last sparsity is more than allocation or
            filler can give; a weight lies in memory that another parameter has too; or another pruner that is in use
            holds one of the weights: it exists and was not finalized. Whatever is raised, nothing was changed.

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
        self._weights = {target.name: _weight(target, model) for target in targets}
        specs = [plan] if isinstance(plan, PruneSpec) else [spec for spec in plan.values() if spec is not None]
        self._groups = groups_of(self._weights.values(), specs)
        for group in self._groups:
            check_end(group.spec, {weight.name: weight.parameter.shape for weight in group.weights})
        self._clock = Clock(epoch_size=checked_epoch_size(epoch_size, _counting(self._weights.values())))
        self._n_samples: int | None = None  # of the last step; as many are expected in the next
        self._model, self._finalized = model, False
        self._enforcement = Enforcement([*self._weights.values()], self)
        try:
            if optimizer is not None:
                self.attach(optimizer)
            self._enforcement.watch_gradients()
            self._update()
            self._enforcement.take_over()
        except BaseException:
            for weight in self._weights.values():
                weight.collector.forget()
            self._enforcement.end()  # a Pruner that was never made holds nothing
            raise

    def __repr__(self) -> str:
        state = ", finalized" if self._finalized else ""
        n = len(self._weights)
        return (
            f"<Pruner of {n} weight{'s' * (n != 1)}, {self.sparsity:.2%} pruned at step {self._clock.steps:,}{state}>"
        )

    def attach(self, optimizer: Optimizer) -> None:
        """Act around the steps of one more optimizer, and of all that it wraps.

        Raises:
            OptionTypeError: it is no optimizer.
            OptionError: it holds none of the pruned weights, or is attached already.
            StateError: this pruner was finalized.
        """
        self._check_active()
        self._enforcement.attach(optimizer)

    def step(self, n_samples: int) -> None:
        """Advance the clock by one optimizer step over `n_samples` >= 1 samples, and prune more where it is time.

        Raises:
            StateError: this pruner was finalized, or a weight is no longer the model's.
            OptionError: the step is of more samples than an epoch. Nothing was changed.
        """
        self._check_active()
        check_count("n_samples", n_samples, low=1)
        check_still_there(self._model, self._parameters, "Pruner")
        clock = self._clock.stepped(int(n_samples))  # a numpy integer would not be read back from a state
        self._enforcement.steps.tell()
        self._enforcement.watch_gradients()
        self._enforcement.zero_all_()
        self._clock, self._n_samples = clock, int(n_samples)
        for group in self._groups:
            group.end_step()
        self._update()
        if self._clock.steps % REST_EVERY == 1:
            self._enforcement.clear_moments(self._weights.values(), rest=True)

    def calibrate(self, batches: CalibrationBatches, loss: Loss, *, rounds: int = 1) -> None:
        """Fill at once, on what some batches tell, the masks whose criteria need more than the weights.

        No step of training is made. The batches run through the model as it is, in its mode (train or eval; SynFlow
        always in eval). Gradients, buffers such as BatchNorm's statistics, and the clock stay as they are; of
        optimizers only the moments of what is pruned are cleared. GraSP and SynFlow get what they need in no other way.

        Args:
            batches: pairs (inputs, targets): inputs is a tensor, or a tuple of what the model takes. With more than one
                round, and for GraSP, they are run through several times, so no iterator will do.
            loss: (outputs, targets) -> a scalar tensor; it is not called where no criterion needs gradients.
            rounds: >= 1, in each of which the same fraction of what is left is pruned, down to the sparsity s of now:
                where nothing was pruned before, round k prunes to 1 - (1 - s)^(k / rounds). Each looks at what the
                batches tell of the model that the round before left. Weights may come back in between where the filler
                revives.

        Raises:
            OptionError: no criterion needs anything; there are no batches, or they can be read once only; a loss or
                gradient is not finite, or does not depend on a weight; or a criterion does not work for the model.
                Nothing was changed.
            OptionTypeError: a batch is no pair, the loss is no function, or it returned no scalar.
            StateError: this pruner was finalized, or a weight is no longer the model's.

        >>> from prunecell import Lowest, Static, global_ranking
        >>> from prunecell.criteria import synflow
        >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> spec = PruneSpec(
        ...     schedule=Static(sparsity=0.9), filler=Lowest(criterion=synflow), allocation=global_ranking
        ... )
        >>> pruner = Pruner(net, spec)
        >>> pruner.calibrate([(torch.randn(1, 8), torch.tensor([0]))], nn.functional.cross_entropy, rounds=100)
        >>> round(pruner.sparsity, 2)
        0.9
        """
        self._check_active()
        check_count("rounds", rounds, low=1)
        groups = [group for group in self._groups if group.spec.needs]
        if not groups:
            raise OptionError("there is nothing to calibrate: no criterion of this plan needs more than the weights")
        weights = [weight for group in groups for weight in group.weights]
        calibration = Calibration(self._model, weights, batches, loss, rounds)
        check_still_there(self._model, self._parameters, "Pruner")
        self._enforcement.watch_gradients()
        self._enforcement.zero_all_()
        before = {weight.name: weight.mask for weight in weights}
        begun = [group.density for group in groups]
        try:
            with torch.no_grad(), rounds_of(weights):
                for done in range(1, rounds + 1):
                    calibration.collect()
                    now = [
                        g.on_the_way(self._clock, begun=d, part=done / rounds)
                        for g, d in zip(groups, begun, strict=True)
                    ]
                    fill(groups, self._clock, _leave_moments, sparsities=now)
        finally:
            self._prepare()
        revived = [weight for weight in weights if weight.mask.revives(before[weight.name])]
        self._enforcement.clear_moments(revived, rest=False)
        self._enforcement.clear_moments(weights, rest=True)

    def refill(self) -> None:
        """Fill every mask afresh, on the weights that are there now: after an import of other weights, say.

        Where the criterion needs gradients or inputs, the weight is dense until the end of the next step. If a
        schedule, filler or allocation fails, the masks stay as they were.
        """
        self._check_active()
        weights = [*self._weights.values()]
        before = [(w.mask, w.hidden, w.update, w.target_sparsity) for w in weights]
        self._enforcement.clear_moments(weights, rest=False)
        try:
            for weight in weights:
                weight.hidden, weight.update, weight.target_sparsity = None, None, 0.0
                weight.mask = Mask.full(weight.mask.shape, weight.mask.bits.device)
                weight.collector.forget()
            self._update()
        except BaseException:
            for weight, then in zip(weights, before, strict=True):
                weight.mask, weight.hidden, weight.update, weight.target_sparsity = then
            self._enforcement.clear_moments(weights, rest=True)
            raise

    @torch.no_grad()
    def set_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Go on with masks from outside, until the next update is due: a lottery ticket's, another program's.

        The weights are taken as they stand in the model now: what the masks prune becomes zero, what they keep stays.

        Args:
            masks: name of a pruned weight -> bool tensor of its shape, True keeps; all of them or some.

        Raises:
            OptionError: a name is none of the pruned weights', or a mask has another shape, or prunes all of a slice
                whose norm the layer divides by (weight norm).
            OptionTypeError: masks is no mapping, or a mask no bool tensor. Nothing was changed.
            StateError: this pruner was finalized.
        """
        self._check_active()
        check_mapping("masks", masks, "a mapping from names of weights to bool tensors")
        packed = {name: self._packed(name, keep) for name, keep in masks.items()}
        fillings = [group.given(packed, self._clock) for group in self._groups]
        self._enforcement.clear_moments((self._weights[name] for name in packed), rest=False)
        for filling in fillings:
            filling.put(self._enforcement.clear_moments)
            for weight in filling.weights:
                weight.take_as_it_stands_()
                weight.collector.end()
        self._enforcement.clear_moments((self._weights[name] for name in packed), rest=True)

    @torch.no_grad()
    def zero_pruned_(self) -> None:
        """Apply the masks of now to the weights of now: after weights were rewound, or loaded, or merged.

        The masks stay; `refill` makes others. Where weights may revive, the values that stand in the model are what
        the masks hide from now on.

        Raises:
            StateError: this pruner was finalized.
        """
        self._check_active()
        for weight in self._weights.values():
            weight.take_as_it_stands_()
        self._enforcement.clear_moments(self._weights.values(), rest=True)

    @property
    def steps(self) -> int:
        """How many steps it has made."""
        return self._clock.steps

    @property
    def epoch_size(self) -> int | None:
        """Samples in one epoch; may be set when the data becomes known."""
        return self._clock.epoch_size

    @epoch_size.setter
    def epoch_size(self, samples: int | None) -> None:
        self._clock = replace(self._clock, epoch_size=checked_epoch_size(samples, _counting(self._weights.values())))

    @property
    def masks(self) -> dict[str, Tensor]:
        """Parameter name -> bool tensor of its shape, True keeps."""
        return {name: weight.mask.to_bool() for name, weight in self._weights.items()}

    @property
    def sparsity(self) -> float:
        """The fraction of all prunable weights that is pruned now."""
        n_pruned = sum(weight.n_weights - weight.mask.n_kept for weight in self._weights.values())
        return n_pruned / max(sum(weight.n_weights for weight in self._weights.values()), 1)

    def target_sparsity(self, name: str) -> float:
        """The sparsity that the schedule asked for when this weight's mask was last filled; 0 before.

        After `set_masks` it is the fraction that those masks prune.

        Raises:
            OptionError: no pruned weight has this name.
        """
        return self._named(name).target_sparsity

    def prunes(self, model: nn.Module) -> bool:
        """Whether the pruned weights are this model's, or that of one in a wrapper: not those of a copy."""
        return not any(missing_in(model, self._parameters))

    def report(self) -> Report:
        """The facts: every pruned weight, what it waits for, and what was left alone and why."""
        late = waiting(self._groups, self._clock)
        return Report(
            weights=tuple(
                WeightFacts(
                    name=w.name,
                    shape=tuple(w.mask.shape),
                    n_weights=w.n_weights,
                    n_kept=w.mask.n_kept,
                    target_sparsity=w.target_sparsity,
                    filler=shown(w.spec.filler),
                    schedule=shown(w.spec.schedule),
                    bytes_dense=w.mask.shape.numel() * w.parameter.element_size(),
                    waits_for=in_words(late[w.name]) if w.name in late else "",
                )
                for w in self._weights.values()
            ),
            n_parameters=self._n_parameters(),
            skipped=tuple((s.name, s.reason) for s in self.skipped),
        )

    def finalize(self, *, early: bool = False) -> Report:
        """Let go: remove every hook and drop the hidden values. The model is plain, its pruned weights are +0.0.

        Whoever trains on from here trains them too. A second call changes nothing.

        Args:
            early: whether it is meant to let go before the end, so that nothing is to be said of it.

        Warns:
            UnfinishedWarning: a schedule has not come to its end, or a weight still waits for what its criterion needs.
        """
        report = self.report()
        if self._finalized:
            return report
        miscounted = self._clock.miscounted if any(_counting(self._weights.values())) else ""
        untold = self._enforcement.steps.untold("pruner", n_counted=self._clock.steps) or miscounted
        if not early and (told := missed(self._groups, self._clock, untold)):
            warnings.warn(f"the pruning is not done: {told}", UnfinishedWarning, stacklevel=2)
        self._finalized = True
        self._enforcement.clear_moments(self._weights.values(), rest=False)
        for weight in self._weights.values():
            weight.hide_()
            weight.hidden = weight.memory = None
            weight.collector.forget()
        self._enforcement.end()
        return report

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs beside the model's and the optimizer's own: clock, masks, hidden values.

        It holds numbers, text and tensors only, so `torch.load(weights_only=True)` reads it back. The pruned weights of
        the model are zeroed first, and with them those of a `model.state_dict()` that was taken before, because it
        shares the model's memory.
        """
        if not self._finalized:
            with torch.no_grad():
                for weight in self._weights.values():
                    weight.hide_()
        return state_of(self._clock, self._n_samples, self._groups)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; load the model's own state too, before or after.

        Raises:
            StateError: it was made under another plan or for another model, or this pruner was finalized; nothing was
                changed.
        """
        self._check_active()
        saved = check_state(state, self._groups)
        self._clock = replace(self._clock, samples=state["samples"], steps=state["steps"])
        self._n_samples = state["n_samples"]
        for name, weight in self._weights.items():
            entry, device = saved[name], weight.parameter.device
            weight.mask = Mask(entry["bits"].to(device, copy=True), weight.mask.shape)
            weight.target_sparsity, weight.update = entry["target_sparsity"], entry["update"]
            weight.hidden = None if entry["hidden"] is None else entry["hidden"].to(device, copy=True)
            weight.mask.zero_pruned_(weight.parameter.data)
            weight.collector.forget()
            weight.collector.gradients.take(
                *(None if entry[name] is None else entry[name].to(device, copy=True) for name in SUMS)
            )
        self._prepare()

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if not self._finalized:
            self._enforcement.begin_again(self)

    def _n_parameters(self) -> int:
        """Numbers in all parameters of the model; what a filler calls absent does not count, as in `sparsity`."""
        sizes = [p.numel() for p in self._model.parameters() if not isinstance(p, UninitializedParameter)]
        return sum(sizes) - sum(w.mask.shape.numel() - w.n_weights for w in self._weights.values())

    def _check_active(self) -> None:
        if self._finalized:
            raise StateError("this Pruner was finalized and has let go of the model: make a new one")

    @property
    def _parameters(self) -> dict[str, nn.Parameter]:
        return {name: weight.parameter for name, weight in self._weights.items()}

    @torch.no_grad()
    def _update(self) -> None:
        """Fill the masks of all weights for which it is time, as far as what they need was collected."""
        due = [group for group in self._groups if group.is_due(self._clock) and group.is_ready(self._clock)]
        if due:
            fill(due, self._clock, self._enforcement.clear_moments)
        self._prepare()

    def _prepare(self) -> None:
        for group in self._groups:
            group.prepare(self._clock, self._n_samples)

    def _named(self, name: str) -> PrunedWeight:
        if name not in self._weights:
            raise OptionError(f"name={quoted(name)} is illegal: no pruned weight has it{nearest(name, self._weights)}")
        return self._weights[name]

    def _packed(self, name: str, keep: Tensor) -> Mask:
        weight = self._named(name)
        shape, device = weight.mask.shape, weight.parameter.device
        if not isinstance(keep, Tensor) or keep.dtype != torch.bool:
            kind = keep.dtype if isinstance(keep, Tensor) else type(keep).__name__
            raise OptionTypeError(f"the mask of {name} is illegal: it must be a bool tensor, not {kind}")
        if keep.shape != shape:
            raise OptionError(f"the mask of {name} is illegal: its shape is {tuple(keep.shape)}, not {tuple(shape)}")
        mask = Mask.from_bool(keep.to(device))
        if weight.normed is not None and (n := n_starved(mask, weight.parameter, weight.normed)):
            raise OptionError(
                f"the mask of {name} is illegal: it prunes all of {n} slices whose norm the layer divides by, so the"
                " outputs would be NaN; keep a weight in each, or remove the norm before pruning"
            )
        return mask


def _leave_moments(weights: Iterable[PrunedWeight], *, rest: bool) -> None:
    """Between the rounds of a calibration, which may fail yet."""


def _weight(target: Target, model: nn.Module) -> PrunedWeight:
    """The weight of a target, with nothing pruned yet."""
    parameter, spec = target.parameter, target.spec
    collector = Collector.of(spec.needs, target.owner, model, spec.n_gradients)
    collector.check(target.name, parameter)
    mask = Mask.full(parameter.shape, parameter.device)
    return PrunedWeight(target.name, parameter, spec, mask, collector, normed=target.normed)


def _counting(weights: Iterable[PrunedWeight]) -> Iterator[str]:
    """The schedules that count epochs."""
    return (f"{shown(w.spec.schedule)} of {w.name}" for w in weights if counts_epochs(w.spec.schedule))
