"""The pickles of published data sets, read by a machine of our own that knows what such a file needs and no more.

A pickle is a program. Python's own machine believes it: a memo of 2^28 places, a tuple in a tuple in a tuple as the key
of a dict, the same long text decoded a thousand times are a few bytes in a file, and gigabytes or a crash when they are
read. This one makes bytes, text, numbers, lists, dicts of text, and arrays of bytes, none larger than the file.
"""

import pickletools
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from prunecell.errors import FormatError

_MARK = object()
_MOST_STEPS = 1_000_000
"""A batch of 50,000 images makes 800,000 at most; a step makes 100 bytes at most, beside what is in the file."""
_TEXT = ("STRING", "BINSTRING", "SHORT_BINSTRING")  # of Python 2, where text was bytes
_VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
)
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ARRAYS = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_KNOWN = (*_ARRAYS, "numpy ndarray", "numpy dtype", "_codecs encode")


class Array:
    """Stands for an array of numpy: its bytes, without a shape."""

    def __init__(self) -> None:
        self.content = b""


class _Dtype:
    """Stands for numpy's dtype of unsigned bytes."""


class _Global(str):
    """The name of a class or function: "module name"."""

    __slots__ = ()


def read_pickle(data: bytes) -> Any:  # noqa: ANN401 - what was pickled
    """Read what a published batch may hold; text of Python 2 comes as bytes.

    Raises:
        FormatError: it is damaged, or needs more than batches do.

    >>> import pickle
    >>> read_pickle(pickle.dumps({"labels": [3, 5], "name": b"batch"}, protocol=2))
    {'labels': [3, 5], 'name': b'batch'}
    """
    machine = _Machine(len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strange escapes in text
        return _run(data, machine)


def _run(data: bytes, machine: "_Machine") -> Any:  # noqa: ANN401 - what was pickled
    try:
        for number, (code, argument, _) in enumerate(pickletools.genops(data)):
            if number > _MOST_STEPS:
                _refuse(f"makes more than {_MOST_STEPS:,} steps")
            if code.name == "STOP":
                return machine.pop()
            machine.do(code.name, argument)
    except FormatError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, RecursionError) as error:  # what genops and the steps raise
        raise FormatError(f"the pickle is damaged: {type(error).__name__}: {str(error)[:100]}") from None
    raise FormatError("the pickle has no end")


class _Machine:
    """The stack, and the memo of what may be pushed again."""

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left = size  # bytes that text may still become

    def pop(self) -> Any:  # noqa: ANN401 - whatever was pushed
        """Take what was pushed last."""
        return self.stack.pop()

    def do(self, name: str, argument: Any) -> None:  # noqa: ANN401 - that of any step
        """Make one step of the program."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _TEXT:
            self.stack.append(argument.encode("latin1"))
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.push_global(argument)
        elif name in _STEPS:
            _STEPS[name](self)
        elif name not in ("PROTO", "FRAME"):
            raise FormatError(f"the pickle makes the step {name}, which no batch needs")

    def push_global(self, name: str) -> None:
        """Push a class or function, by its name."""
        if name not in _KNOWN:
            raise FormatError(f"it asks for {ascii(name.replace(' ', '.'))[1:-1][:80]}, which no batch needs")
        self.stack.append(_Global(name))

    def stack_global(self) -> None:
        """The same, its name being on the stack."""
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            _refuse("asks for something that has no name")
        self.push_global(f"{module} {name}")

    def memoize(self) -> None:
        """Remember what is on top."""
        self.memo[len(self.memo)] = self.stack[-1]

    def above_mark(self) -> list[Any]:
        """Take what was pushed since the last mark, and the mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def mark(self) -> None:
        """Push a mark."""
        self.stack.append(_MARK)

    def tuple_of(self, count: int) -> None:
        """Make a tuple of the last ones."""
        made = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(made)

    def extend(self, items: list[Any]) -> None:
        """Append to the list below them."""
        into = self.stack[-1]
        if not isinstance(into, list):
            raise FormatError("the pickle appends to something else than a list")
        into.extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Put keys and values into the dict below them."""
        into, keys = self.stack[-1], items[::2]
        if not isinstance(into, dict) or not all(isinstance(key, str | bytes) for key in keys):
            raise FormatError("the pickle holds a dict whose keys are no text")
        into.update(zip(keys, items[1::2], strict=True))

    def make_dict(self) -> None:
        """Make a dict of keys and values since the last mark."""
        items = self.above_mark()
        self.stack.append({})
        self.set_items(items)

    def set_one(self) -> None:
        """Put one key and value into the dict below them."""
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def reduce(self) -> None:
        """Call a function."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            _refuse("calls something else than a function")
        if function in _ARRAYS:
            self.stack.append(Array())
        elif function == "numpy dtype":
            kind = arguments[0] if arguments and isinstance(arguments[0], str | bytes) else ""
            if kind not in (b"u1", "u1"):
                raise FormatError(f"it holds numbers of type {kind[:20]!r}, not unsigned bytes")
            self.stack.append(_Dtype())
        elif function == "_codecs encode" and arguments and isinstance(arguments[0], str):
            self.left -= len(arguments[0])
            if self.left < 0:
                _refuse("makes more of its text than it holds")
            self.stack.append(arguments[0].encode("latin1"))  # so protocol 2 writes bytes
        else:
            _refuse(f"calls {function}")

    def build(self) -> None:
        """Give an array its bytes."""
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, _Dtype):
            return  # bytes have no byte order to set
        content = state[-1] if isinstance(state, tuple) and state else None
        if not isinstance(target, Array) or not isinstance(content, bytes):
            _refuse("sets the state of something else than an array of bytes")
        target.content = content


def _refuse(what: str) -> NoReturn:
    raise FormatError(f"the pickle {what}, which no batch does")


_STEPS: dict[str, Callable[[_Machine], None]] = {
    "MARK": _Machine.mark,
    "STACK_GLOBAL": _Machine.stack_global,
    "MEMOIZE": _Machine.memoize,
    "EMPTY_TUPLE": lambda m: m.tuple_of(0),
    "TUPLE1": lambda m: m.tuple_of(1),
    "TUPLE2": lambda m: m.tuple_of(2),
    "TUPLE3": lambda m: m.tuple_of(3),
    "TUPLE": lambda m: m.stack.append(tuple(m.above_mark())),
    "EMPTY_LIST": lambda m: m.stack.append([]),
    "LIST": lambda m: m.stack.append(m.above_mark()),
    "APPEND": lambda m: m.extend([m.pop()]),
    "APPENDS": lambda m: m.extend(m.above_mark()),
    "EMPTY_DICT": lambda m: m.stack.append({}),
    "DICT": _Machine.make_dict,
    "SETITEM": _Machine.set_one,
    "SETITEMS": lambda m: m.set_items(m.above_mark()),
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
