"""Named: the members that every object of N2D2 has for its parameters."""

from typing import Any

from n2d2.refusal import Refused


class Named:
    """An object whose parameters are attributes, under N2D2's names for them."""

    def get_parameter(self, key: str) -> Any:  # noqa: ANN401 - parameters of any type
        """The value of a parameter.

        Raises:
            UndefinedParameterError: it has no such parameter.
        """
        return getattr(self, key)

    def set_parameter(self, key: str, value: Any) -> None:  # noqa: ANN401
        """Set a parameter, as by its attribute.

        Raises:
            UndefinedParameterError: it has no such parameter.
            WrongValue, WrongInputType: the value is illegal.
        """
        setattr(self, key, value)

    N2D2 = Refused("there is no C++ object behind it; its parameters are attributes, and its cells are torch modules")
