"""The parameters of a model: their names, and the layers that have them or compute their weights from them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from prunecell.names import plain_names
from prunecell.plan.computed import Origin, origin_of
from prunecell.plan.prunable import Place, why_impossible, why_not
from prunecell.torch_checks import check_model

_HOLDERS = (nn.ParameterList, nn.ParameterDict)


@dataclass(frozen=True)
class Candidate:
    """A parameter, all its names and all its places.

    Attributes:
        names: without the prefixes of wrappers, then with them; then those of the weight that is computed from it.
    """

    names: tuple[str, ...]
    places: tuple[Place, ...]
    parameter: nn.Parameter

    @property
    def name(self) -> str:
        """The first name."""
        return self.names[0]

    @property
    def normed(self) -> tuple[int, ...] | None:
        """See `Origin`."""
        return next((place.origin.normed for place in self.places if place.origin), None)

    @property
    def is_only_stored(self) -> bool:
        """Whether a parametrization computes a weight from it that has no zeros where it has."""
        stored = any(re.search(r"(^|\.)parametrizations\.[^.]+\.original\d*$", name) for name in self.names)
        return stored and any(place.origin and place.origin.reason for place in self.places)

    def why_not_under(self, key: object) -> str:
        """Why neither pruning nor sharing takes it by this key of a plan, or name; empty if they do."""
        if self.impossible:
            return f"it is {self.impossible}"
        names_what_is_stored = isinstance(key, str) and "original" in key.rpartition(".")[2]
        if self.is_only_stored and not names_what_is_stored:
            return f"it is {self.reason}; {self.names[-1]!r} names what is stored"
        return ""

    @cached_property
    def impossible(self) -> str:
        """Why it cannot be pruned; empty if it can."""
        return why_impossible(self.parameter)

    @cached_property
    def reason(self) -> str:
        """Why it is not pruned by default; empty if it is."""
        if self.impossible:
            return self.impossible
        reason = why_not(self.parameter, self.places)
        return f"{reason}, shared by {', '.join(self.names)}" if reason and len(self.places) > 1 else reason


def candidates(model: nn.Module) -> list[Candidate]:
    """All parameters of a model, each once, in its order.

    Raises:
        OptionTypeError: it is no module.
    """
    check_model(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    adapters = tuple(_adapters(modules))
    plain = plain_names(model)
    found: dict[int, Candidate] = {}
    for path, module in modules.items():
        for leaf, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{path}.{leaf}" if path else leaf
            place = _place(modules, path, leaf, parameter, is_adapter=name.startswith(adapters) or _says_lora(name))
            known = found.get(id(parameter), Candidate((), (), parameter))
            names = dict.fromkeys((*known.names, plain[name], name, *_names_of_the_weight(place, plain[name], name)))
            found[id(parameter)] = Candidate(tuple(names), (*known.places, place), parameter)
    return list(found.values())


def _place(modules: dict[str, nn.Module], path: str, leaf: str, parameter: nn.Parameter, *, is_adapter: bool) -> Place:
    module = modules[path]
    origin = None if why_impossible(parameter) else origin_of(module, leaf, parameter)
    above, inside, weight = f".{path}".rpartition(".parametrizations.")
    if inside:
        weight, _, rest = weight.partition(".")
        if rest:
            origin = Origin(weight, "a parametrization's own")
        return Place(modules[above[1:]], weight, origin, is_adapter)
    while path and isinstance(modules[path], _HOLDERS):
        path, _, name = path.rpartition(".")
        leaf = f"{name}.{leaf}"
    return Place(modules[path], origin.weight if origin else leaf, origin, is_adapter)


def _names_of_the_weight(place: Place, *names: str) -> Iterator[str]:
    """`0.weight` for `0.weight_v`, `0.weight.original1` and `0.parametrizations.weight.original1`."""
    if place.origin and not place.origin.reason:
        for name in names:
            yield re.sub(r"(parametrizations\.)?[^.]+\.original\d*$|[^.]+$", "", name) + place.name


def _adapters(modules: dict[str, nn.Module]) -> Iterator[str]:
    """How the names of adapters begin, as peft's layers and models say it."""
    for path, module in modules.items():
        before = f"{path}." if path else ""
        names = getattr(module, "adapter_layer_names", ())
        yield from (f"{before}{name}" for name in names if isinstance(name, str) and name != "modules_to_save")
        if hasattr(module, "peft_config"):
            yield f"{before}prompt_encoder"


def _says_lora(name: str) -> bool:
    return any(part.lower().startswith("lora") for part in name.split("."))
