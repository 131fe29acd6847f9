"""The operations a generator may be made of, each as a function of (input, *parameters)."""

import _probe_layers  # noqa: F401, I001 - each adds its own, in this order
import _probe_functions  # noqa: F401
from _probe_case import CASES, Case

__all__ = ["CASES", "Case"]
