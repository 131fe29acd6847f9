"""The rendered 3D chairs of Aubry et al. (2014)."""

from __future__ import annotations

import logging
import math
import os
import re
from pathlib import Path

from pydisent.data._base import ImageDataset
from pydisent.data._files import part_of, require_path
from pydisent.data._pictures import PictureDataset, PictureGrid, Pictures, Preparation, side_of

LOG = logging.getLogger(__name__)
EXPECTED = (
    "the folder rendered_chairs, with MODEL/renders/image_NNN_pPPP_tTTT_rRRR.png for each model"
)
FILE = re.compile(r"image_(\d+)_p(\d+)_t(\d+)_r(\d+)\.png")
FACTOR_NAMES = ("model", "elevation", "azimuth")
TRAINED = 0.8  # of the models (Kumar et al., 2018, sec. 4)


def load_chairs(
    path: str | os.PathLike[str] | None,
    *,
    image_size: int | None = None,
    split: str | None = None,
    masks: bool = False,
) -> ImageDataset:
    """Open the rendered chairs: grey pictures on white, 1 x side x side in [0, 1].

    If every model has the same views, the result is a `FactorDataset` with factors model, elevation
    (p in the file names) and azimuth (t), each in increasing order. If views are missing, it is an
    `ImageDataset` without factors, and a warning says so. The split follows Kumar et al. (2018):
    the first 80 % of the models, ordered by folder name, are for training. (Their experiments use
    809 of the 1393 models, without near-duplicates. The paper does not list them; delete or link
    folders to do the same.)

    Parameters
    ----------
    path : path
        The folder rendered_chairs.
    image_size : int, optional
        Side in pixels of the images returned, 64 by default; area averages of the official 600x600.
    split : {"train", "test", "all"}, optional
        The models to use; the training models by default.
    masks : bool
        Return binary masks instead, as in the experiments of Kumar et al.: 1 where at least half
        of a pixel is not pure white.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is missing, has no renders, or has a picture with an unexpected name; reading
        a damaged picture raises a ValueError that names it.
    """
    preparation = Preparation(side_of(image_size), "L", mask=masks)
    folder = require_path(path, EXPECTED)
    found = [find_views(place) for place in sorted(folder.glob("*/renders"))]
    if not any(found):
        raise ValueError(f"path {str(folder)!r} has no renders; expected {EXPECTED}")
    models = part_of([views for views in found if views], split, TRAINED, "models")
    views = sorted({view for model in models for view in model})
    files = [model[view] for model in models for view in views if view in model]
    pictures = Pictures("chair-masks" if masks else "chairs", files, preparation)
    sizes = (len(models), *(len({view[axis] for view in views}) for axis in (0, 1)))
    if len(files) == math.prod(sizes):
        return PictureGrid(pictures, FACTOR_NAMES, sizes)
    fewest = min(models, key=len)
    LOG.warning(
        "%s: no grid of factors: %d models x %d elevations x %d azimuths are not %d pictures; "
        "%s has only %d",
        *(pictures.name, *sizes, len(files), next(iter(fewest.values())).parent, len(fewest)),
    )
    return PictureDataset(pictures)


def load_chair_masks(
    path: str | os.PathLike[str] | None,
    *,
    image_size: int | None = None,
    split: str | None = None,
) -> ImageDataset:
    """Open the rendered chairs as binary masks; see `load_chairs`."""
    return load_chairs(path, image_size=image_size, split=split, masks=True)


def find_views(renders: Path) -> dict[tuple[int, int], Path]:
    """Return the pictures of one model by (elevation, azimuth) in degrees.

    Raises
    ------
    ValueError
        If ``renders`` is a file, a .png file does not have an official name, or a view exists
        twice.
    """
    require_path(renders, EXPECTED)
    views: dict[tuple[int, int], Path] = {}
    for file in sorted(renders.glob("[!.]*.png")):
        name = FILE.fullmatch(file.name)
        if name is None:
            raise ValueError(
                f"{str(file)!r} must be named image_NNN_pPPP_tTTT_rRRR.png; expected {EXPECTED}"
            )
        view = int(name[2]), int(name[3])
        if view in views:
            raise ValueError(f"{str(file)!r} has the view of {views[view].name!r} again")
        views[view] = file
    return views
