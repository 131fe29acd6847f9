"""Data: rendered or shipped with a dependency, and official files read from a path."""

from __future__ import annotations

import os
from importlib import import_module

from ._base import ArrayDataset, FactorDataset, ImageDataset

__all__ = ["ArrayDataset", "FactorDataset", "ImageDataset", "load", "names"]

# name -> (module, class, does it read files the user has)
_KNOWN = {
    "sprites": ("sprites", "Sprites", False),
    "dsprites": ("dsprites", "DSprites", True),
    "digits": ("digits", "Digits", False),
    "mnist": ("mnist", "MNIST", True),
}


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(_KNOWN)


def load(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
    split: str | None = None,
) -> ImageDataset:
    """Open a data set by name; nothing is ever downloaded.

    Parameters
    ----------
    name : str
        ``sprites`` (rendered, the dSprites factor grid), ``dsprites`` (the official .npz),
        ``digits`` (scikit-learn's 8x8 handwritten digits) or ``mnist`` (a folder of idx files).
    path : path, optional
        The official file or folder; for the names that read one.
    image_size : int, optional
        Side in pixels of square images: smaller ones are area averages, larger ones bilinear
        (MNIST at 32 is padded). None keeps the native size.
    split : {"train", "test"}, optional
        For ``mnist``; by default the training set if it is there, else the test set.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError
        If the name is unknown, an argument does not fit it, or a file is missing or malformed.
    """
    if name not in _KNOWN:
        raise ValueError(f"name must be one of {', '.join(_KNOWN)}; got {name!r}")
    module, class_name, reads_files = _KNOWN[name]
    if split is not None and name != "mnist":
        raise ValueError(f"split is only for mnist; got {split!r} for {name!r}")
    if path is not None and not reads_files:
        raise ValueError(f"path must be None for {name!r}, which reads no file; got {str(path)!r}")
    build = getattr(import_module(f"{__name__}.{module}"), class_name)
    if not reads_files:
        return build(image_size=image_size)
    options = {"split": split} if name == "mnist" else {}
    return build(path, image_size=image_size, **options)
