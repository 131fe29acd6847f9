"""What a score depends on besides the run: scores are comparable only if these conditions agree."""

from collections.abc import Mapping
from typing import Any

# Keys of the details of scores. TPL's number of paths is left out: it follows from the code's size.
CONDITIONS = (
    "variant", "split", "counts", "distance", "threshold", "segments", "span", "compat", "pairs",
    "epsilon", "sampling", "interpolation", "real", "fake", "train_points", "test_points", "images",
    "images_drawn_from",
)  # fmt: skip
# Metrics always measured on images that training did not see.
ALWAYS_UNSEEN = ("class-swaps", "attribute-flips")
# Metrics of images from the data set, whose part is always given.
_SPLIT = ("reconstruction", "attributes", "fid", *ALWAYS_UNSEEN)
_WORDS = {"train": "training images", "test": "test images"}


def conditions_of(metric: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conditions among a score's details.

    Older scores do not record their images: these were the training images, except for
    `ALWAYS_UNSEEN`.
    """
    usual = {"split": "test" if metric in ALWAYS_UNSEEN else "train"}
    return {**usual, **{name: details[name] for name in CONDITIONS if name in details}}


def title(
    metric: str, conditions: Mapping[str, Any], also: tuple[str, ...] = (), label: str | None = None
) -> str:
    """Return a metric's name for tables, with variant, part of the data and counts in brackets.

    Parameters
    ----------
    metric : str
        Name of the metric.
    conditions : dict
        As returned by `conditions_of`.
    also : tuple of str
        Further conditions to include: those that distinguish columns.
    label : str, optional
        Label of the metric; its name by default.
    """
    words = []
    variant, split = conditions.get("variant"), conditions.get("split")
    if variant is not None and not metric.endswith(f"-{variant}"):
        words.append(str(variant))
    if split == "test" or metric in _SPLIT or "split" in also:
        words.append(_WORDS.get(str(split), str(split)))
    if conditions.get("counts") is not None:
        words.append(f"{conditions['counts']} counts")
    said = ("variant", "split", "counts")
    words += [
        f"{name.replace('_', ' ')} {conditions.get(name)}" for name in also if name not in said
    ]
    return f"{label or metric} ({', '.join(words)})" if words else label or metric


def differing(found: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the names of the conditions that differ."""
    return tuple(name for name in CONDITIONS if len({repr(f.get(name)) for f in found}) > 1)
