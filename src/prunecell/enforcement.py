"""Enforcement: pruned weights stay +0.0, by hooks on the parameters and around the steps of optimizers.

A gradient is masked when it has accumulated, before anyone clips it or an optimizer sees it. Before a step the hidden
values that may come back stand in the parameters; after it the pruned weights are zeros again.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from prunecell.errors import OptionError, OptionTypeError
from prunecell.weight import PrunedWeight, hidden_during


class Enforcement:
    """The hooks of one Pruner.

    Args:
        weights: all that it prunes.
    """

    def __init__(self, weights: Sequence[PrunedWeight]) -> None:
        self._weights = tuple(weights)
        self._optimizers: list[Optimizer] = []
        self._hooks: list[Any] = []
        self._watched: set[str] = set()
        for weight in self._weights:
            weight.check_alone()

    def attach(self, optimizer: Optimizer) -> None:
        """Act around the steps of one more optimizer.

        Raises:
            OptionTypeError: it is no torch optimizer.
            OptionError: it holds none of the pruned weights, or is attached already.
        """
        if not isinstance(optimizer, Optimizer):
            raise OptionTypeError(f"optimizer is a {type(optimizer).__name__}: it must be a torch.optim.Optimizer")
        if any(optimizer is known for known in self._optimizers):
            raise OptionError(f"optimizer {type(optimizer).__name__} is attached already")
        held = self._held_by(optimizer)
        if not held:
            raise OptionError(
                f"optimizer {type(optimizer).__name__} holds none of the pruned weights: was it made of another model?"
            )
        self._optimizers.append(optimizer)
        self._watch_steps(optimizer)
        self.clear_moments(held, rest=True)

    def watch_gradients(self) -> None:
        """Mask the gradients of all weights that have some by now: frozen ones may thaw."""
        for weight in self._weights:
            if weight.name not in self._watched and weight.parameter.requires_grad and weight.parameter.is_leaf:
                hook = weight.parameter.register_post_accumulate_grad_hook(weight.mask_gradient_)  # type: ignore[no-untyped-call] # torch's
                self._hooks.append(hook)
                self._watched.add(weight.name)

    def clear_moments(self, weights: Iterable[PrunedWeight], *, rest: bool) -> None:
        """Reset what the optimizers remember of pruned weights.

        Args:
            weights: of which.
            rest: to what moments rest at; otherwise to 0, because these weights will be trained again.
        """
        for weight in weights:
            for optimizer in self._optimizers:
                weight.clear_moments_(optimizer, rest=rest)

    def zero_the_others_(self) -> None:
        """Zero the pruned weights that no attached optimizer holds, for there is no hook that does."""
        held = {id(p) for o in self._optimizers for g in o.param_groups for p in g["params"]}
        for weight in self._weights:
            if id(weight.parameter) not in held:
                weight.hide_()

    def end(self) -> None:
        """Remove every hook and forget the optimizers."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._watched.clear()
        self._optimizers.clear()

    def __getstate__(self) -> dict[str, Any]:
        # A copy, made together with the model and the optimizers, hangs its own hooks on them: see `begin_again`.
        return vars(self) | {"_hooks": [], "_watched": set()}

    def begin_again(self) -> None:
        """Hang the hooks of a copy on the copied model and optimizers."""
        self.watch_gradients()
        for weight in self._weights:
            weight.collector.watch_inputs()
        for optimizer in self._optimizers:
            self._watch_steps(optimizer)

    def _watch_steps(self, optimizer: Optimizer) -> None:
        self._hooks += [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def _held_by(self, optimizer: Optimizer) -> list[PrunedWeight]:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return [weight for weight in self._weights if id(weight.parameter) in held]

    @torch.no_grad()
    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:  # noqa: ANN401 - torch's hook
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
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ANN401, ARG002 - torch's hook
        for weight in self._held_by(optimizer):
            weight.after_step_(optimizer)
