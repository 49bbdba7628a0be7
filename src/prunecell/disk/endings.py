"""The endings of files' names: which kinds of files we read and write, and what no file may be called that we write."""

from pathlib import Path

from prunecell.errors import OptionError

ARCHIVE, TORCH, SAFETENSORS, INDEX = ".pcell file", "torch checkpoint", "safetensors file", "index of shards"
ARCHIVE_MARK = b"\xf0pc"
"""The first bytes of a .pcell file of version 2 or later."""
ENDINGS = {
    ARCHIVE: (".pcell",),
    INDEX: (".safetensors.index.json", ".bin.index.json"),
    SAFETENSORS: (".safetensors",),
    TORCH: (".pt", ".pth", ".bin", ".ckpt"),
}
"""What we read -> the endings of its name, the usual one first."""

CSR, ONNX, PROGRAM, PICTURE = "file of CSR arrays", "ONNX file", "program of torch.export", "picture"
_WRITTEN = {
    ARCHIVE: ENDINGS[ARCHIVE],
    SAFETENSORS: ENDINGS[SAFETENSORS],
    TORCH: (*ENDINGS[TORCH], ".pth.tar"),
    CSR: (".npz",),
    ONNX: (".onnx",),
    PROGRAM: (".pt2",),
    PICTURE: (".png",),
}
"""What we write -> the endings of its name, the usual one first."""

WRITTEN_ENDINGS = (*ENDINGS[TORCH], *ENDINGS[SAFETENSORS], *ENDINGS[ARCHIVE], *_WRITTEN[CSR])
"""Of all files that tensors are written to; here, because the help of the commands needs no torch."""

_WRITTEN_BY = {
    ARCHIVE: "prunecell.save(model, {path!r})",
    TORCH: "torch.save(model.state_dict(), {path!r})",
    **dict.fromkeys((SAFETENSORS, CSR), "prunecell.export.export(model, {path!r})"),
    **dict.fromkeys((ONNX, PROGRAM), "prunecell.export.export(model, {path!r}, example=x)"),
}
"""What we write -> the call that does it; of a picture none, because it is no model."""

_OTHERS = (
    *(".npy", ".mat", ".h5", ".hdf5", ".hdf", ".keras", ".gguf", ".ggml", ".pb", ".tflite", ".mlmodel", ".engine"),
    *(".msgpack", ".pkl", ".pickle", ".joblib", ".parquet", ".feather", ".arrow", ".sqlite", ".db"),
    *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"),
    *(".json", ".jsonl", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".xml", ".csv", ".tsv", ".txt", ".md", ".rst"),
    *(".log", ".html", ".htm", ".py", ".ipynb", ".sh", ".c", ".cpp", ".h", ".so", ".exe", ".dll", ".whl", ".syntxt"),
    *(".jpg", ".jpeg", ".gif", ".svg", ".webp", ".bmp", ".tif", ".tiff", ".pdf", ".ps", ".eps", ".mp4", ".wav"),
)
"""Of well-known files that nothing here writes tensors to."""


def check_ending(path: Path, kind: str) -> None:
    """Refuse to write a file under the ending of another kind; no ending is legal, and an unknown one but of a picture.

    Args:
        path: the file that is about to be written.
        kind: what it will be: `ARCHIVE`, `TORCH`, `SAFETENSORS`, `CSR`, `ONNX`, `PROGRAM` or `PICTURE`.

    Raises:
        OptionError: people and programs would take it for another file.

    >>> check_ending(Path("model.json"), ARCHIVE)
    Traceback (most recent call last):
    prunecell.errors.OptionError: model.json: a .pcell file must not have the ending of another kind, '.json': ...
    """
    name = path.name.lower()
    if name.endswith(_WRITTEN[kind]):
        return
    for other, endings in (_WRITTEN | {INDEX: ENDINGS[INDEX], "": _OTHERS}).items():
        for ending in endings:
            if name.endswith(ending):
                call = _WRITTEN_BY.get(other, "").format(path=str(path)) if kind != PICTURE else ""
                instead = f", or write such a file by {call}" if call else ""
                raise OptionError(
                    f"{path}: {with_article(kind)} must not have the ending of another kind, {ending!r}: let its name"
                    f" end in {_WRITTEN[kind][0]}{instead}"
                )
    if kind == PICTURE and path.suffix:
        raise OptionError(f"{path}: a picture is a PNG file: let its name end in .png, not in {path.suffix!r}")


def with_article(kind: str) -> str:
    """A kind of file in a sentence.

    >>> with_article(TORCH), with_article(ONNX)
    ('a torch checkpoint', 'an ONNX file')
    """
    return f"{'an' if kind[0] in 'aeiou' or kind.startswith(('HDF', 'ONNX')) else 'a'} {kind}"
