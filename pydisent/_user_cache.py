"""Where files are kept that may be made anew at any time."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Return the user's cache folder of pydisent, or None if nothing is to be kept.

    The environment variable PYDISENT_CACHE names the folder, or is "off"; by default it is
    pydisent in XDG_CACHE_HOME or ~/.cache. Anything in it may be deleted at any time.
    """
    chosen = os.environ.get("PYDISENT_CACHE")
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pydisent"
