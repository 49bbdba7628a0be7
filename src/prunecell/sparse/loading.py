"""Giving a model the tensors of a file by its own `load_state_dict`: all, or those that no sparse layer took."""

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from prunecell.archive import Archive
from prunecell.errors import StateError, quoted, some
from prunecell.sparse.matching import names_in, refuse_compact
from prunecell.sparse.places import Place, paths_of, places_of, refuse_without_values

_LOADERS = (nn.Module, nn.BatchNorm1d, nn.InstanceNorm1d)
"""Their ways to load are those that `matching` foresees."""

_HOOKS = (
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
)
_CONTAINERS = (dict, OrderedDict, defaultdict, list, set)
_METHODS = ("load_state_dict", "state_dict", "_save_to_state_dict")


def own_way(model: nn.Module) -> type[nn.Module] | None:
    """The class of the first module that has a hook or a method of its own to save or load; None if none has."""
    plain = [loader._load_from_state_dict for loader in _LOADERS]  # noqa: SLF001 - what a module overrides has this name
    for module in model.modules():
        kind = type(module)
        if (
            isinstance(module, torch.jit.ScriptModule)
            or any(getattr(module, hooks, None) for hooks in _HOOKS)
            or kind._load_from_state_dict not in plain  # noqa: SLF001
            or any(getattr(kind, name) is not getattr(nn.Module, name) for name in _METHODS)
            or {"_load_from_state_dict", *_METHODS} & vars(module).keys()
        ):
            return kind
    return None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What was not loaded: tensors of the model that the file lacks, and tensors of the file that the model lacks."""

    missing: tuple[str, ...]
    left_over: tuple[str, ...]


def load_all_(model: nn.Module, archive: Archive, *, strict: bool) -> Loaded:
    """Load a whole file by the model's own `load_state_dict`; parameters on the meta device become real ones before.

    A name that the file lacks because its tensor is tied to one that it has is given that one.

    Raises:
        StateError: the model refuses the file, or lacks values afterwards.
    """
    places = places_of(model)
    names = names_in(model, archive)
    refuse_compact(names, places)
    state = {own: archive[name] for own, name in names.items()}
    first = {id(place.tensor): state[place.name] for place in reversed(places) if place.name in state}
    for place in places:
        if place.is_saved and place.name not in state and id(place.tensor) in first:
            state[place.name] = first[id(place.tensor)]
    refuse_without_values(model, (place for place in places if not place.is_saved), {})
    made = {id(tensor) for tensor in make_real_(places, {})}
    missing, left_over = _load(model, state, strict=strict)
    if empty := [place.name for place in places_of(model) if _is_empty(place, made, missing)]:
        raise StateError(
            f"the archive has no {some(map(quoted, empty), 3)}, which the model has on the meta device: they have no"
            " values"
        )
    return Loaded(missing=tuple(missing), left_over=tuple(left_over))


def load_some_(
    model: nn.Module, places: Iterable[Place], tensors: Mapping[int, Tensor], extra: dict[str, Tensor]
) -> None:
    """Give these tensors, and extra states, to a model that fits.

    Args:
        model: what is on its meta device at these places becomes real; all other tensors keep their identity.
        places: where tensors are wanted.
        tensors: the id of a tensor of the model -> what it is to be.
        extra: name -> extra state.
    """
    places = list(places)
    state = {place.name: tensors[id(place.tensor)] for place in places if id(place.tensor) in tensors}
    make_real_(places, tensors)
    _load(model, state | extra, strict=False)


def _load(model: nn.Module, state: dict[str, Tensor], *, strict: bool) -> tuple[list[str], list[str]]:
    try:
        found = model.load_state_dict(state, strict=strict)
    except Exception as error:  # what hooks and modules raise that a user wrote
        raise StateError(f"{type(model).__name__} cannot load the archive: {error or type(error).__name__}") from error
    return list(getattr(found, "missing_keys", [])), list(getattr(found, "unexpected_keys", []))


def _is_empty(place: Place, made: set[int], missing: list[str]) -> bool:
    """Whether a tensor was made real, and given no values; a hook may hide that it is missing."""
    tensor = place.tensor
    if id(tensor) not in made:
        return False
    was_written = tensor.is_inference() or tensor._version > 0  # noqa: SLF001 - it has no public name
    return place.name in missing or not (was_written or tensor.any() or tensor.numel() == 0)


def make_real_(places: Iterable[Place], tensors: Mapping[int, Tensor]) -> list[Tensor]:
    """Put real tensors, which are returned, in place of those on the meta device; zeros where none is given.

    Those that are tied stay tied.
    """
    made: dict[int, Tensor] = {}
    for place in places:
        meta = place.tensor
        if not meta.is_meta:
            continue
        if id(meta) not in made:
            values = tensors.get(id(meta))
            real = torch.zeros(meta.shape, dtype=meta.dtype) if values is None else values
            made[id(meta)] = nn.Parameter(real, meta.requires_grad) if isinstance(meta, nn.Parameter) else real
            vars(made[id(meta)]).update(vars(meta))
        setattr(place.module, place.leaf, made[id(meta)])  # recurrent layers keep a list of their weights by it
    return list(made.values())


@contextmanager
def unchanged_if_refused(model: nn.Module, *, values: bool) -> Iterator[None]:
    """Put a model back as it was where the block raises: its modules, their attributes, and, if `values`, its numbers.

    Numbers take their memory twice meanwhile; they are needed where code of the model's author runs, which may fail
    after some of them were loaded.
    """
    modules = [(module, type(module), dict(vars(module)), _containers(module)) for _, module in paths_of(model)]
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())} if values else {}
    numbers = [(t, t.detach().clone()) for t in tensors.values() if not (t.is_meta or is_lazy(t))]
    try:
        yield
    except BaseException:
        for module, kind, attributes, containers in modules:
            if type(module) is not kind:  # wrappers hand over what is set on them
                module.__class__ = kind
            vars(module).clear()
            vars(module).update(attributes)
            for container, content in containers:
                container.clear()
                (container.extend if isinstance(container, list) else container.update)(content)
        with torch.no_grad():
            for tensor, before in numbers:
                tensor.copy_(before)
        raise


def _containers(module: nn.Module) -> list[tuple[Any, Any]]:
    """The dicts, lists and sets that are attributes of a module, with copies of what is in them."""
    return [(value, copy.copy(value)) for value in vars(module).values() if type(value) in _CONTAINERS]
