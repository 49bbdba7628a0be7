"""Which tensor of an archive is for which tensor of a model, and what does not fit; all of it known from the header."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor, nn

from prunecell.archive import Archive
from prunecell.errors import StateError, quoted, some
from prunecell.names import plain_names
from prunecell.sparse.places import Place, elements_of, paths_of

_COMPACT = "format_code"  # a buffer that sparse layers alone have
_COUNTER = "num_batches_tracked"
_EXTRA = "_extra_state"  # as torch calls it in a state_dict
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)  # noqa: SLF001 - no public name for all


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How an archive fits a model.

    Attributes:
        stored: the id of a tensor of the model -> its name in the archive. Of several tensors for the same elements in
            memory, which one tensor at several places has, or several tensors, the last counts, as it does for
            `load_state_dict`.
        extra: the names of extra states in the model -> in the archive.
        missing: tensors of the model that the archive lacks.
        left_over: tensors of the archive that the model lacks.
        remarks: what is worth knowing, a sentence each.
    """

    stored: dict[int, str]
    extra: dict[str, str]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    remarks: tuple[str, ...]


def names_in(model: nn.Module, archive: Iterable[str]) -> dict[str, str]:
    """Each name that a tensor of this archive would have in the model's own state_dict -> its name in the archive."""
    own = {plain: name for name, plain in plain_names(model).items()}
    return {own.get(name, name): name for name in archive}


def fit(model: nn.Module, places: Sequence[Place], archive: Archive, *, strict: bool) -> Fit:
    """Find out how an archive fits a model whose modules all load as torch's do.

    A name that is missing because its tensor is tied to one that is there is not missed, and neither is the counter of
    a norm, which `load_state_dict` does not miss in files without versions.

    Raises:
        StateError: a shape or a dtype does not fit; the archive was saved after `compact_`; or, if `strict`, a tensor
            is missing or left over.
    """
    found = names_in(model, archive)
    refuse_compact(found, places)
    saved = [place for place in places if place.is_saved]
    given: dict[Hashable, str] = {}
    remarks: list[str] = []
    for place in saved:
        if place.name in found:
            name = found[place.name]
            _check(place, archive, name)
            elements = elements_of(place.tensor)
            before = given.get(elements, name)
            if archive.target(before) != archive.target(name):
                remarks.append(
                    f"{before!r} and {name!r} are two tensors in the file and one in the model: {name!r} counts"
                )
            given[elements] = name
    stored = {id(p.tensor): given[of] for p in saved if (of := elements_of(p.tensor)) in given}
    extras = set(_extra_keys(model))
    wanted = [p.name for p in saved if id(p.tensor) not in stored and not is_counter(p)]
    missing = (*dict.fromkeys(wanted), *sorted(extras - found.keys()))
    known = extras.union(place.name for place in saved)
    left_over = tuple(name for own, name in found.items() if own not in known)
    if strict:
        _refuse_rest(missing, left_over, archive, known)
    return Fit(
        stored=stored,
        extra={key: found[key] for key in extras & found.keys()},
        missing=missing,
        left_over=left_over,
        remarks=tuple(remarks),
    )


def _extra_keys(model: nn.Module) -> Iterator[str]:
    for prefix, module in paths_of(model):
        if type(module).set_extra_state is not nn.Module.set_extra_state:
            yield prefix + _EXTRA


def is_counter(place: Place) -> bool:
    """Whether this is the counter of a norm, which a file may lack: it then stays, or begins with 0."""
    return place.leaf == _COUNTER and isinstance(place.module, _NORMS)


def refuse_compact(found: Iterable[str], places: Iterable[Place]) -> None:
    """Refuse a file that was saved after `compact_`, where the layers of the model are dense.

    Raises:
        StateError: it was.
    """
    own = {place.name for place in places}
    sparse = [name for name in found if name.rpartition(".")[2] == _COMPACT and name not in own]
    if sparse:
        layer = sparse[0].rpartition(".")[0]
        raise StateError(
            f"the archive was saved from a model after compact_ (it has {sparse[0]!r}), and the layer {layer!r} of this"
            " model is dense: save the model before compact_, or load into a model that compact_ made in the same way"
        )


def _check(place: Place, archive: Archive, name: str) -> None:
    facts, own = archive.facts(name), place.tensor
    shape = () if own.ndim == 0 and facts.shape == (1,) else facts.shape  # as load_state_dict, for files of old
    if shape != tuple(own.shape):
        smaller = len(shape) == own.ndim and all(a <= b for a, b in zip(shape, own.shape, strict=True))
        hint = "; if units were removed from it, prunecell.load_model(path, model) makes the model so small"
        told = f"{place.name}: the archive has the shape {facts.shape}, the model {tuple(own.shape)}"
        raise StateError(f"{told}{hint if smaller else ''}")
    if not _can_be(facts.dtype, own):
        raise StateError(f"{place.name}: the archive has {facts.dtype}, which the model's {own.dtype} cannot hold")


def _can_be(stored: str, own: Tensor) -> bool:
    wanted = str(own.dtype).removeprefix("torch.")
    packed = "x2" in stored + wanted  # two numbers in an element
    return stored == wanted or (not packed and (own.is_complex() or not stored.startswith("complex")))


def _refuse_rest(missing: Sequence[str], left_over: Sequence[str], archive: Archive, known: Iterable[str]) -> None:
    facts = [
        _lacking(names, of, other, list(there))
        for names, of, other, there in (
            (missing, "the model", archive.path, archive),
            (left_over, archive.path, "the model", known),
        )
        if names
    ]
    if facts:
        way_out = "strict=False leaves tensors that are missing as they are, and leaves out those that are left over"
        raise StateError("; ".join([*facts, way_out]))


def _lacking(names: Sequence[str], of: object, other: object, there: Sequence[str]) -> str:
    """Count the names that one side lacks, show the first, and the one that may be meant by the first."""
    n, near = len(names), get_close_matches(names[0], there, n=1)
    hint = f" (did you mean {near[0]!r} by the first?)" if near else ""
    count = f"{n:,} tensors of {of} are" if n > 1 else f"1 tensor of {of} is"
    return f"{count} not in {other}: {some(map(quoted, names), 3)}{hint}"
