"""Fast, correct losses, ops and full systems for learning disentangled representations."""

__version__ = "0.1.0"
