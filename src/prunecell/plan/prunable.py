"""What is a weight: the parameters that are pruned by default, decided by their shape and by the module that has them.

A weight connects inputs with outputs, so a zero takes a connection away. Known layers have theirs under known names.
Of any other module, a parameter with two dimensions larger than one is a weight, unless its owner or its own name says
that it is something else: a bias, an embedding, a scale, a rate.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from prunecell.plan.computed import Origin

_KNOWN_LAYERS = (
    *(nn.Linear, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_THEIR_WEIGHTS = re.compile(r"((in|q|k|v)_proj_)?weight|weight_(ih|hh|hr)(_l\d+(_reverse)?)?")
"""How known layers call their weights: what a subclass adds, such as scales of a quantized weight, is judged afresh."""

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)

_NORM = re.compile(
    r"(?<!Weight)(?<!Spectral)(?<!Pre)(?<!Post)[Nn]orm(alization)?(?![a-z])(?!.*(Linear|Dense|Conv|Attention|MLP))|GRN"
)
"""Names of classes whose parameters are gains: RMSNorm, LayerNorm2d, ActNorm, ConvNeXt's GRN; not PreNormAttention."""

_EMBEDDING = re.compile(r"[Ee]mbed(s|ding|dings|der)?(?![a-z])|Position(al)?(?![a-z])")
"""Names of classes whose own parameters are embeddings, tokens, tables of positions."""

_WORDS = {
    "a bias": re.compile(r"bias(es)?"),
    "an embedding": re.compile(
        r"[a-z]*(embed(s|dings?)?|tokens?)|embs?|pe|pos|posn|positions?|positional|tables?|wte|wpe|vocab|lut"
        r"|codebooks?|codevectors?|latents|queries|prompts?|prototypes?|centroids|anchors|registers"
    ),
    "a scale": re.compile(r"scales?|gains?|gamma|beta|shift|norm|temperature"),
    "a rate or a spread, in which a zero takes no connection away": re.compile(r"logs?|decay|sigma|rho|std|var|logvar"),
}
"""Why a parameter of an unknown module is no weight: a whole word in its own name."""

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


def why_not(parameter: Tensor, places: Sequence[Place]) -> str:
    """Why a parameter that can be pruned is not by default; empty if it is.

    Args:
        parameter: it.
        places: all that it has in the model.
    """
    if any(place.is_adapter for place in places):
        return "an adapter's"
    if any(isinstance(place.owner, _EMBEDDINGS) for place in places):
        return "an embedding"
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
    return known and bool(_THEIR_WEIGHTS.fullmatch(place.name)) and parameter.ndim >= 2  # noqa: PLR2004 - a matrix


def _why_not_a_weight(place: Place, parameter: Tensor) -> str:
    """Why a parameter of an unknown module is no weight, by its shape and its name."""
    if any(map(_WORDS["a bias"].fullmatch, place.words)) or _stands_beside_its_weight(place):
        return "a bias"
    if sum(size > 1 for size in parameter.shape) < 2:  # noqa: PLR2004 - of inputs and of outputs
        return "a vector" if parameter.ndim < 2 else f"a vector of shape {tuple(parameter.shape)}"  # noqa: PLR2004
    return "" if place.words & _OF_WEIGHTS else _why_not_a_matrix_of_weights(place, parameter)


def _why_not_a_matrix_of_weights(place: Place, parameter: Tensor) -> str:
    if reason := next((reason for reason, word in _WORDS.items() if any(map(word.fullmatch, place.words))), ""):
        return reason
    if _EMBEDDING.search(type(place.owner).__name__):
        return "an embedding"
    if parameter.shape[0] == 1 and not place.words & _CALLED_A_WEIGHT:
        return f"of shape {tuple(parameter.shape)}: broadcast over a batch, as tokens and positions are"
    return ""


def _stands_beside_its_weight(place: Place) -> bool:
    """Whether it is `b1` beside `w1`, as the biases of experts are: (experts, out) beside (experts, in, out)."""
    holder, _, name = place.name.rpartition(".")
    if not re.match(r"b(?![A-Za-z])", name):
        return False
    siblings = {sibling.lower() for sibling, _ in place.owner.get_submodule(holder).named_parameters(recurse=False)}
    return f"w{name[1:]}".lower() in siblings
