"""Rewinding: after each round of pruning the weights, or the learning rate, go back to where they were early on."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from prunecell.checks import check_count, check_mapping
from prunecell.errors import OptionError, OptionTypeError, StateError, typed
from prunecell.kinds import COUNT, MAPPING, SHARE, check_fields, check_names, check_version, optional
from prunecell.pruning import Pruner
from prunecell.training.rehearsal import check_groups

_VERSION = 1
_STATE_OF = "the state of the rewinding"
_STATE = {"version": COUNT, "sparsity": SHARE, "early": optional(MAPPING)}


class Rewind:
    """Takes the state of a run early on, and goes back to it whenever the pruner has pruned more.

    The masks of then stay. With the schedule `Iterative` the run finds a lottery ticket: the first weights, or those
    after some steps, under the last masks (Frankle & Carbin 2019, https://arxiv.org/abs/1803.03635; Frankle 2020,
    https://arxiv.org/abs/1912.05671). With weights=False the weights and moments go on, and only the settings of the
    optimizer and what stands beside start over: learning-rate rewinding (Renda 2020, https://arxiv.org/abs/2003.02389).

    Call `step` after each `Pruner.step`. A run that is to be resumed saves `state_dict` with the others.

    Args:
        pruner: of the model.
        model: the whole model goes back: biases and BatchNorm's statistics too.
        optimizer: of its parameters.
        beside: name -> what else goes back, with a state_dict: a scheduler of learning rates.
        at: >= 0, the step of the pruner after which the early state is taken; 0: now. Give a schedule with rounds the
            same as `begin`, in steps.
        weights: whether weights and moments go back too.

    Raises:
        OptionError: the pruner is past step `at`, or of another model (a copy is another one); or a name beside is
            taken.
        OptionTypeError: one of them is of another kind, or has no state.

    >>> import torch
    >>> from prunecell import PruneSpec
    >>> from prunecell.schedules import Iterative
    >>> net = nn.Linear(10, 10)
    >>> first, optimizer = net.weight.detach().clone(), torch.optim.SGD(net.parameters(), lr=0.1)
    >>> pruner = Pruner(net, PruneSpec(schedule=Iterative(sparsity=0.5, fraction=0.5, steps=3)), optimizer=optimizer)
    >>> rewind = Rewind(pruner, model=net, optimizer=optimizer)
    >>> for _ in range(3):
    ...     net(torch.randn(4, 10)).square().mean().backward()
    ...     optimizer.step()
    ...     pruner.step(4)
    ...     went_back = rewind.step()
    >>> went_back, torch.equal(net.weight, first * pruner.masks["weight"])
    (True, True)
    """

    def __init__(
        self,
        pruner: Pruner,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        beside: Mapping[str, Any] | None = None,
        at: int = 0,
        weights: bool = True,
    ) -> None:
        if not isinstance(pruner, Pruner):
            raise OptionTypeError(f"pruner is {typed(pruner)}: it must be a Pruner")
        check_mapping("beside", beside or {}, "a mapping from names to what has a state_dict")
        check_count("at", at)
        if at < pruner.steps:
            raise OptionError(f"at={at} is illegal: the pruner has made {pruner.steps} steps already")
        self._parts = {"model": model, "optimizer": optimizer, **(beside or {})}
        if taken := {"model", "optimizer"} & (beside or {}).keys():
            raise OptionError(f"beside has {min(taken)!r}, which is an argument of its own: call it otherwise")
        for name, part in self._parts.items():
            if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
                raise OptionTypeError(f"{name} is {typed(part)}: it must have a state_dict and a load_state_dict")
        if not (isinstance(model, nn.Module) and pruner.prunes(model)):
            raise OptionError("model is another one than that of the pruner, and what is pruned would not go back")
        self._pruner, self._at, self._weights = pruner, at, weights
        self._sparsity = pruner.sparsity
        self._early = self._now() if at == pruner.steps else None

    def step(self) -> bool:
        """Take the early state where it is time, and go back to it where the pruner has pruned more.

        Returns:
            Whether the run has gone back.

        Raises:
            StateError: weights were pruned before the early state was taken.
        """
        if self._early is None and self._pruner.steps >= self._at:
            self._early = self._now()
        if self._pruner.sparsity <= self._sparsity:
            return False
        if self._early is None:
            raise StateError(
                f"weights were pruned at step {self._pruner.steps}, before step {self._at}, to whose state they are to"
                " go back: let the schedule begin there"
            )
        self._sparsity = self._pruner.sparsity
        self._go_back(self._early)
        return True

    def state_dict(self) -> dict[str, Any]:
        """The early state, and the sparsity of now."""
        return {"version": _VERSION, "sparsity": self._sparsity, "early": deepcopy(self._early)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`.

        Raises:
            StateError: it is of other parts, or does not fit them; nothing was changed.
        """
        check_version(state, _VERSION, _STATE_OF)
        check_fields(state, _STATE, _STATE_OF)
        if state["early"] is not None:
            _check_early(state["early"], self._now())
        self._sparsity, self._early = state["sparsity"], deepcopy(state["early"])

    def _now(self) -> dict[str, Any]:
        """The states of all that goes back, as copies."""
        states = {name: deepcopy(part.state_dict()) for name, part in self._parts.items()}
        if not self._weights:
            del states["model"]
            states["optimizer"]["state"] = {}
        return states

    def _go_back(self, early: Mapping[str, Any]) -> None:
        optimizer = self._parts["optimizer"]
        for name, state in early.items():
            if name == "optimizer" and not self._weights:
                for group, then in zip(optimizer.param_groups, deepcopy(state["param_groups"]), strict=True):
                    group.update({key: value for key, value in then.items() if key != "params"})
            else:
                self._parts[name].load_state_dict(deepcopy(state))
        self._pruner.zero_pruned_()


def _check_early(early: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse an early state that could not be gone back to."""
    check_names(early, now, _STATE_OF)
    for name, state in early.items():
        if not isinstance(state, Mapping):
            raise StateError(f"{name} in {_STATE_OF} is {typed(state)}: it must be a mapping")
    check_groups(early["optimizer"], now["optimizer"])
    if "model" in early:
        check_names(early["model"], now["model"], f"the model in {_STATE_OF}")
        for name, own in now["model"].items():
            given = early["model"][name]
            if isinstance(own, Tensor) and not (
                isinstance(given, Tensor) and given.shape == own.shape and given.dtype == own.dtype
            ):
                raise StateError(f"{name} of the model in {_STATE_OF} must be {own.dtype} of shape {tuple(own.shape)}")
