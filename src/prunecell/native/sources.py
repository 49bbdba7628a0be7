"""The C++ files that the libraries are built from, and their checksum.

It imports nothing of prunecell, because setup.py runs it before torch is there.
"""

import zlib
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "kernels.cpp"  # the one translation unit, which includes the headers


def files(folder: Path = FOLDER) -> list[Path]:
    """All C++ files, sorted by their names relative to the folder."""
    found = [path for pattern in ("*.cpp", "*.h") for path in folder.rglob(pattern)]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def checksum(folder: Path = FOLDER) -> int:
    """The CRC-32 of the names and the contents of all C++ files."""
    crc = 0
    for path in files(folder):
        contents = path.read_bytes()
        crc = zlib.crc32(f"{path.relative_to(folder).as_posix()} {len(contents)}\n".encode() + contents, crc)
    return crc
