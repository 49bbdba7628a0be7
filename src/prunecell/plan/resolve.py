"""Plans: which parameters of a model are pruned, and how each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from torch import nn

from prunecell.errors import OptionTypeError, PlanError, nearest, quoted, some, typed
from prunecell.memory import check_apart
from prunecell.patterns import is_pattern, matcher
from prunecell.plan.candidates import Candidate, candidates
from prunecell.plan.spec import PruneSpec

Key = str | type[nn.Module]
Plan = Mapping[Key, PruneSpec | None]
"""From a parameter's name, a pattern of names, or a type of module, to a spec; None: leave these alone.

The first key that reaches a parameter decides. What a key reaches:

    "fc.weight"          a name           that parameter, whatever it is
    "layers.*", "re:..." a pattern        of the parameters that it fits those that are pruned by default; all that it
    nn.Linear            or a type        fits, where none of them is
    with None            any key          all that it fits
    "*"                  with a spec      all that is pruned by default

A pattern is one of the shell's (`*`, `?`, `[seq]`), or `re:` and a regular expression that fits the whole name.
Parameters under the same spec object share its allocation's budget; equal specs that are two objects are two budgets.
"""

_ALL = "*"

_SPARSE = "in a sparse layer that compact_ made, and counted nowhere here"

_TAKES = {
    "PruneSpec": "pc.Pruner(model, plan)",
    "RateSpec": "pc.Quantizer(model, plan)",
    "IntSpec": "pc.Quantizer(model, plan)",
    "RemoveSpec": "prunecell.structured.remove_(model, plan, example)",
}
"""Kind of a spec -> what takes it."""

_MANY = 50
"""Names that a message may list; of more it lists the nearest."""


@dataclass(frozen=True)
class Target:
    """One parameter that a plan reaches with a spec.

    Attributes:
        name: without the prefixes of wrappers; the first if it has several (tied weights).
        owner: the module that has it under that name, or computes its weight from it.
        normed: dimensions along which the owner divides each slice by its norm, so that none may become all zeros; ()
            is the whole parameter, None: none.
    """

    name: str
    parameter: nn.Parameter
    owner: nn.Module
    spec: Any
    normed: tuple[int, ...] | None


@dataclass(frozen=True)
class Skipped:
    """One parameter that is left alone, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a plan is made for.

    Attributes:
        verb, done: the word for it, as in "nothing to prune", "cannot be pruned".
        specs: the types of its specs.
        why_not: (parameter, spec) -> why the spec does not take it by default; empty if it does.
    """

    verb: str
    done: str
    specs: tuple[type, ...]
    why_not: Callable[[Candidate, Any], str]


PRUNING = Use(verb="prune", done="pruned", specs=(PruneSpec,), why_not=lambda candidate, _: candidate.reason)


def resolve(
    model: nn.Module, plan: Mapping[Key, Any] | object, use: Use = PRUNING
) -> tuple[list[Target], list[Skipped]]:
    """Apply a plan to a model: what is pruned, and what is not and why, in the model's order.

    Args:
        model: any module.
        plan: a `Plan`, or one spec for all that is pruned by default.
        use: what the plan is made for.

    Raises:
        PlanError: a key fits no parameter, or never decides because those before it take all that it reaches; what a
            key reaches cannot be pruned; or nothing is left to prune.
        OptionError: what it reaches lies in memory that another parameter has too.
        OptionTypeError: the model is no module, or the plan no plan.
    """
    found = candidates(model)
    keys: Mapping[Key, Any] = {_ALL: plan} if isinstance(plan, use.specs) else plan  # type: ignore[assignment] # checked below
    _check_types(keys, use)
    deciding = _deciding(keys, found, model, use)
    any_spec = next((spec for spec in keys.values() if spec is not None), None)
    targets, skipped = [], []
    for candidate in found:
        key = deciding.get(candidate.name)
        if key is None:
            skipped.append(Skipped(candidate.name, use.why_not(candidate, any_spec) or "the plan does not name it"))
        elif (spec := keys[key]) is None:
            skipped.append(Skipped(candidate.name, "the plan leaves it alone"))
        elif why_not := candidate.why_not_under(key):
            raise PlanError(f"parameter {candidate.name!r} cannot be {use.done}: {why_not}")
        else:
            owner = candidate.places[0].owner
            targets.append(Target(candidate.name, candidate.parameter, owner, spec, candidate.normed))
    skipped += [Skipped(name, _SPARSE) for name in sparse_weights(model)]
    if not targets:
        raise PlanError(f"nothing to {use.verb} in {type(model).__name__}: {_why_nothing(keys, found, skipped, use)}")
    check_apart({c.name: c.parameter for c in found}, [target.name for target in targets])
    return targets, skipped


def sparse_weights(model: nn.Module) -> list[str]:
    """The names of the weights that `compact_` compressed: no parameters, so that no plan reaches them."""
    layers = [path for path, m in model.named_modules() if hasattr(m, "weight_shape") and hasattr(m, "format_code")]
    return [f"{path}.weight" if path else "weight" for path in layers]


def _check_types(keys: Mapping[Key, Any], use: Use) -> None:
    legal = " or ".join(f"{'an' if spec.__name__[0] in 'AEIO' else 'a'} {spec.__name__}" for spec in use.specs)
    if not isinstance(keys, Mapping):
        raise OptionTypeError(
            f"plan={quoted(keys)} is illegal: it must be {legal} or a mapping from names or types to it"
            f"{_elsewhere(keys)}"
        )
    for key, spec in keys.items():
        if not isinstance(key, str) and not (isinstance(key, type) and issubclass(key, nn.Module)):
            raise OptionTypeError(
                f"plan key {quoted(key)} is illegal: it must be a parameter name, a pattern or a module type"
            )
        if spec is not None and not isinstance(spec, use.specs):
            raise OptionTypeError(
                f"plan[{quoted(key)}]={quoted(spec)} is illegal: it must be {legal} or None{_elsewhere(spec)}"
            )


def _elsewhere(spec: object) -> str:
    """What takes a spec that is not for this use; empty where it is none."""
    kind = type(spec).__name__
    return f"; {typed(spec)} is for {_TAKES[kind]}" if kind in _TAKES else ""


def _deciding(keys: Mapping[Key, Any], found: Sequence[Candidate], model: nn.Module, use: Use) -> dict[str, Key]:
    """Name of a parameter -> the first key that reaches it.

    Raises:
        PlanError: a key reaches nothing, or nothing that is left.
    """
    deciding: dict[str, Key] = {}
    for key, spec in keys.items():
        reached = _reached(key, spec, found, use)
        if not reached and key != _ALL:
            raise PlanError(_nothing_fits(key, found, model, use))
        wanted = [c.name for c in reached if not use.why_not(c, spec)] or [
            c.name for c in reached
        ]  # biases are not meant
        if key != _ALL and all(name in deciding for name in wanted):
            raise PlanError(_never_decides(key, wanted, deciding))
        deciding |= dict.fromkeys((c.name for c in reached if c.name not in deciding), key)
    return deciding


def _reached(key: Key, spec: object, found: Sequence[Candidate], use: Use) -> list[Candidate]:
    """What a key decides about, as far as no key before it does; see `Plan`."""
    fits = _matcher(key)
    fitting = [candidate for candidate in found if fits(candidate)]
    if spec is None or (isinstance(key, str) and not is_pattern(key)):
        return fitting
    by_default = [candidate for candidate in fitting if not use.why_not(candidate, spec)]
    return by_default if by_default or key == _ALL else fitting


def _matcher(key: Key) -> Callable[[Candidate], bool]:
    """Whether a key fits a parameter, by one of its names or the type of a module that has it."""
    if not isinstance(key, str):
        return lambda candidate: any(isinstance(place.owner, key) for place in candidate.places)
    fits = matcher(key, "plan key")
    return lambda candidate: any(map(fits, candidate.names))


def _why_nothing(keys: Mapping[Key, Any], found: Sequence[Candidate], skipped: Sequence[Skipped], use: Use) -> str:
    if not skipped:
        return "it has no parameters"
    if not keys:
        spec = use.specs[0].__name__
        return f"the plan is empty; give a {spec}, or name what is {use.done}, as in {{'*': {spec}(...)}}"
    if not any(keys.values()):
        named = ", ".join(map(_shown, keys))
        rest = f"add '*': {use.specs[0].__name__}(...) at its end to {use.verb} the rest"
        return f"the plan names only what is left alone ({named}); {rest}"
    reasons: dict[str, list[str]] = {}
    for parameter in skipped:
        reasons.setdefault(parameter.reason, []).append(parameter.name)
    told = "; ".join(f"{some(names)}: {reason}" for reason, names in reasons.items())
    return f"{told}. {_remedy(keys, found, skipped, use)}".rstrip(". ")


def _remedy(keys: Mapping[Key, Any], found: Sequence[Candidate], skipped: Sequence[Skipped], use: Use) -> str:
    """A plan that would reach something; or to what model it is to be done. Empty where there is none."""
    if any(parameter.reason == _SPARSE for parameter in skipped):
        return f"{use.verb.capitalize()} the dense model, before compact_"
    possible = [candidate for candidate in found if not candidate.why_not_under(candidate.name)]
    if not possible:
        return ""
    largest = max(possible, key=lambda candidate: (candidate.parameter.ndim > 1, candidate.parameter.numel()))
    spec = next(type(spec).__name__ for spec in keys.values() if spec is not None)
    return f"Name what is to be {use.done} all the same, as in {{{largest.name!r}: {spec}(...)}}"


def _never_decides(key: Key, reached: Sequence[str], deciding: Mapping[str, Key]) -> str:
    decided: dict[Key, list[str]] = {}
    for name in reached:
        decided.setdefault(deciding[name], []).append(name)
    before = "; ".join(f"{_shown(first)} decides about {some(names)}" for first, names in decided.items())
    return (
        f"plan key {_shown(key)} never decides: keys before it take all that it reaches ({before}): put {_shown(key)}"
        " first, or leave it out"
    )


def _nothing_fits(key: Key, found: Sequence[Candidate], model: nn.Module, use: Use) -> str:
    if isinstance(key, str) and any(map(matcher(key, "plan key"), sparse_weights(model))):
        return f"plan key {key!r} fits no parameter: it is {_SPARSE}; {use.verb} the dense model, before compact_"
    if not isinstance(key, str):
        having = (
            path for path, m in model.named_modules() if isinstance(m, key) and next(m.parameters(), None) is not None
        )
        inside = next((f"{path}.*".lstrip(".") for path in having), "")
        hint = f", but modules inside have: the pattern {inside!r} names theirs" if inside else ""
        return f"plan key {_shown(key)} fits nothing: no module of this type has parameters of its own{hint}"
    if any(name.startswith(f"{key}.") for candidate in found for name in candidate.names):
        return f"plan key {key!r} fits no parameter: it is a module; the pattern '{key}.*' names its parameters"
    names = list(dict.fromkeys(name for candidate in found for name in candidate.names))
    if len(names) <= _MANY:
        return f"plan key {key!r} fits no parameter{nearest(key, names)}"
    near = ", ".join(get_close_matches(key, names, n=5, cutoff=0))
    return f"plan key {key!r} fits no parameter; the nearest of all {len(names)}: {near}"


def _shown(key: Key) -> str:
    return repr(key) if isinstance(key, str) else key.__name__
