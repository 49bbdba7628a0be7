"""Whole numbers as bytes: seven bits in each, the lowest first, and the highest bit set where another byte follows."""

from prunecell.errors import FormatError

_MOST_BYTES = 9  # so that every number is below 2^63
_MOST = 1 << 62


def packed(*numbers: int) -> bytes:
    """Write numbers in [0, 2^62).

    >>> packed(5, 300).hex()
    '05ac02'
    """
    out = bytearray()
    for number in numbers:
        left = number
        while left > 127:  # noqa: PLR2004 - seven bits
            out.append(left & 127 | 128)
            left >>= 7
        out.append(left)
    return bytes(out)


class Packed:
    """Bytes that are read from their start on."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        """Read a byte.

        Raises:
            FormatError: there is none.
        """
        if self._at == len(self._data):
            raise FormatError("the list of tensors ends early")
        self._at += 1
        return self._data[self._at - 1]

    def number(self) -> int:
        """Read a number.

        Raises:
            FormatError: there is none, or it is 2^62 or more.
        """
        number = 0
        for i in range(_MOST_BYTES):
            byte = self.byte()
            number |= (byte & 127) << 7 * i
            if byte < 128 and number < _MOST:  # noqa: PLR2004 - the highest bit
                return number
        raise FormatError("a number in the list of tensors is 2^62 or more")

    def line(self) -> str:
        """Read UTF-8 until the end of the line.

        Raises:
            FormatError: it is something else, or has no end.
        """
        stop = self._data.find(b"\n", self._at)
        if stop < 0:
            raise FormatError("the list of tensors ends within a name")
        line, self._at = self._data[self._at : stop], stop + 1
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise FormatError("a name in the list of tensors is no UTF-8") from None

    def rest(self) -> bytes:
        """Read all that is left."""
        rest, self._at = self._data[self._at :], len(self._data)
        return rest
