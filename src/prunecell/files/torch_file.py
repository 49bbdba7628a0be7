"""A state_dict as torch writes it. It is read with `weights_only`: no code in it is run."""

import errno
import io
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import torch
from torch import nn

from prunecell.disk.atomic import replacing
from prunecell.disk.endings import TORCH, check_ending
from prunecell.disk.foreign import mistaken
from prunecell.errors import FormatError
from prunecell.files.contents import Contents, contents_of, tell_left_out
from prunecell.files.nested import METADATA, put_together, taken_apart

_OBJECT = re.compile(r"(?:GLOBAL|global:?|class|function) `?([A-Za-z_][\w.]*\.\w+)")


def read_torch(path: Path, *, key: str | None = None) -> Contents:
    """Open a state_dict, or a checkpoint that has one.

    Args:
        path: the file.
        key: the entry of the checkpoint that is the state_dict; None: all of it, a usual name, or the only one.

    Raises:
        FormatError: torch cannot read it without running code, or it holds no state_dict, or several.
        UnknownNameError: no entry of this key holds one.
    """
    if else_ := mistaken(path, TORCH):
        raise FormatError(f"{path}: {else_}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's hints about the ways in which files were written
            found = _loaded(path)
    except Exception as error:  # torch raises whatever its parsers raise
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise FormatError(f"{path}: {_why_not(error, path)}") from None
    nested = taken_apart(found, path, key)
    return contents_of(nested.state, metadata=nested.metadata, left_out=nested.left_out)


def torch_bytes(model: nn.Module) -> bytes:
    """The state_dict of a model as torch writes it: what a file is compared with."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.getvalue()


def _loaded(path: Path) -> object:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # torch maps no file of such a name
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _why_not(error: Exception, path: Path) -> str:
    """What is wrong with a file that torch does not read, and what to do."""
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and "Unsupported" in text:
        held = dict.fromkeys(name for name in _OBJECT.findall(text) if not name.startswith("torch.serialization"))
        what = ", ".join(held) or "classes or functions"
        tensors = str(path.with_name(f"{path.stem}-state.pt"))
        return (
            f"it holds pickled objects of {what}, whose code would have to run. Where you trust the file, load it, and"
            " save the tensors:\n"
            f"  model = torch.load({str(path)!r}, weights_only=False)\n"
            f"  torch.save(model.state_dict(), {tensors!r})\n"
            "Where it gives a dict, save the state_dict that is in it"
        )
    told = text.strip().split("\n")[0].split(". ")[0]
    reason = f" ({told[:200]})" if told and isinstance(error, pickle.UnpicklingError | RuntimeError) else ""
    return f"it is damaged, or no torch checkpoint: torch reads no tensors from it{reason}; copy or save it again"


def write_torch(contents: Contents, path: Path) -> None:
    """Write a state_dict, or the checkpoint around it that was packed; other metadata have no place in it.

    Raises:
        OptionError: the path has the ending of another kind of file.
    """
    check_ending(path, TORCH)
    whole = put_together(contents.state(), contents.metadata)
    tell_left_out(path, [name for name in contents.metadata if name != METADATA])
    with replacing(path) as file:
        try:
            torch.save(whole, file)
        except RuntimeError as error:  # with which torch hides that the disk is full
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
