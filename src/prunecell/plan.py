"""Plans: which parameters of a model are pruned, and how each."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import translate

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from prunecell.errors import OptionTypeError, PlanError, nearest
from prunecell.names import plain_names
from prunecell.spec import PruneSpec

Key = str | type[nn.Module]
Plan = Mapping[Key, PruneSpec | None]
"""From a parameter's name, a pattern of names, or a type of module, to a spec; None: leave these alone.

The first key that fits a parameter decides. Parameters under the same spec object share its allocation's budget; equal
specs that are two objects are two budgets. A pattern (`*`, `?`, `[seq]`) or a type reaches the weights that are
pruned by default: matrices and kernels, not biases, norms or embeddings. A literal name reaches any parameter.
"""


@dataclass(frozen=True)
class Target:
    """One parameter that a plan prunes.

    Attributes:
        name: without the prefixes of wrappers; the first if it has several (tied weights).
        owner: the module that has it under that name.
    """

    name: str
    parameter: nn.Parameter
    owner: nn.Module
    spec: PruneSpec


@dataclass(frozen=True)
class Skipped:
    """One parameter that is left alone, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Candidate:
    """A parameter, all its names (without the prefixes of wrappers, then with them) and the modules that have it."""

    names: tuple[str, ...]
    owners: tuple[nn.Module, ...]
    parameter: nn.Parameter


def resolve(model: nn.Module, plan: Plan | PruneSpec) -> tuple[list[Target], list[Skipped]]:
    """Apply a plan to a model: what is pruned, and what is not and why, in the model's order.

    Args:
        model: any module.
        plan: a `Plan`, or one spec for all that is pruned by default.

    Raises:
        PlanError: a key fits no parameter, a literally named parameter cannot be pruned, or nothing is left to prune.
        OptionTypeError: the model is no module, or the plan no plan.
    """
    if not isinstance(model, nn.Module):
        raise OptionTypeError(f"model is a {type(model).__name__}: it must be a torch.nn.Module")
    keys: Plan = {"*": plan} if isinstance(plan, PruneSpec) else plan
    _check_types(keys)
    candidates = list(_candidates(model))
    unused = set(keys)
    targets, skipped = [], []
    for candidate in candidates:
        fitting = [key for key in keys if _fits(key, candidate)]
        unused.difference_update(fitting)
        name, reason = candidate.names[0], _reason_to_skip(candidate)
        if not fitting:
            skipped.append(Skipped(name, reason or "the plan does not name it"))
        elif (spec := keys[fitting[0]]) is None:
            skipped.append(Skipped(name, "the plan leaves it alone"))
        elif impossible := _why_impossible(candidate.parameter):
            raise PlanError(f"parameter {name!r} cannot be pruned: {impossible}")
        else:
            targets.append(Target(name, candidate.parameter, candidate.owners[0], spec))
    for key in (key for key in keys if key in unused and key != "*"):
        raise PlanError(_nothing_fits(key, candidates))
    if not targets:
        raise PlanError(
            f"nothing to prune in {type(model).__name__}: "
            + ("; ".join(f"{s.name}: {s.reason}" for s in skipped[:8]) or "it has no parameters")
        )
    return targets, skipped


def _check_types(keys: Plan) -> None:
    if not isinstance(keys, Mapping):
        raise OptionTypeError(
            f"plan={keys!r} is illegal: it must be a PruneSpec or a mapping from names or types to it"
        )
    for key, spec in keys.items():
        if not isinstance(key, str) and not (isinstance(key, type) and issubclass(key, nn.Module)):
            raise OptionTypeError(
                f"plan key {key!r} is illegal: it must be a parameter name, a pattern or a module type"
            )
        if spec is not None and not isinstance(spec, PruneSpec):
            raise OptionTypeError(f"plan[{key!r}]={spec!r} is illegal: it must be a PruneSpec or None")


def _candidates(model: nn.Module) -> Iterator[_Candidate]:
    found: dict[int, _Candidate] = {}
    plain = plain_names(model)
    for path, module in model.named_modules(remove_duplicate=False):
        for leaf, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{path}.{leaf}" if path else leaf
            known = found.get(id(parameter), _Candidate((), (), parameter))
            names = dict.fromkeys((*known.names, plain[name], name))
            found[id(parameter)] = _Candidate(tuple(names), (*known.owners, module), parameter)
    yield from found.values()


def _fits(key: Key, candidate: _Candidate) -> bool:
    if not isinstance(key, str):
        return not _reason_to_skip(candidate) and any(isinstance(owner, key) for owner in candidate.owners)
    if not _is_pattern(key):
        return key in candidate.names
    return not _reason_to_skip(candidate) and any(re.match(translate(key), name) for name in candidate.names)


def _is_pattern(key: str) -> bool:
    return any(c in key for c in "*?[")


def _reason_to_skip(candidate: _Candidate) -> str:
    """Why a parameter is not pruned unless it is named; empty if it is pruned by default."""
    kinds = [type(owner).__name__ for owner in candidate.owners]
    leaves = [name.rpartition(".")[2] for name in candidate.names]
    if impossible := _why_impossible(candidate.parameter):
        return impossible
    if any(isinstance(o, nn.Embedding | nn.EmbeddingBag) for o in candidate.owners):
        return "an embedding" if len(kinds) == 1 else f"an embedding, shared by {', '.join(candidate.names)}"
    if any("Norm" in kind for kind in kinds):
        return "a norm's"
    if candidate.parameter.ndim < 2:  # noqa: PLR2004 - matrices and kernels have at least two dimensions
        return "a bias" if "bias" in leaves[0] else "a vector"
    if not any("weight" in leaf for leaf in leaves):
        return "not called a weight"
    return ""


def _why_impossible(parameter: Tensor) -> str:
    if isinstance(parameter, UninitializedParameter):
        return "not initialized yet: run the lazy module once"
    if parameter.is_meta:
        return "on the meta device: it has no values"
    if not parameter.is_floating_point():
        return f"of dtype {parameter.dtype}: only floating point is pruned"
    if parameter.numel() == 0:
        return "empty"
    return ""


def _nothing_fits(key: Key, candidates: list[_Candidate]) -> str:
    if not isinstance(key, str):
        return f"plan key {key.__name__} fits nothing: no module of this type has weights that are pruned by default"
    names = [name for c in candidates for name in c.names]
    if not _is_pattern(key):
        return f"plan key {key!r} fits no parameter{nearest(key, names)}"
    unnamed = [f"{c.names[0]} ({_reason_to_skip(c)})" for c in candidates if re.match(translate(key), c.names[0])]
    hint = (
        f"; it fits only {', '.join(unnamed[:5])}: name these literally to prune them"
        if unnamed
        else nearest(key, names)
    )
    return f"plan key {key!r} fits no weight that is pruned by default{hint}"
