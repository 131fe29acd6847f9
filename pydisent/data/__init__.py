"""Data sets: rendered, bundled with a dependency, or read from official files."""

from __future__ import annotations

import os
from typing import Any, Literal, NoReturn, overload

from pydisent._checks import check
from pydisent.data._base import ArrayDataset, FactorDataset, ImageDataset
from pydisent.data._observed import (
    ObservedFactorDataset,
    factors_of,
    has_factors,
    with_attribute_factors,
)
from pydisent.data._registry import SOURCES, register
from pydisent.data._subset import Subset, hold_out

__all__ = [
    "ArrayDataset",
    "FactorDataset",
    "ImageDataset",
    "ObservedFactorDataset",
    "Subset",
    "crops",
    "factors_of",
    "has_factors",
    "hold_out",
    "load",
    "load_test",
    "names",
    "register",
    "splits",
    "with_attribute_factors",
]

WITH_ATTRIBUTES = ("faces", "celeba")
# Data sets that form a grid of factors.
FactorName = Literal[
    "sprites",
    "color-sprites",
    "dsprites",
    "color-dsprites",
    "noisy-dsprites",
    "scream-dsprites",
    "shapes3d",
    "3dshapes",
    "mpi3d",
    "cars3d",
    "clevr-simple",
]


def load_test(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    **options: Any,
) -> ImageDataset | None:
    """Open the official test split of a data set, unless `load` already opens its images.

    Parameters
    ----------
    name, path, split, **options
        As for `load`.

    Returns
    -------
    ImageDataset or None
        None if the data has no such split, or `load` opens its images.
    """
    if name not in SOURCES or not splits(name) or split in ("test", "all"):
        return None
    if getattr(load(name, path, split=split, **options), "split", None) in ("test", "all"):
        return None
    try:
        return load(name, path, split="test", **options)
    except FileNotFoundError:
        return None


def splits(name: str) -> tuple[str, ...]:
    """Return the splits of a data set; empty if it has none."""
    return SOURCES.find(name).splits


def crops(name: str) -> tuple[int, ...]:
    """Return the sides in pixels of the square crops offered for a data set's pictures."""
    return SOURCES.find(name).crops


def names() -> tuple[str, ...]:
    """Return the names that `load` accepts."""
    return tuple(SOURCES)


@overload
def load(
    name: FactorName,
    path: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
    split: None = None,
    crop: None = None,
    partial: Literal[False] = False,
    factors: None = None,
    bins: None = None,
) -> FactorDataset: ...


@overload
def load(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
    split: str | None = None,
    crop: int | None = None,
    partial: bool = False,
    factors: str | os.PathLike[str] | None = None,
    bins: int | None = None,
) -> ImageDataset: ...


def load(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
    split: str | None = None,
    crop: int | None = None,
    partial: bool = False,
    factors: str | os.PathLike[str] | None = None,
    bins: int | None = None,
) -> ImageDataset:
    """Open a data set by name; nothing is ever downloaded.

    Parameters
    ----------
    name : str
        ``sprites`` (rendered, the dSprites factor grid), ``color-sprites`` (the same in 512
        colours), ``dsprites`` (the official .npz), ``color-dsprites``, ``noisy-dsprites`` (of that
        file) and ``scream-dsprites`` (of a folder with it and scream.jpg), ``shapes3d`` (rendered,
        the 3D Shapes factor grid), ``3dshapes`` (the official .h5), ``mpi3d`` (an official .npz),
        ``cars3d`` (the official folder cars), ``smallnorb`` (a folder with the official files),
        ``clevr-simple`` (rendered, one object in CLEVR's manner), ``faces`` (rendered, cartoon
        faces with 32 attributes), ``digits`` (scikit-learn's 8x8 handwritten digits), ``mnist`` (a
        folder of idx files), ``svhn`` (a folder of .mat files), ``chairs`` and ``chair-masks`` (the
        folder rendered_chairs), ``celeba`` (a folder with pictures and attribute file), ``ffhq``
        (an official folder), ``lsun`` (the LMDB folder of a category, or a folder of pictures),
        ``images`` (any folder of pictures), or the name of a plug-in (`register`).
    path : path, optional
        The official file or folder, for data sets that read one. Pictures are decoded, and scenes
        ray-cast, once into the user's cache (~/.cache/pydisent; the environment variable
        PYDISENT_CACHE names another folder, or is "off").
    image_size : int, optional
        Side in pixels of square images: smaller ones are area averages, larger ones bilinear
        (MNIST at 32 is padded; faces are drawn at any size). None keeps the native size; folders of
        pictures are resized to 64x64.
    split : {"train", "test", "validation", "extra", "all"}, optional
        For ``mnist`` (train, test), ``svhn`` (train, test, extra), ``chairs`` and ``chair-masks``
        (train: the first 80 % of the models; test, all), ``celeba`` and ``faces`` (train,
        validation, test, all), ``smallnorb`` (train, test, all); by default the training set (for
        MNIST the test set if there is no training set; for smallNORB all).
    crop : {148, 128, 178}, optional
        For ``celeba``: side in pixels of the square cropped from each picture; see
        `pydisent.data.celeba.CelebA`.
    partial : bool
        For ``celeba``, ``ffhq``, and ``images`` with factors: accept missing pictures and use those
        that exist.
    factors : path, optional
        For ``images``: a CSV file with one row per picture and one column per factor, which gives
        an `ObservedFactorDataset`; see `pydisent.data.images.load_images`.
    bins : int, optional
        Number of equal-count bins for factors that are quantities, 10 by default.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError
        If the name is unknown, an argument does not fit it, or a file is missing or malformed.
    """
    source = SOURCES.find(name)
    whole = split is None or bool(source.splits)
    check(whole, "split", f"None for {name!r}, which has no splits", repr(split))
    unread = path is None or source.path
    check(unread, "path", f"None for {name!r}, which reads no file", repr(str(path)))
    if crop is not None and not source.crops:
        takers = [other for other, about in SOURCES.items() if about.crops]
        _refuse("crop", f"None for {name!r}", f"{', '.join(takers)} is cropped", crop)
    given = {"partial": partial or None, "factors": factors, "bins": bins}
    for option, value in given.items():
        if value is not None and option not in source.options:
            takers = [other for other, about in SOURCES.items() if option in about.options]
            unset = False if option == "partial" else None
            _refuse(option, f"{unset} for {name!r}", f"{', '.join(takers)} takes that", value)
    return source.open(
        path, image_size, split=split, crop=crop, partial=partial, factors=factors, bins=bins
    )


def _refuse(argument: str, rule: str, others: str, value: Any) -> NoReturn:
    raise ValueError(f"{argument} must be {rule}; only {others}, got {value}")
