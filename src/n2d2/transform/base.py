"""What all transformations share, and several in one."""

import functools
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

from torch import Generator, Tensor

from n2d2.checked import Checked, printed
from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.fields import choice

APPLY_TO = {
    "All": {"Learn", "Validation", "Test", "Unpartitioned"},
    "LearnOnly": {"Learn"},
    "ValidationOnly": {"Validation"},
    "TestOnly": {"Test"},
    "NoLearn": {"Validation", "Test"},
    "NoValidation": {"Learn", "Test"},
    "NoTest": {"Learn", "Validation"},
}


@dataclass(repr=False)
class Transformation(Checked, shared=True):
    """What all transformations share. Never instantiated itself.

    Args:
        apply_to: the partitions it touches, by keyword: a name of `APPLY_TO`.

    Raises:
        WrongValue, WrongInputType: a parameter is illegal; the message names it and says what is legal.
    """

    _: KW_ONLY
    apply_to: str = choice("All", *APPLY_TO)

    def get_apply_set(self) -> str:
        """The partitions that it touches."""
        return self.apply_to

    def __call__(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Transform a batch; see the module's head."""
        return self._apply(x, generator)

    def __repr__(self) -> str:
        return printed(self)

    @abstractmethod
    def _apply(self, x: Tensor, generator: Generator | None, /) -> Tensor:
        """Transform a batch."""


def _check_list(name: str, value: object) -> None:
    if not isinstance(value, list | tuple):
        raise WrongInputType(f"{name}={value!r} is illegal: it must be a list of transformations")
    if not value:
        raise WrongValue(f"{name}=[] is illegal: it must have at least one")
    for one in value:
        if not isinstance(one, Transformation):
            raise WrongInputType(f"{one!r} is no transformation: use one of n2d2.transform")


@dataclass(repr=False)
class Composite(Transformation):
    """Transformations one after the other, each with its own `apply_to`."""

    REFUSED: ClassVar[Mapping[str, str]] = {"apply_to": "each transformation in a Composite has its own"}

    transformations: list[Transformation] = field(metadata={"check": _check_list})
    apply_to: str = field(default="All", init=False, repr=False)

    def append(self, transformation: Transformation) -> None:
        """Add one at the end."""
        self.transformations = [*self.transformations, transformation]

    def get_transformations(self) -> list[Transformation]:
        """The transformations, in order."""
        return list(self.transformations)

    def _apply(self, x: Tensor, generator: Generator | None, /) -> Tensor:
        return functools.reduce(lambda y, step: step(y, generator), self.transformations, x)

    def __iter__(self) -> Iterator[Transformation]:
        return iter(self.transformations)

    def __repr__(self) -> str:
        return f"Composite({', '.join(map(repr, self))})"
