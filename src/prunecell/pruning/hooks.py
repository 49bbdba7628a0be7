"""Enforcement: pruned weights stay +0.0, by hooks on the parameters and around the steps of optimizers.

A gradient is masked when it has accumulated, before anyone clips it, and once more before a step if it came by another
way or was changed. Before a step the hidden values that may come back stand in the parameters; after it +0.0 is written
over every pruned weight: all of them, after every step, because nothing that is cheaper to look at proves that they are
zeros (a gradient can be changed through `.data`, moments can be loaded, a weight can be written to).
"""

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunecell.enforcement.gradients import hooks_on, on_gradient
from prunecell.enforcement.levels import parameters_of
from prunecell.enforcement.stepping import Watches
from prunecell.enforcement.steps import Steps
from prunecell.errors import OptionError
from prunecell.pruning.weight import PrunedWeight


class Enforcement:
    """The hooks of one Pruner. They keep the weights zero, and not the Pruner alive.

    Args:
        weights: all that it prunes.
        pruner: its zeros are kept when it is gone, until another Pruner takes the weights over.

    Attributes:
        steps: of the optimizers.

    Raises:
        OptionError: another Pruner, neither finalized nor gone, holds one of the weights.
    """

    def __init__(self, weights: Sequence[PrunedWeight], pruner: object) -> None:
        self._weights = {weight.name: weight for weight in weights}
        self._pruner: weakref.ref[object] | None = weakref.ref(pruner)
        self._watches = Watches("pruned weights")
        self.steps = Steps()
        self._hooks: dict[str, RemovableHandle] = {}
        for weight, hook in self._maskings_of_others():
            if hook.by.is_live:
                raise OptionError(
                    f"parameter {weight.name!r} is held by another Pruner, and one is all that it can have: finalize()"
                    " that one first (in a notebook: before the cell that makes it is run again)"
                )

    @property
    def is_live(self) -> bool:
        """Whether its Pruner exists."""
        return self._pruner is not None and self._pruner() is not None

    def attach(self, optimizer: Any) -> None:  # noqa: ANN401 - optimizers come in wrappers
        """Act around the steps of one more optimizer, and of all that it wraps.

        Raises:
            OptionTypeError: it is no optimizer and wraps none.
            OptionError: it holds none of the pruned weights, or is attached already.
        """
        self._watches.add(self, optimizer, self._parameters)
        self.clear_moments(self._held_by(optimizer), rest=True)

    def watch_gradients(self) -> None:
        """Mask gradients as they accumulate, those of frozen weights too: they may thaw."""
        for weight in self._weights.values():
            if weight.name not in self._hooks:
                hook = on_gradient(weight.parameter, _Masking(weight, self))
                if hook is not None:
                    self._hooks[weight.name] = hook

    def take_over(self) -> None:
        """End what Pruners that are gone have left on these weights."""
        for _, hook in list(self._maskings_of_others()):
            if not hook.by.is_live:
                hook.by.release(hook.weight)

    def release(self, weight: PrunedWeight) -> None:
        """Hold one weight no longer."""
        self._hooks.pop(weight.name).remove()
        del self._weights[weight.name]
        weight.collector.forget()
        if not self._weights:
            self.end()

    def clear_moments(self, weights: Iterable[PrunedWeight], *, rest: bool) -> None:
        """Reset what the optimizers remember of pruned weights.

        Args:
            weights: of which.
            rest: to what moments rest at; otherwise to 0, because these weights will be trained again.
        """
        # A wrapper may show the state of what it wraps, which comes after it and is the class that uses the state.
        states = {id(state): (type(level), state) for level in self._watches.levels for state in [_state_of(level)]}
        for weight in weights:
            for of, state in states.values():
                weight.clear_moments_(state.get(weight.parameter), of=of, rest=rest)

    @torch.no_grad()
    def zero_all_(self) -> None:
        """Zero all pruned weights, those too that an attached optimizer has just stepped.

        Weights are written to after a step (noise, slow weights, a checkpoint), also through `.data`, which torch does
        not count, so nothing proves that the zeros of the step are still there.
        """
        for weight in self._weights.values():
            weight.hide_()

    def end(self) -> None:
        """Remove every hook and forget the optimizers."""
        self._watches.end()
        for hook in self._hooks.values():
            hook.remove()
        self._hooks.clear()
        self._pruner = None

    # ---- around a step, as `stepping.Watcher` says

    @torch.no_grad()
    def before_step(self, optimizer: Any) -> None:  # noqa: ANN401
        """Show the solver masked gradients, and the hidden values, so that momentum and decay act on them."""
        self.steps.count(optimizer)
        for weight in self._held_by(optimizer):
            weight.check_gradient_()
            weight.reveal_()
            if not self.is_live:
                weight.collector.forget()  # nobody will fill masks again

    @torch.no_grad()
    def after_step(self, optimizer: Any) -> None:  # noqa: ANN401
        """Undo what the optimizer did to the pruned weights, whatever optimizer it is and whatever it was given."""
        for weight in self._held_by(optimizer):
            weight.hide_()

    def around_closure(self, optimizer: Any, closure: Callable[..., Any]) -> Callable[..., Any]:  # noqa: ANN401
        """A closure that evaluates the pruned model, though the optimizer that calls it works on hidden values."""

        @functools.wraps(closure)
        def evaluate(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            held = self._held_by(optimizer)
            with torch.no_grad():
                for weight in held:
                    weight.hide_()
            with torch.enable_grad():
                loss = closure(*args, **kwargs)
            with torch.no_grad():
                for weight in held:
                    weight.check_gradient_()
                    weight.reveal_()
            return loss

        return evaluate

    # ---- copies

    def __getstate__(self) -> dict[str, Any]:
        # A copy, made together with the model and the optimizers, hangs its own hooks on them: see `begin_again`.
        return vars(self) | {"_pruner": None, "_hooks": {}, "steps": Steps()}

    def begin_again(self, pruner: object) -> None:
        """Hang the hooks of a copy on the copied model and optimizers. A shallow copy of a Pruner has this one's."""
        if self._pruner is not None:
            return
        self._pruner = weakref.ref(pruner)
        self._watches.begin_again(self, self._parameters)
        self.watch_gradients()

    @property
    def _parameters(self) -> list[Tensor]:
        return [weight.parameter for weight in self._weights.values()]

    def _held_by(self, optimizer: object) -> list[PrunedWeight]:
        held = parameters_of(optimizer)
        return [weight for weight in self._weights.values() if id(weight.parameter) in held]

    def _maskings_of_others(self) -> "Iterator[tuple[PrunedWeight, _Masking]]":
        for weight in self._weights.values():
            yield from ((weight, hook) for hook in hooks_on(weight.parameter, _Masking) if hook.by is not self)


@dataclass(frozen=True, eq=False)
class _Masking:
    """The hook on a parameter that masks its gradients, and by which others see who prunes it."""

    weight: PrunedWeight
    by: Enforcement

    def __call__(self, parameter: Tensor) -> None:  # noqa: ARG002 - torch's hook
        self.weight.take_gradient_()


def pruned_by(parameter: Tensor) -> PrunedWeight | None:
    """How a Pruner that exists and was not finalized prunes a parameter; None if none does."""
    return next((hook.weight for hook in hooks_on(parameter, _Masking) if hook.by.is_live), None)


def _state_of(optimizer: object) -> Mapping[Any, Any]:
    state = getattr(optimizer, "state", None)
    return state if isinstance(state, Mapping) else {}
