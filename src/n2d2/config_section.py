"""ConfigSection: keyword arguments that several cells share."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from n2d2.error_handler import UndefinedParameterError
from prunecell.errors import nearest


class ConfigSection(Mapping[str, Any]):
    """Named values for `**`: every reading hands out a copy, so no two cells share a solver or a PruneCell.

    >>> config = ConfigSection(no_bias=True)
    >>> dict(**config), config.no_bias
    ({'no_bias': True}, True)
    """

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - values of any type
        return copy.deepcopy(self.__dict__[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name.startswith("__"):
            raise AttributeError(name)
        raise UndefinedParameterError(f"this ConfigSection has no {name!r}{nearest(name, self.__dict__)}")

    def __repr__(self) -> str:
        return f"ConfigSection({', '.join(f'{name}={value}' for name, value in self.__dict__.items())})"
