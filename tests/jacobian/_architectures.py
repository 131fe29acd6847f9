"""Small generators, chosen to differ: every kind of layer and of Python that users may bring."""

import _dense_architectures  # noqa: F401, I001 - each adds its own, in this order
import _image_architectures  # noqa: F401
import _sequence_architectures  # noqa: F401
from _python_architectures import Cube
from _architecture import ARCHITECTURES

__all__ = ["ARCHITECTURES", "Cube"]
