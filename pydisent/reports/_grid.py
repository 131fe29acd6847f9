"""Labelled grids of images, still or animated, enlarged without interpolation."""

import io
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path

import numpy as np
from torch import Tensor

from pydisent._extras import optional
from pydisent.reports.style import INK, MUTED, PAPER, RULE, SCALE, SERIES, rgb_bytes

with optional():
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont


_CELL = 56 * SCALE  # approximate side of an image
_GAP = SCALE
_GROUP_GAP = 10 * SCALE
_MARGIN = 12 * SCALE
_TITLE, _LABEL, _SMALL = 13 * SCALE, 11 * SCALE, 9 * SCALE
_LINE = round(1.4 * _SMALL)
_FRAME_MS = 60


class ImageGrid:
    """The layout of a grid of R × C images (channels, H, W) with labels.

    Parameters
    ----------
    counts : tuple of int
        (R, C).
    image_shape : tuple of int
        (channels, H, W), one channel or three.
    title : str
        Printed above.
    rows, columns : sequence of str, optional
        A label for each row (with a smaller second line) and each column.
    groups, column_groups : sequence of int, optional
        Numbers of rows and columns in each group; gaps separate groups. One group by default.
    corner : tuple of int
        Rows and columns of an empty corner at the top left.
    note : str
        Printed below in small type.
    cell : int
        Approximate side of an image in pixels; images are enlarged by an integer factor.
    """

    def __init__(
        self,
        counts: tuple[int, int],
        image_shape: Sequence[int],
        *,
        title: str,
        rows: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        groups: Sequence[int] | None = None,
        column_groups: Sequence[int] | None = None,
        corner: tuple[int, int] = (0, 0),
        note: str = "",
        cell: int = _CELL,
    ) -> None:
        self.counts, self._corner = counts, corner
        # Pillow cannot measure text with line breaks, which the names of folders may have.
        title, columns = one_line(title), columns and [one_line(name) for name in columns]
        rows = rows and ["\n".join(map(one_line, row.split("\n", 1))) for row in rows]
        channels, height, width = image_shape
        if channels not in (1, 3):
            raise ValueError(f"images must have 1 or 3 channels, got {channels}")
        self._factor = max(1, round(cell / max(height, width)))
        step_x, step_y = width * self._factor + _GAP, height * self._factor + _GAP
        left = _MARGIN + _label_width(rows or ())
        top = _MARGIN + 2 * _TITLE + (2 * _LABEL if columns else 0)
        self._x = _starts(left, step_x, counts[1], column_groups)
        self._y = _starts(top, step_y, counts[0], groups)
        right = max(self._x[-1] + step_x, _MARGIN + round(_font(_TITLE, True).getlength(title)))
        end, lines = self._y[-1] + step_y, _wrapped(note, right - _MARGIN)
        below = _LINE * len(lines) + _SMALL // 2 if lines else 0
        self.size = (right + _MARGIN, end + below + _MARGIN)
        self._tile = (step_x - _GAP, step_y - _GAP)
        self._background = Image.new("RGB", self.size, PAPER)
        draw = ImageDraw.Draw(self._background)
        self._label(draw, title, rows, columns)
        for i, line in enumerate(lines, 1):
            draw.text((_MARGIN, end + i * _LINE), line, MUTED, _font(_SMALL), anchor="ls")

    def _label(
        self,
        draw: ImageDraw.ImageDraw,
        title: str,
        rows: Sequence[str] | None,
        columns: Sequence[str] | None,
    ) -> None:
        width, height = self._tile
        draw.text((_MARGIN, _MARGIN), title, INK, _font(_TITLE, True), anchor="la")
        below, beside = self._corner  # labels move into an empty corner, next to their images
        for c, (x, text) in enumerate(zip(self._x, columns or ())):
            top = self._y[below if c < beside else 0]
            draw.text((x + width // 2, top - _LABEL // 2), text, MUTED, _font(_LABEL), anchor="ms")
        for r, (y, text) in enumerate(zip(self._y, rows or ())):
            first, _, second = text.partition("\n")
            left, centre = self._x[beside if r < below else 0], y + height // 2
            x = left - 8 * SCALE
            up, down = (6 * SCALE, 7 * SCALE) if first and second else (0, 0)
            draw.text((x, centre - up), first, INK, _font(_LABEL), anchor="rm")
            draw.text((x, centre + down), second, MUTED, _font(_SMALL), anchor="rm")
        for _, x, y in self._places():  # frames separate light images
            end = (x + width + _GAP - 1, y + height + _GAP - 1)
            draw.rectangle((x - _GAP, y - _GAP, *end), fill=RULE)

    def _places(self) -> Iterator[tuple[tuple[int, int], int, int]]:
        """Yield (row, column), x and y of each image drawn."""
        for r, y in enumerate(self._y):
            for c, x in enumerate(self._x):
                if r >= self._corner[0] or c >= self._corner[1]:
                    yield (r, c), x, y

    def draw(self, images: Tensor) -> Image.Image:
        """Return the picture of images (R, C, channels, H, W) in [0, 1]."""
        picture = self._background.copy()
        pixels = rgb_bytes(images)
        for place, x, y in self._places():
            enlarged = Image.fromarray(pixels[place]).resize(self._tile, Image.Resampling.NEAREST)
            picture.paste(enlarged, (x, y))
        return picture


def image_grid(images: Tensor, **labels: object) -> Image.Image:
    """Return the picture of images (R, C, channels, H, W) in [0, 1]; labels as for `ImageGrid`."""
    counts = (images.shape[0], images.shape[1])
    return ImageGrid(counts, images.shape[2:], **labels).draw(images)  # type: ignore[arg-type]


def animate(grid: ImageGrid, frames: Tensor, labels: Sequence[str]) -> bytes:
    """Return a GIF that loops frames (T, R, C, channels, H, W) forwards and backwards.

    A bar below shows the position in the sequence and the label of the frame.
    """
    pictures = [
        _with_bar(grid.draw(frame), label, t / max(1, len(frames) - 1))
        for t, (frame, label) in enumerate(zip(frames, labels))
    ]
    palette = _palette(pictures)
    drawn = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    loop = drawn + drawn[-2:0:-1]
    durations = [_FRAME_MS] * len(loop)
    durations[0] = durations[len(drawn) - 1] = 6 * _FRAME_MS
    data = io.BytesIO()
    loop[0].save(
        data, "GIF", save_all=True, append_images=loop[1:], duration=durations, loop=0, disposal=1
    )
    return data.getvalue()


def _with_bar(picture: Image.Image, label: str, position: float) -> Image.Image:
    width, height = picture.size
    framed = Image.new("RGB", (width, height + 2 * _LABEL), PAPER)
    framed.paste(picture)
    draw = ImageDraw.Draw(framed)
    start, end, y = _MARGIN, width - _MARGIN - 72 * SCALE, height + _LABEL // 2
    dot, radius = start + position * (end - start), 5 * SCALE
    draw.line((start, y, end, y), RULE, 2 * SCALE)
    draw.ellipse((dot - radius, y - radius, dot + radius, y + radius), SERIES[0])
    draw.text((width - _MARGIN, y), label, INK, _font(_LABEL), anchor="rm")
    return framed


def _palette(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return one palette for all pictures, so that colours do not flicker.

    Near-white and near-black become white and black, which Pillow's quantiser would miss.
    """
    some = pictures[:: max(1, len(pictures) // 5)]
    width, height = some[0].size
    stack = Image.new("RGB", (width, height * len(some)))
    for i, picture in enumerate(some):
        stack.paste(picture, (0, i * height))
    palette = stack.quantize(254, dither=Image.Dither.NONE)
    colours = np.array(palette.getpalette()[: 254 * 3]).reshape(-1, 3)  # type: ignore[index]
    colours[colours.min(1) > 247] = 255
    colours[colours.max(1) < 8] = 0
    palette.putpalette([0, 0, 0, 255, 255, 255, *colours.ravel().tolist()])
    return palette


def one_line(text: str) -> str:
    """Return a text with its line breaks and other runs of white space as single spaces."""
    return " ".join(text.split())


def _starts(first: int, step: int, count: int, groups: Sequence[int] | None) -> list[int]:
    """Return the position of each row or column, with a gap between groups."""
    begins = set(accumulate(groups or ()))
    gaps = accumulate(_GROUP_GAP * (i in begins) for i in range(count))
    return [first + i * step + gap for i, gap in enumerate(gaps)]


def _wrapped(text: str, width: int) -> list[str]:
    """Break a note into lines that fit the width."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font(_SMALL).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _label_width(rows: Sequence[str]) -> int:
    widths = [
        _font(size).getlength(part)
        for text in rows
        for part, size in zip(text.split("\n"), (_LABEL, _SMALL))
    ]
    return round(max(widths)) + 8 * SCALE if widths else 0


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)
