import logging

import pytest
import torch

from pydisent.data import load
from pydisent.metrics import Classifier, _classifier, trained_classifier

UPDATES = 40


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for each test."""
    folder = tmp_path / "the-cache"
    monkeypatch.setenv("PYDISENT_CACHE", str(folder))
    return folder


@pytest.fixture
def trainings(monkeypatch):
    """Count how often a net is trained."""
    calls, train = [], _classifier._train

    def counted(*arguments):
        calls.append(1)
        train(*arguments)

    monkeypatch.setattr(_classifier, "_train", counted)
    return calls


def quadrants(count=200, side=8, channels=1, seed=0):
    """Noise with a bright quadrant, whose number is the label."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.5 * torch.rand(count, channels, side, side, generator=generator)
    labels = torch.randint(4, (count,), generator=generator)
    half = side // 2
    for image, label in zip(images, labels.tolist()):
        top, left = half * (label // 2), half * (label % 2)
        image[:, top : top + half, left : left + half] += 0.5
    return images, labels


def marked(count=300, side=16, seed=0):
    """Noise with a bright top edge, a bright left edge and, seldom, a bright middle."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.5 * torch.rand(count, 3, side, side, generator=generator)
    attributes = torch.rand(count, 3, generator=generator) < torch.tensor([0.5, 0.3, 0.1])
    for image, (top, left, middle) in zip(images, attributes.tolist()):
        image[:, :3] += 0.5 * top * (image[:, :3] < 0.5)
        image[:, :, :3] += 0.5 * left * (image[:, :, :3] < 0.5)
        image[:, 7:10, 7:10] += 0.5 * middle
    return images.clamp(0, 1), attributes


def same(first, second):
    mine, other = first.state_dict(), second.state_dict()
    return all(torch.equal(mine[key], other[key]) for key in mine if "num_batches" not in key)


def train(images, labels, **options):
    return trained_classifier(
        images, labels, **{"name": "quadrants", "updates": UPDATES, **options}
    )


def test_learns_labels():
    net = train(*quadrants())
    images, labels = quadrants(seed=1)
    assert (net(images).argmax(1) == labels).float().mean() > 0.97
    assert net.outputs == 4


def test_learns_attributes():
    net = trained_classifier(*marked(), kind="attributes", name="marked", updates=120)
    images, attributes = marked(seed=1)
    logits = net(images)
    assert logits.shape == (300, 3)
    assert ((logits > 0) == attributes).float().mean(0).min() > 0.95
    assert (logits[attributes[:, 2], 2] > 0).float().mean() > 0.9  # the seldom one, where it is


@pytest.mark.parametrize("detailed", [False, True])
@pytest.mark.parametrize("side", [1, 3, 8, 16, 28, 32, 65])
def test_images_of_any_size(side, detailed):
    net = Classifier((2, side, side + 1), 5, detailed).eval()
    assert net(torch.rand(3, 2, side, side + 1)).shape == (3, 5)
    with pytest.raises(ValueError, match=rf"images must be \(N, 2, {side}, {side + 1}\), got"):
        net(torch.rand(3, 1, side, side))


def test_comes_ready_for_use():
    net = train(*quadrants())
    assert not net.training
    assert not any(weight.requires_grad for weight in net.parameters())
    images = quadrants()[0].requires_grad_()
    net(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_the_same_seed_gives_the_same_weights(trainings, monkeypatch):
    monkeypatch.setenv("PYDISENT_CACHE", "off")
    data = quadrants()
    first, again = train(*data), train(*data)
    assert len(trainings) == 2
    assert same(first, again)
    assert not same(first, train(*data, seed=1))


def test_random_states_of_the_caller_are_left_alone(monkeypatch):
    data = quadrants()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    net = train(*data)
    assert torch.equal(before, torch.get_rng_state())
    monkeypatch.setenv("PYDISENT_CACHE", "off")
    torch.manual_seed(8)
    with torch.no_grad():
        assert same(net, train(*data))
    with torch.inference_mode():
        assert same(net, train(*data))


def test_a_second_call_reads_the_file(trainings, cache):
    data = quadrants()
    first = train(*data)
    again = train(*data)
    assert len(trainings) == 1
    assert same(first, again)
    images = quadrants(seed=1)[0]
    assert torch.equal(first(images), again(images))
    (file,) = cache.iterdir()
    assert file.name.startswith("quadrants-")
    assert file.suffix == ".safetensors"


def test_each_thing_that_matters_has_its_own_file(trainings, cache):
    images, labels = quadrants()
    other = images.clone()
    other[3, 0, 2, 2] = 0
    moved = labels.clone()
    moved[3] = (moved[3] + 1) % 4
    train(images, labels, updates=2)
    for changed in (
        {"images": other},
        {"labels": moved},
        {"seed": 1},
        {"updates": 3},
        {"labels": torch.eye(4, dtype=torch.bool)[labels], "kind": "attributes"},
    ):
        train(**{"images": images, "labels": labels, "updates": 2, **changed})
    assert len(trainings) == len(list(cache.iterdir())) == 6
    # Neither the layout in memory nor the width of integers is data.
    train(images.contiguous(memory_format=torch.channels_last), labels.int(), updates=2)
    assert len(trainings) == 6


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "other"])
def test_a_damaged_file_is_trained_again(trainings, cache, damage, caplog):
    data = quadrants()
    first = train(*data)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    if damage == "other":
        from safetensors.torch import save

        broken = save({"head.1.weight": torch.zeros(3)})
    else:
        broken = {"cut": whole[: len(whole) // 2], "empty": b"", "noise": b"\x80" * 99}[damage]
    file.write_bytes(broken)
    with caplog.at_level(logging.WARNING):
        again = train(*data)
    assert len(trainings) == 2
    assert "training again" in caplog.text
    assert same(first, again)
    assert file.read_bytes() == whole
    assert list(cache.iterdir()) == [file]


def test_no_cache_and_one_that_cannot_be_written(trainings, cache, monkeypatch, caplog):
    cache.write_text("a file, not a folder")
    assert train(*quadrants(), updates=2).outputs == 4
    assert "nothing kept" in caplog.text
    monkeypatch.setenv("PYDISENT_CACHE", "off")
    train(*quadrants(), updates=2)
    assert len(trainings) == 2


def test_a_single_update_on_a_single_pair():
    images, _ = quadrants(2)
    net = train(images, torch.tensor([0, 1]), updates=1)
    assert net(images).isfinite().all()


IMAGES, LABELS = quadrants(6)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"images": IMAGES[:0], "targets": LABELS[:0]}, ValueError, "images must be .*at least 1"),
        ({"images": IMAGES[:, 0]}, ValueError, r"images must be \(N, C, H, W\)"),
        ({"images": IMAGES * 255}, ValueError, r"images must be in \[0, 1\], got"),
        ({"images": IMAGES * float("nan")}, ValueError, r"images must be in \[0, 1\], got nan"),
        ({"images": IMAGES.byte()}, TypeError, "images must be a floating point Tensor, got torch"),
        ({"targets": LABELS[:3]}, ValueError, r"targets must be \(6,\), one per image"),
        ({"targets": LABELS.float()}, TypeError, "targets must be integers, kind is 'label'"),
        ({"targets": LABELS - 9}, ValueError, "targets must be at least 0"),
        ({"targets": LABELS * 0 + 2}, ValueError, "targets must have at least two classes; all"),
        ({"targets": [0, 1]}, TypeError, "targets must be a Tensor, got list"),
        ({"kind": "attributes"}, TypeError, "targets must be bool, kind is 'attributes'"),
        ({"kind": "other"}, ValueError, "kind must be one of 'label', 'attributes', got 'other'"),
        ({"name": "../x"}, ValueError, "name must be letters, digits"),
        ({"seed": 0.5}, TypeError, "seed must be an integer, got 0.5"),
        ({"updates": 0}, ValueError, "updates must be an integer >= 1"),
    ],
)
def test_bad_arguments(changes, error, words, trainings):
    with pytest.raises(error, match=words):
        trained_classifier(**{"images": IMAGES, "targets": LABELS, "name": "q", **changes})
    assert not trainings


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        (torch.ones(6, dtype=torch.bool), r"targets must be \(6, A\), got \(6,\)"),
        (torch.eye(6, dtype=torch.bool)[:, :0], r"targets must be \(6, A\)"),
        (torch.eye(6, dtype=torch.bool) | (torch.arange(6) == 2), "column 2 is True in all 6"),
    ],
)
def test_bad_attributes(attributes, words):
    with pytest.raises(ValueError, match=words):
        trained_classifier(IMAGES, attributes, kind="attributes", name="q")


@pytest.mark.slow
def test_held_out_mnist_digits(shared_file):
    """400 updates for 1000, which reach 99 %: 6 s of a core."""
    digits = load("mnist", shared_file("mnist"), split="test")
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    trained, held_out = order[:8000], order[8000:]
    net = trained_classifier(
        digits.images(trained), digits.labels[trained], name="mnist", updates=400
    )
    found = net(digits.images(held_out)).argmax(1)
    assert (found == digits.labels[held_out]).float().mean() > 0.98
