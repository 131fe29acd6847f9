"""The canvas for painting faces: pixel coordinates and brushes.

Lengths are in halves of the picture's side at scale 1; x points right and y down. There are three
frames: the body's (shift and scale undone), the head's (roll undone as well) and the face's surface
(yaw and pitch undone as well), where u and v are those of a face seen from the front.

Pixels are computed with +, -, *, /, square roots and comparisons only, and a shape covers nothing
outside its box, so a picture is bitwise identical in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

HALF_WIDTH, HALF_HEIGHT = 0.40, 0.55  # of a face, at its widest, and from middle to chin
SCALE, CENTRE = 1.08, -0.06
# Effects of a nuisance value of 1.
BIGGER, SIDEWAYS, DOWN = 0.07, 0.06, 0.04
ROLL, YAW, PITCH = 0.20, 0.38, 0.17  # radians
WIDER, LONGER, NARROWER_JAW = 0.08, 0.04, 0.05
JAW, ROUNDNESS = 0.11, 0.05
# Fractions of red, green and blue that a shaded colour keeps: shadows on skin are warm.
KEPT_IN_SHADOW = np.array([0.24, 0.0, 0.06], np.float32).reshape(1, 3, 1, 1)

Which = np.ndarray | slice
Box = tuple[float, float, float, float]  # left, top, right, bottom
Radius = float | np.ndarray
Point = tuple[float | np.ndarray, float | np.ndarray]


@dataclass(frozen=True)
class Traits:
    """The attributes, nuisance values and colours of N faces, by name.

    Attributes
    ----------
    attributes : dict of str to numpy.ndarray
        (N, 1, 1) float32, 0 or 1.
    nuisance : dict of str to numpy.ndarray
        (N, 1, 1) float32 in [-1, 1].
    colours : dict of str to numpy.ndarray
        (N, 3, 1, 1) float32 in [0, 1].
    """

    attributes: dict[str, np.ndarray]
    nuisance: dict[str, np.ndarray]
    colours: dict[str, np.ndarray]


class Canvas:
    """Pictures (N, 3, side, side) and their pixel coordinates, (N, side, side) each."""

    def __init__(self, traits: Traits, side: int) -> None:
        self.traits, self.side = traits, side
        of = traits.nuisance
        count = len(of["scale"])
        self.image = np.empty((count, 3, side, side), np.float32)
        self.scale = SCALE * (1 + BIGGER * of["scale"])
        self.centre = (SIDEWAYS * of["shift_x"], CENTRE + DOWN * of["shift_y"])
        self.sine, self.cosine = sine_cosine(ROLL * of["roll"])
        self.yaw, self.pitch = sine_cosine(YAW * of["yaw"]), sine_cosine(PITCH * of["pitch"])
        self.width = HALF_WIDTH * (1 + WIDER * of["face_width"])
        self.height = HALF_HEIGHT * (1 + LONGER * of["face_length"])
        self.jaw = JAW + NARROWER_JAW * of["jaw"]
        self.pixel = 2 / (side * self.scale)

        middles = ((np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1).reshape(1, 1, -1)
        self.body_x = (middles - self.centre[0]) / self.scale
        self.body_y = (middles.reshape(1, -1, 1) - self.centre[1]) / self.scale
        self.x = self.cosine * self.body_x + self.sine * self.body_y
        self.y = self.cosine * self.body_y - self.sine * self.body_x
        self._turn()
        self._light()

    def _turn(self) -> None:
        """Project each pixel onto the egg-shaped head, and onto the face."""
        down = self.y / self.height
        across = self.x / (self.width * (1 - down * (self.jaw + ROUNDNESS * down)))
        self.inside = 1 - across * across - down * down  # 0 on the outline
        near = np.sqrt(np.maximum(self.inside, 0))
        (sine, cosine), (sine_pitch, cosine_pitch) = self.yaw, self.pitch
        self.u = HALF_WIDTH * (cosine * across - sine * near)
        forward = sine * across + cosine * near
        self.v = HALF_HEIGHT * (cosine_pitch * down - sine_pitch * forward)
        self.normal = (across, down, near)

    def _light(self) -> None:
        of = self.traits.nuisance
        right, down = 0.65 * of["light_x"], -0.42 + 0.30 * of["light_y"]
        ahead = np.sqrt(1 - right * right - down * down)
        across, below, near = self.normal
        half = np.clip(0.5 + 0.5 * (right * across + down * below + ahead * near), 0, 1)
        contrast = 0.52 + 0.14 * of["light_strength"]
        self.light = 1.13 - contrast + contrast * half * half
        self.from_right, self.from_below = right, down

    def surface_box(self, box: Box) -> tuple[np.ndarray, ...]:
        """Return a box on the face's surface as a box in the head's frame."""
        left, top, right, bottom = (
            limit / size for limit, size in zip(box, 2 * (HALF_WIDTH, HALF_HEIGHT))
        )
        far = (max(abs(left), abs(right)), max(abs(top), abs(bottom)))
        near = (max(left, -right, 0), max(top, -bottom, 0))
        depths = [max(1 - a * a - b * b, 0) ** 0.5 for a, b in (far, near)]
        # Beside the head there is no depth, and across differs from u only by the cosine.
        (sine, cosine), (sine_pitch, cosine_pitch) = self.yaw, self.pitch
        slack = 0.02 + np.abs(sine * sine_pitch)
        wide, narrow = self.width * (1 + self.jaw), self.width * (1 - self.jaw - ROUNDNESS)

        def span(low: float, high: float, sine: np.ndarray, cosine: np.ndarray) -> tuple:
            lows = [*(cosine * low + sine * depth for depth in depths), low / cosine]
            highs = [*(cosine * high + sine * depth for depth in depths), high / cosine]
            return np.minimum.reduce(lows) - slack, np.maximum.reduce(highs) + slack

        first, last = span(left, right, sine, cosine)
        upper, lower = span(top, bottom, sine_pitch, cosine_pitch)
        return (
            np.minimum(first * wide, first * narrow),
            upper * self.height,
            np.maximum(last * wide, last * narrow),
            lower * self.height,
        )

    def window(self, box: Box, frame: str, which: Which) -> tuple[slice, slice]:
        """Return the rows and columns that contain a box in each of the given pictures."""
        sides: tuple[np.ndarray | float, ...]
        sides = self.surface_box(box) if frame == "surface" else box
        left, top, right, bottom = (
            side[which].ravel() if isinstance(side, np.ndarray) else side for side in sides
        )
        x, wide = (left + right) / 2, (right - left) / 2
        y, high = (top + bottom) / 2, (bottom - top) / 2
        sine, cosine = (part[which].ravel() for part in (self.sine, self.cosine))
        if frame != "body":
            x, y = cosine * x - sine * y, sine * x + cosine * y
            sine = np.abs(sine)
            wide, high = cosine * wide + sine * high, sine * wide + cosine * high
        scale = self.scale[which].ravel()
        return (
            self._pixels(y, high, scale, self.centre[1][which].ravel()),
            self._pixels(x, wide, scale, self.centre[0][which].ravel()),
        )

    def _pixels(
        self,
        middle: np.ndarray | float,
        half: np.ndarray | float,
        scale: np.ndarray,
        centre: np.ndarray,
    ) -> slice:
        """Return the rows or columns within ``half`` of ``middle``, plus a margin for edges."""
        more = 1 + 48 // self.side  # an edge is half a pixel wide, and wider on a turned face
        place, reach = middle * scale + (centre + 1), half * scale
        first = math.floor((place - reach).min() * (self.side / 2)) - more
        last = math.ceil((place + reach).max() * (self.side / 2)) + more
        return slice(max(first, 0), max(last, 0))

    def patches(
        self, box: Box, frame: str = "surface", where: str | None = None, on: bool = True
    ) -> Iterator[Patch]:
        """Yield the part of the pictures inside a box, unless it is empty.

        Parameters
        ----------
        box : tuple of 4 float
            Left, top, right and bottom.
        frame : {"surface", "head", "body"}
            The box's frame.
        where : str, optional
            Select faces with this attribute, or without it if not ``on``.
        """
        which: Which = slice(None)
        if where is not None:
            wanted = (self.traits.attributes[where].ravel() > 0) == on
            if not wanted.any():
                return
            which = which if wanted.all() else np.flatnonzero(wanted)
        rows, columns = self.window(box, frame, which)
        image = self.image[which, :, rows, columns]
        if image.size:
            yield Patch(self, which, rows, columns, image)
            if not isinstance(which, slice):
                self.image[which, :, rows, columns] = image


class Patch:
    """A rectangle of pixels in n pictures, (n, h, w)."""

    def __init__(
        self, canvas: Canvas, which: Which, rows: slice, columns: slice, image: np.ndarray
    ) -> None:
        self._canvas, self._which, self._rows, self._columns = canvas, which, rows, columns
        self.image = image
        self._sharpness = -1 / canvas.pixel[which]
        self.sine_yaw, self.sine_pitch = canvas.yaw[0][which], canvas.pitch[0][which]
        self.from_right, self.from_below = canvas.from_right[which], canvas.from_below[which]

    def of(self, plane: np.ndarray) -> np.ndarray:
        """Return this patch of a canvas plane, whose axes may have size 1."""
        rows = self._rows if plane.shape[1] > 1 else slice(None)
        columns = self._columns if plane.shape[2] > 1 else slice(None)
        return plane[self._which, rows, columns]

    def has(self, attribute: str) -> np.ndarray:
        """Return whether each face has an attribute, (n, 1, 1) zeros and ones."""
        return self._canvas.traits.attributes[attribute][self._which]

    def value(self, nuisance: str) -> np.ndarray:
        """Return a nuisance value, (n, 1, 1) in [-1, 1]."""
        return self._canvas.traits.nuisance[nuisance][self._which]

    def colour(self, name: str) -> np.ndarray:
        """Return a colour, (n, 3, 1, 1)."""
        return self._canvas.traits.colours[name][self._which]

    @cached_property
    def x(self) -> np.ndarray:
        """The pixels' coordinate in the head's frame."""
        return np.ascontiguousarray(self.of(self._canvas.x))

    @cached_property
    def y(self) -> np.ndarray:
        """The pixels' coordinate in the head's frame."""
        return np.ascontiguousarray(self.of(self._canvas.y))

    @cached_property
    def u(self) -> np.ndarray:
        """The pixels' coordinate on the face."""
        return np.ascontiguousarray(self.of(self._canvas.u))

    @cached_property
    def v(self) -> np.ndarray:
        """The pixels' coordinate on the face."""
        return np.ascontiguousarray(self.of(self._canvas.v))

    @cached_property
    def aside(self) -> np.ndarray:
        """The pixels' distance from the middle of the face."""
        return np.abs(self.u)

    @cached_property
    def light(self) -> np.ndarray:
        """Brightness of the head."""
        return np.ascontiguousarray(self.of(self._canvas.light))

    def cover(self, distance: np.ndarray) -> np.ndarray:
        """Return the fraction of each pixel inside a shape, where signed ``distance`` is < 0."""
        share = distance * self._sharpness
        share += 0.5
        np.maximum(share, 0, out=share)
        return np.minimum(share, 1, out=share)

    def stroke(self, distance: np.ndarray, half_width: float | np.ndarray) -> np.ndarray:
        """Return the fraction of each pixel covered by a line, exact for subpixel lines as well."""
        cover = self.cover(distance - half_width)
        cover -= self.cover(distance + half_width)
        return cover

    def paint(
        self, cover: np.ndarray, colour: np.ndarray, light: np.ndarray | float | None = None
    ) -> None:
        """Paint a ``colour`` (n, 3, 1, 1) times ``light`` with opacity ``cover``.

        The default is the head's own light, with warm shadows.
        """
        if light is None:
            change = (1 - KEPT_IN_SHADOW) * colour * self.light[:, None]
            change += KEPT_IN_SHADOW * colour
            change -= self.image
        else:
            bright = light if isinstance(light, float) else light[:, None]
            change = colour * bright - self.image
        change *= cover[:, None]
        self.image += change

    def tint(self, cover: np.ndarray, factors: tuple[float, float, float]) -> None:
        """Multiply red, green and blue by ``factors``, with opacity ``cover``."""
        for channel, factor in enumerate(factors):
            self.image[:, channel] *= 1 - (1 - factor) * cover


def sine_cosine(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sine and cosine of small angles in radians, to 1e-5, identical on any machine."""
    square = angle * angle
    sine = angle * (1 - square / 6 * (1 - square / 20))
    return sine, np.sqrt(1 - sine * sine)


def ellipse(x: np.ndarray, y: np.ndarray, radius_x: Radius, radius_y: Radius) -> np.ndarray:
    """Return the signed distance to an ellipse around 0, exact to first order at its outline."""
    across, down = x / radius_x, y / radius_y
    level = across * across + down * down - 1
    across, down = across / radius_x, down / radius_y
    return level / (2 * np.sqrt(across * across + down * down) + 1e-6)


def blob(x: np.ndarray, y: np.ndarray, radius_x: Radius, radius_y: Radius) -> np.ndarray:
    """Return a soft spot around 0: 1 in the middle, 0 outside the ellipse."""
    across, down = x / radius_x, y / radius_y
    level = np.maximum(1 - across * across - down * down, 0)
    return level * level


def segment(x: np.ndarray, y: np.ndarray, start: Point, end: Point) -> np.ndarray:
    """Return the distance to the line segment from ``start`` to ``end``."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    from_x, from_y = x - start[0], y - start[1]
    square = along_x * along_x + along_y * along_y
    share = np.minimum(np.maximum((from_x * along_x + from_y * along_y) / square, 0), 1)
    from_x, from_y = from_x - share * along_x, from_y - share * along_y
    return np.sqrt(from_x * from_x + from_y * from_y)


def wave(phase: np.ndarray) -> np.ndarray:
    """Return a wave in [-1, 1] of period 1, highest at 0."""
    triangle = 1 - 4 * np.abs(phase - np.rint(phase))
    return triangle * (1.5 - 0.5 * triangle * triangle)
