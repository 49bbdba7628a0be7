"""What a file of tensors holds, tensor by tensor: a model larger than memory goes through."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from prunecell.archive import Alias
from prunecell.archive.saving import tied


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The tensors of a file and its metadata; to be gone through once.

    Attributes:
        items: name and tensor, or an alias of a name before it where the two tensors are the same one.
        metadata: what the file holds beside them.
    """

    items: Iterator[tuple[str, Tensor | Alias]]
    metadata: Mapping[str, object] = field(default_factory=dict)

    def state(self) -> dict[str, Tensor]:
        """Read all tensors into memory, in their order; tied ones are one tensor."""
        state: dict[str, Tensor] = {}
        for name, item in self.items:
            state[name] = state[item.of] if isinstance(item, Alias) else item
        return state


def contents_of(state: Mapping[str, Tensor]) -> Contents:
    """Return the contents of a file that will hold a state_dict."""
    return Contents(items=tied(state))
