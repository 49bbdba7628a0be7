"""The forms that a model is exported in: programs, made by running it once, and files of its tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from prunecell.checks import check_path
from prunecell.choices import chosen
from prunecell.errors import OptionError, OptionTypeError, typed
from prunecell.export.onnx_file import to_onnx
from prunecell.export.program import to_torch_export
from prunecell.export.subject import Example, state_of
from prunecell.files.contents import Contents, contents_of
from prunecell.files.formats import FILE_FORMATS, by_ending


@dataclass(frozen=True, kw_only=True)
class ProgramFormat:
    """A kind of file that holds the computation too: the model is run once with an example.

    Attributes:
        endings: of its names; the first format that has an ending is the one that the ending names.
        write: (model, example, path); the file appears when it is complete, or not at all.
    """

    endings: tuple[str, ...]
    write: Callable[[nn.Module, Example, str | Path], None]


PROGRAM_FORMATS = {
    "onnx": ProgramFormat(endings=(".onnx",), write=to_onnx),
    "onnx-dense": ProgramFormat(endings=(".onnx",), write=partial(to_onnx, sparse=False)),
    "torch-export": ProgramFormat(endings=(".pt2",), write=to_torch_export),
}
PROGRAM_ENDINGS = tuple(ending for known in PROGRAM_FORMATS.values() for ending in known.endings)
FORMATS: dict[str, ProgramFormat | Callable[[Contents, Path], None]] = {
    **PROGRAM_FORMATS,
    **{name: known.write for name, known in FILE_FORMATS.items() if known.write},
}
"""Name -> a format of programs, or what writes tensors: all of `FILE_FORMATS` that is written."""

_NAMES = {ending: name for name, known in FILE_FORMATS.items() if known.write for ending in known.endings} | {
    ending: name for name, known in reversed(PROGRAM_FORMATS.items()) for ending in known.endings
}


def export(
    model: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    *,
    example: Example | None = None,
    format: str | None = None,  # noqa: A002 - the word that users look for
) -> None:
    """Write a pruned model in a form that other programs read. The file appears when it is complete, or not at all.

    Args:
        model: a model, or its state_dict where the format takes tensors only. It is exported as it is in evaluation
            mode, and left as it was.
        path: where; an existing file is replaced.
        example: what the model is called with: a tensor, or a tuple of its positional arguments, whose first dimension
            counts samples. "onnx" and "torch-export" need it, the others ignore it.
        format: "onnx" (sparse initializers where they are smaller), "onnx-dense", "torch-export", or a name in
            `FILE_FORMATS`: "safetensors", "csr", "torch", "pcell". None: what the ending of `path` says.

    Raises:
        UnknownNameError: no such format, or no format has such an ending.
        OptionError: an example is missing, a library is, the model cannot be written so, or the path has the ending of
            another kind of file than `format`.
        OptionTypeError: a state_dict, or an example, is given where a model, or tensors, are needed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(nn.Linear(3, 2), f"{folder}/model.npz")
    ...     export(nn.Linear(3, 2), "model.onxx")
    Traceback (most recent call last):
    prunecell.errors.UnknownNameError: model.onxx: its ending is none that can be written; did you mean '.onnx'? ...
    """
    path = check_path("path", path)
    name = by_ending(path, _NAMES, "written") if format is None else format
    known = chosen("format", name, FORMATS)
    if not isinstance(known, ProgramFormat):
        known(contents_of(state_of(model)), path)
    elif not isinstance(model, nn.Module):
        raise OptionTypeError(f"format {name!r} needs the model itself, not {typed(model)} of its tensors")
    elif example is None:
        raise OptionError(f"example=None is illegal with format {name!r}: it must be what the model is called with")
    else:
        known.write(model, example, path)
