"""The arithmetic of `$(expression)`: numbers and a handful of functions, in bounded time; never code."""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

Number = int | float

MAX_LENGTH = 1000
MAX_DEPTH = 200
MAX_BITS = 1024
"""Of a power of integers, which alone among the operators can make a short expression run long."""


def _power(base: Number, exponent: Number) -> Any:  # noqa: ANN401 - a negative base may make it complex
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > MAX_BITS:
        raise OverflowError
    return base**exponent


FUNCTIONS: Mapping[str, Callable[..., Number]] = {
    "abs": abs,
    "ceil": math.ceil,
    "exp": math.exp,
    "float": float,
    "floor": math.floor,
    "int": int,
    "log": math.log,
    "log2": math.log2,
    "max": max,
    "min": min,
    "pow": _power,
    "round": round,
    "sqrt": math.sqrt,
}


class ExpressionError(ValueError):
    """An expression that is not arithmetic, or has no finite real value; a short fact without a place."""


class _NotArithmeticError(Exception):
    def __init__(self, node: ast.expr) -> None:
        super().__init__(node)
        self.node = node


def calculate(expression: str) -> Number:
    """Return the value of an arithmetic expression in Python's notation.

    Legal are numbers, `+ - * / // % **`, parentheses, `a if b > c else d` and the functions of `FUNCTIONS`.
    A comparison alone is worth 1 or 0.

    Raises:
        ExpressionError: anything else is in it, or its value is not a finite real number.

    >>> calculate("int(64 * 0.75) + 2**3"), calculate("8**(-1.0/2) if 8 > 0 else 1.0")
    (56, 0.3535533905932738)
    """
    if len(expression) > MAX_LENGTH:
        raise ExpressionError(f"it has {len(expression):,} characters: at most {MAX_LENGTH:,} are legal")
    _check_tokens(expression)
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, RecursionError, MemoryError):
        raise ExpressionError("it is not arithmetic: a number, an operator or a parenthesis is missing") from None
    try:
        value = _value(tree.body, 0)
        if isinstance(value, complex) or not math.isfinite(value):
            raise ExpressionError("its value is not a finite real number")
    except _NotArithmeticError as error:
        node = error.node
        raise ExpressionError(
            f"{expression.strip()[node.col_offset : node.end_col_offset]!r} is not arithmetic. "
            f"Legal functions: {', '.join(FUNCTIONS)}"
        ) from None
    except ZeroDivisionError:
        raise ExpressionError("it divides by zero") from None
    except OverflowError:
        raise ExpressionError("its value is too large") from None
    except (TypeError, ValueError) as error:  # of a function: too few arguments, a logarithm of -1
        raise ExpressionError(str(error)) from None
    return int(value) if isinstance(value, bool) else value


def printed(value: Number) -> str:
    """Write a number as INI files do: whole numbers without a fraction, others so that they read back the same.

    >>> printed(16.0), printed(0.1), printed(1e300)
    ('16', '0.1', '1e+300')
    """
    whole = isinstance(value, int) or (value.is_integer() and abs(value) < 2**53)
    return str(int(value)) if whole else repr(value)


_TOKEN = re.compile(
    r"\s+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?!\w)|[A-Za-z_]\w*|\*\*|//|[<>=!]=|[-+*/%()<>,]", re.ASCII
)


def _check_tokens(expression: str) -> None:
    # Before Python's own parser sees it: no strings, brackets, attributes, colons or line ends get that far.
    position = 0
    while position < len(expression):
        token = _TOKEN.match(expression, position)
        if not token or "\n" in token[0]:
            raise ExpressionError(f"{expression[position : position + 10]!r} is no part of arithmetic")
        position = token.end()


_BINARY: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_UNARY: Mapping[type[ast.AST], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_COMPARISON: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _value(node: ast.expr, depth: int) -> Any:  # noqa: ANN401 - int, float or, of a negative power, complex
    if depth > MAX_DEPTH:
        raise ExpressionError(f"it is nested deeper than {MAX_DEPTH}")

    def value(child: ast.expr) -> Any:  # noqa: ANN401
        return _value(child, depth + 1)

    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.BinOp(left, op, right) if type(op) in _BINARY:
            return _BINARY[type(op)](value(left), value(right))
        case ast.UnaryOp(op, operand) if type(op) in _UNARY:
            return _UNARY[type(op)](value(operand))
        case ast.IfExp(test, body, orelse):
            return value(body) if value(test) else value(orelse)
        case ast.Compare(left, [op], [right]) if type(op) in _COMPARISON:
            return _COMPARISON[type(op)](value(left), value(right))
        case ast.Call(ast.Name(name), arguments, []) if name in FUNCTIONS:
            return FUNCTIONS[name](*map(value, arguments))
    raise _NotArithmeticError(node)
