"""Streams of numbers written by the library pcodec, an extra: smaller than deflate and faster to read."""

import struct
from typing import Any

import numpy as np

from prunecell.codecs.dtypes import Numbers
from prunecell.codecs.streams import Source
from prunecell.errors import FormatError, OptionError

FRAME = 1 << 18  # numbers in a frame
_LENGTH = struct.Struct("<I")


def _library() -> Any:  # noqa: ANN401 - pcodec has no types
    try:
        import pcodec  # noqa: PLC0415 - an extra, imported only where a file or a caller names it
    except ImportError:
        raise OptionError(
            "the coder 'pco' needs the library pcodec, which is not installed: pip install 'prunecell[pcodec]'"
        ) from None
    return pcodec


class PcoWriter:
    """Writes frames of `FRAME` numbers (the last may hold fewer): a 32-bit length, then a standalone pcodec file.

    Args:
        search: let pcodec look for structure (multiples, deltas); trained weights have none, and the time is lost.
    """

    def __init__(self, *, search: bool = False) -> None:
        pcodec = _library()
        self._compress = pcodec.standalone.simple_compress
        plain = {"mode_spec": pcodec.ModeSpec.classic(), "delta_spec": pcodec.DeltaSpec.no_op()}
        self._config = pcodec.ChunkConfig(**({} if search else plain))
        self._waiting: list[Numbers] = []
        self._count = 0
        self._written: list[bytes] = []

    def write(self, numbers: Numbers) -> None:
        """Append numbers."""
        self._waiting.append(numbers)
        self._count += len(numbers)
        if self._count >= FRAME:
            self._emit()

    def _emit(self) -> None:
        numbers = np.concatenate(self._waiting)
        whole = len(numbers) // FRAME * FRAME or len(numbers)
        for start in range(0, whole, FRAME):
            frame = self._compress(numbers[start : start + FRAME], self._config)
            self._written += [_LENGTH.pack(len(frame)), frame]
        self._waiting = [numbers[whole:]]
        self._count = len(numbers) - whole

    def finish(self) -> list[bytes]:
        """Return the frames."""
        if self._count:
            self._emit()
        return self._written


class PcoReader:
    """Decodes frame by frame into memory of the size of a frame."""

    def __init__(self, data: Source, dtype: np.dtype[Any], count: int) -> None:
        self._decompress = _library().standalone.simple_decompress_into
        self._data, self._at = data, 0
        self._left = count
        self._ready: Numbers = np.empty(0, dtype)

    def _frame(self) -> Numbers:
        start = self._at + _LENGTH.size
        if start > len(self._data):
            raise FormatError("a pco stream ends early")
        (size,) = _LENGTH.unpack(self._data[self._at : start])
        self._at = start + size
        if self._at > len(self._data):
            raise FormatError("a pco frame is cut")
        numbers = np.empty(min(FRAME, self._left), self._ready.dtype)
        try:
            progress = self._decompress(bytes(self._data[start : self._at]), numbers)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as e:  # noqa: BLE001 - a panic in Rust is not an Exception
            raise FormatError(f"a pco frame is damaged ({type(e).__name__})") from None
        if progress.n_processed != len(numbers) or not progress.finished:
            raise FormatError("a pco frame holds another count of numbers than it should")
        self._left -= len(numbers)
        return numbers

    def read(self, limit: int) -> Numbers:
        """Return the next numbers."""
        frames = [self._ready]
        have = len(self._ready)
        while have < limit and self._left:
            frames.append(self._frame())
            have += len(frames[-1])
        numbers = np.concatenate(frames) if len(frames) > 1 else self._ready
        self._ready = numbers[limit:]
        return numbers[:limit]

    def finish(self) -> None:
        """Check that all was read."""
        if len(self._ready) or self._left or self._at != len(self._data):
            raise FormatError("a pco stream is too long")
