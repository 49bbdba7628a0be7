"""remove_: units chosen by a criterion, and removed from all layers that have them."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunecell.allocation import shares_of
from prunecell.bits.mask import Mask
from prunecell.bits.order import Scores
from prunecell.criteria import Criterion, keys_of, n_gradients_of, needs_of
from prunecell.errors import OptionError, OptionTypeError, some, typed
from prunecell.evidence import Evidence, Ranking
from prunecell.fillers import Traits, exact_count
from prunecell.graph.tracing import Example, check_unwatched
from prunecell.memory import check_apart
from prunecell.names import check_undistributed, unwrapped
from prunecell.plan.resolve import Key, resolve
from prunecell.plan.spec import PruneSpec
from prunecell.pruning import Pruner
from prunecell.pruning.calibration import CalibrationBatches, Loss
from prunecell.pruning.hooks import pruned_by
from prunecell.schedules import Static
from prunecell.structured.coupled import Twin
from prunecell.structured.inputs import Inputs, others_of
from prunecell.structured.optimizers import carry_over_, check_optimizer, holding
from prunecell.structured.places import Coupled, tensors_of
from prunecell.structured.report import Removal
from prunecell.structured.resizing import resize_
from prunecell.structured.running import copied, shapes_of, unrandom
from prunecell.structured.spec import RemoveSpec
from prunecell.structured.ways import MOST, Going, Way, ways_of

_HALVINGS = 30  # of the interval in which the sparsity lies that reaches a goal of flops

Choices = Mapping[str, tuple[Tensor, Tensor]]
"""Root of a group -> (scores, units of each choice), the lowest first."""


def remove_(
    model: nn.Module,
    plan: RemoveSpec | Mapping[Key, RemoveSpec | None],
    example: Example,
    *,
    optimizer: Optimizer | None = None,
    batches: CalibrationBatches | None = None,
    loss: Loss | None = None,
) -> Removal:
    """Remove filters, channels, heads and hidden units; the model stays an ordinary one, with smaller layers.

    Units that are added to each other, as in a ResNet, go together. Heads go as a whole where an attention is made of
    linear layers, in a module with a number of heads (`num_heads` or the like); of `nn.MultiheadAttention` the width
    goes, alike in each head. Units that the model returns stay, and so do those that the plan leaves alone.

    Args:
        model: changed in place. What becomes smaller becomes a new Parameter, without gradient.
        plan: one spec, or as in a `Pruner`'s plan, from names and patterns to one spec, or None: units of these stay.
        example: a tensor, or the tuple of all inputs: what the model is run with, in training too. Nothing is learned
            from it, and statistics and random numbers stay as they are.
        optimizer: goes on with the new parameters, and with the moments of what stays. One that is not given holds the
            old parameters, and trains nothing of the model any more: make a new one. The report names such.
        batches: for a criterion that needs more than weights; see `Pruner.calibrate`.
        loss: with batches.

    Returns:
        What became smaller, and what was left, and why.

    Raises:
        OptionError: nothing can be removed; the goal cannot be reached; a Pruner, Quantizer or Sharing that is in use
            watches a weight; a weight lies in memory that another parameter has too; the model is wrapped for training
            by several processes; or the smaller model cannot be run, in evaluation or in training. Nothing was changed.
        StateError: a layer cannot become smaller. Nothing was changed.
        PlanError: the plan does not fit the model.

    >>> net = nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 2))
    >>> removal = remove_(net, RemoveSpec(flops=0.5), torch.zeros(1, 8))
    >>> net[0], removal.flops
    (Linear(in_features=8, out_features=10, bias=True), (400, 200))
    """
    check_undistributed(model, "made smaller")
    model, spec, plan = unwrapped(model), *_only_spec(plan)
    twin = Twin(model, example)
    scores = _scores(model, plan, spec.criterion, batches, loss)
    groups = [group for group in twin.groups if group.rows.keys() <= scores.keys()]
    left = twin.left | {g.root: "the plan leaves them alone" for g in twin.groups if g not in groups}
    if not groups:
        reasons = (
            some([f"{name}: {reason}" for name, reason in left.items()], between="; ")
            or "what it returns has no gradient"
        )
        raise OptionError(f"no unit of {type(model).__name__} can be removed: {reasons}")
    choices = {group.root: group.choices(scores) for group in groups}
    chosen = _chosen(model, spec, groups, choices, twin.n_positions)
    units = {root: choices[root][1][order].flatten() for root, order in chosen.items() if len(order)}
    before = _size(model, twin.n_positions)
    kept = twin.remove(units)
    _check(model, kept, example, optimizer)
    replaced = [tensor for name, tensor in tensors_of(model).items() if name in kept]
    _shrink_(model, kept, optimizer)
    after, n_samples = _size(model, twin.n_positions), _n_samples(example)
    return Removal(
        units={g.root: (g.n_units, g.n_units - len(units.get(g.root, ()))) for g in groups},
        left=left,
        n_parameters=(before[0], after[0]),
        flops=(2 * before[1] // n_samples, 2 * after[1] // n_samples),
        left_behind=holding(replaced),
    )


def _only_spec(plan: Any) -> tuple[RemoveSpec, Mapping[Key, RemoveSpec | None]]:  # noqa: ANN401 - from the user
    given = {"*": plan} if isinstance(plan, RemoveSpec) else plan
    if not isinstance(given, Mapping) or not all(isinstance(s, RemoveSpec | None) for s in given.values()):
        raise OptionTypeError(f"plan is {typed(plan)}: it must be a RemoveSpec, or a mapping from keys to one or None")
    specs = list({id(spec): spec for spec in given.values() if spec is not None}.values())
    if len(specs) != 1:
        raise OptionError(f"the plan has {len(specs)} specs: it must have one; its goal is that of the whole model")
    return specs[0], given


# ---- what goes -------------------------------------------------------------------------------------------------------


class _Listener:
    """A filler that prunes nothing and remembers the criterion's scores."""

    def __init__(self, criterion: Criterion) -> None:
        self._criterion = criterion
        self.scores: dict[str, Tensor] = {}

    @property
    def traits(self) -> Traits:
        """See `prunecell.fillers.Described`."""
        return Traits(needs=needs_of(self._criterion), n_gradients=n_gradients_of(self._criterion))

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:  # noqa: ARG002 - the form of a filler
        self.scores[evidence.name] = keys_of(self._criterion, evidence).scores()
        return evidence.mask


def _scores(
    model: nn.Module,
    plan: Mapping[Key, RemoveSpec | None],
    criterion: Criterion,
    batches: CalibrationBatches | None,
    loss: Loss | None,
) -> dict[str, Tensor]:
    """Name of a weight -> the scores of its elements. A Pruner collects what they need, and changes nothing."""
    listener = _Listener(criterion)
    spy = PruneSpec(schedule=Static(sparsity=0.0), filler=listener)
    spied = {key: None if spec is None else spy for key, spec in plan.items()}
    for target in resolve(model, spied)[0]:
        if pruned_by(target.parameter) is not None:
            raise OptionError(
                f"{target.name!r} cannot be made smaller: a Pruner that is in use holds it, and would not follow:"
                " finalize() that Pruner first, and make a new one afterwards"
            )
    pruner = Pruner(model, spied)
    try:
        if needs_of(criterion):
            if batches is None or loss is None:
                raise OptionError("the criterion needs more than the weights: give batches and loss, as to calibrate")
            pruner.calibrate(batches, loss)
        return listener.scores
    finally:
        pruner.finalize()


def _chosen(
    model: nn.Module, spec: RemoveSpec, groups: list[Coupled], choices: Choices, n_positions: Mapping[str, int]
) -> dict[str, Tensor]:
    """Root of a group -> which of its choices go."""
    orders = {root: scores.argsort(stable=True) for root, (scores, _) in choices.items()}

    def at(sparsity: float) -> dict[str, Tensor]:
        shares = shares_of(spec.allocation, [_evidence(g.root, choices[g.root][0]) for g in groups], sparsity)
        return {
            group.root: orders[group.root][: _count(group, choices[group.root][1], share, spec.multiple_of)]
            for group, share in zip(groups, shares, strict=True)
        }

    if spec.sparsity is not None:
        return at(spec.sparsity)

    def flops(chosen: Mapping[str, Tensor]) -> float:
        gone = {g.root: choices[g.root][1][chosen[g.root]].numel() for g in groups}
        lost: dict[tuple[str, bool], float] = {}
        for group in groups:
            for side, share in group.shares.items():
                lost[side] = lost.get(side, 0.0) + gone[group.root] * share
        return sum(
            n
            * _n_weights(model.get_submodule(name))
            * (1 - lost.get((name, False), 0))
            * (1 - lost.get((name, True), 0))
            for name, n in n_positions.items()
        )

    goal = (spec.flops or 0.0) * flops(at(0.0))
    low, high = 0.0, 1.0
    if flops(at(high)) > goal:
        least = flops(at(high)) / flops(at(low))
        raise OptionError(
            f"flops={spec.flops!r} cannot be reached: {least:.3g} stay when one unit of each group is left"
        )
    if flops(at(low)) <= goal:
        return at(low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if flops(at(middle)) <= goal else (middle, high)
    return at(high)


def _evidence(name: str, scores: Tensor) -> Evidence:
    """The scores of a group as an allocation sees them: in units of their mean, because layers have other scales."""
    mean = scores.abs().mean().clamp(min=torch.finfo(scores.dtype).tiny)
    return Evidence(
        name=name, weight=scores / mean, mask=Mask.full(scores.shape), generator=torch.Generator(), rank=_ranked
    )


def _ranked(evidence: Evidence) -> Ranking:
    return Ranking(keys=Scores(evidence.weight))


def _count(group: Coupled, units: Tensor, share: float, multiple_of: int) -> int:
    """How many choices go; at least one stays."""
    n = min(exact_count(share, len(units)), len(units) - 1)
    if group.n_units % multiple_of == 0:
        while (group.n_units - n * units.shape[1]) % multiple_of:
            n -= 1
    return n


# ---- what becomes smaller --------------------------------------------------------------------------------------------


def _check(model: nn.Module, kept: Mapping[str, Tensor], example: Example, optimizer: Optimizer | None) -> None:
    """Refuse what cannot be done; a copy is made smaller and run."""
    tensors = tensors_of(model)
    changing = {tensor: name for name in kept if isinstance(tensor := tensors[name], nn.Parameter)}
    for parameter, name in changing.items():
        check_unwatched(name, parameter, "made smaller")
    if optimizer is not None:
        check_optimizer(optimizer, changing)
    inputs = Inputs(example if isinstance(example, tuple) else (example,))
    check_apart(tensors, kept)
    with torch.no_grad(), unrandom(model):
        large = copied(model)
        runs = [run for i in (inputs, *others_of(inputs.values)) for run in _runs(large, i)]
        del large
        small = copied(model)
        _shrink_(small, kept, None)
        held = {name: tensor.shape for name, tensor in tensors_of(small).items()}
        for run in sorted(runs, key=lambda run: run.training):
            with Going(run.way):
                now = shapes_of(small, run.inputs.values, run.called, training=run.training)
            if now != run.shapes:
                what = f"the smaller model returns other shapes than the model{run.inputs.called}"
                raise OptionError(f"{what}: leave its last layers alone")
    if changed := [name for name, tensor in tensors_of(small).items() if tensor.shape != held.get(name)]:
        raise OptionError(
            f"{some(changed)} of the smaller model has another shape once it has run: it is of units, too"
        )


class _Run(NamedTuple):
    """A way that the model went, and the shapes of what it returned."""

    inputs: Inputs
    training: bool
    is_first: bool
    way: Way
    shapes: list[torch.Size]

    @property
    def called(self) -> str:
        """What a message calls the smaller model here."""
        if not self.is_first:
            why = "something reads its units where its code decides by values"
        elif self.inputs.called:
            why = f"something reads its units otherwise{self.inputs.called}"
        else:
            code = "a size is written in the model's code (not x.view(-1, 6272), but x.flatten(1) fits any size)"
            why = "something reads its units in training only" if self.training else code
        return f"the smaller model, because {why},"


def _runs(model: nn.Module, inputs: Inputs) -> Iterator[_Run]:
    """All ways with an example, and one with other inputs, if these can be run."""
    for training in (False, True):
        ways = ways_of(partial(shapes_of, model, inputs.values, training=training), 1 if inputs.called else MOST)
        try:
            for n, (way, shapes) in enumerate(ways):
                yield _Run(inputs, training, n == 0, way, shapes)
        except OptionError:
            if not inputs.called:
                raise


@torch.no_grad()
def _shrink_(model: nn.Module, kept: Mapping[str, Tensor], optimizer: Optimizer | None) -> None:
    before = tensors_of(model)
    parts = {name: before[name].detach().flatten()[index.to(before[name].device)] for name, index in kept.items()}
    resize_(model, {name: part.shape for name, part in parts.items()})
    after = tensors_of(model)
    for name, part in parts.items():
        after[name].data.copy_(part)
    if optimizer is not None:
        changed = [name for name in kept if isinstance(before[name], nn.Parameter)]
        carry_over_(optimizer, {before[name]: (after[name], kept[name]) for name in changed})  # type: ignore[misc]


def _n_weights(layer: Any) -> int:  # noqa: ANN401 - of several classes
    if isinstance(layer, nn.MultiheadAttention):
        projections = (layer.in_proj_weight, layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        return sum(p.numel() for p in (*projections, layer.out_proj.weight) if p is not None)
    return int(layer.weight.numel())


def _size(model: nn.Module, n_positions: Mapping[str, int]) -> tuple[int, int]:
    """(parameters, multiplications with weights)."""
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return n_parameters, sum(n * _n_weights(model.get_submodule(name)) for name, n in n_positions.items())


def _n_samples(example: Example) -> int:
    first = example[0] if isinstance(example, tuple) else example
    return max(len(first), 1) if isinstance(first, Tensor) and first.ndim else 1
