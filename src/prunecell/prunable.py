"""What is a weight: the parameters that are pruned by default, decided by their shape and by the module that has them.

A weight connects inputs with outputs, so a zero takes a connection away. Known layers have theirs under known names.
Of any other module, a parameter with two dimensions larger than one is a weight, unless its owner or its own name says
that it is something else: a bias, an embedding, a scale, a rate.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import ParametrizationList

from prunecell.computed import Origin, origin_of
from prunecell.names import plain_names

_KNOWN_LAYERS = (
    *(nn.Linear, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_HOLDERS = (nn.ParameterList, nn.ParameterDict)

_NORM = re.compile(
    r"(?<!Weight)(?<!Spectral)Norm(alization)?(?![a-z])(?!.*(Linear|Dense|Conv|Attention|MLP|Block|Layer))|GRN"
)
"""Names of classes whose parameters are gains: RMSNorm, LayerNorm2d, ActNorm, ConvNeXt's GRN; not PreNormAttention."""

_EMBEDDING = re.compile(r"Embed(s|ding|dings|der)?(?![a-z])|Position(al)?(?![a-z])")
"""Names of classes whose own parameters are embeddings, tokens, tables of positions."""

_WORDS = {
    "a bias": {"bias", "biases"},
    "an embedding": {
        *("embed", "embeds", "embedding", "embeddings", "emb", "embs", "pe", "pos", "position", "positions"),
        *("positional", "token", "tokens", "table", "tables", "codebook", "codebooks", "codevectors", "latents"),
        *("queries", "prompt", "prompts", "prototypes"),
    },
    "a scale": {"scale", "scales", "gain", "gains", "gamma", "beta", "shift", "norm", "temperature"},
    "a rate or a spread, in which a zero takes no connection away": {
        *("log", "logs", "decay", "sigma", "rho", "std", "var", "logvar"),
    },
}
"""Why a parameter of an unknown module is no weight: a word in its own name."""

_OF_WEIGHTS = {"proj", "projection", "kernel", "kernels"}
"""Words that say it is a weight all the same: `pos_proj` projects, it holds no positions."""

_CALLED_A_WEIGHT = {"weight", "weights", "w", "matrix", "experts"}


@dataclass(frozen=True)
class Place:
    """One place where a model has a parameter.

    Attributes:
        owner: the layer, which may compute its weight from the parameter.
        name: of the parameter in the owner; of the weight that is computed from it.
        origin: what it is to a computed weight.
        is_adapter: whether it was added to a model to tune it, as LoRA's matrices are.
    """

    owner: nn.Module
    name: str
    origin: Origin | None
    is_adapter: bool

    @property
    def words(self) -> set[str]:
        """The words of the name, in small letters."""
        return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", self.name)}


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

    @cached_property
    def impossible(self) -> str:
        """Why it cannot be pruned; empty if it can."""
        return why_impossible(self.parameter)

    @cached_property
    def reason(self) -> str:
        """Why it is not pruned by default; empty if it is."""
        return self.impossible or _why_not(self)


def candidates(model: nn.Module) -> list[Candidate]:
    """All parameters of a model, each once, in its order."""
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


def why_impossible(parameter: Tensor) -> str:
    """Why a parameter cannot be pruned; empty if it can."""
    if isinstance(parameter, UninitializedParameter):
        return "not initialized yet: run the lazy module once"
    if parameter.is_meta:
        return "on the meta device: it has no values"
    if not parameter.is_floating_point():
        return f"of dtype {parameter.dtype}: only floating point is pruned"
    if parameter.numel() == 0:
        return "empty"
    return ""


def _place(modules: dict[str, nn.Module], path: str, leaf: str, parameter: nn.Parameter, *, is_adapter: bool) -> Place:
    module = modules[path]
    origin = None if why_impossible(parameter) else origin_of(module, leaf, parameter)
    above, inside, weight = f".{path}".rpartition(".parametrizations.")
    if inside:
        weight, _, rest = weight.partition(".")
        if rest:
            origin = Origin(weight, "a parametrization's own")
        return Place(modules[above[1:]], weight, origin, is_adapter)
    while isinstance(modules[path], _HOLDERS):
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


def _why_not(candidate: Candidate) -> str:
    places, parameter = candidate.places, candidate.parameter
    if any(place.is_adapter for place in places):
        return "an adapter's"
    if any(isinstance(place.owner, _EMBEDDINGS) for place in places):
        shared = len(places) > 1
        return f"an embedding, shared by {', '.join(candidate.names)}" if shared else "an embedding"
    if reason := next((place.origin.reason for place in places if place.origin and place.origin.reason), ""):
        return reason
    if any(_is_a_known_weight(place, parameter) for place in places):
        return ""
    if any(_NORM.search(kind.__name__) for place in places for kind in type(place.owner).__mro__):
        return "a norm's"
    return next(filter(None, (_why_not_a_weight(place, parameter) for place in places)), "")


def _is_a_known_weight(place: Place, parameter: Tensor) -> bool:
    """Whether it is a matrix or kernel of a layer that is known: also one with a single input or output."""
    kinds = type(place.owner).__mro__
    known = isinstance(place.owner, _KNOWN_LAYERS) or any(kind.__name__ == "Conv1D" for kind in kinds)
    return known and "weight" in place.words and parameter.ndim >= 2  # noqa: PLR2004 - rows and columns


def _why_not_a_weight(place: Place, parameter: Tensor) -> str:
    """Why a parameter of an unknown module is no weight, by its shape and its name."""
    words = place.words
    if words & _WORDS["a bias"] or _stands_beside_its_weight(place):
        return "a bias"
    if sum(size > 1 for size in parameter.shape) < 2:  # noqa: PLR2004 - of inputs and of outputs
        return "a vector" if parameter.ndim < 2 else f"a vector of shape {tuple(parameter.shape)}"  # noqa: PLR2004
    if words & _OF_WEIGHTS:
        return ""
    if reason := next((reason for reason, telling in _WORDS.items() if words & telling), ""):
        return reason
    if _EMBEDDING.search(type(place.owner).__name__):
        return "an embedding"
    if parameter.shape[0] == 1 and not words & _CALLED_A_WEIGHT:
        return "an embedding, the same for all samples of a batch"
    return ""


def _stands_beside_its_weight(place: Place) -> bool:
    """Whether it is `b1` beside `w1`, as the biases of experts are: (experts, out) beside (experts, in, out)."""
    rest = place.name[1:]
    siblings = {name.lower() for name, _ in place.owner.named_parameters(recurse=False)}
    return place.name.startswith("b") and (not rest or not rest[0].isalpha()) and f"w{rest}".lower() in siblings
