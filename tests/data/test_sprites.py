"""The official frames move one factor at a time: heart, then ellipse, then square."""

import numpy as np
import pytest
import torch

from pydisent.data import load
from pydisent.data.sprites import PATCH, SCALES, draw_patches, outline_of, turn

UP, ROUND, ACROSS = list(range(6)), list(range(40)), list(range(32))


def moved(shape, scale=5, orientation=0, x=0, y=0):
    count = max(len(v) for v in (scale, orientation, x, y) if isinstance(v, list))
    columns = (v if isinstance(v, list) else [v] * count for v in (shape, scale, orientation, x, y))
    return list(zip(*columns))


def frame_factors():
    tour = (
        moved(2, y=ACROSS)
        + moved(2, x=ACROSS, y=31)
        + moved(2, x=31, y=ACROSS[::-1])
        + moved(2, x=ACROSS[::-1])
    )
    frames = []
    for shape in (2, 1, 0):
        frames += moved(shape, scale=UP) + moved(shape, scale=UP[::-1]) + moved(shape, scale=UP)
        frames += moved(shape, orientation=ROUND) + (tour if shape == 2 else [])
        frames += moved(shape, scale=UP[::-1])
    return torch.tensor(frames)


@pytest.fixture(scope="module")
def sprites():
    return load("sprites")


@pytest.fixture(scope="module")
def overlap(sprites, shared_file):
    image = pytest.importorskip("PIL.Image")
    with image.open(shared_file("dsprites_frames.gif")) as gif:
        frames = []
        for number in range(gif.n_frames):
            gif.seek(number)
            frames.append(np.array(gif.convert("L")) > 127)
    official = np.stack(frames)
    factors = frame_factors()
    assert len(factors) == len(official) == 320
    drawn = sprites.images(sprites.index(factors))[:, 0].numpy() > 0.5
    return (official & drawn).sum((1, 2)) / (official | drawn).sum((1, 2))


def test_official_frames_are_matched(overlap):
    assert overlap.mean() >= 0.998
    assert overlap.min() >= 0.95
    assert (overlap == 1).mean() >= 0.85


def test_official_squares_are_matched_in_every_pixel(overlap):
    assert (overlap[frame_factors()[:, 0].numpy() == 0] == 1).all()


def test_grid_and_images(sprites):
    assert sprites.name == "sprites"
    assert sprites.factor_names == ("shape", "scale", "orientation", "x", "y")
    assert sprites.factor_sizes == (3, 6, 40, 32, 32)
    assert len(sprites) == 737_280
    assert sprites.labels is None
    images = sprites.images(np.random.default_rng(0).integers(0, len(sprites), 500))
    assert images.shape == (500, 1, 64, 64)
    assert images.dtype == torch.float32
    assert set(images.unique().tolist()) == {0.0, 1.0}


def inside(points, outline):
    """Even-odd rule by a ray to the right, one point and one edge at a time."""
    result = []
    for x, y in points:
        odd = False
        for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0)):
            if (y0 <= y) != (y1 <= y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                odd = not odd
        result.append(odd)
    return result


@pytest.mark.parametrize(
    "factors", [(0, 3, 7, 5, 30), (1, 5, 13, 31, 0), (2, 5, 22, 17, 8), (2, 0, 39, 0, 31)]
)
def test_pixels_are_tests_of_their_centres(sprites, factors):
    shape, scale, orientation, x, y = factors
    outline = turn(outline_of(shape), 2 * np.pi * orientation / 39) * (0.5 + 0.1 * scale)
    outline = outline + np.array([16 + 32 * x / 31, 16 + 32 * y / 31])
    centres = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5), -1).reshape(-1, 2)
    expected = np.array(inside(centres, outline)).reshape(64, 64)
    drawn = sprites.images(sprites.index([factors]))[0, 0].numpy() > 0.5
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_areas_are_those_of_the_outlines(sprites, shape):
    x, y = outline_of(shape).T
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    for scale in range(6):
        grid = torch.cartesian_prod(
            *map(torch.tensor, ([shape], [scale], ROUND, [3, 11, 20, 28], [2, 9, 17, 30]))
        )
        white = sprites.images(sprites.index(grid)).sum((1, 2, 3)).double()
        spread = float(white.std()) / len(white) ** 0.5
        assert abs(float(white.mean()) - area * SCALES[scale] ** 2) < 4 * spread + 0.01 * area


def test_a_patch_holds_every_outline():
    # Pixel centres outside a patch are at least this far from the sprite's centre.
    outside = min(PATCH // 2 + 0.5, PATCH - PATCH // 2 + 0.5 - 30 / 31)
    assert max(np.linalg.norm(outline_of(shape), axis=1).max() for shape in range(3)) < outside


def test_outlines_fill_as_the_even_odd_rule_says_at_every_shift():
    outline = turn(outline_of(0), np.pi / 4)  # a corner reaches furthest
    words = draw_patches(outline)
    columns = np.arange(PATCH) + 0.5 - PATCH // 2
    for row, column in ((0, 0), (0, 30), (30, 0), (30, 30), (7, 19)):
        grid = np.meshgrid(columns - column / 31, columns - row / 31)
        expected = np.array(inside(np.stack(grid, -1).reshape(-1, 2), outline))
        bits = words[row, column][:, None] >> np.arange(PATCH) & 1
        np.testing.assert_array_equal(bits.ravel(), expected)


def test_first_and_last_orientation_are_the_same(sprites):
    turned = torch.tensor([(s, 4, o, 9, 21) for o in (0, 39) for s in range(3)])
    first, last = sprites.images(sprites.index(turned)).chunk(2)
    assert torch.equal(first, last)


def test_moving_follows_x_to_the_right_and_y_down(sprites):
    corners = sprites.images(sprites.index([(0, 0, 0, 0, 0), (0, 0, 0, 31, 0), (0, 0, 0, 0, 31)]))
    (top, left), right, down = [
        tuple(axis.double().mean().item() + 0.5 for axis in image[0].nonzero(as_tuple=True))
        for image in corners
    ]
    assert (top, left) == (16, 16)
    assert right == (16, 48)
    assert down == (48, 16)


def test_order_and_history_do_not_matter(sprites):
    indices = np.random.default_rng(3).integers(0, len(sprites), 64)
    fresh = load("sprites")
    backwards = fresh.images(indices[::-1].copy()).flip(0)
    assert torch.equal(backwards, sprites.images(indices))
    one_by_one = torch.cat([fresh.images([i]) for i in indices.tolist()])
    assert torch.equal(one_by_one, backwards)


def test_half_size_is_the_area_average(sprites):
    indices = np.random.default_rng(4).integers(0, len(sprites), 50)
    half = load("sprites", image_size=32)
    assert half.image_shape == (1, 32, 32)
    by_hand = sprites.images(indices).reshape(50, 1, 32, 2, 32, 2).mean((3, 5))
    torch.testing.assert_close(half.images(indices), by_hand, rtol=0, atol=0)


def test_no_images(sprites):
    assert sprites.images([]).shape == (0, 1, 64, 64)
