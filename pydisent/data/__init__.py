"""Data sets: rendered, shipped with a dependency, or read from official files."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, Literal, overload

from pydisent._checks import check, check_one_of
from pydisent.data._base import ArrayDataset, FactorDataset, ImageDataset
from pydisent.data._observed import (
    ObservedFactorDataset,
    factors_of,
    has_factors,
    with_attribute_factors,
)
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
    "splits",
    "with_attribute_factors",
]

_FACE_SPLITS = ("train", "validation", "test", "all")
# name -> (module, class or function, reads the user's files, its splits)
_KNOWN: dict[str, tuple[str, str, bool, tuple[str, ...]]] = {
    "sprites": ("sprites", "Sprites", False, ()),
    "color-sprites": ("color_sprites", "ColorSprites", False, ()),
    "dsprites": ("dsprites", "DSprites", True, ()),
    "shapes3d": ("shapes3d", "Shapes3D", False, ()),
    "3dshapes": ("three_d_shapes", "ThreeDShapes", True, ()),
    "clevr-simple": ("clevr_simple", "ClevrSimple", False, ()),
    "faces": ("faces", "Faces", False, _FACE_SPLITS),
    "digits": ("digits", "Digits", False, ()),
    "mnist": ("mnist", "MNIST", True, ("train", "test")),
    "svhn": ("svhn", "SVHN", True, ("train", "test", "extra")),
    "chairs": ("chairs", "load_chairs", True, ("train", "test", "all")),
    "chair-masks": ("chairs", "load_chair_masks", True, ("train", "test", "all")),
    "celeba": ("celeba", "CelebA", True, _FACE_SPLITS),
    "images": ("images", "Images", True, ()),
}

WITH_ATTRIBUTES = ("faces", "celeba")
_PARTIAL = ("celeba",)  # can be read in part
_CROPS = {"celeba": (128, 148, 178)}
# Data sets that are a grid of factors.
FactorName = Literal["sprites", "color-sprites", "dsprites", "shapes3d", "3dshapes", "clevr-simple"]


def load_test(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    **options: Any,
) -> ImageDataset | None:
    """Open the official test split of a data set of which `load` opens another split.

    Parameters
    ----------
    name, path, split, **options
        As for `load`.

    Returns
    -------
    ImageDataset or None
        None if the data has no such split, or `load` opens its images.
    """
    if name not in _KNOWN or not splits(name) or split in ("test", "all"):
        return None
    if getattr(load(name, path, split=split, **options), "split", None) == "test":
        return None
    try:
        return load(name, path, split="test", **options)
    except FileNotFoundError:
        return None


def splits(name: str) -> tuple[str, ...]:
    """Return the splits of a data set; none if it has only the whole."""
    check_one_of("name", name, names())
    return _KNOWN[name][3]


def crops(name: str) -> tuple[int, ...]:
    """Return the sides in pixels of the squares that can be cut out of a data set's pictures."""
    check_one_of("name", name, names())
    return _CROPS.get(name, ())


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(_KNOWN)


@overload
def load(
    name: FactorName,
    path: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
    split: None = None,
    crop: None = None,
    partial: Literal[False] = False,
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
) -> ImageDataset: ...


def load(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
    split: str | None = None,
    crop: int | None = None,
    partial: bool = False,
) -> ImageDataset:
    """Open a data set by name; nothing is ever downloaded.

    Parameters
    ----------
    name : str
        ``sprites`` (rendered, the dSprites factor grid), ``color-sprites`` (those in 512
        colours), ``dsprites`` (the official .npz), ``shapes3d`` (rendered, the 3D Shapes factor
        grid), ``3dshapes`` (the official .h5), ``clevr-simple`` (rendered, one object in CLEVR's
        manner), ``faces`` (rendered, cartoon faces with 32 attributes), ``digits`` (scikit-learn's
        8x8 handwritten digits), ``mnist`` (a folder of idx files), ``svhn`` (a folder of .mat
        files), ``chairs`` and ``chair-masks`` (the folder rendered_chairs), ``celeba`` (a folder
        with pictures and attribute file) or ``images`` (any folder of pictures).
    path : path, optional
        The official file or folder; for the names that read one. Pictures are decoded, and
        scenes ray-cast, once into the user's cache (~/.cache/pydisent; the environment variable
        PYDISENT_CACHE names another folder, or is "off").
    image_size : int, optional
        Side in pixels of square images: smaller ones are area averages, larger ones bilinear
        (MNIST at 32 is padded; faces are drawn at any size). None keeps the native size; folders
        of pictures are made 64x64.
    split : {"train", "test", "validation", "extra", "all"}, optional
        For ``mnist`` (train, test), ``svhn`` (train, test, extra), ``chairs`` and ``chair-masks``
        (train: the first 80 % of the models; test, all), ``celeba`` and ``faces`` (train,
        validation, test, all); by default the training set (for MNIST the test set if there is no
        other).
    crop : {148, 128, 178}, optional
        For ``celeba``: side in pixels of the square cut out of each picture; see
        `pydisent.data.celeba.CelebA`.
    partial : bool
        For ``celeba``: take the lines whose pictures exist, if others are missing.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError
        If the name is unknown, an argument does not fit it, or a file is missing or malformed.
    """
    check_one_of("name", name, names())
    module, builder, reads_files, its_splits = _KNOWN[name]
    whole = split is None or bool(its_splits)
    check(whole, "split", f"None for {name!r}, which has no splits", repr(split))
    uncut = crop is None or name in _CROPS
    check(uncut, "crop", f"None for {name!r}; only {', '.join(_CROPS)} is cropped", crop)
    unread = path is None or reads_files
    check(unread, "path", f"None for {name!r}, which reads no file", repr(str(path)))
    rule = f"False for {name!r}; only {', '.join(_PARTIAL)} can be read in part"
    check(not partial or name in _PARTIAL, "partial", rule, partial)
    build = getattr(import_module(f"{__name__}.{module}"), builder)
    options: dict[str, Any] = {"split": split} if its_splits else {}
    if name in _CROPS:
        options["crop"] = crop
    if name in _PARTIAL:
        options["partial"] = partial
    if not reads_files:
        return build(image_size=image_size, **options)
    return build(path, image_size=image_size, **options)
