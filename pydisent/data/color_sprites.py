"""Rendered sprites in colour: the factor grid of Color-dSprites."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pydisent.data import sprites
from pydisent.data._base import FactorDataset

LEVELS = 8  # of a channel, linearly spaced over [0, 1]
CHANNELS = ("red", "green", "blue")


class ColorSprites(FactorDataset):
    """The sprites of `Sprites`, each in 512 colours on black, 3x64x64 in [0, 1].

    Jeon et al. (2021, Table 8) give each colour channel 8 values linearly spaced between 0 and 1,
    and count the colour as one factor, before those of dSprites. Their 256 colours do not follow
    from that: 8 values in three channels make 512, as here. Colour number 64 r + 8 g + b has the
    levels r/7, g/7 and b/7; number 0 is black, which hides the other factors. The grid has 377 487
    360 images, drawn on demand.

    Parameters
    ----------
    image_size : int, optional
        Side in pixels of the images returned; smaller ones are area averages of 64x64.
    channels : bool
        Count red, green and blue as three factors of 8 values instead of one of 512; the images
        keep their numbers.
    """

    def __init__(self, *, image_size: int | None = None, channels: bool = False) -> None:
        colour = dict.fromkeys(CHANNELS, LEVELS) if channels else {"color": LEVELS**3}
        super().__init__(
            "color-sprites",
            (3, sprites.SIDE, sprites.SIDE),
            (*colour, *sprites.FACTOR_NAMES),
            (*colour.values(), *sprites.FACTOR_SIZES),
            image_size=image_size,
        )
        self._sprites = sprites.Sprites()

    def _read(self, indices: np.ndarray) -> Tensor:
        colour, number = np.divmod(indices, math.prod(sprites.FACTOR_SIZES))
        levels = np.stack(np.unravel_index(colour, (LEVELS,) * 3), 1) / (LEVELS - 1)
        white = self._sprites.images(number)
        return white * torch.from_numpy(levels.astype(np.float32))[:, :, None, None]
