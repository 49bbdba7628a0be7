"""What a model holds beside its modules: layers in lists, closures or objects, where none sees what replaces them.

Such a layer stays dense. Python has more ways to hold an object than can be searched, and a parameter can be held
without its layer, or only its memory: by a view, a detached tensor, a numpy array. So after a file was loaded,
`settle_` gives its values to whatever the model had and somebody still holds.
"""

import weakref
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial
from types import FunctionType, MethodType, ModuleType

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from prunecell.sparse.places import paths_of, places_of

_OF_TORCH = ("_parameters", "_buffers", "_modules")
_COMPILED = "_orig_mod"  # what torch.compile wraps; the code that it makes calls this very module
_LEAVES = (str, bytes, int, float, complex, type, ModuleType, Tensor, type(None))
_MOST = 200_000  # objects that are looked at


def layers_aside(model: nn.Module) -> dict[int, str]:
    """The ids of modules that are also held outside of the modules of the model, and where.

    In lists of lists, by a partial, in the closure of a function, in an object: what is put in their place would not be
    seen there.
    """
    held: dict[int, str] = {}
    inside = {id(module) for module in model.modules()}
    seen: set[int] = set()
    for prefix, module in paths_of(model):
        for name, value in vars(module).items():
            if name not in _OF_TORCH and getattr(value, "__self__", None) is not module:  # its own method may stay
                for found in _modules_in(value, inside, seen):
                    held.setdefault(id(found), f"{prefix}{name}")
        if _COMPILED in module._modules:  # noqa: SLF001
            held[id(module._modules[_COMPILED])] = "torch.compile"  # noqa: SLF001
    return held


def _modules_in(value: object, inside: Container[int], seen: set[int]) -> Iterator[nn.Module]:
    """The modules of the model that are reached from a value; what they hold themselves is not looked at."""
    waiting = [value]
    while waiting and len(seen) < _MOST:
        item = waiting.pop()
        if id(item) in inside and isinstance(item, nn.Module):
            yield item
        elif not isinstance(item, _LEAVES) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(_held_by(item))


def _held_by(item: object) -> Iterable[object]:
    """What an object refers to, as far as its kind lets one know without running code of its class."""
    if isinstance(item, weakref.ProxyTypes):
        return (item.__repr__.__self__,)  # the method is that of the object itself
    if isinstance(item, weakref.ref):
        return (item(),)
    if isinstance(item, MethodType):
        return item.__self__, item.__func__
    if isinstance(item, FunctionType):
        return _of_function(item)
    if isinstance(item, partial):
        return item.func, *item.args, *item.keywords.values()
    held: list[object] = []
    if isinstance(item, dict):
        held += (*item.keys(), *item.values())
    elif isinstance(item, list | tuple | set | frozenset | deque):
        held += item
    if isinstance(item, nn.Module) or not type(item).__module__.startswith("torch."):  # what torch makes is its own
        held += _attributes(item)
    return held


def _of_function(function: FunctionType) -> list[object]:
    """What a function was made with, and the globals that it names."""
    held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *vars(function).values()]
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # it is filled later
            continue
    names = function.__globals__
    return held + [names[name] for name in function.__code__.co_names if name in names]


def _attributes(item: object) -> list[object]:
    held = [*getattr(item, "__dict__", {}).values()]
    for cls in type(item).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            slot = vars(cls).get(name)
            if isinstance(slot, _SLOT):
                try:
                    held.append(slot.__get__(item, cls))
                except AttributeError:  # it is empty
                    continue
    return held


class _Slotted:
    __slots__ = ("slot",)


_SLOT = type(vars(_Slotted)["slot"])


# ---- what is still held when the model is loaded ---------------------------------------------------------------------


class Before:
    """The parameters that a model has before it is loaded, by the first of their names. None is kept alive by this."""

    def __init__(self, model: nn.Module) -> None:
        places = reversed(places_of(model))
        first = {id(place.tensor): place for place in places if isinstance(place.tensor, nn.Parameter)}
        self._known = [(place.name, _Known(place.tensor)) for place in first.values()]
        self._recurrent = [weakref.ref(m) for m in model.modules() if isinstance(m, nn.RNNBase)]

    def settle_(
        self, model: nn.Module, values: Callable[[str, Tensor], Tensor], stored: Container[str], *, on_meta: bool = True
    ) -> None:
        """Give values to the parameters that the model no longer has, where somebody still holds them or their memory.

        Those on the meta device become real in the hands of who holds them, and are the model's own again where it has
        one of their name.

        Args:
            model: loaded, with its sparse layers. Other code holds the rest of what it was.
            values: (name, parameter) -> what it is to be.
            stored: the names for which there are values.
            on_meta: whether parameters on the meta device are looked at.
        """
        places = {place.name: place for place in places_of(model)}
        present = {id(place.tensor) for place in places.values()}
        recurrent = [module for reference in self._recurrent if (module := reference()) is not None]
        for module in recurrent:
            module._flat_weight_refs = []  # noqa: SLF001 - torch keeps them in no public place
        written: set[int | None] = set()
        while self._known:
            name, known = self._known.pop()
            held, memory = known.held(), known.memory
            del known  # torch makes no tensor another one while there are references like its
            if held is None:
                continue
            is_gone = id(held) not in present
            if not held.is_meta:
                if name in stored and (is_gone or memory in written):  # where two overlap, the last one counts
                    _write(held, values(name, held))
                    written.add(memory)
            elif is_gone and on_meta:
                now = places[name].tensor if name in places else None
                _become_(model, held, values(name, held) if now is None and name in stored else now)
        for module in recurrent:
            module._init_flat_weights()  # noqa: SLF001


class _Known:
    """A parameter, and where its elements are in memory.

    Memory that may be that of a numpy array or of another process is kept alive, because torch does not know who else
    has it.
    """

    def __init__(self, parameter: Tensor) -> None:
        self._parameter = weakref.ref(parameter)
        self._storage = self._kept = None
        if type(parameter) is nn.Parameter and parameter.layout == torch.strided and not parameter.is_meta:
            storage = parameter.untyped_storage()
            self._storage = StorageWeakRef(storage)  # type: ignore[no-untyped-call] # torch's
            self._kept = storage if storage.is_shared() or not storage.resizable() else None
            self._dtype, self._at = parameter.dtype, (parameter.storage_offset(), parameter.shape, parameter.stride())

    @property
    def memory(self) -> int | None:
        """What is the same for parameters in one piece of memory; None where it is not known."""
        return None if self._storage is None else self._storage.cdata

    def held(self) -> Tensor | None:
        """The parameter, or another tensor of its elements if only their memory is still held, or None."""
        parameter = self._parameter()
        if parameter is not None or self._storage is None:
            return parameter
        storage = torch.UntypedStorage._new_with_weak_ptr(self._storage.cdata)  # noqa: SLF001 - it has no public name
        if storage is None:
            return None
        return torch.empty(0, dtype=self._dtype, device=storage.device).set_(storage, *self._at)


def _write(held: Tensor, values: Tensor) -> None:
    with torch.inference_mode(mode=held.is_inference()), torch.no_grad():
        held.copy_(values)


def _become_(model: nn.Module, held: Tensor, real: Tensor | None) -> None:
    """Let a parameter on the meta device become a real one, at all its places, without changing its identity."""
    if real is None or real.is_meta:
        return
    at = [place for place in places_of(model) if place.tensor is real]
    new = nn.Parameter(real.detach(), real.requires_grad if at else held.requires_grad)
    vars(new).update(vars(held))
    try:
        torch.utils.swap_tensors(held, new)  # type: ignore[no-untyped-call] # torch's
    except RuntimeError:  # a graph or a weak reference has it, as of a weight that is computed before each forward
        return
    for place in at:
        setattr(place.module, place.leaf, held)
