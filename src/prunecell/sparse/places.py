"""Where the tensors of a model are: parameters and buffers by their full names, tied ones at all their places."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from prunecell.errors import StateError

_OF_TORCH = ("_parameters", "_buffers", "_modules")
_COMPILED = "_orig_mod"  # what torch.compile wraps; the code that it makes calls this very module
_SHOWN = 3  # names in a message


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A parameter or buffer, at one of the places where it is.

    Attributes:
        name: its full name.
        module: that holds it.
        leaf: its name there.
        is_saved: whether a state_dict has it; buffers may be left out.
    """

    name: str
    module: nn.Module
    leaf: str
    tensor: Tensor
    is_saved: bool


def paths_of(module: nn.Module, prefix: str = "", without: Container[int] = ()) -> Iterator[tuple[str, nn.Module]]:
    """All modules with the beginnings of their tensors' names; a module that is at two places comes twice.

    Those whose ids are in `without` are left out, with all that is in them, and so is what torch.jit made, which holds
    its tensors itself.
    """
    if id(module) in without or isinstance(module, torch.jit.ScriptModule):
        return
    yield prefix, module
    for name, child in module._modules.items():  # noqa: SLF001 - named_children leaves out what comes twice
        if child is not None:
            yield from paths_of(child, f"{prefix}{name}.", without)


def places_of(model: nn.Module, without: Container[int] = ()) -> list[Place]:
    """All places, in the order of a state_dict. A hook of a state_dict changes nothing of them."""
    found = []
    for prefix, module in paths_of(model, without=without):
        for leaf, tensor in (*module._parameters.items(), *module._buffers.items()):  # noqa: SLF001 - tied ones too
            if tensor is not None:
                is_saved = leaf not in module._non_persistent_buffers_set  # noqa: SLF001 - it has no public name
                place = Place(name=prefix + leaf, module=module, leaf=leaf, tensor=tensor, is_saved=is_saved)
                found.append(place)
    return found


def first_names(places: Iterable[Place]) -> dict[int, str]:
    """The id of each tensor -> the first of its names."""
    names: dict[int, str] = {}
    for place in places:
        names.setdefault(id(place.tensor), place.name)
    return names


def n_bytes(model: nn.Module) -> int:
    """The memory that parameters and buffers take, tied ones once; those on the meta device as if they were real."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values() if not is_lazy(tensor))


def some(names: Iterable[str]) -> str:
    """The first of some names, and how many more there are."""
    names = list(names)
    shown = names if len(names) <= _SHOWN + 1 else names[:_SHOWN]  # "and 1 more" would take the place of that one
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ", ".join(map(repr, shown)) + more


def refuse_without_values(model: nn.Module, places: Iterable[Place], given: Mapping[int, object]) -> None:
    """Refuse tensors on the meta device that will be given no values.

    Args:
        model: with those places.
        places: of its parameters and buffers.
        given: the ids of tensors that will be.

    Raises:
        StateError: there are some; the message says how to build the model.
    """
    on_meta = [place for place in places if place.tensor.is_meta]
    missing = [place.name for place in on_meta if id(place.tensor) not in given]
    for prefix, module in paths_of(model) if on_meta else ():
        if not module._forward_pre_hooks:  # noqa: SLF001 - torch's older norms of weights compute an attribute by one
            missing += [f"{prefix}{name}" for name, value in vars(module).items() if _is_meta(value)]
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # what it holds cannot be replaced
            missing += [f"{name}.{leaf}" for leaf, t in module.named_parameters(recurse=False) if t.is_meta]
    if missing:
        raise StateError(
            f"nothing gives values to {some(missing)}, which the model has on the meta device: build the model"
            " with `with prunecell.meta_weights(): ...`, which has only parameters there and computes buffers, or"
            " without the meta device; and give compact_ a file that has all parameters"
        )


def _is_meta(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_meta


def layers_aside(model: nn.Module) -> dict[int, str]:
    """The ids of modules that a module also holds outside of its modules, and where.

    In a list, under a key, by a bound method: what is put in their place would not be seen there.
    """
    held = {id(found): where for where, found in _held_aside(model) if isinstance(found, nn.Module)}
    for _, module in paths_of(model):
        if _COMPILED in module._modules:  # noqa: SLF001
            held[id(module._modules[_COMPILED])] = "torch.compile"  # noqa: SLF001
    return held


def weights_aside(model: nn.Module) -> set[int]:
    """The ids of parameters that a module holds in a list or a dict, and that are another module's."""
    return {id(found) for _, found in _held_aside(model) if isinstance(found, nn.Parameter)}


def _held_aside(model: nn.Module) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    """What each module holds beside its modules and parameters, with the place; itself and its own parameters left out.

    (Recurrent layers of torch hold their own weights in a list, which they keep up to date.)
    """
    for prefix, module in paths_of(model):
        own = {id(module), *map(id, module._parameters.values())}  # noqa: SLF001 - tied ones too
        for name, value in vars(module).items():
            if name not in _OF_TORCH:
                yield from ((f"{prefix}{name}", found) for found in _held_in(value) if id(found) not in own)


def _held_in(value: object) -> Iterator[nn.Module | nn.Parameter]:
    if isinstance(value, dict):
        items: Iterable[object] = value.values()
    else:
        items = value if isinstance(value, list | tuple | set) else (value,)
    for item in items:
        held = item.__self__ if isinstance(item, MethodType) else item
        if isinstance(held, nn.Module | nn.Parameter):
            yield held
