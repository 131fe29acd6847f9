"""One rendered object on a grey ground, in the manner of CLEVR: colour, shape and position.

Peebles et al. (The Hessian Penalty, 2020) rendered Clevr-Simple, 10 000 pictures of one object, in
CLEVR's Blender scene; this is our own scene, in CLEVR's colours (Johnson et al., 2017).
"""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from pydisent.data._layers import LayeredDataset
from pydisent.data._raycast import Box, Camera, Cylinder, Lighting, Solid, ball

NAME = "clevr-simple"
FACTOR_NAMES = ("color", "shape", "x", "y")
FACTOR_SIZES = (8, 3, 21, 20)
COLOURS = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
SHAPES = ("cube", "sphere", "cylinder")
# Positions of the base's centre in the picture, in half sides from its middle.
ACROSS = np.linspace(-0.52, 0.52, 21)
UPWARDS = np.linspace(0.4, -0.7, 20)

SIDE = 64
LAYERS = 2  # light on the object; grey light of everything else
SETTINGS = 3 * 21 * 20

CAMERA = Camera((0.0, -10.4, 6.0), 0.0, -np.pi / 6, 4.4)
RADIUS = 0.7
CUBE_TURN = 0.5
GROUND, HAZE, CLEAR_RADIUS = 0.7, 0.5, 6.0
LIGHTING = Lighting(
    sun=(-0.6, -0.25, 1.0),
    fill=(0.6, -0.8, 0.35),
    sun_strength=0.34,
    fill_strength=0.24,
    ambient=0.55,
    bounce=0.85,
    softness=0.2,
    gloss=0.35,
    shininess=40,
)


class ClevrSimple(LayeredDataset):
    """A cube, sphere or cylinder in one of CLEVR's colours on a grey ground, 3x64x64.

    Factors: color (8), shape (3), x (left to right, 21) and y (top to bottom, 20), which move the
    base's centre by even steps in the picture, so that nearer objects are larger: 10 080 images.
    The geometry is ray-cast once, with 16 rays per pixel, and kept in the user's cache.

    Parameters
    ----------
    image_size : int, optional
        Side in pixels of the images returned; smaller ones are area averages of 64x64.
    """

    def __init__(self, *, image_size: int | None = None) -> None:
        super().__init__(FACTOR_NAMES, FACTOR_SIZES, image_size=image_size)

    def _scene(self) -> ModuleType:
        return sys.modules[__name__]

    def _plan(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        colour, setting = np.divmod(indices, SETTINGS)
        rgb = np.array(list(COLOURS.values()), np.float32)[colour] / 255
        return torch.from_numpy(setting), torch.from_numpy(np.stack([rgb, np.ones_like(rgb)], 2))


def solid_of(shape: int, base: tuple[float, float]) -> Solid:
    """Return the cube (0), sphere (1) or cylinder (2) that stands at ``base``."""
    if shape == 0:
        half = RADIUS / np.sqrt(1.5)  # CLEVR's cubes, too, are smaller than its balls
        return Box(base, half, 2 * half, CUBE_TURN)
    return ball(base, RADIUS) if shape == 1 else Cylinder(base, RADIUS, 2 * RADIUS)


def ground_at(u: float, v: float) -> tuple[float, float]:
    """Return the point of the ground that is seen ``u`` right of and ``v`` above the middle."""
    right, up, forward = CAMERA.axes
    ray = forward + (u * right + v * up) / CAMERA.focal
    point = np.array(CAMERA.position) - CAMERA.position[2] / ray[2] * ray
    return float(point[0]), float(point[1])


def draw(out: np.ndarray) -> None:
    """Ray-cast the layers of all settings into ``out``, (1260, 2, 64, 64) uint8."""
    origin = np.array(CAMERA.position, np.float32)[:, None, None]
    rays = CAMERA.rays(SIDE)
    ground = origin - origin[2] / rays[2] * rays
    clear = np.exp(-(ground**2).sum(0) / CLEAR_RADIUS**2)
    grid = out.reshape(*FACTOR_SIZES[1:], LAYERS, -1)
    for shape, x, y in np.ndindex(*FACTOR_SIZES[1:]):
        solid = solid_of(shape, ground_at(float(ACROSS[x]), float(UPWARDS[y])))
        seen, light, highlight = LIGHTING.on_solid(solid, origin, rays)
        floor = GROUND * LIGHTING.on_ground(ground, solid, np.ones_like(clear))
        around = ~seen * (clear * floor + (1 - clear) * HAZE)
        layers = np.stack([light, around + highlight]).mean(1)
        grid[shape, x, y] = 255 * layers
