"""Holds: which Quantizer has a parameter, and which Pruner beside it.

A Pruner comes first: its hooks then see the true gradients, before the Quantizer puts others into their place.
"""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunecell.enforcement.gradients import on_gradient
from prunecell.errors import OptionError, StateError
from prunecell.pruning.hooks import pruned_by


@dataclass(frozen=True, eq=False)
class _Hold:
    """A hook on a parameter, by which others see who has it."""

    by: weakref.ref[object]

    def __call__(self, parameter: Tensor) -> None:
        """Nothing is done when a gradient comes."""


class Holds:
    """The parameters that one Quantizer has.

    Args:
        parameters: (name, parameter).

    Raises:
        OptionError: another Quantizer that exists and was not finalized has one, or a Pruner whose pruned weights may
            revive, which would come back rounded.
    """

    def __init__(self, parameters: Iterable[tuple[str, Tensor]]) -> None:
        self._parameters = dict(parameters)
        self._pruners: set[int] = set()
        self._handles: list[RemovableHandle] = []
        for name, parameter in self._parameters.items():
            hooks = getattr(parameter, "_post_accumulate_grad_hooks", None) or {}
            if any(isinstance(hook, _Hold) and hook.by() is not None for hook in hooks.values()):
                raise OptionError(
                    f"parameter {name!r} is held by another Quantizer, and one is all that it can have: finalize() that"
                    " one first (in a notebook: before the cell that makes it is run again)"
                )
            if (pruned := pruned_by(parameter)) is not None:
                if pruned.parks:
                    raise OptionError(
                        f"parameter {name!r} is held by a Pruner whose pruned weights may revive, and would be rounded"
                        " meanwhile: finalize() it first, or prune without reviving"
                    )
                self._pruners.add(id(pruned))

    def begin(self, holder: object) -> None:
        """Let others see that this Quantizer has the parameters."""
        hooks = (on_gradient(parameter, _Hold(weakref.ref(holder))) for parameter in self._parameters.values())
        self._handles = [hook for hook in hooks if hook is not None]

    def end(self) -> None:
        """Have them no longer."""
        while self._handles:
            self._handles.pop().remove()

    def check(self) -> None:
        """Refuse Pruners that came later and would not be right.

        Raises:
            StateError: one of a parameter sees gradients that are none of the loss, or would revive rounded weights.
        """
        for name, parameter in self._parameters.items():
            pruned = pruned_by(parameter)
            if pruned is not None and id(pruned) not in self._pruners and (pruned.parks or pruned.spec.needs):
                raise StateError(
                    f"the Pruner of {name!r} was made after the Quantizer, and would see gradients in units of steps:"
                    " make it before"
                )

    def __getstate__(self) -> dict[str, object]:
        return vars(self) | {"_handles": [], "_pruners": set()}
