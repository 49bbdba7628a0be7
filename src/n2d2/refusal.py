"""What N2D2 documents and is refused here: each name is there, and its use says what to use instead.

A script may import such a name, and ask whether something is of such a class; it is refused where it is used.
"""

from typing import Any, NoReturn

from n2d2.error_handler import ImplementationError, UndefinedParameterError


class Refused:
    """A method or function that N2D2 has. Whoever calls it is told what to use instead.

    Args:
        instead: what to use instead, and why it is not here.
        name: of a function; a method learns its own.

    >>> class Cell:
    ...     set_deepnet = Refused("a cell belongs to the container that holds it")
    >>> Cell().set_deepnet()
    Traceback (most recent call last):
    n2d2.error_handler.ImplementationError: Cell.set_deepnet is refused: a cell belongs to the container that holds it
    """

    def __init__(self, instead: str, name: str = "") -> None:
        self.instead, self.name, self._method = instead, name, ""

    def __set_name__(self, owner: type, name: str) -> None:
        if not self.name:
            self.name, self._method = f"{owner.__name__}.{name}", name

    def __get__(self, one: object, owner: type) -> "Refused":
        """A method goes by the name of the class that it is asked of, which may inherit it."""
        return Refused(self.instead, f"{owner.__name__}.{self._method}") if self._method else self

    def __call__(self, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401 - whatever N2D2's takes
        """Refuse."""
        raise ImplementationError(f"{self.name} is refused: {self.instead}")

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse a member, as those of N2D2's enumerations; to whoever asks whether there is one, there is none."""
        if name.startswith("_") and name != "__members__":
            raise AttributeError(name)
        own = vars(self)
        raise UndefinedParameterError(f"{own.get('name')}.{name} is refused: {own.get('instead')}")


class _RefusedClass(type):
    """The type of classes of which nothing can be made, and that have no members."""

    refusal: Refused

    def __call__(cls, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401
        cls.refusal()

    def __getattr__(cls, name: str) -> Any:  # noqa: ANN401
        if name.startswith("_"):
            raise AttributeError(name)
        return Refused(cls.refusal.instead, f"{cls.refusal.name}.{name}")


def refused_class(name: str, instead: str) -> type:
    """A class that N2D2 has, and of which nothing can be made.

    Args:
        name: its full name, `n2d2.cells.Resize`.
        instead: what to use instead, and why it is not here.

    >>> Resize = refused_class("n2d2.cells.Resize", "use transform.Rescale")
    >>> isinstance(3, Resize)
    False
    >>> Resize(4, 4)
    Traceback (most recent call last):
    n2d2.error_handler.ImplementationError: n2d2.cells.Resize is refused: use transform.Rescale
    """
    module, _, own = name.rpartition(".")
    return _RefusedClass(own, (), {"__module__": module, "__doc__": instead, "refusal": Refused(instead, name)})
