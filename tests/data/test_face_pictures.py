"""What is seen on a face: attributes, pose and light."""

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from pydisent.data import _face_canvas, _face_drawing, faces
from pydisent.data.faces import Faces

NAMES = Faces(length=2).attribute_names
HAIR = ("Black_Hair", "Blond_Hair", "Gray_Hair")
# The rows of a 64x64 picture that a flip may change, generously: pose moves a face.
ROWS = {
    "5_o_Clock_Shadow": (27, 58),
    "Arched_Eyebrows": (12, 34),
    "Bags_Under_Eyes": (23, 43),
    "Big_Lips": (30, 54),
    "Big_Nose": (22, 48),
    "Bushy_Eyebrows": (12, 34),
    "Double_Chin": (36, 64),
    "Eye_Makeup": (16, 40),
    "Eyeglasses": (16, 46),
    "Freckles": (22, 46),
    "Goatee": (34, 60),
    "High_Cheekbones": (22, 52),
    "Mouth_Open": (28, 56),
    "Mustache": (28, 50),
    "Narrow_Eyes": (18, 40),
    "Rosy_Cheeks": (24, 48),
    "Smiling": (28, 54),
    "Wearing_Earrings": (22, 52),
    "Wearing_Hat": (0, 24),
    "Wearing_Lipstick": (28, 56),
    "Wearing_Necklace": (42, 64),
    "Wearing_Necktie": (44, 64),
}


@pytest.fixture(scope="module")
def small():
    return Faces(length=400, split="all")


@pytest.fixture(scope="module")
def plain():
    """Nuisance values of 24 faces, and no attribute."""
    drawn = faces.draw_nuisance(3, np.arange(24))
    return torch.zeros(24, len(NAMES), dtype=torch.bool), torch.from_numpy(drawn)


def column(name):
    return NAMES.index(name)


@pytest.mark.parametrize("side", [5, 64])
def test_nothing_is_divided_by_zero(side):
    numbers = np.arange(600)
    nuisance = faces.draw_nuisance(0, numbers)
    nuisance[300:] = np.sign(nuisance[300:])
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        pictures = _face_drawing.paint(faces.draw_attributes(0, numbers), nuisance, side)
        nuisance[:] = 0
        _face_drawing.paint(faces.draw_attributes(0, numbers), nuisance, side)
    assert np.isfinite(pictures).all()


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_boxes_hold_the_shapes_in_the_farthest_poses(share, monkeypatch):
    rng = np.random.default_rng(5)
    nuisance = np.sign(rng.uniform(-1, 1, (60, 32))).astype(np.float32)
    attributes = rng.random((60, 32)) < share
    monkeypatch.setattr(_face_drawing, "CHUNK_PIXELS", 1)  # so that boxes are as small as can be
    boxed = _face_drawing.paint(attributes, nuisance, 128)
    everything = (slice(0, 128), slice(0, 128))
    monkeypatch.setattr(_face_canvas.Canvas, "window", lambda *_: everything)
    assert np.array_equal(boxed, _face_drawing.paint(attributes, nuisance, 128))


@pytest.mark.in_turn
@pytest.mark.parametrize("name", NAMES)
def test_every_flip_shows(small, name):
    """In faces with whatever other attributes, and nowhere but where it belongs."""
    attributes, nuisance = small.attributes[:60], small.nuisance(range(60))
    flipped = small.flip(attributes, name)
    assert (flipped[:, column(name)] != attributes[:, column(name)]).all()
    change = small.render(attributes, nuisance) - small.render(flipped, nuisance)
    change = change.abs().amax(1)
    assert change.amax((1, 2)).mean() > 0.2
    assert (change.amax((1, 2)) > 0.06).all()  # in each one of them
    area = (change > 0.04).sum((1, 2))
    assert area.double().mean() > 12
    assert area.min() >= 4
    if name in ROWS:
        first, last = ROWS[name]
        assert first == 0 or change[:, :first].max() == 0
        assert last == 64 or change[:, last:].max() == 0


def on_the_hair(attributes, nuisance, dataset):
    """The mean colours where hair is: where Black_Hair makes a picture of long hair darker."""
    long = attributes.clone()
    long[:, column("Long_Hair")] = True
    black = long.clone()
    black[:, column("Black_Hair")] = True
    light, dark = dataset.render(long, nuisance), dataset.render(black, nuisance)
    return long, (light - dark).mean(1, keepdim=True) > 0.1


def test_colours_of_hair(small, plain):
    attributes, nuisance = plain
    long, hair = on_the_hair(attributes, nuisance, small)
    means = {}
    for name in HAIR:
        images = small.render(small.flip(long, name), nuisance)
        means[name] = (images * hair).sum((2, 3)) / hair.sum((2, 3))
    red, green, blue = means["Blond_Hair"].T
    assert (red > green).all()
    assert (green > 1.3 * blue).all()  # yellow
    assert (means["Gray_Hair"].amax(1) - means["Gray_Hair"].amin(1)).max() < 0.06
    assert means["Gray_Hair"].mean() > 2.5 * means["Black_Hair"].mean()
    assert means["Black_Hair"].max() < 0.25


def test_pale_skin_lipstick_and_cheeks(small, plain):
    attributes, nuisance = plain
    before = small.render(attributes, nuisance)
    pale = small.render(small.flip(attributes, "Pale_Skin"), nuisance)
    middle = (slice(None), slice(None), slice(26, 40), slice(24, 40))
    assert (pale[middle].mean((1, 2, 3)) > before[middle].mean((1, 2, 3)) + 0.1).all()
    for name in ("Wearing_Lipstick", "Rosy_Cheeks"):  # redder than before
        change = small.render(small.flip(attributes, name), nuisance) - before
        red, green, _ = change.sum((2, 3)).T
        assert (red > green + 1).all()


def test_pose_moves_the_face(small, plain):
    attributes = plain[0][:1]
    glasses = small.flip(attributes, "Eyeglasses")
    centres = {}
    for name in ("yaw", "pitch", "shift_x", "shift_y"):
        for value in (-1.0, 1.0):
            nuisance = torch.zeros(1, 32)
            nuisance[0, small.nuisance_names.index(name)] = value
            change = small.render(glasses, nuisance) - small.render(attributes, nuisance)
            weight = change.abs().sum((0, 1)).double()
            place = torch.arange(64.0, dtype=torch.float64)
            centre = torch.stack([weight.sum(0) @ place, weight.sum(1) @ place]) / weight.sum()
            centres[name, value] = centre
    for name, axis, least in (("yaw", 0, 3), ("pitch", 1, 2), ("shift_x", 0, 3), ("shift_y", 1, 2)):
        moved = centres[name, 1.0] - centres[name, -1.0]
        assert moved[axis] > least
        assert abs(moved[1 - axis]) < 0.6


def test_light_comes_from_where_it_is_said_to(small):
    nuisance = torch.zeros(2, 32)
    nuisance[:, small.nuisance_names.index("light_x")] = torch.tensor([-1.0, 1.0])
    left, right = small.render(torch.zeros(2, 32, dtype=torch.bool), nuisance)
    cheeks = [image[:, 34:40].mean((0, 1)) for image in (left, right)]
    assert cheeks[0][20:28].mean() > cheeks[0][36:44].mean() + 0.03
    torch.testing.assert_close(cheeks[0], cheeks[1].flip(0), rtol=0, atol=1e-5)


def test_a_face_that_looks_ahead_is_symmetric(small):
    lopsided = "Eyeglasses Wearing_Necktie Wearing_Necklace Freckles Bangs Bald Curly_Hair".split()
    chosen = [name not in (*lopsided, *HAIR) for name in NAMES]
    attributes = torch.tensor([chosen])
    image = small.render(attributes, torch.zeros(1, 32))
    assert (image - image.flip(3)).abs().max() < 0.25  # but for the glint in each eye
    assert (image - image.flip(3)).abs().mean() < 1e-3


def test_edges_are_smooth_as_if_averaged_over_pixels(small):
    attributes, nuisance = small.attributes[:24], small.nuisance(range(24))
    coarse = small.render(attributes, nuisance)
    fine = Faces(length=2, image_size=256).render(attributes, nuisance)
    error = (avg_pool2d(fine, 4) - coarse).abs()
    hard = (fine[..., 2::4, 2::4] - avg_pool2d(fine, 4)).abs()  # no anti-aliasing at all
    assert error.mean() < 0.004
    assert error.mean() < 0.4 * hard.mean()


def test_a_linear_classifier_finds_the_attributes():
    linear_model = pytest.importorskip("sklearn.linear_model")
    dataset = Faces(length=1500, image_size=32, split="all")
    pixels = dataset.images(range(1500)).flatten(1).numpy()
    clear = "Black_Hair Bald Pale_Skin Wearing_Hat Long_Hair Eyeglasses Curly_Hair Wearing_Necktie"
    for name in clear.split():
        wanted = dataset.attributes[:, column(name)].numpy()
        model = linear_model.RidgeClassifier(alpha=30.0).fit(pixels[:1100], wanted[:1100])
        right = model.predict(pixels[1100:]) == wanted[1100:]
        balanced = (right[wanted[1100:]].mean() + right[~wanted[1100:]].mean()) / 2
        assert balanced > 0.65, name


@pytest.mark.parametrize("side", [1, 8, 32, 100])
def test_other_sizes_show_the_same(small, side):
    images = Faces(length=400, image_size=side, split="all").images(range(8))
    assert images.shape == (8, 3, side, side)
    if side == 32:
        average = avg_pool2d(small.images(range(8)), 2)
        assert (images - average).abs().mean() < 0.008
