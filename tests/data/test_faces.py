import copy
import pickle

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from pydisent.data import _face_canvas, _face_drawing, faces, load
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


def test_what_load_gives():
    dataset = load("faces")
    assert (dataset.name, len(dataset), dataset.image_shape) == ("faces", 18_000, (3, 64, 64))
    assert dataset.attributes.shape == (18_000, 32)
    assert dataset.attributes.dtype == torch.bool
    assert len(set(NAMES)) == 32
    assert dataset.labels is None
    images = dataset.images([17_999, 0, 5, 5])
    assert images.shape == (4, 3, 64, 64)
    assert images.dtype == torch.float32
    assert torch.equal(images[2], images[3])
    assert images.min() >= 0
    assert images.max() <= 1
    assert len(load("faces", image_size=32, split="test")) == 1000


def test_a_face_follows_from_seed_and_number_alone(small):
    numbers = np.random.default_rng(0).permutation(400)[:70]
    together = small.images(numbers)
    longer = Faces(length=1000, split="all")
    for place, number in enumerate(numbers[:12].tolist()):
        assert torch.equal(Faces(length=400, split="all").images([number])[0], together[place])
    assert torch.equal(longer.images(numbers), together)
    assert torch.equal(longer.attributes[:400], small.attributes)
    assert torch.equal(longer.nuisance(numbers), small.nuisance(numbers))


@pytest.mark.parametrize("side", [64, 37, 128])
def test_the_batch_changes_no_bit(side):
    """Shapes are painted in boxes around them all: neither batch nor box may matter."""
    numbers = np.arange(40)
    attributes, nuisance = faces.draw_attributes(1, numbers), faces.draw_nuisance(1, numbers)
    together = _face_drawing.paint(attributes, nuisance, side)
    alone = [_face_drawing.paint(attributes[i : i + 1], nuisance[i : i + 1], side) for i in numbers]
    assert np.array_equal(together, np.concatenate(alone))
    with pytest.MonkeyPatch.context() as patch:
        everything = (slice(0, side), slice(0, side))
        patch.setattr(_face_canvas.Canvas, "window", lambda *_: everything)
        assert np.array_equal(together, _face_drawing.paint(attributes, nuisance, side))


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


def test_seeds_differ(small):
    other = Faces(length=400, seed=1, split="all")
    agreement = (other.attributes == small.attributes).double().mean(0)
    assert (agreement < 0.8).all()
    assert (other.images(range(10)) - small.images(range(10))).abs().amax((1, 2, 3)).min() > 0.3


def test_splits_are_the_faces_of_all_once_each(small):
    parts = [Faces(length=400, split=split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [360, 20, 20]
    assert torch.equal(torch.cat([part.attributes for part in parts]), small.attributes)
    nuisance = torch.cat([part.nuisance(range(len(part))) for part in parts])
    assert torch.equal(nuisance, small.nuisance(range(400)))
    assert len(torch.unique(nuisance, dim=0)) == 400
    assert torch.equal(parts[1].images([3, 0]), small.images([363, 360]))
    assert len(Faces(length=400)) == 360


def test_attributes_have_their_chances_and_do_without_contradictions():
    drawn = torch.from_numpy(faces.draw_attributes(0, np.arange(20_000)))
    share = drawn.double().mean(0)
    expected = dict.fromkeys(NAMES, 0.25)
    expected |= {"Smiling": 0.5, "Mouth_Open": 0.4, "Long_Hair": 0.4, "Eyeglasses": 0.3}
    expected |= {"Bald": 0.2, "Bangs": 0.35 * 0.8, "Curly_Hair": 0.35}
    for name, value in zip(NAMES, share):
        assert value == pytest.approx(expected[name], abs=5 * 0.5 / 20_000**0.5)
    assert not (drawn[:, column("Bald")] & drawn[:, column("Bangs")]).any()
    assert drawn[:, [column(name) for name in HAIR]].sum(1).max() == 1


def test_attributes_and_nuisance_are_independent():
    numbers = np.arange(20_000)
    attributes = faces.draw_attributes(0, numbers).astype(float)
    nuisance = faces.draw_nuisance(0, numbers)
    assert nuisance.dtype == np.float32
    assert np.abs(nuisance).max() <= 1
    np.testing.assert_allclose(nuisance.mean(0), 0, atol=5 / 20_000**0.5)
    np.testing.assert_allclose(nuisance.var(0), 1 / 3, atol=0.02)
    table = np.corrcoef(np.concatenate([attributes, nuisance], 1).T)
    np.fill_diagonal(table, 0)
    meant = {column("Bald"), column("Bangs"), *(column(name) for name in HAIR)}
    for row, line in enumerate(table):
        for other, correlation in enumerate(line):
            if not {row, other} <= meant:
                assert abs(correlation) < 5 / 20_000**0.5


def test_images_are_renderings_in_bytes(small):
    numbers = [3, 77, 12]
    rendered = small.render(small.attributes[numbers], small.nuisance(numbers))
    assert rendered.dtype == torch.float32
    torch.testing.assert_close(small.images(numbers), rendered, rtol=0, atol=0.5001 / 255)


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


def test_flips_take_away_what_they_exclude(small):
    bald = small.flip(torch.zeros(1, 32, dtype=torch.bool), "Bald")
    with_bangs = small.flip(bald, "Bangs")
    assert with_bangs.nonzero()[:, 1].tolist() == [column("Bangs")]
    blond = small.flip(small.flip(with_bangs, "Gray_Hair"), "Blond_Hair")
    expected = {column("Bangs"), column("Blond_Hair")}
    assert set(blond.nonzero()[:, 1].tolist()) == expected
    assert set(small.flip(blond, "Blond_Hair").nonzero()[:, 1].tolist()) == {column("Bangs")}
    assert torch.equal(small.flip(small.flip(blond, "Smiling"), "Smiling"), blond)


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


def test_faces_are_drawn_once(monkeypatch):
    dataset = Faces(length=50)
    first = dataset.images(range(20))
    monkeypatch.setattr(faces, "paint", None)
    assert torch.equal(dataset.images([3, 19, 3]), first[[3, 19, 3]])


def test_too_many_to_keep(monkeypatch):
    monkeypatch.setattr(faces, "MOST_KEPT", 1000)
    anew = Faces(length=50).images([3, 9, 3])
    monkeypatch.undo()
    assert torch.equal(anew, Faces(length=50).images([3, 9, 3]))


def test_workers_get_their_own_copy():
    dataset = Faces(length=3000, seed=4, split="test", image_size=32)
    first = dataset.images([3, 1])
    packed = pickle.dumps(dataset)
    assert len(packed) < 50_000  # what was drawn stays behind
    for other in (pickle.loads(packed), copy.deepcopy(dataset)):
        assert torch.equal(other.images([3, 1]), first)
        assert torch.equal(other.attributes, dataset.attributes)
    assert torch.equal(dataset.images([3, 1]), first)


def test_no_faces(small):
    assert small.images([]).shape == (0, 3, 64, 64)
    assert small.nuisance([]).shape == (0, 32)
    nothing = small.render(torch.zeros(0, 32, dtype=torch.bool), torch.zeros(0, 32))
    assert nothing.shape == (0, 3, 64, 64)
    assert small.flip(torch.zeros(0, 32, dtype=torch.bool), "Bald").shape == (0, 32)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"length": 0}, ValueError, "length must be at least 1; got 0"),
        ({"length": 2.5}, TypeError, "length must be an integer; got 2.5"),
        ({"length": True}, TypeError, "length must be an integer"),
        ({"seed": -1}, ValueError, "seed must be at least 0; got -1"),
        ({"seed": "1"}, TypeError, "seed must be an integer; got '1'"),
        ({"image_size": 0}, ValueError, "image_size must be at least 1"),
        ({"image_size": 6.0}, TypeError, "image_size must be an integer"),
        ({"split": "valid"}, ValueError, "split must be one of train, .*got 'valid'"),
        ({"split": "validation", "length": 5}, ValueError, "'validation' is empty: length is 5"),
    ],
)
def test_bad_options(options, error, words):
    with pytest.raises(error, match=words):
        Faces(**options)


NONE = np.zeros((2, 32), bool)


@pytest.mark.parametrize(
    ("attributes", "nuisance", "error", "words"),
    [
        (torch.zeros(2, 32), torch.zeros(2, 32), TypeError, "attributes must be bool; got float"),
        (NONE[:, :31], torch.zeros(2, 32), ValueError, r"attributes must be \(N, 32\)"),
        (NONE[0], torch.zeros(2, 32), ValueError, r"attributes must be .*\(32,\)"),
        (~NONE, torch.zeros(2, 32), ValueError, "at most one of Black_Hair.*row 0"),
        (NONE, torch.zeros(3, 32), ValueError, "nuisance must have a row.*got 3"),
        (NONE, torch.zeros(2, 3), ValueError, r"nuisance must be \(N, 32\)"),
        (NONE, np.zeros((2, 32), int), TypeError, "nuisance must be floating"),
        (NONE, np.full((2, 32), 1.1), ValueError, r"nuisance must be in \[-1, 1"),
        (NONE, np.full((2, 32), np.nan), ValueError, "nuisance must be in"),
    ],
)
def test_bad_renderings(small, attributes, nuisance, error, words):
    with pytest.raises(error, match=words):
        small.render(attributes, nuisance)


def test_bad_flips(small):
    with pytest.raises(ValueError, match=r"name must be one of 5_o_Clock.*got 'Young'"):
        small.flip(small.attributes, "Young")
    with pytest.raises(TypeError, match="attributes must be bool"):
        small.flip(small.attributes.float(), "Bald")
    with pytest.raises(ValueError, match=r"indices must be in \[0, 400\)"):
        small.nuisance([400])
