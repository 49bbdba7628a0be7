"""What a file of tensors holds, tensor by tensor: a model larger than memory goes through."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from prunecell.archive import Alias
from prunecell.archive.saving import tied

_ALWAYS_THERE = "format"  # of safetensors' metadata, where it says "pt": everybody knows


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The tensors of a file and its metadata; to be gone through once.

    Attributes:
        items: name and tensor, or an alias of a name before it where the two tensors are the same one.
        metadata: what the file holds beside them, as far as JSON holds it.
        left_out: what else the file holds, in words.
    """

    items: Iterator[tuple[str, Tensor | Alias]]
    metadata: Mapping[str, object] = field(default_factory=dict)
    left_out: Sequence[str] = ()

    def state(self) -> dict[str, Tensor]:
        """Read all tensors into memory, in their order; tied ones are one tensor."""
        state: dict[str, Tensor] = {}
        for name, item in self.items:
            state[name] = state[item.of] if isinstance(item, Alias) else item
        return state


def contents_of(
    state: Mapping[str, Tensor], *, metadata: Mapping[str, object] | None = None, left_out: Sequence[str] = ()
) -> Contents:
    """Return the contents of a file that will hold a state_dict."""
    return Contents(items=tied(state), metadata=metadata or {}, left_out=left_out)


def tell_left_out(path: Path, names: Sequence[str]) -> None:
    """Warn of metadata that a file, which is about to be written, has no place for."""
    lost = [name for name in names if name != _ALWAYS_THERE]
    if lost:
        warnings.warn(f"{path}: this kind of file has no place for the metadata {', '.join(lost)}", stacklevel=4)
