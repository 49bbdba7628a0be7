"""Where the tensors of a model are: parameters and buffers by their full names, tied ones at all their places."""

from collections.abc import Container, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from prunecell.errors import StateError, quoted, some


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


def elements_of(tensor: Tensor) -> Hashable:
    """What two tensors have in common that are the same elements in memory, as `a.detach()` and `a` are."""
    if is_lazy(tensor) or type(tensor) not in {Tensor, nn.Parameter} or tensor.layout != torch.strided:
        return id(tensor)
    storage = tensor.untyped_storage()._cdata  # noqa: SLF001 - on meta there is no address
    return storage, tensor.dtype, tensor.storage_offset(), tensor.shape, tensor.stride()


def n_bytes(model: nn.Module) -> int:
    """The memory that parameters and buffers take, tied ones once; those on the meta device as if they were real."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values() if not is_lazy(tensor))


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
            f"nothing gives values to {some(map(quoted, missing), 3)}, which the model has on the meta device: build"
            " the model with `with prunecell.meta_weights(): ...`, which has only parameters there and computes"
            " buffers, or without the meta device; and give compact_ a file that has all parameters"
        )


def _is_meta(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_meta
