import copy
import pickle

import numpy as np
import pytest
import torch

from pydisent.data import _face_canvas, _face_drawing, faces, load
from pydisent.data.faces import Faces

NAMES = Faces(length=2).attribute_names
HAIR = ("Black_Hair", "Blond_Hair", "Gray_Hair")


@pytest.fixture(scope="module")
def small():
    return Faces(length=400, split="all")


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


def test_flips_take_away_what_they_exclude(small):
    bald = small.flip(torch.zeros(1, 32, dtype=torch.bool), "Bald")
    with_bangs = small.flip(bald, "Bangs")
    assert with_bangs.nonzero()[:, 1].tolist() == [column("Bangs")]
    blond = small.flip(small.flip(with_bangs, "Gray_Hair"), "Blond_Hair")
    expected = {column("Bangs"), column("Blond_Hair")}
    assert set(blond.nonzero()[:, 1].tolist()) == expected
    assert set(small.flip(blond, "Blond_Hair").nonzero()[:, 1].tolist()) == {column("Bangs")}
    assert torch.equal(small.flip(small.flip(blond, "Smiling"), "Smiling"), blond)


def test_faces_are_drawn_once(monkeypatch):
    dataset = Faces(length=50)
    first = dataset.images(range(20))
    monkeypatch.setattr(faces, "paint", None)
    assert torch.equal(dataset.images([3, 19, 3]), first[[3, 19, 3]])


def test_too_many_to_keep(monkeypatch):
    monkeypatch.setattr(faces, "MAX_CACHED", 1000)
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
        ({"length": 0}, ValueError, "length must be an integer >= 1, got 0"),
        ({"length": 2.5}, TypeError, "length must be an integer >= 1, got 2.5"),
        ({"length": True}, TypeError, "length must be an integer"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0, got -1"),
        ({"seed": "1"}, TypeError, "seed must be an integer >= 0, got '1'"),
        ({"image_size": 0}, ValueError, "image_size must be an integer >= 1"),
        ({"image_size": 6.0}, TypeError, "image_size must be an integer"),
        ({"split": "valid"}, ValueError, "split must be one of 'train', .*got 'valid'"),
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
        (torch.zeros(2, 32), torch.zeros(2, 32), TypeError, "attributes must be bool, got float"),
        (NONE[:, :31], torch.zeros(2, 32), ValueError, r"attributes must have shape \(N, 32\)"),
        (NONE[0], torch.zeros(2, 32), ValueError, r"attributes must have .*\(32,\)"),
        (~NONE, torch.zeros(2, 32), ValueError, "at most one of Black_Hair.*row 0"),
        (NONE, torch.zeros(3, 32), ValueError, "nuisance must be of 2 rows, .*got 3"),
        (NONE, torch.zeros(2, 3), ValueError, r"nuisance must have shape \(N, 32\)"),
        (NONE, np.zeros((2, 32), int), TypeError, "nuisance must be floating"),
        (NONE, np.full((2, 32), 1.1), ValueError, r"nuisance must be in \[-1, 1"),
        (NONE, np.full((2, 32), np.nan), ValueError, "nuisance must be in"),
    ],
)
def test_bad_renderings(small, attributes, nuisance, error, words):
    with pytest.raises(error, match=words):
        small.render(attributes, nuisance)


def test_bad_flips(small):
    with pytest.raises(ValueError, match=r"name must be one of '5_o_Clock.*got 'Young'"):
        small.flip(small.attributes, "Young")
    with pytest.raises(TypeError, match="attributes must be bool"):
        small.flip(small.attributes.float(), "Bald")
    with pytest.raises(ValueError, match=r"indices must be in \[0, 400\)"):
        small.nuisance([400])
