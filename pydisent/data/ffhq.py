"""FFHQ: photographs of faces, in the official folders."""

from __future__ import annotations

import os
import re

from pydisent._checks import check
from pydisent.data._files import require_path
from pydisent.data._pictures import PictureDataset, Pictures, Preparation, side_of
from pydisent.data.images import pictures_below

COUNT = 70_000
EXPECTED = (
    "FFHQ's folder images1024x1024 or thumbnails128x128, or one of its pictures resized, with "
    "00000.png to 69999.png in it or in folders below"
)
NAME = re.compile(r"[0-9]{5}")


class FFHQ(PictureDataset):
    """The 70,000 faces, ordered by number, 3 x side x side in [0, 1].

    Parameters
    ----------
    path : path
        The folder.
    image_size : int, optional
        Side in pixels of the images returned, 64 by default: smaller ones are area averages,
        larger ones bilinear.
    partial : bool
        Accept missing pictures.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is missing, a picture has an unexpected name, or pictures are missing; reading
        a damaged picture raises a ValueError that names it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        image_size: int | None = None,
        partial: bool = False,
    ) -> None:
        preparation = Preparation(side_of(image_size))
        folder = require_path(path, EXPECTED)
        files = sorted(pictures_below(folder, EXPECTED), key=lambda file: (file.stem, str(file)))
        wrong = next((file for file in files if not NAME.fullmatch(file.stem)), None)
        check(wrong is None, "path", f"{EXPECTED}", f"the picture {str(wrong)!r}")
        there = len({file.stem for file in files})
        check(there == len(files), "path", f"{EXPECTED}, once each", f"{len(files)} of {there}")
        whole = f"{EXPECTED}; partial=True (--partial) takes what is there"
        check(partial or there == COUNT, "path", whole, f"{there} pictures")
        super().__init__(Pictures("ffhq", files, preparation))
