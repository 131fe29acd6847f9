"""The user's cache folder, for files that can be recreated at any time."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Return pydisent's cache folder, or None if caching is off.

    The environment variable PYDISENT_CACHE names the folder or is "off"; the default is pydisent in
    XDG_CACHE_HOME or ~/.cache. Anything in the folder may be deleted at any time.
    """
    chosen = os.environ.get("PYDISENT_CACHE")
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pydisent"
