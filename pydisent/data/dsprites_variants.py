"""dSprites in random colours, in noise and on a painting (Locatello et al., 2019)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check, check_integer
from pydisent.data import sprites
from pydisent.data._base import FactorDataset
from pydisent.data._files import require_path
from pydisent.data._pictures import open_picture
from pydisent.data._uniform import draw_uniform
from pydisent.data.dsprites import EXPECTED, DSprites

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
SCREAM = ("scream.jpg", "scream.jpeg", "scream.png")
WITH_SCREAM = f"a folder with {FILE} and a picture of Munch's The Scream, {' or '.join(SCREAM)}"
SIDE = sprites.SIDE
CANVAS = (350, 274)  # size in pixels that the painting is scaled to fit
COLOUR = np.arange(3)
CORNER = np.arange(3, 5)  # columns of random numbers, after those of the colour
NOISE = np.arange(3 * SIDE**2)
PIECE = 256


class DSpritesVariant(FactorDataset):
    """The official dSprites with a random element in each image that is not a factor.

    Parameters
    ----------
    path : path
        The official .npz file of dSprites, or its folder.
    image_size : int, optional
        Side in pixels of the images returned; smaller ones are area averages of 64x64.
    factor_sizes : sequence of 5 int
        The grid; the official one by default.
    seed : int
        Seed of the random elements; each image is a function of the seed and its number. (In
        disentanglement_lib, an image looks different each time it is read.)

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If a file is missing or not as expected, or an argument is invalid.
    """

    variant: ClassVar[str]

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        image_size: int | None = None,
        factor_sizes: Sequence[int] = sprites.FACTOR_SIZES,
        seed: int = 0,
    ) -> None:
        check_integer("seed", seed, at_least=0)
        self.seed = int(seed)
        self._sprites = DSprites(self._file(path), factor_sizes=factor_sizes)
        super().__init__(
            self.variant,
            (3, SIDE, SIDE),
            sprites.FACTOR_NAMES,
            factor_sizes,
            image_size=image_size,
        )

    def _file(self, path: str | os.PathLike[str] | None) -> Path:
        if path is not None and Path(path).is_dir():
            return require_path(Path(path) / FILE, EXPECTED, folder=False)
        return require_path(path, EXPECTED, folder=False)

    def _draw(self, indices: np.ndarray, columns: np.ndarray) -> Tensor:
        return torch.from_numpy(draw_uniform(self.seed, indices, columns).astype(np.float32))


class ColorDSprites(DSpritesVariant):
    """The official dSprites, each in a colour with channels uniform in [0.5, 1), 3x64x64.

    See `DSpritesVariant`.
    """

    variant = "color-dsprites"

    def _read(self, indices: np.ndarray) -> Tensor:
        colour = 0.5 + 0.5 * self._draw(indices, COLOUR)
        return self._sprites.images(indices) * colour[:, :, None, None]


class NoisyDSprites(DSpritesVariant):
    """The official dSprites in noise: white sprites, other pixels uniform in [0, 1), 3x64x64.

    See `DSpritesVariant`.
    """

    variant = "noisy-dsprites"

    def _read(self, indices: np.ndarray) -> Tensor:
        images = self._sprites.images(indices).repeat(1, 3, 1, 1)
        for start in range(0, len(indices), PIECE):  # the draws take eight times the images' memory
            noise = self._draw(indices[start : start + PIECE], NOISE)
            images[start : start + PIECE] += noise.reshape(-1, 3, SIDE, SIDE)
        return images.clamp_(max=1)


class ScreamDSprites(DSpritesVariant):
    """The official dSprites on pieces of Munch's The Scream, 3x64x64.

    The background is the mean of a random 64x64 piece of the picture and a random colour; inside
    the sprite it is inverted, 1 minus its value. The user-supplied picture is first scaled to fit
    350x274 pixels. See `DSpritesVariant`; here ``path`` is the folder with the .npz file and
    scream.jpg (or .jpeg or .png).
    """

    variant = "scream-dsprites"

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        image_size: int | None = None,
        factor_sizes: Sequence[int] = sprites.FACTOR_SIZES,
        seed: int = 0,
    ) -> None:
        folder = require_path(path, WITH_SCREAM)
        found = next((folder / name for name in SCREAM if (folder / name).exists()), None)
        if found is None:
            raise FileNotFoundError(
                f"path {str(folder)!r} lacks {SCREAM[0]}; expected {WITH_SCREAM}"
            )
        self._picture = read_scream(found)
        super().__init__(folder, image_size=image_size, factor_sizes=factor_sizes, seed=seed)

    def _read(self, indices: np.ndarray) -> Tensor:
        height, width = self._picture.shape[1:]
        places = draw_uniform(self.seed, indices, CORNER) * (height - SIDE, width - SIDE)
        pieces = np.empty((len(indices), 3, SIDE, SIDE), np.uint8)
        for piece, (top, left) in zip(pieces, places.astype(int)):
            piece[:] = self._picture[:, top : top + SIDE, left : left + SIDE]
        background = torch.from_numpy(pieces).to(torch.float32) / 255
        background = (background + self._draw(indices, COLOUR)[:, :, None, None]) / 2
        return torch.where(self._sprites.images(indices) > 0, 1 - background, background)


def read_scream(file: Path) -> np.ndarray:
    """Return the picture, scaled to fit, (3, H, W) uint8.

    Raises
    ------
    ValueError
        If it is not a complete picture, or then has sides of fewer than 65 pixels.
    """
    picture = open_picture(file, "RGB")
    picture.thumbnail(CANVAS)
    fits = min(picture.size) > SIDE
    rule = f"of more than {SIDE} pixels to a side, made to fit into {CANVAS[0]}x{CANVAS[1]}"
    check(fits, repr(str(file)), rule, f"{picture.size[0]}x{picture.size[1]}")
    return np.asarray(picture).transpose(2, 0, 1)
