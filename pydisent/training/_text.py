"""Settings in words."""

from typing import Any


def plain(value: Any) -> str:
    """Return a setting as short as it can be written and still be told from all others."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)
