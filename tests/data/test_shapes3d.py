import colorsys
import pickle

import numpy as np
import pytest
import torch
from _conic import ball_in_picture

from pydisent.data import load, shapes3d
from pydisent.data.shapes3d import Room, Shapes3D, camera_at, hue_to_rgb, solid_of

ALL = torch.arange(480)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rendered")


@pytest.fixture(scope="module")
def opened(folder):
    """Open the data from one cache for this file."""

    def open_with(**options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYDISENT_CACHE", str(folder))
            dataset = load("shapes3d", **options)
            dataset.images([0])
        return dataset

    return open_with


@pytest.fixture(scope="module")
def rooms(opened):
    return opened()


def in_colours(rooms, floor, wall, body):
    """All 480 settings in these hues (counted from 0)."""
    return rooms.images(ALL + 480 * (100 * floor + 10 * wall + body))


@pytest.fixture(scope="module")
def parts(rooms):
    """Which pixels each of the three hues changes, (480, 64, 64) bool each."""
    start = in_colours(rooms, 0, 3, 6)
    others = [in_colours(rooms, *hues) for hues in ((5, 3, 6), (0, 8, 6), (0, 3, 1))]
    return [(start != other).any(1) for other in others]


def test_grid(rooms):
    assert rooms.name == "shapes3d"
    names = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    assert rooms.factor_names == names
    assert rooms.factor_sizes == (10, 10, 10, 8, 4, 15)
    assert len(rooms) == 480_000
    assert rooms.image_shape == (3, 64, 64)
    assert shapes3d.SHAPES == ("cube", "cylinder", "sphere", "capsule")
    np.testing.assert_allclose(shapes3d.HUES, np.arange(0, 1, 0.1))
    np.testing.assert_allclose(shapes3d.SCALES[[0, -1]], [0.75, 1.25])
    np.testing.assert_allclose(shapes3d.ORIENTATIONS[[0, 7, -1]], [-30, 0, 30], atol=1e-12)


def test_hues_are_those_asked_for(rooms):
    """Measured in the picture's parts by the standard library's colours."""
    rng = np.random.default_rng(0)
    factors = rooms.sample_factors(200, rng)
    for image, numbers in zip(rooms.images(rooms.index(factors)).double(), factors.tolist()):
        floor, wall = image[:, 60:, :16], image[:, 28:34, :8]
        body = image[:, 46:49, 30:34]
        for part, hue in zip((floor, wall, body), numbers):
            got, saturation, value = colorsys.rgb_to_hsv(*part.mean((1, 2)).tolist())
            assert (10 * got - hue + 5) % 10 == pytest.approx(5, abs=1e-3)
            assert value > 0.3
            assert saturation > 0.7


def test_hue_wheel_is_that_of_the_standard_library():
    hues = np.linspace(-1.5, 2.5, 401)
    expected = [colorsys.hsv_to_rgb(hue % 1, 1, 1) for hue in hues]
    np.testing.assert_allclose(hue_to_rgb(torch.from_numpy(hues)), expected, atol=1e-9)


def test_each_hue_changes_a_part_of_its_own(rooms, parts):
    floor, wall, body = parts
    for one, other in ((floor, wall), (floor, body), (wall, body)):
        shared = (one & other).sum((1, 2))
        # Only pixels that an outline runs through: two for each step along it at the most.
        assert (shared < 2 * 2 * (64 + 64)).all()
        assert (shared < 0.4 * torch.minimum(one.sum((1, 2)), other.sum((1, 2)))).all()
    sky = ~(floor | wall | body)
    assert (sky[:, :7].float().mean((1, 2)) > 0.7).all()
    colour = torch.tensor(shapes3d.SKY)
    for hues in ((0, 0, 0), (3, 7, 5)):
        images = in_colours(rooms, *hues).permute(0, 2, 3, 1)
        assert (images[sky] - colour).abs().max() < 1.5 / 255


def test_hues_add_up(rooms):
    """What one hue changes does not depend on the other hues."""
    change = in_colours(rooms, 1, 2, 3) - in_colours(rooms, 7, 2, 3)
    again = in_colours(rooms, 1, 9, 6) - in_colours(rooms, 7, 9, 6)
    torch.testing.assert_close(change, again, rtol=0, atol=1e-6)
    assert change.abs().amax((1, 2, 3)).min() > 0.5


def test_every_factor_is_seen(rooms):
    rng = np.random.default_rng(1)
    for axis, size in enumerate(rooms.factor_sizes):
        factors = rooms.sample_factors(50, rng)
        moved = factors.clone()
        moved[:, axis] = (moved[:, axis] + 1) % size
        pair = (rooms.images(rooms.index(f)) for f in (factors, moved))
        change = torch.sub(*pair).abs().amax(1)
        assert (change > 0.1).sum((1, 2)).min() >= 10, rooms.factor_names[axis]


def test_nothing_is_black_or_out_of_range(rooms):
    for hues in ((0, 0, 0), (2, 4, 6), (9, 5, 7)):
        images = in_colours(rooms, *hues)
        assert images.min() >= 0
        assert images.max() <= 1
        assert images.amax(1).min() > 0.05


def test_the_object_stays_in_the_frame_and_in_the_room(parts):
    body = parts[2]
    assert not body[:, [0, -1]].any()
    assert not body[:, :, [0, -1]].any()
    for shape in range(4):
        solid = solid_of(shape, 1.25)
        reach = np.sqrt(2) * solid.half if shape == 0 else solid.radius
        assert reach < shapes3d.ROOM_HALF
        assert reach < shapes3d.CAMERA_DISTANCE


def test_objects_grow_with_scale_and_only_the_cube_turns(parts):
    body = parts[2].reshape(8, 4, 15, 64, 64)
    area = body.sum((-1, -2))
    assert (area.diff(dim=0) > 0).all()
    upright = body[:, 1:]
    # The same outline from all sides, but for samples that an outline passes through.
    changed = (upright != upright[:, :, :1]).sum((-1, -2))
    assert (changed <= 0.02 * area[:, 1:]).all()
    assert ((body[:, 0] != body[:, 0, 7:8]).sum((-1, -2))[:, [0, -1]] > 20).all()


def test_spheres_are_the_ellipses_that_a_pinhole_sees(parts):
    """The outline's middle and area in closed form, up to the pixels that it runs through."""
    middles = (torch.arange(64) + 0.5) / 32 - 1
    for scale, orientation in ((0, 0), (3, 7), (7, 14)):
        body = parts[2].reshape(8, 4, 15, 64, 64)[scale, 2, orientation].double()
        radius = 0.55 * np.linspace(0.75, 1.25, 8)[scale]
        camera = camera_at(float(np.linspace(-30, 30, 15)[orientation]))
        centre, area = ball_in_picture(
            (0, 0, radius), radius, camera.position, camera.axes, camera.focal
        )
        outline = 2 * np.sqrt(np.pi * area) * 32
        assert body.sum() - 32**2 * area == pytest.approx(outline / 2, abs=outline / 2)
        assert (body * middles).sum() / body.sum() == pytest.approx(centre[0], abs=0.5 / 32)
        assert -(body.T * middles).sum() / body.sum() == pytest.approx(centre[1], abs=0.5 / 32)


def test_walls_meet_floor_and_sky_where_a_pinhole_sees_them(parts):
    """Straight ahead the back wall is a rectangle, at the distance of camera and wall together."""
    floor, wall, _ = (part.reshape(8, 4, 15, 64, 64)[0, 0, 7] for part in parts)
    focal = 32 / np.tan(np.radians(45 / 2))
    depth = shapes3d.CAMERA_DISTANCE + shapes3d.ROOM_HALF
    bottom = 32 + focal * shapes3d.CAMERA_HEIGHT / depth
    top = 32 - focal * (shapes3d.WALL_HEIGHT - shapes3d.CAMERA_HEIGHT) / depth
    rows = torch.arange(64)
    assert torch.equal(wall[:, 5], (rows >= int(top)) & (rows < np.ceil(bottom)))
    assert torch.equal(floor[:, 5], rows >= int(bottom))


@pytest.mark.parametrize("side", [-1, 1])
def test_the_corner_is_where_a_pinhole_sees_it(rooms, side):
    """From 30 degrees, a corner is 15 degrees beside the line through the room's middle."""
    image = in_colours(rooms, 0, 0, 5).reshape(8, 4, 15, 3, 64, 64)[0, 0, 0 if side == 1 else 14]
    reach = np.sqrt(2) * shapes3d.ROOM_HALF
    focal = 32 / np.tan(np.radians(45 / 2))
    depth = shapes3d.CAMERA_DISTANCE + reach * np.cos(np.radians(15))
    corner = 32 + side * focal * reach * np.sin(np.radians(15)) / depth
    red = image[0, 26]  # wall everywhere, darker on one side
    step = red.diff().abs()
    assert int(step.argmax()) in (int(corner) - 1, int(corner))
    assert (red > 0.9).sum() in range(int(32 + side * (corner - 32)) - 1, 64)


def test_geometry_is_deterministic_and_what_is_in_the_cache(rooms):
    room = Room.seen_by(camera_at(-30.0))
    for shape in range(4):
        layers = room.layers(solid_of(shape, 0.75))
        again = Room.seen_by(camera_at(-30.0)).layers(solid_of(shape, 0.75))
        np.testing.assert_array_equal(layers, again)
        floor, wall, body, sky, white = layers.reshape(5, 64, 64)
        assert (layers >= 0).all()
        # Hue 0 is red: the red of everything adds up.
        expected = floor + wall + body + sky * shapes3d.SKY[0] + white
        image = rooms.images([15 * shape])[0, 0]
        np.testing.assert_allclose(image, expected, atol=5 / 255)  # 5 layers cut to bytes


def test_a_batch_is_its_images_one_by_one(opened, rooms):
    for dataset in (rooms, opened(image_size=32)):
        numbers = np.random.default_rng(2).integers(0, len(dataset), 40)
        batch = dataset.images(numbers)
        single = torch.cat([dataset.images([number]) for number in numbers])
        torch.testing.assert_close(batch, single, rtol=0, atol=1e-7)


def test_other_sizes(opened, rooms):
    numbers = np.random.default_rng(3).integers(0, len(rooms), 20)
    full = rooms.images(numbers)
    by_hand = full.reshape(20, 3, 32, 2, 32, 2).mean((3, 5))
    torch.testing.assert_close(opened(image_size=32).images(numbers), by_hand, rtol=0, atol=1e-6)
    large = opened(image_size=128)
    assert large.image_shape == (3, 128, 128)
    assert large.images(numbers).shape == (20, 3, 128, 128)


def test_the_cache_gives_the_same_again(opened, rooms, folder):
    (file,) = folder.iterdir()
    changed = file.stat().st_mtime_ns
    again = opened()
    assert file.stat().st_mtime_ns == changed
    numbers = np.random.default_rng(4).integers(0, len(rooms), 50)
    assert torch.equal(again.images(numbers), rooms.images(numbers))


def test_rendering_at_the_grids_hues_gives_the_grids_images(rooms):
    factors = rooms.sample_factors(60, np.random.default_rng(5))
    hues = [factors[:, axis] / 10 for axis in range(3)]
    rendered = rooms.render(*hues, *factors[:, 3:].T)
    assert rendered.dtype == torch.float32
    images = rooms.images(rooms.index(factors))
    torch.testing.assert_close(rendered, images, rtol=0, atol=2e-6)
    beyond = rooms.render(hues[0] + 1, hues[1] - 2, hues[2].double(), *factors[:, 3:].T)
    torch.testing.assert_close(beyond, images, rtol=0, atol=5e-6)


@pytest.mark.parametrize("size", [None, 16, 80])
def test_rendering_is_differentiable_in_the_hues(opened, size):
    """Central differences; the wheel is straight between sixths, so they are exact there."""
    rooms = opened(image_size=size)
    generator = torch.Generator().manual_seed(6)
    hues = (torch.randint(6, (3, 5), generator=generator) + 0.5) / 6
    hues += torch.rand(3, 5, generator=generator) * 0.1 - 0.05
    geometry = rooms.sample_factors(5, np.random.default_rng(6))[:, 3:].T
    weight = torch.randn(5, *rooms.image_shape, generator=generator)
    hues.requires_grad_()
    (rooms.render(*hues, *geometry) * weight).sum().backward()
    for part in range(3):
        step = torch.zeros(3, 5)
        step[part] = 0.02
        with torch.no_grad():
            ahead, behind = (rooms.render(*(hues + s * step), *geometry) for s in (1, -1))
        slope = ((ahead - behind).double() * weight).sum((1, 2, 3)) / 0.04
        torch.testing.assert_close(hues.grad[part], slope.float(), rtol=1e-3, atol=1e-3)


HUE, WHOLE = torch.tensor([0.1, 0.2]), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("place", "value", "error", "words"),
    [
        (0, WHOLE, TypeError, "floor_hue must be a tensor of floating-point numbers"),
        (1, [0.1, 0.2], TypeError, "wall_hue must be a tensor of floating-point numbers"),
        (2, HUE[:1], ValueError, r"object_hue must have shape \(2,\), that of scale"),
        (2, torch.tensor([0.1, np.nan]), ValueError, "object_hue must be finite"),
        (3, HUE, TypeError, "scale must be integers"),
        (3, torch.tensor([0, 8]), ValueError, r"scale must be in \[0, 8\)"),
        (4, torch.tensor([-1, 0]), ValueError, r"shape must be in \[0, 4\)"),
        (5, torch.tensor([0, 15]), ValueError, r"orientation must be in \[0, 15\)"),
        (5, torch.tensor([[0, 1]]), ValueError, r"orientation must have shape \(2,\)"),
    ],
)
def test_bad_rendering(place, value, error, words):
    given = [HUE, HUE, HUE, WHOLE, WHOLE, WHOLE]
    given[place] = value
    with pytest.raises(error, match=words):
        Shapes3D().render(*given)


def test_workers_get_their_own_copy(rooms):
    copy = pickle.loads(pickle.dumps(rooms))
    assert torch.equal(copy.images([3, 1]), rooms.images([3, 1]))
