"""Refuse a torch that is too old, before anything fails with a less helpful error."""

import re

import torch

OLDEST_TORCH = (2, 11)


def check_torch(version: str) -> None:
    """Raise ImportError if `version` is below 2.11."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found and tuple(map(int, found.groups())) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise ImportError(
            f"pydisent needs torch {oldest} or newer, not {version}: pip install 'torch>={oldest}'"
        )


check_torch(torch.__version__)
