"""Fast, correct losses, ops and full systems for learning disentangled representations."""

from . import ops
from ._backends import backends

__version__ = "0.1.0"

__all__ = ["backends", "ops"]
