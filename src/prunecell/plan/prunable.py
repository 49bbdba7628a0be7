"""What is a weight: the parameters that are pruned by default, decided by their shape and by the module that has them.

A weight connects inputs with outputs, so a zero takes a connection away. Known layers have theirs under known names.
Of any other module, a parameter with two dimensions larger than one is a weight, unless its owner or its own name says
that it is something else: a bias, an embedding, a scale, a rate. The main word decides, in the name of the parameter
and in that of the owner's class: a `token_weight` is a weight, a LayerNormLSTMCell is a cell.
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
    r"(?<!Weight)(?<!Spectral)(?<!Pre)(?<!Post)[Nn]orm(alization)?"
    r"(\d*[dD]?|Nd|NCHW|NHWC|TP|DP|SP|HF|Base|Layer|Module|Gated|Act|ReLU|Plus|Sync|Zero|Single|Affine|Fused|Wrapper"
    r"|[Ff][Pp]?\d+|Float32|(No|With|Without)?(Bias|Affine)|Channels?(First|Last)?|_)*$|GRN"
)
"""Names of classes that are norms, whose parameters are gains: RMSNorm, LayerNorm2d, RMSNormGated, ConvNeXt's GRN.
What comes after the norm is only its manner: a LayerNormLSTMCell is a cell, a NormFreeBlock is a block."""

_EMBEDDING = re.compile(
    r"((?<!Patch)(?<!Un)[Ee]mbed(s|dings?|der)?|Position(s|al)?|Position(al)?(Encod(ing|er)s?|Bias|Table))"
    r"(\d*[dD]?|Nd|Layer|Module|Bag|Base|Table|Learned|Sine|[Ff][Pp]?\d+|_)*$"
)
"""Names of classes that are embeddings, tables of positions, or hold tokens: not PositionWiseFeedForward."""

_WORDS = re.compile(
    r"(?<![^_])(?:"
    r"(?P<projects>proj|projection|projector|kernel|mix(?:ing|er)?|transform|to)"
    r"|(?P<bias>biase?)"
    r"|(?P<weight>weight|w[qkvoigxhr]{0,3}|matrix|matrices|expert)"
    r"|(?P<table>[a-z]*embed(?:s|ding)?|emb|table|wte|wpe|vocab|lut|codebook|codeword|encoding)"
    r"|(?P<token>[a-z]*token|[a-z]*vec(?:tor)?|pe|ape|rpe|pos|posn|position|positional|rel|relative|latent|const|ctx"
    r"|quer(?:y|ie)|prompt|prefix|prefixe|prototype|centroid|anchor|register|router|slot|mem|memory|memorie|null|sink)"
    r"|(?P<values>freq|frequenc(?:y|ie)|mean|mu|features|grid|plane|voxel|points|coord|transitions|cent(?:er|re)|angle"
    r"|rot|rotation|quat|quaternion|euler|xyz|pose|adj|adjacency|states?|init|initial|logit)"
    r"|(?P<norm>[a-z]*norm|ln|bn|gn)"
    r"|(?P<scale>scale|scaler|scaling|gain|gamma|beta|alpha|lamb?da|ls|slope|shift|offset|temperature|step_size"
    r"|zero_point|q?zero|zp|absmax|amax|clip_val|thresh|threshold|numerator|denominator|mask|score|importance|opacity)"
    r"|(?P<rate>log[a-z]*|decay|rate|lr|sigma|width|bandwidth|rho|tau|std|var|variance|cov|covariance|mixture|a_imag"
    r"|a_real|time_(?:first|faaaa|mix))"
    r")s?(?![^_])"
)
"""What the words of a name say, in a parameter of an unknown module."""

_REASONS = {
    "table": "an embedding",
    "token": "an embedding",
    "values": "a table of values, in which a zero takes no connection away",
    "norm": "a norm's",
    "scale": "a scale or a mask",
    "rate": "a rate or a spread, in which a zero takes no connection away",
}


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
    def words(self) -> str:
        """The words of the name, in small letters, without numbers: w_out of `wOut1`."""
        return "_".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", self.name)).lower()

    @property
    def leaf(self) -> str:
        """The last part of the name: `w1` of `experts.w1` in a ParameterDict."""
        return self.name.rpartition(".")[2]

    def beside(self, name: str) -> Tensor | None:
        """The parameter beside it that has a name, in capital or small letters; None if there is none."""
        holder = self.owner.get_submodule(self.name.rpartition(".")[0])
        siblings = {sibling.lower(): parameter for sibling, parameter in holder.named_parameters(recurse=False)}
        return siblings.get(name.lower())


def why_impossible(parameter: Tensor) -> str:
    """Why a parameter cannot be pruned; empty if it can."""
    if isinstance(parameter, UninitializedParameter):
        return "not initialized yet: run the lazy module once"
    if type(parameter.data).__name__ == "DTensor":  # its module takes long to import
        return "sharded over processes (a DTensor, as FSDP2 makes it), which is not supported yet"
    if parameter.is_meta:
        return "on the meta device: it has no values"
    if not parameter.is_floating_point():
        return f"of dtype {parameter.dtype}, which is no floating point"
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
    said = _said(place)
    projects = said[-1:] == ["projects"]
    if ("bias" in said and not projects) or _is_called_b(place, parameter):
        return "a bias"
    if _n_wide(parameter) < 2:  # noqa: PLR2004 - of inputs and of outputs
        return "a vector" if parameter.ndim < 2 else f"a vector of shape {tuple(parameter.shape)}"  # noqa: PLR2004
    if projects:
        return ""
    if reason := _why_not_by_name(said) or ("an embedding" if _EMBEDDING.search(type(place.owner).__name__) else ""):
        return reason
    if parameter.shape[0] == 1 and not {"weight", "projects"} & set(said):
        return f"of shape {tuple(parameter.shape)}: broadcast over a batch, as tokens and positions are"
    return ""


def _said(place: Place) -> list[str]:
    """What the words of its name say, those of them that say something: token, weight of `token_weight`."""
    said = [str(found.lastgroup) for found in _WORDS.finditer(place.words)]
    if re.fullmatch(r"[hc](_?0|x)", place.leaf):
        return ["values"]  # where a recurrent layer begins
    if re.search(r"_w$", place.leaf) and place.beside(f"{place.leaf[:-1]}h") is not None:
        return said[:-1]  # a width beside a height
    query = re.fullmatch(r"(.*)quer(y|ies)(_?\d*)", place.leaf, re.IGNORECASE)
    if query and place.beside(f"{query[1]}key{'s' if query[2].lower() == 'ies' else ''}{query[3]}") is not None:
        return [*said, "weight"]  # what makes queries, beside what makes keys
    return said


def _why_not_by_name(said: Sequence[str]) -> str:
    """Why a matrix is no weight. Its shape says that it is one, so its name decides only by its main word, the last.

    `token_weight` is read as `token.weight`: it is a weight but for an embedding's and a norm's. `w_queries` and
    `weight_mu` are weights, `weight_scale` is a scale.
    """
    if not said:
        return ""
    *before, last = said
    if last == "weight":
        last = next((word for word in reversed(before) if word != "weight"), "")
        return _REASONS[last] if last in {"table", "norm"} else ""
    return "" if last in {"token", "values"} and {"weight", "projects"} & set(before) else _REASONS.get(last, "")


def _is_called_b(place: Place, parameter: Tensor) -> bool:
    """Whether it is a bias by its letter.

    It is one beside a weight with more dimensions, as `b1` (experts, out) is beside `w1` (experts, in, out), `fc_b`
    beside `fc_w`; and `b_gates` is one by itself, but for factors and state spaces, which have `a_gates` or `c_gates`.
    """
    name = place.leaf
    weights = [f"w{name[1:]}"] if re.match(r"[bB]", name) else []
    if re.search(r"_[bB]$", name):
        weights += [f"{name[:-1]}w", f"{name[:-1]}weight", name[:-2]]
    beside = [weight for weight in map(place.beside, weights) if weight is not None]
    if beside or not re.match(r"b_[a-z]{2}", name):
        return any(_n_wide(weight) > _n_wide(parameter) for weight in beside)
    alone = all(place.beside(f"{letter}{name[1:]}") is None for letter in "ac")
    return alone and not {"weight", "projects"} & set(_said(place))


def _n_wide(parameter: Tensor) -> int:
    """The number of dimensions larger than one."""
    return sum(size > 1 for size in parameter.shape)
