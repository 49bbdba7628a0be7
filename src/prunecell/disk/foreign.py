"""What a file is that is not what was wanted, told by its first bytes, and what its user can do."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

_LOOKED_AT = 4096  # bytes
_MODELS = (".pcell", ".safetensors.index.json", ".bin.index.json", ".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_MAX_NAMED = 5

ARCHIVE, TORCH, SAFETENSORS, INDEX = ".pcell file", "torch checkpoint", "safetensors file", "index of shards"
ENDINGS = {ARCHIVE: ".pcell", TORCH: ".pt", SAFETENSORS: ".safetensors", INDEX: ".safetensors.index.json"}
"""What we read -> the ending of its name."""

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
        return "TorchScript program", "save its tensors: torch.save(torch.jit.load(FILE).state_dict(), 'sd.pt')"
    if "data.pkl" in leaves:
        return TORCH, ""
    if any(name.endswith(".npy") for name in names):
        return "numpy archive", "save its arrays by torch.save as tensors with their names"
    if any("exported_program" in name or name.endswith("models/model.json") for name in names):
        return "program of torch.export", "save its tensors: torch.save(torch.export.load(FILE).state_dict, 'sd.pt')"
    return "zip file", _UNPACK


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


def mistaken(path: Path, wanted: str) -> str:
    """Say what a file is where it plainly is something else than `wanted`, and what to do; else nothing.

    Args:
        path: a file or a folder that exists.
        wanted: `ARCHIVE`, `TORCH`, `SAFETENSORS` or `INDEX`.

    Raises:
        OSError: it cannot be opened.
    """
    if path.is_dir():
        return f"it is a folder, not a {wanted}{_offered(models_in(path))}"
    what, advice = recognized(path)
    if what in {"", wanted}:
        return ""
    if what in ENDINGS and wanted == ARCHIVE and not path.name.endswith(ENDINGS[ARCHIVE]):
        advice = f"pack it first: prunecell pack {path.name} {path.name.partition('.')[0] or 'model'}.pcell"
    elif what in ENDINGS:
        advice = f"let its name end in {ENDINGS[what]}"
    article = "an" if what[0] in "aeiou" or what.startswith("HDF") else "a"
    return f"it is {article} {what}, not {'an' if wanted[0] in 'aeiou' else 'a'} {wanted}" + f": {advice}" * bool(
        advice
    )


def models_in(folder: Path) -> list[Path]:
    """The files of a folder that look as if tensors were in them: archives, indices of shards, checkpoints."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return [path for ending in _MODELS for path in files if path.name.endswith(ending)]


def _offered(files: Sequence[Path]) -> str:
    if not files:
        return ", and holds no file of tensors"
    more = f" and {len(files) - _MAX_NAMED} more" if len(files) > _MAX_NAMED else ""
    return f": give a file in it, such as {', '.join(str(file) for file in files[:_MAX_NAMED])}{more}"
