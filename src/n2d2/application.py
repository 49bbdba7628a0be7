"""N2D2's classifiers of old, refused by name."""

from n2d2.refusal import refused_class

_INSTEAD = "n2d2.target.Score after a Softmax with loss takes the place of its classifiers"

Classifier = refused_class("n2d2.application.Classifier", _INSTEAD)
