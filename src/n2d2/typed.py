"""N2D2's base classes of typed C++ objects, refused by name."""

from n2d2.refusal import refused_class

_INSTEAD = "there are no C++ objects here; cells take model= and datatype="

Datatyped = refused_class("n2d2.typed.Datatyped", _INSTEAD)
Modeltyped = refused_class("n2d2.typed.Modeltyped", _INSTEAD)
ModelDatatyped = refused_class("n2d2.typed.ModelDatatyped", _INSTEAD)
