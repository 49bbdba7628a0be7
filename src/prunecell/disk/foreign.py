"""What a file is that is not what was wanted, told by its first bytes, and what its user can do."""

import json
import shlex
import zipfile
from pathlib import Path

from prunecell.disk.endings import ARCHIVE, ARCHIVE_MARK, ENDINGS, INDEX, SAFETENSORS, TORCH, with_article
from prunecell.disk.targets import is_special
from prunecell.errors import some

_LOOKED_AT = 4096  # bytes

_UNPACK = "unpack it first"
_BEGINNINGS = (
    (b"version https://git-lfs", "pointer of Git LFS", "the file itself is elsewhere: git lfs pull fetches it"),
    (b"\x1f\x8b", "gzip file", _UNPACK),
    (b"BZh", "bzip2 file", _UNPACK),
    (b"\xfd7zXZ", "xz file", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "zstd file", _UNPACK),
    (b"\x89HDF", "HDF5 file", "load it with the library that wrote it, and save its tensors by torch.save"),
    (b"GGUF", "GGUF file", "take the safetensors or torch file that it was made of"),
    (b"\x93NUMPY", "numpy array", "save it by torch.save as a tensor with a name"),
    (b"<", "page of HTML or XML", "the download gave a page instead of the file"),
    (b"%PDF", "PDF file", ""),
    (b"\x89PNG", "picture", ""),
)
"""(first bytes, what it is, what to do)."""


def recognized(path: Path) -> tuple[str, str]:
    """Say what a file is, and what can be done with it; both empty where nobody knows.

    Raises:
        OSError: it cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "page").write_text("<!DOCTYPE html>")
    ...     recognized(Path(folder, "page"))
    ('page of HTML or XML', 'the download gave a page instead of the file')
    """
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
    if not start:
        return "empty file", "copy or save it again"
    if start.startswith(ARCHIVE_MARK):
        return ARCHIVE, ""
    if _has_header(start, path):  # first, because the size of a header may look like the mark of something else
        return ARCHIVE if b'"format":"pcell"' in start else SAFETENSORS, ""
    for beginning, what, advice in _BEGINNINGS:
        if start.startswith(beginning):
            return what, advice
    if start.startswith(b"PK\x03\x04"):
        return _zipped(path)
    return _kind_without_mark(start, path), ""


def _has_header(start: bytes, path: Path) -> bool:
    """Whether it begins as safetensors do: with the size of a JSON object that follows."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size


def _kind_without_mark(start: bytes, path: Path) -> str:
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return TORCH  # a pickle, as torch wrote checkpoints before version 1.6
    if start.lstrip()[:1] in (b"{", b"["):
        return INDEX if b'"weight_map"' in start or _has_weight_map(path) else "JSON text"
    return "text" if _is_text(start) else ""


def _zipped(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "damaged zip file", "its end is missing: copy or save it again"
    leaves = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in leaves:
        return "TorchScript program", _saved_by(f"torch.jit.load({str(path)!r}).state_dict()", path)
    if "data.pkl" in leaves:
        return TORCH, ""
    if any(name.endswith(".npy") for name in names):
        return "numpy archive", "save its arrays by torch.save as tensors with their names"
    if any("exported_program" in name or name.endswith("models/model.json") for name in names):
        return "program of torch.export", _saved_by(f"torch.export.load({str(path)!r}).state_dict", path)
    return "zip file", _UNPACK


def _saved_by(state: str, path: Path) -> str:
    return f"save its tensors: torch.save({state}, {str(path.with_name(f'{path.stem}-state.pt'))!r})"


def _has_weight_map(path: Path) -> bool:
    try:
        return "weight_map" in json.loads(path.read_bytes())
    except (ValueError, TypeError, RecursionError):
        return False


def _is_text(start: bytes) -> bool:
    try:
        start[:-4].decode()  # the last character may be cut
    except ValueError:
        return False
    return b"\x00" not in start


def is_stream(path: Path) -> bool:
    """Whether it is a pipe or a device, in which nobody can go back, and whose opening may wait for ever."""
    return path.exists() and is_special(path.stat())


def mistaken(path: Path, wanted: str) -> str:
    """Say what a file is where it plainly is something else than `wanted`, and what to do; else nothing.

    Args:
        path: a file or a folder that exists.
        wanted: `ARCHIVE`, `TORCH`, `SAFETENSORS` or `INDEX`.

    Raises:
        OSError: it cannot be opened.
    """
    if is_stream(path):
        return f"it is a pipe or a device, not {with_article(wanted)}: write what comes out of it to a file first"
    if path.is_dir():
        return f"it is a folder, not {with_article(wanted)}{_offered(path, wanted)}"
    what, advice = recognized(path)
    if what in {"", wanted}:
        return ""
    if what in ENDINGS:
        advice = _named_rightly(path, what, wanted)
    return f"it is {with_article(what)}, not {with_article(wanted)}" + (f": {advice}" if advice else "")


def _named_rightly(path: Path, what: str, wanted: str) -> str:
    """What to do with a file that we read, but not under this name or not here."""
    rename, pack = f"let its name end in {ENDINGS[what][0]}", wanted == ARCHIVE and not path.name.endswith(".pcell")
    if not pack:
        return rename
    if path.name.endswith(ENDINGS[what]):
        return f"pack it first: {_packing(path)}"
    return f"{rename}, and pack it: {_packing(path.with_name(_stem(path) + ENDINGS[what][0]))}"


def _packing(source: Path) -> str:
    """The command that packs a file or a folder, as a shell takes it."""
    named = source.name not in {"", ".."}  # the folders . and / have no name, and .. has none to write beside
    target = source.with_name(f"{source.name if source.is_dir() else _stem(source)}.pcell") if named else "model.pcell"
    paths = (f"./{path}" if str(path).startswith("-") else str(path) for path in (source, target))  # no option is meant
    return shlex.join(["prunecell", "pack", *paths])


def _stem(path: Path) -> str:
    """The name of a file without the ending of a format."""
    return next(
        (path.name.removesuffix(end) for ends in ENDINGS.values() for end in ends if path.name.endswith(end)), path.name
    )


def models_in(folder: Path) -> list[Path]:
    """The files of a folder that look as if tensors were in them: archives, indices of shards, checkpoints."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return [path for endings in ENDINGS.values() for end in endings for path in files if path.name.endswith(end)]


def meant_in(folder: Path) -> list[Path]:
    """The files of a folder of which one may be meant by its name: the indices of shards, else all `models_in` it."""
    found = models_in(folder)
    return [path for path in found if path.name.endswith(ENDINGS[INDEX])] or found


def _offered(folder: Path, wanted: str) -> str:
    """What to give instead of a folder."""
    found = models_in(folder)
    files = [path for path in found if path.name.endswith(ENDINGS[wanted])]
    if files:
        return f": give a file in it, such as {some(files)}"
    if not found or wanted != ARCHIVE:
        return ", and holds no file of tensors" if not found else f", and holds no {wanted}"
    meant = meant_in(folder)
    if len(meant) == 1:
        return f": pack what is in it first: {_packing(folder)}"
    return f", and holds several files to pack: for example {_packing(meant[0])}"
