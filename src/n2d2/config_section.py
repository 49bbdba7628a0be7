"""ConfigSection: keyword arguments that several cells share."""

import copy
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from n2d2.error_handler import UndefinedItemError, UndefinedParameterError, WrongInputType
from prunecell.errors import nearest, quoted


class ConfigSection(MutableMapping[str, Any]):
    """Named values for `**`: every reading hands out a copy, so no two cells share a solver or a PruneCell.

    Args:
        given: a mapping, or pairs of names and values, to begin with.
        values: more of them, by keywords.

    >>> config = ConfigSection(no_bias=True)
    >>> dict(**config), config.no_bias
    ({'no_bias': True}, True)
    """

    def __init__(self, given: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **values: object) -> None:
        try:
            self.__dict__.update(given, **values)
        except (TypeError, ValueError):
            raise WrongInputType(f"a ConfigSection takes keywords or a mapping, not {quoted(given)}") from None

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - values of any type
        if name not in self.__dict__:
            raise UndefinedItemError(self._missing(name))
        return copy.deepcopy(self.__dict__[name])

    def __setitem__(self, name: str, value: object) -> None:
        self.__dict__[name] = value

    def __delitem__(self, name: str) -> None:
        if name not in self.__dict__:
            raise UndefinedItemError(self._missing(name))
        del self.__dict__[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name.startswith("__"):
            raise AttributeError(name)
        raise UndefinedParameterError(self._missing(name))

    def _missing(self, name: str) -> str:
        return f"this ConfigSection has no {name!r}{nearest(name, self.__dict__)}"

    def copy(self) -> "ConfigSection":
        """Another one with copies of the values."""
        return ConfigSection(self)

    def __or__(self, other: Mapping[str, Any]) -> "ConfigSection":
        return ConfigSection({**self, **other})

    def __repr__(self) -> str:
        return f"ConfigSection({', '.join(f'{name}={value}' for name, value in self.__dict__.items())})"
