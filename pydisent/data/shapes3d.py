"""Rendered rooms with an object: the factor grid of 3D Shapes, ray-cast.

Proportions, camera and light were measured on the pictures published with the official data. The
unit of length is the cube's side at scale 1; the object stands in the middle of the room.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from pydisent.data._layers import LayeredDataset
from pydisent.data._raycast import Box, Camera, Capsule, Cylinder, Lighting, Solid, ball
from pydisent.data.indices import check_range, integer_array

NAME = "shapes3d"
FACTOR_NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
FACTOR_SIZES = (10, 10, 10, 8, 4, 15)
HUES = np.arange(10) / 10
SCALES = np.linspace(0.75, 1.25, 8)
SHAPES = ("cube", "cylinder", "sphere", "capsule")
ORIENTATIONS = np.linspace(-30, 30, 15)  # degrees

SIDE = 64
LAYERS = 5  # light on the floor, the walls and the object; sky; white highlight
SETTINGS = 8 * 4 * 15
SKY = (153 / 255, 226 / 255, 249 / 255)

ROOM_HALF, WALL_HEIGHT = 4.2, 2.55
CAMERA_DISTANCE, CAMERA_HEIGHT, FIELD_OF_VIEW = 3.9, 1.0, 45.0
BACK_WALL_LIGHT, SIDE_WALL_LIGHT = 1.0, 0.72
OBJECT_ALBEDO = 0.92
LIGHTING = Lighting(
    sun=(-0.53, 0.28, 1.0),
    fill=(0.15, -0.95, 0.25),
    sun_strength=0.56,
    fill_strength=0.46,
    ambient=0.4,
    bounce=0.9,
    softness=0.12,
    gloss=0.25,
    shininess=30,
)


class Shapes3D(LayeredDataset):
    """A cube, cylinder, sphere or capsule in a room over the 3D Shapes factor grid, 3x64x64.

    Factors, in the official order: floor, wall and object hue (0 to 0.9 of the HSV wheel), scale
    (0.75 to 1.25), shape, orientation (the camera moves around the room from -30 to 30 degrees).
    The geometry of the 480 combinations of the last three is ray-cast once, with 16 rays per pixel,
    and kept in the user's cache; colours are applied when images are read.

    Parameters
    ----------
    image_size : int, optional
        Side in pixels of the images returned; smaller ones are area averages of 64x64.
    """

    def __init__(self, *, image_size: int | None = None) -> None:
        super().__init__(FACTOR_NAMES, FACTOR_SIZES, image_size=image_size)

    def _scene(self) -> ModuleType:
        return sys.modules[__name__]

    def render(
        self,
        floor_hue: Tensor,
        wall_hue: Tensor,
        object_hue: Tensor,
        scale: Tensor,
        shape: Tensor,
        orientation: Tensor,
    ) -> Tensor:
        """Return images in any hues, (N, 3, H, W) float32 in [0, 1], differentiable in the hues.

        Parameters
        ----------
        floor_hue, wall_hue, object_hue : Tensor
            (N,) floating point; 0 is red, 1/3 green, 2/3 blue, 1 red again, and so on.
        scale, shape, orientation : Tensor
            (N,) integers that count the values of `factors`.

        Raises
        ------
        TypeError, ValueError
            If an argument is not of that kind, shape or range.
        """
        hues = {"floor_hue": floor_hue, "wall_hue": wall_hue, "object_hue": object_hue}
        for name, hue in hues.items():
            if not isinstance(hue, Tensor) or not hue.is_floating_point():
                raise TypeError(f"{name} must be a tensor of floating-point numbers, got {hue!r}")
            if hue.shape != (len(scale),):
                raise ValueError(
                    f"{name} must have shape ({len(scale)},), that of scale, got {hue.shape}"
                )
            if not hue.isfinite().all():
                raise ValueError(f"{name} must be finite, got {hue!r}")
        geometry = {"scale": scale, "shape": shape, "orientation": orientation}
        columns = [_checked(name, values, len(scale)) for name, values in geometry.items()]
        settings = torch.from_numpy(np.ravel_multi_index(columns, FACTOR_SIZES[3:]))
        palette = _palette(torch.stack([hue.float() for hue in hues.values()]))
        return self._fit(self._composite(settings, palette))

    def _plan(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        hues, settings = np.divmod(indices, SETTINGS)
        columns = np.stack(np.unravel_index(hues, FACTOR_SIZES[:3]))
        return torch.from_numpy(settings), _palette(torch.from_numpy(HUES[columns]).float())


def _checked(name: str, values: Tensor, count: int) -> np.ndarray:
    """Return a geometric factor's ``values`` as an array, checked."""
    array = integer_array(values, name)
    size = FACTOR_SIZES[FACTOR_NAMES.index(name)]
    if array.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},), that of scale, got {array.shape}")
    check_range(name, array, 0, size)
    return array


def _palette(hues: Tensor) -> Tensor:
    """Return the layers' colours, (N, 3, 5), for hues of floor, walls and object (3, N)."""
    fixed = hues.new_tensor([SKY, (1, 1, 1)]).T.expand(hues.shape[1], 3, 2)
    return torch.cat([hue_to_rgb(hues).permute(1, 2, 0), fixed], 2)


def hue_to_rgb(hue: Tensor) -> Tensor:
    """Return the saturated colours (..., 3) in [0, 1] of hues (...); 0 and 1 are both red."""
    sixths = hue[..., None] * 6 + hue.new_tensor([0, 4, 2])
    return ((sixths.remainder(6) - 3).abs() - 1).clamp(0, 1)


def solid_of(shape: int, scale: float) -> Solid:
    """Return the cube (0), cylinder (1), sphere (2) or capsule (3) of this scale."""
    middle = (0.0, 0.0)
    if shape == 0:
        return Box(middle, 0.5 * scale, scale)
    if shape == 1:
        return Cylinder(middle, 0.53 * scale, scale)
    if shape == 2:
        return ball(middle, 0.55 * scale)
    return Capsule(middle, 0.44 * scale, 1.8 * scale)


def camera_at(degrees: float) -> Camera:
    """Return the camera at this orientation, on a circle around the object, looking level."""
    angle = np.radians(degrees)
    x, y = CAMERA_DISTANCE * np.sin(angle), -CAMERA_DISTANCE * np.cos(angle)
    focal = 1 / np.tan(np.radians(FIELD_OF_VIEW) / 2)
    return Camera((float(x), float(y), CAMERA_HEIGHT), float(angle), 0.0, float(focal))


@dataclass(frozen=True)
class Room:
    """What a camera's rays (S, pixels) hit in the empty room."""

    origin: np.ndarray
    rays: np.ndarray
    ground: np.ndarray
    openness: np.ndarray
    floor: np.ndarray
    wall: np.ndarray
    sky: np.ndarray

    @classmethod
    def seen_by(cls, camera: Camera) -> Room:
        """Cast the camera's rays at floor and walls."""
        origin = np.array(camera.position, np.float32)[:, None, None]
        rays = camera.rays(SIDE)
        with np.errstate(divide="ignore"):
            steps = np.maximum(
                (ROOM_HALF - origin[:2]) / rays[:2], (-ROOM_HALF - origin[:2]) / rays[:2]
            )
            down = -origin[2] / rays[2]
        to_wall = steps.min(0)
        floor = (down > 0) & (down < to_wall)
        height = origin[2] + to_wall * rays[2]
        wall = ~floor & (height < WALL_HEIGHT)
        ground = origin + np.where(floor, down, 0) * rays
        light = wall * np.where(steps[0] < steps[1], SIDE_WALL_LIGHT, BACK_WALL_LIGHT)
        return cls(origin, rays, ground, _openness(ground), floor, light, ~(floor | wall))

    def layers(self, solid: Solid) -> np.ndarray:
        """Return the pixels' layers with a solid in the room, (5, pixels)."""
        seen, light, highlight = LIGHTING.on_solid(solid, self.origin, self.rays)
        ground = LIGHTING.on_ground(self.ground, solid, self.openness)
        floor, sky = (self.floor & ~seen) * ground, self.sky & ~seen
        parts = (floor, self.wall * ~seen, OBJECT_ALBEDO * light, sky, highlight)
        return np.stack([part.mean(0, dtype=np.float32) for part in parts])


def _openness(ground: np.ndarray) -> np.ndarray:
    """Return the share of ambient light that the walls let through to the floor.

    A long wall of height h hides (1 - a / sqrt(a^2 + h^2)) / 2 of it at a distance a.
    """
    hidden = np.zeros(ground.shape[1:], np.float32)
    for coordinate in ground[:2]:
        for away in (ROOM_HALF - coordinate, ROOM_HALF + coordinate):
            hidden += (1 - away / np.hypot(away, np.float32(WALL_HEIGHT))) / 2
    return 1 - hidden


def draw(out: np.ndarray) -> None:
    """Ray-cast the layers of all settings into ``out``, (480, 5, 64, 64) uint8."""
    grid = out.reshape(*FACTOR_SIZES[3:], LAYERS, -1)
    for orientation, degrees in enumerate(ORIENTATIONS):
        room = Room.seen_by(camera_at(float(degrees)))
        for scale, shape in np.ndindex(*FACTOR_SIZES[3:5]):
            layers = room.layers(solid_of(shape, float(SCALES[scale])))
            grid[scale, shape, orientation] = 255 * layers
