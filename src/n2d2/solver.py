"""Solvers: N2D2's SGD and Adam as settings, and one torch optimizer that steps all cells by them.

With g the gradient of the loss averaged over the batch (torch's), N2D2's SGD is

    M = momentum M - rate g - rate decay W;    W = W + M

The rate is inside M: after a change of it, torch.optim.SGD would go on otherwise.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, overload

import torch
from torch import Tensor, nn

from n2d2.checked import Declared
from n2d2.error_handler import WrongValue, no_such_name
from n2d2.fields import checked_by, choice, count, flag, number

Settings = Mapping[str, Any]

POLICIES: dict[str, Callable[[Settings, int, int], Any]] = {
    "None": lambda s, samples, updates: 1.0,  # noqa: ARG005 - the form of a policy
    "StepDecay": lambda s, samples, updates: s["learning_rate_decay"] ** _steps(s, samples),  # noqa: ARG005
    "ExponentialDecay": lambda s, samples, updates: math.exp(-s["learning_rate_decay"] * _steps(s, samples)),  # noqa: ARG005
    "InvTDecay": lambda s, samples, updates: 1 / (1 + s["learning_rate_decay"] * _steps(s, samples)),  # noqa: ARG005
    "PolyDecay": lambda s, samples, updates: (1 - min(1, updates / s["max_iterations"])) ** s["power"],  # noqa: ARG005
    "InvDecay": lambda s, samples, updates: (1 + s["learning_rate_decay"] * updates) ** -s["power"],  # noqa: ARG005
    "CosineDecay": lambda s, samples, updates: _cosine(s, _steps(s, samples)),  # noqa: ARG005
}
"""Policy -> the factor on the learning rate, from the settings, the samples seen and the updates made."""


def _steps(settings: Settings, samples: int) -> int:
    return int(samples // settings["learning_rate_step_size"])


def _cosine(settings: Settings, step: int) -> float:
    """Up from `warm_up_lr_frac` to 1 in the steps of the warm-up; down to `min_decay` at `max_iterations` steps."""
    warm_up, last, least = settings["warm_up_duration"], settings["max_iterations"], settings["min_decay"]
    if step < warm_up:
        first = settings["warm_up_lr_frac"]
        return float(first + (1 - first) * step / warm_up)
    progress = min(1.0, (step - warm_up) / (last - warm_up))
    return float(least + (1 - least) * (1 + math.cos(math.pi * progress)) / 2)


def learning_rate(settings: Settings, *, samples: int, updates: int) -> float:
    """The learning rate of the next update: a pure function of time.

    StepDecay, ExponentialDecay, InvTDecay and CosineDecay count steps of `learning_rate_step_size` samples; PolyDecay
    and InvDecay count updates.

    >>> solver = SGD(learning_rate=0.1, learning_rate_policy="StepDecay", learning_rate_step_size=100)
    >>> round(learning_rate(solver.settings(), samples=250, updates=3), 6)
    0.001
    """
    policy = POLICIES[settings.get("learning_rate_policy", "None")]
    return float(settings["learning_rate"]) * float(policy(settings, samples, updates))


def parse_clamping(clamping: object) -> tuple[float, float] | None:
    """The range of a clamping: "min:max", either end may be missing; True is "-1:1", "" and False are no clamping.

    >>> parse_clamping("-0.5:")
    (-0.5, inf)
    """
    if clamping in ("", False, None):
        return None
    low, colon, high = ("-1:1" if clamping is True else str(clamping)).partition(":")
    try:
        ends = (float(low or -math.inf), float(high or math.inf))
    except ValueError:
        ends = (math.nan, math.nan)
    if not colon or not ends[0] < ends[1]:
        raise WrongValue(f"clamping={clamping!r} is illegal: it must be '', True, or 'min:max' with min < max")
    return ends


class Solver(Declared, shared=True):
    """What the solvers share: `isinstance(x, Solver)`. Never instantiated itself.

    A parameter that is set later counts from the next update on, in all cells that have the solver.
    """

    learning_rate: float = number(default=0.01, low=0)
    clamping: str | bool = checked_by(lambda name, value: parse_clamping(value), default="")  # noqa: ARG005 - the form of a check

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        self.__dict__["_n_changes"] = self.n_changes + 1

    @property
    def n_changes(self) -> int:
        """How often a parameter was set; an optimizer sees by it that one was."""
        return int(self.__dict__.get("_n_changes", 0))

    def copy(self) -> Self:
        """Another solver with the same parameters."""
        return copy.copy(self)

    def check(self) -> None:
        """Refuse values that nothing can be learned by, when learning begins: a run that only tests needs none."""


class SGD(Solver):
    """Stochastic gradient descent with momentum and weight decay, as the head of this file has it.

    Fields:
        learning_rate: >= 0; 0 freezes. momentum: in [0, 1]. decay: >= 0.
        learning_rate_policy: a name of POLICIES, with learning_rate_decay, learning_rate_step_size (samples),
            power, max_iterations (updates in PolyDecay, steps in CosineDecay).
        warm_up_duration, warm_up_lr_frac, min_decay: of CosineDecay: steps in which the rate rises, the fraction of it
            that they begin with, and the one that it ends with.
        iteration_size: mini-batches whose gradients are averaged into one update.
        clamping: "" or "min:max": the range that values are kept in; True means "-1:1".
    """

    REFUSED: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict.fromkeys(("iteration_pass", "nb_iteration"), "it is a count of the solver's own; set iteration_size")
    )
    momentum: float = number(default=0.0, low=0, high=1)
    decay: float = number(default=0.0, low=0)
    learning_rate_policy: str = choice(*POLICIES, default="None")
    learning_rate_decay: float = number(default=0.1, low=0)
    learning_rate_step_size: int = count(default=1, low=1)
    power: float = number(default=0.0, low=0)
    max_iterations: int = count(default=0)
    min_decay: float = number(default=0.0, low=0, high=1)
    warm_up_duration: int = count(default=0)
    warm_up_lr_frac: float = number(default=0.25, low=0, high=1)
    iteration_size: int = count(default=1, low=1)
    polyak_momentum: bool = flag(default=True)

    def __post_init__(self) -> None:
        if not self.polyak_momentum:
            raise WrongValue("polyak_momentum=False is illegal: only Polyak's momentum is here (True)")

    def check(self) -> None:
        """Refuse a schedule without an end that needs one."""
        policy, last = self.learning_rate_policy, self.max_iterations
        first = {"PolyDecay": 0, "CosineDecay": self.warm_up_duration}.get(policy, -1)
        if last <= first:
            raise WrongValue(
                f"max_iterations={last} is illegal with learning_rate_policy={policy!r}"
                f"; it must be a whole number >= {first + 1}"
            )


class Adam(Solver):
    """Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980)."""

    learning_rate: float = number(default=0.001, low=0)
    beta1: float = number(default=0.9, low=0, high=1)
    beta2: float = number(default=0.999, low=0, high=1)
    epsilon: float = number(default=1e-8, low=0, open_low=True)


SOLVERS: dict[str, type[Solver]] = {"SGD": SGD, "Adam": Adam}


def with_parameter(solver: Solver, name: str, value: object) -> Solver:
    """A copy with another value. Whether it goes together with the others is checked when the solver is used.

    >>> with_parameter(SGD(momentum=0.5), "learning_rate", 0.2).brief()
    'SGD(learning_rate=0.2, momentum=0.5)'
    """
    made = solver.copy()
    setattr(made, name, value)
    return made


def build_optimizer(cells: nn.Module | Iterable[nn.Module], batch_size: int | None = None) -> "SolverOptimizer":
    """One optimizer for all parameters of the cells, those with equal solvers in one group.

    Args:
        cells: a network (its cells are found, however deep), or cells. Parameters that belong to no cell get SGD().
        batch_size: samples in a step, which the learning-rate policies count; see `SolverOptimizer.batch_size`.
    """
    modules = [cells] if isinstance(cells, nn.Module) else list(cells)
    solvers: dict[nn.Parameter, Solver] = {}
    for module in modules:
        for part in module.modules():
            own: Callable[[], dict[nn.Parameter, Solver]] | None = getattr(part, "solvers", None)
            solvers |= own() if callable(own) else {}
        for parameter in module.parameters():
            if parameter.requires_grad:
                solvers.setdefault(parameter, SGD())
    groups: list[dict[str, Any]] = []
    for parameter, solver in solvers.items():
        settings = _settings_of(solver)
        same = next((group for group in groups if settings.items() <= group.items()), None)
        if same is None:
            groups.append({"params": [parameter], **settings})
        else:
            same["params"].append(parameter)
    made = SolverOptimizer(groups, batch_size=batch_size)
    made.register_step_pre_hook(_Follower(solvers))
    return made


def _settings_of(solver: Solver) -> dict[str, Any]:
    solver.check()
    return {"solver": solver.get_type(), **solver.settings()}


class _Follower:
    """Takes over, before each step, what was set on solvers; parameters whose solver is another one now are parted."""

    def __init__(self, solvers: Mapping[nn.Parameter, Solver]) -> None:
        self.seen = {parameter: (solver, solver.n_changes) for parameter, solver in solvers.items()}

    def __call__(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        changed = {p: solver for p, (solver, n_changes) in self.seen.items() if solver.n_changes != n_changes}
        if not changed:
            return
        settings: dict[int, dict[str, Any]] = {id(solver): _settings_of(solver) for solver in changed.values()}
        parted: list[dict[str, Any]] = []
        for group in optimizer.param_groups:
            parts: dict[int, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                parts.setdefault(id(changed.get(parameter)), []).append(parameter)
            parted += [{**group, **settings.get(solver, {}), "params": ones} for solver, ones in parts.items()]
        optimizer.param_groups = parted
        self.seen |= {parameter: (solver, solver.n_changes) for parameter, solver in changed.items()}


class SolverOptimizer(torch.optim.Optimizer):
    """Steps every group by its solver's formula.

    A group holds its solver's settings as plain values, `lr` (the rate of the last update), `samples` and `updates`:
    a state_dict of numbers and tensors only.

    Args:
        groups: dicts of "params", "solver" (a name of SOLVERS) and that solver's settings.
        batch_size: samples in each step from now on; may be set at any time. None counts a step as one sample.
    """

    def __init__(self, groups: list[dict[str, Any]], *, batch_size: int | None = None) -> None:
        super().__init__(groups, {"lr": 0.0, "samples": 0, "updates": 0, "batches": 0})
        self.batch_size = batch_size
        for group in self.param_groups:
            group["lr"] = learning_rate(group, samples=0, updates=0)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One mini-batch has its gradients; update, unless a group's iteration_size waits for more."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        params: list[Tensor] = [p for p in group["params"] if p.grad is not None]
        if group["batches"] % group.get("iteration_size", 1) == 0:  # an update begins
            group["lr"] = learning_rate(group, samples=group["samples"], updates=group["updates"])
        goes_on = group["updates"] < (group.get("max_iterations") or math.inf)  # else schedules stand still, as N2D2's
        group["batches"] += 1
        group["samples"] += (self.batch_size or 1) * goes_on
        if not params:
            return
        grads = self._gathered(group, params)
        if grads is None:
            return
        UPDATES[group["solver"]](group, params, grads, [self.state[p] for p in params])
        clamping = parse_clamping(group["clamping"])
        if clamping:
            torch._foreach_clamp_min_(params, clamping[0])
            torch._foreach_clamp_max_(params, clamping[1])
        group["updates"] += goes_on

    def _gathered(self, group: dict[str, Any], params: list[Tensor]) -> list[Tensor] | None:
        """The gradients to step with; None while an update of several mini-batches is not complete."""
        grads = [p.grad for p in params if p.grad is not None]
        n_batches = group.get("iteration_size", 1)
        if n_batches == 1:
            return grads
        sums = _buffers([self.state[p] for p in params], params, "gradient_sum")
        torch._foreach_add_(sums, grads, alpha=1 / n_batches)
        if group["batches"] % n_batches:
            return None
        complete = [one.clone() for one in sums]
        torch._foreach_zero_(sums)
        return complete


def _buffers(states: list[dict[str, Any]], params: list[Tensor], name: str) -> list[Tensor]:
    for state, parameter in zip(states, params, strict=True):
        if name not in state:
            state[name] = torch.zeros_like(parameter)
    return [state[name] for state in states]


def _update_sgd(group: Settings, params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]]) -> None:
    rate, momentum, decay = group["lr"], group["momentum"], group["decay"]
    if not rate:  # frozen, the momentum too
        return
    if not momentum and not decay:
        torch._foreach_add_(params, grads, alpha=-rate)
        return
    moves = _buffers(states, params, "momentum_buffer")
    torch._foreach_mul_(moves, momentum)
    torch._foreach_add_(moves, grads, alpha=-rate)
    if decay:
        torch._foreach_add_(moves, params, alpha=-rate * decay)
    torch._foreach_add_(params, moves)


def _update_adam(group: Settings, params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]]) -> None:
    beta1, beta2, time = group["beta1"], group["beta2"], group["updates"] + 1
    means = _buffers(states, params, "exp_avg")
    squares = _buffers(states, params, "exp_avg_sq")
    torch._foreach_lerp_(means, grads, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
    roots = torch._foreach_div(squares, 1 - beta2**time)  # noqa: SLF001 - torch's fused loop over a list
    torch._foreach_sqrt_(roots)
    torch._foreach_add_(roots, group["epsilon"])
    torch._foreach_addcdiv_(params, means, roots, value=-group["lr"] / (1 - beta1**time))


UPDATES: dict[str, Callable[[Settings, list[Tensor], list[Tensor], list[dict[str, Any]]], None]] = {
    "SGD": _update_sgd,
    "Adam": _update_adam,
}


if not TYPE_CHECKING:  # a type checker would take every name for a member

    def __getattr__(name: str) -> NoReturn:
        raise no_such_name(__name__, name, globals())
