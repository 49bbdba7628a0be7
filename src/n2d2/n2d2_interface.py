"""N2D2's bridge to its C++ objects, refused by name."""

from n2d2.refusal import refused_class

_INSTEAD = "there are no C++ objects here; parameters are attributes, under N2D2's names in Python"

ConventionConverter = refused_class("n2d2.n2d2_interface.ConventionConverter", _INSTEAD)
N2D2_Interface = refused_class("n2d2.n2d2_interface.N2D2_Interface", _INSTEAD)
Options = refused_class("n2d2.n2d2_interface.Options", _INSTEAD)
