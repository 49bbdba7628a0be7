"""The table of the forms a model is exported in, and the one place where a name or a file's ending becomes one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from prunecell.errors import OptionError, OptionTypeError, UnknownNameError, nearest
from prunecell.export.onnx_file import to_onnx
from prunecell.export.program import to_torch_export
from prunecell.export.subject import Example
from prunecell.export.tensors import to_csr, to_safetensors


@dataclass(frozen=True, kw_only=True)
class Format:
    """A form that a model is exported in.

    Attributes:
        ending: of its files; the first format with an ending is the one that the ending stands for.
        write: (model, example, path) where it is traced, else (model or state_dict, path).
        traced: whether the model is called once with an example.
    """

    ending: str
    write: Callable[..., None]
    traced: bool


FORMATS: dict[str, Format] = {
    "onnx": Format(ending=".onnx", write=to_onnx, traced=True),
    "onnx-dense": Format(ending=".onnx", write=partial(to_onnx, sparse=False), traced=True),
    "torch-export": Format(ending=".pt2", write=to_torch_export, traced=True),
    "safetensors": Format(ending=".safetensors", write=to_safetensors, traced=False),
    "csr": Format(ending=".npz", write=to_csr, traced=False),
}
"""Name -> format. To add one: a function, a line here, a law in the tests."""


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
            counts samples. "onnx" and "torch-export" need it, the others do not look at it.
        format: "onnx" (sparse initializers where they are smaller), "onnx-dense", "torch-export", "safetensors" or
            "csr"; None: what the ending of `path` says: .onnx, .pt2, .safetensors, .npz.

    Raises:
        UnknownNameError: no such format, or no format has such an ending.
        OptionError: an example is missing, a library is, or the model cannot be written so.
        OptionTypeError: a state_dict, or an example, is given where a model, or tensors, are needed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(nn.Linear(3, 2), f"{folder}/model.npz")
    ...     export(nn.Linear(3, 2), f"{folder}/model.onxx")
    Traceback (most recent call last):
    prunecell.errors.UnknownNameError: the ending '.onxx' is unknown; did you mean '.onnx'? Legal: .npz, .onnx, ...
    """
    name = _of_ending(Path(path)) if format is None else format
    if name not in FORMATS:
        raise UnknownNameError(f"format={name!r} is unknown{nearest(name, FORMATS)}")
    chosen = FORMATS[name]
    if not chosen.traced:
        chosen.write(model, path)
        return
    if not isinstance(model, nn.Module):
        raise OptionTypeError(f"format {name!r} needs the model itself, not a {type(model).__name__} of its tensors")
    if example is None:
        raise OptionError(f"example=None is illegal with format {name!r}: it must be what the model is called with")
    chosen.write(model, example, path)


def _of_ending(path: Path) -> str:
    names = {known.ending: name for name, known in reversed(FORMATS.items())}
    if path.suffix not in names:
        raise UnknownNameError(f"the ending {path.suffix!r} is unknown{nearest(path.suffix, names)}")
    return names[path.suffix]
