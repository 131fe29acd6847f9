"""Rendered images as sums of coloured layers, drawn once and coloured when read."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from pydisent.data import _raycast
from pydisent.data._base import FactorDataset, resize
from pydisent.data._cache import cached_array

CHUNK = 16  # images composited at a time, so that their layers stay in the CPU's cache
FEW_PIXELS = 2048  # above this, one image at a time is as fast as any chunk


class LayeredDataset(FactorDataset):
    """Images composed of layers, one set per geometry setting, times colours.

    An image is the sum over K layers of colour times light, (3, K) @ (K, H, W). Layers are drawn on
    first use, and stored as bytes in the user's cache.

    Parameters
    ----------
    factor_names, factor_sizes, image_size
        As for `FactorDataset`.
    """

    def __init__(
        self,
        factor_names: Sequence[str],
        factor_sizes: Sequence[int],
        *,
        image_size: int | None = None,
    ) -> None:
        scene = self._scene()
        shape = (3, scene.SIDE, scene.SIDE)
        super().__init__(scene.NAME, shape, factor_names, factor_sizes, image_size=image_size)
        self._drawn: Tensor | None = None

    @abstractmethod
    def _scene(self) -> ModuleType:
        """Return the module with ``NAME``, ``SIDE``, ``LAYERS``, ``SETTINGS`` and ``draw``.

        draw(out) fills (SETTINGS, LAYERS, SIDE, SIDE) uint8.
        """

    @abstractmethod
    def _plan(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return each image's setting (N,) int64, and colours (N, 3, K) float32."""

    def _read(self, indices: np.ndarray) -> Tensor:
        return self._composite(*self._plan(indices))

    def _composite(self, settings: Tensor, colours: Tensor) -> Tensor:
        """Return the images (N, 3, h, w) for settings (N,) in colours (N, 3, K)."""
        layers = self._layers()
        count, (height, width) = len(settings), layers.shape[2:]
        if colours.requires_grad or height * width < FEW_PIXELS:
            chunks = zip(settings.split(CHUNK), colours.split(CHUNK))
            parts = [colour @ layers[setting].flatten(2) for setting, colour in chunks]
            return torch.cat(parts).reshape(count, 3, height, width)
        images = layers.new_empty(count, 3, height, width)
        for image, setting, colour in zip(images, settings.tolist(), colours):
            torch.mm(colour, layers[setting].flatten(1), out=image.flatten(1))
        return images

    def _layers(self) -> Tensor:
        """Return all layers, (S, K, h, w) float32, already resized if the images are smaller."""
        if self._drawn is None:
            scene = self._scene()
            shape = (scene.SETTINGS, scene.LAYERS, scene.SIDE, scene.SIDE)
            # Cached layers are valid only for this version of the source.
            source = [Path(str(part.__file__)).read_bytes() for part in (scene, _raycast)]
            made_from = hashlib.sha256(b"\0".join(source)).hexdigest()
            drawn = cached_array(scene.NAME, (made_from, ()), shape, scene.draw)
            if drawn is None:
                scene.draw(drawn := np.empty(shape, np.uint8))
            # Slightly above 255, so that no sum of layers rounds to more than 1.
            layers = torch.from_numpy(np.array(drawn)).to(torch.float32).div_(255.001)
            # Images are linear in the layers, and so are their averages.
            self._drawn = resize(layers, self._size) if self._size[0] < scene.SIDE else layers
        return self._drawn
