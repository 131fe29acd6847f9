import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from pydisent.reports._grid import ImageGrid, animate, image_grid


def coloured(rows, columns, channels=3, side=8):
    """Images (rows, columns, channels, side, side) that each have one colour of their own."""
    count = rows * columns
    levels = torch.arange(1, count + 1) * (200 // count) + 20
    images = (levels / 255).reshape(rows, columns, 1, 1, 1).repeat(1, 1, channels, side, side)
    if channels == 3:
        images[:, :, 2] = 0
    return images, levels.reshape(rows, columns)


def box(pixels, colour):
    ys, xs = np.nonzero((pixels == colour).all(-1))
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, len(xs)


@pytest.mark.parametrize(
    ("side", "factor"), [(8, 14), (16, 7), (28, 4), (32, 4), (64, 2), (200, 1)]
)
def test_every_image_is_enlarged_by_a_whole_factor(side, factor):
    images, levels = coloured(2, 3, side=side)
    pixels = np.asarray(image_grid(images, title="t", rows=["a", "b"], columns=["1", "2", "3"]))
    boxes = [[box(pixels, (level, level, 0)) for level in row] for row in levels.tolist()]
    for row in boxes:
        for left, top, right, bottom, count in row:
            assert right - left == bottom - top == side * factor
            assert count == (side * factor) ** 2
        assert [b[0] for b in row] == sorted(b[0] for b in row)
        assert len({b[1] for b in row}) == 1
    assert boxes[0][0][3] < boxes[1][0][1]  # rows do not overlap
    assert boxes[0][0][2] < boxes[0][1][0]  # nor columns


def test_pixels_stay_sharp():
    image = torch.rand(1, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels = np.asarray(image_grid(image, title="", cell=64))
    expected = np.kron(
        (image[0, 0, 0] * 255).round().numpy().astype(np.uint8), np.ones((8, 8), int)
    )
    height, width = pixels.shape[:2]
    found = [
        (y, x)
        for y in range(height - 63)
        for x in range(width - 63)
        if pixels[y, x, 0] == expected[0, 0]
        and (pixels[y : y + 64, x : x + 64] == expected[..., None]).all()
    ]
    assert len(found) == 1


def test_groups_stand_apart():
    images, levels = coloured(4, 1)
    pixels = np.asarray(image_grid(images, title="t", groups=[2, 2]))
    boxes = [box(pixels, (level, level, 0)) for level in levels[:, 0].tolist()]
    gaps = [below[1] - above[3] for above, below in pairwise(boxes)]
    assert gaps[0] == gaps[2] < gaps[1]


def test_column_groups_stand_apart_and_a_corner_stays_empty():
    images, levels = coloured(2, 3)
    layout = {"groups": [1, 1], "column_groups": [1, 2], "corner": (1, 1)}
    pixels = np.asarray(image_grid(images, title="", **layout))
    assert not (pixels == (int(levels[0, 0]), int(levels[0, 0]), 0)).all(-1).any()
    boxes = [box(pixels, (level, level, 0)) for level in levels[1].tolist()]
    gaps = [right[0] - left[2] for left, right in pairwise(boxes)]
    assert gaps[0] > gaps[1]
    above = box(pixels, (int(levels[0, 1]), int(levels[0, 1]), 0))
    assert above[0] == boxes[1][0]
    left, top = boxes[0][0], above[1]
    assert (pixels[top : above[3], left : boxes[0][2]] == 255).all()


def test_a_note_takes_as_many_lines_as_it_needs():
    images, _ = coloured(1, 3)
    bare = image_grid(images, title="")
    short = image_grid(images, title="", note="a word")
    long = image_grid(images, title="", note="several words more " * 12)
    assert bare.width == short.width == long.width
    assert bare.height < short.height < long.height
    below = np.asarray(long)[bare.height :]
    assert below.min() < 200
    assert (below[:, -12:] == 255).all()


def test_grey_images_and_images_that_are_not_finite():
    images = torch.full((1, 2, 1, 8, 8), 0.5)
    images[0, 1, 0, 0, 0] = float("nan")
    pixels = np.asarray(image_grid(images, title="t"))
    assert ((pixels == 128).all(-1)).sum() == (64 + 63) * 14**2


def test_labels_make_room():
    bare = ImageGrid((1, 1), (1, 8, 8), title="").size
    labelled = ImageGrid((1, 1), (1, 8, 8), title="", rows=["a long label"], columns=["1"]).size
    assert labelled[0] > bare[0] + 100
    assert labelled[1] > bare[1]
    titled = ImageGrid((1, 1), (1, 8, 8), title="a very long title " * 5).size
    assert titled[0] > labelled[0]


def test_channels():
    with pytest.raises(ValueError, match="images must have 1 or 3 channels, got 2"):
        ImageGrid((1, 1), (2, 8, 8), title="t")


def test_animation_plays_forth_and_back():
    frames = torch.stack([coloured(1, 2)[0] * v for v in (0.2, 0.5, 0.8, 1.0)])
    grid = ImageGrid((1, 2), frames.shape[3:], title="t")
    data = animate(grid, frames, list("abcd"))
    with Image.open(io.BytesIO(data)) as gif:
        assert gif.n_frames == 6
        assert gif.info["loop"] == 0
        assert gif.size[0] == grid.size[0]
        shown = []
        for i in range(gif.n_frames):
            gif.seek(i)
            shown.append(np.asarray(gif.convert("RGB")).astype(int))
    brightness = [s[: grid.size[1]].sum() for s in shown]
    assert brightness[0] < brightness[1] < brightness[2] < brightness[3]
    np.testing.assert_array_equal(shown[1], shown[5])
    np.testing.assert_array_equal(shown[2], shown[4])
    assert data == animate(grid, frames, list("abcd"))


@pytest.mark.parametrize("mark", ["\n", "\r", "\r\n", "\t", "\x0b"])
def test_line_breaks_in_names_are_spaces(mark):
    """Pillow cannot measure them, and folders may have them in their names."""
    images, _ = coloured(1, 1)

    def drawn(space):
        text = f"a{space}b"
        return image_grid(images, title=text, rows=[f"first\n{text}"], columns=[text], note=text)

    assert drawn(mark).tobytes() == drawn(" ").tobytes()
