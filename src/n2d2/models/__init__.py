"""Networks that are known by name."""

from n2d2.models import lenet

__all__ = ["lenet"]
