"""JSON that a stranger may have written."""

import json

from prunecell.errors import FormatError, quoted


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise FormatError(f"the key {quoted(key)} stands twice in a JSON object")
        found[key] = value
    return found


def _no_constant(name: str) -> object:
    raise FormatError(f"{name} is no JSON")


def read_json(text: bytes | str) -> dict[str, object]:
    """Read a JSON object of which no key stands twice.

    Raises:
        FormatError: it is not one.
    """
    try:
        text = text if isinstance(text, str) else text.decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if "\\u" in text:  # an escape may stand for half of a character
            json.dumps(value, ensure_ascii=False).encode()
    except FormatError:
        raise
    except (ValueError, RecursionError) as e:
        raise FormatError(f"a header is no JSON ({type(e).__name__}: {str(e)[:100]})") from None
    if not isinstance(value, dict):
        raise FormatError("a header must be a JSON object")
    return value
