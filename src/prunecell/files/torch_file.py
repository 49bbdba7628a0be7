"""A state_dict as torch writes it. It is read with `weights_only`: no code in it is run."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from prunecell.atomic import replacing
from prunecell.errors import FormatError
from prunecell.files.contents import Contents, contents_of

_NESTED = ("state_dict", "model_state_dict", "model")  # where checkpoints keep their state_dict


def read_torch(path: Path) -> Contents:
    """Open a state_dict, or a checkpoint that has one under a usual name.

    Raises:
        FormatError: torch cannot read it without running code, or it holds other things than tensors.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError) as e:
        has_words = isinstance(e, pickle.UnpicklingError | RuntimeError)
        told = str(e).strip().split(". ")[0] if has_words else type(e).__name__
        raise FormatError(f"{path}: torch reads no plain weights from it ({told})") from None
    return contents_of(_state_dict(found, path))


def _state_dict(found: object, path: Path) -> Mapping[str, Tensor]:
    """Find the state_dict in what torch read: it is all of it, or stands under a usual name."""
    if not isinstance(found, Mapping):
        raise FormatError(f"{path}: it holds no state_dict but a {type(found).__name__}")
    nested = (found[name] for name in _NESTED if isinstance(found.get(name), Mapping))
    state = next(nested, found)
    strangers = [f"{key!r}: {type(value).__name__}" for key, value in state.items() if not isinstance(value, Tensor)]
    if strangers:
        raise FormatError(
            f"{path}: it is no state_dict, as it holds other things than tensors: {', '.join(strangers[:5])}"
        )
    return state


def write_torch(contents: Contents, path: Path) -> None:
    """Write a state_dict; the metadata have no place in it."""
    state = contents.state()
    with replacing(path) as file:
        torch.save(state, file)
