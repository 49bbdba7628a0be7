"""Stepping: something is done around every step of an optimizer as it comes, wrappers and failures included.

An optimizer may wrap another (Accelerate's, Lightning's, Lookahead, ZeroRedundancyOptimizer). Some of these never call
the constructor of `torch.optim.Optimizer`, so they have no hooks; some go on after the inner step. So each level is
watched. No hook runs after a step that raises, so the `step` of the instance is wrapped too. No class is touched, and
copies and pickles of an optimizer are as they would be without.
"""

import functools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any, Protocol

import torch
from torch import Tensor

from prunecell.enforcement.copies import CopyEnd, WhenWhole
from prunecell.enforcement.levels import levels_of, optimizers_in, parameters_of
from prunecell.errors import OptionError, OptionTypeError

Closure = Callable[..., Any]


class Watcher(Protocol):
    """What is done around a step; once more where a wrapper and what it wraps are both watched."""

    def before_step(self, optimizer: Any) -> None:  # noqa: ANN401 - an optimizer, or what wraps one
        """Called before a step of that optimizer."""
        ...

    def after_step(self, optimizer: Any) -> None:  # noqa: ANN401
        """Called after it, whether it ended or failed."""
        ...

    def around_closure(self, optimizer: Any, closure: Closure) -> Closure:  # noqa: ANN401
        """The closure that the optimizer is given in place of the user's."""
        ...


class StepWatch:
    """The watch over the steps of one optimizer and of all that it wraps. It does not keep them alive.

    Args:
        optimizer: a `torch.optim.Optimizer`, or what wraps one.
        watcher: what is done; kept alive by the optimizer.
        known: optimizers that are watched already, and are left out.

    Raises:
        OptionTypeError: it is no optimizer and wraps none, or it cannot be watched.
    """

    def __init__(self, optimizer: Any, watcher: Watcher, known: "tuple[StepWatch, ...]" = ()) -> None:  # noqa: ANN401
        levels = levels_of(optimizer)
        if not levels:
            raise OptionTypeError(_refusal(optimizer))
        watcher = _Untraced(watcher)
        self._endings: list[Callable[[], None]] = []
        self._levels = [weakref.ref(level) for level in levels]
        try:
            for level in levels:
                if not any(watch.watches(level) for watch in known):
                    _watch(level, watcher, self._endings)
        except BaseException:
            self.end()
            raise

    @property
    def levels(self) -> list[Any]:
        """The optimizer, then what it wraps; those that still exist."""
        return [level for level in (ref() for ref in self._levels) if level is not None]

    def watches(self, optimizer: object) -> bool:
        """Whether it is this optimizer or one that it wraps."""
        return any(level is optimizer for level in self.levels)

    def end(self) -> None:
        """Watch no longer."""
        while self._endings:
            self._endings.pop()()


class Watches:
    """All watches of one watcher, which may be copied together with the watcher and the optimizers.

    It does not hold its watcher, which holds it: the two would keep the weights alive until garbage is collected.

    Args:
        what: the weights that the watcher cares for, in words.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._watches: list[StepWatch] = []
        self._copied: tuple[list[Any], CopyEnd, CopyEnd] | None = None  # the optimizers, until a copy begins again
        self._waiting: WhenWhole | None = None

    def add(self, watcher: Watcher, optimizer: Any, parameters: Sequence[Tensor]) -> None:  # noqa: ANN401 - wrappers
        """Watch one more optimizer, and all that it wraps.

        Args:
            watcher: what is done around its steps.
            optimizer: a `torch.optim.Optimizer`, or what wraps one.
            parameters: of which it must hold one, if there are any.

        Raises:
            OptionTypeError: it is no optimizer and wraps none.
            OptionError: it holds none of the parameters, or is watched already.
        """
        name = type(optimizer).__name__
        if any(level is optimizer for level in self.levels):
            raise OptionError(f"optimizer {name} is attached already")
        watch = StepWatch(optimizer, watcher, tuple(self._watches))
        held = parameters_of(optimizer)
        if parameters and not any(id(parameter) in held for parameter in parameters):
            watch.end()
            raise OptionError(f"optimizer {name} holds none of the {self._what}: was it made of another model?")
        self._watches.append(watch)

    @property
    def levels(self) -> list[Any]:
        """The optimizers, each before what it wraps; those that still exist."""
        if self._waiting is not None:
            self._waiting()
        return [level for watch in self._watches for level in watch.levels]

    def end(self) -> None:
        """Watch no longer."""
        if self._waiting is not None:
            self._waiting.end()
        for watch in self._watches:
            watch.end()
        self._watches.clear()

    def __getstate__(self) -> dict[str, Any]:
        end = CopyEnd()
        return {"_what": self._what, "_watches": [], "_copied": (self.levels, end, end), "_waiting": None}

    def begin_again(self, watcher: Watcher, parameters: Sequence[Tensor]) -> None:
        """Watch the optimizers that were copied with this and the watcher, when the copy is whole.

        Args:
            watcher: what is done around their steps.
            parameters: what they train.
        """
        if self._copied is not None:
            optimizers, end, _ = self._copied
            self._copied = None
            self._waiting = WhenWhole(end, functools.partial(self._begin, watcher, optimizers), parameters)

    def _begin(self, watcher: Watcher, optimizers: Sequence[Any]) -> None:
        for optimizer in optimizers:
            if not any(watch.watches(optimizer) for watch in self._watches):
                self._watches.append(StepWatch(optimizer, watcher, tuple(self._watches)))


def _refusal(thing: object) -> str:
    inner = optimizers_in(thing)
    names = ", ".join(sorted({type(optimizer).__name__ for optimizer in inner}))
    what_to_do = (
        f"attach() each of the {len(inner)} that it holds ({names})"
        if inner
        else "where it wraps optimizers, attach() the inner ones"
    )
    return (
        f"optimizer is a {type(thing).__name__}: it must be a torch.optim.Optimizer, or have a step() and hold such;"
        f" {what_to_do}"
    )


class _Untraced:
    """A watcher into which `torch.compile` does not look when it compiles a step, because it writes into memory.

    It is made when an optimizer exists, because torch has imported its compiler then.
    """

    def __init__(self, watcher: Watcher) -> None:
        self.before_step = torch.compiler.disable(watcher.before_step)  # type: ignore[no-untyped-call] # torch's
        self.after_step = torch.compiler.disable(watcher.after_step)  # type: ignore[no-untyped-call] # torch's
        self.around_closure = watcher.around_closure


def _watch(level: Any, watcher: Watcher, endings: list[Callable[[], None]]) -> None:  # noqa: ANN401
    """Watch one level, and add to `endings` what ends that."""
    runs_hooks = getattr(type(level).step, "hooked", False) and hasattr(level, "_optimizer_step_post_hooks")
    endings.append(_guard(level, watcher, around=not runs_hooks))
    if runs_hooks:

        def before(optimizer: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:  # noqa: ANN401 - torch's hook
            watcher.before_step(optimizer)
            args, kwargs = _with_closure(watcher, optimizer, args[1:], kwargs)
            return (optimizer, *args), kwargs

        def after(optimizer: Any, args: Any, kwargs: Any) -> None:  # noqa: ANN401, ARG001 - torch's hook
            watcher.after_step(optimizer)

        endings.append(level.register_step_pre_hook(_Hook(before)).remove)
        handle = level.register_step_post_hook(_Hook(after))
        endings.append(handle.remove)
        # First, so that others' hooks see the result: averages of weights, say.
        level._optimizer_step_post_hooks.move_to_end(handle.id, last=False)  # noqa: SLF001


class _Hook:
    """A hook that does nothing in a copy of the optimizer: what watches the copy hangs its own."""

    def __init__(self, act: Callable[..., Any] | None = None) -> None:
        self._act = act

    def __call__(self, *args: Any) -> Any:  # noqa: ANN401
        return None if self._act is None else self._act(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hook, ()


def _guard(level: Any, watcher: Watcher, *, around: bool) -> Callable[[], None]:  # noqa: ANN401
    """Wrap the `step` of one instance, and return what takes that back.

    Args:
        level: whose.
        watcher: told when a step fails.
        around: whether it is told of every step too, because the level runs no hooks.
    """
    mine, plain, active = weakref.ref(level), _Plain.of(level), [True]

    @functools.wraps(plain.function or type(level).step)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if self is not mine():  # in a copy that was made with all attributes, and is not watched
            if _Plain.of(self).function is None:
                vars(self).pop("step", None)  # it would keep the weights of the first
            return type(self).step(self, *args, **kwargs)
        if not active:
            return plain.call(self, args, kwargs)
        try:
            if around:
                watcher.before_step(self)
                args, kwargs = _with_closure(watcher, self, args, kwargs)
            result = plain.call(self, args, kwargs)
        except BaseException:
            watcher.after_step(self)
            raise
        if around:
            watcher.after_step(self)
        return result

    # A method, because schedulers of learning rates wrap `step.__func__`, and a method is pickled by its name.
    vars(step)["guarded"] = mine
    vars(level)["step"] = MethodType(step, level)

    def end() -> None:
        active.clear()
        vars(step)["beneath"] = plain
        if (level := mine()) is not None and _Plain.of(level).function is step:
            plain.put_back(level)

    return end


@dataclass(frozen=True)
class _Plain:
    """What an instance has as `step`: its class's (None), a method of its own (another watcher's), or a function.

    A method is kept as the function that it calls, because it would keep the instance alive. Schedulers of learning
    rates leave functions that do not take the instance.
    """

    function: Callable[..., Any] | None
    is_method: bool

    @classmethod
    def of(cls, level: Any) -> "_Plain":  # noqa: ANN401
        step = vars(level).get("step")
        if not (isinstance(step, MethodType) and step.__self__ is level):
            return cls(step, is_method=False)
        # A copy brings along the guard of the first, or what a pickle makes of it: the method of the class.
        guarded = getattr(step.__func__, "guarded", None)
        is_copied = step.__func__ is getattr(type(level), "step", None) or (
            guarded is not None and guarded() is not level
        )
        return cls(None if is_copied else step.__func__, is_method=True)

    def call(self, level: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401
        if self.function is None:
            return type(level).step(level, *args, **kwargs)
        return self.function(level, *args, **kwargs) if self.is_method else self.function(*args, **kwargs)

    def put_back(self, level: Any) -> None:  # noqa: ANN401
        """Set it again; or what was there before it, where it is a guard that was ended while another was above it."""
        plain = self
        while (beneath := getattr(plain.function, "beneath", None)) is not None:
            plain = beneath
        del vars(level)["step"]
        if plain.function is not None:
            vars(level)["step"] = MethodType(plain.function, level) if plain.is_method else plain.function


def _with_closure(watcher: Watcher, optimizer: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """The arguments of a step, with the closure replaced where there is one."""
    if callable(closure := kwargs.get("closure")):
        return args, {**kwargs, "closure": watcher.around_closure(optimizer, closure)}
    if args and callable(args[0]):
        return (watcher.around_closure(optimizer, args[0]), *args[1:]), kwargs
    return args, kwargs
