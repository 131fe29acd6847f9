import json
from collections import Counter

import numpy as np
import pytest
import torch

from pydisent.metrics import class_swaps
from pydisent.metrics.class_swaps import draw_pairs

# A toy image has three pixels: its class over 10, the same again, and content.
SCALE = 10


def pictures(labels, content=None):
    shown = torch.tensor(labels, dtype=torch.float32) / SCALE
    if content is None:
        content = torch.linspace(0, 1, len(labels))
    return torch.stack([shown, shown, torch.as_tensor(content)], 1)[:, None, None, :]


def encode(images):
    return images.flatten(1)


def decode(codes):
    return codes[:, None, None, :]


def blind(codes):
    """The class comes from the second pixel, which is no factor."""
    return torch.stack([codes[:, 1], codes[:, 1], codes[:, 2]], 1)[:, None, None, :]


def classify(images):
    return (images[:, 0, 0, 0] * SCALE).round().long()


def logits(images):
    return -(images[:, 0, 0, :1] * SCALE - torch.arange(10)).abs()


LABELS = [0, 1, 2, 3, 4, 0, 1, 2, 3, 7]
SWAP = {"factors": [0], "pairs": 300}


@pytest.mark.parametrize("reader", [classify, logits])
def test_a_code_whose_factor_is_the_class_swaps_always(reader):
    result = class_swaps(encode, decode, pictures(LABELS), LABELS, reader, **SWAP)
    assert result.score == 1
    details = result.details
    assert details["classes"] == [0, 1, 2, 3, 4, 7]
    assert (details["kept"], details["reconstruction_accuracy"]) == (0, 1)
    assert details["reconstruction_mse"] == 0
    confusion = np.array(details["confusion"])
    assert (confusion == np.diag(confusion.diagonal())).all()
    assert confusion.sum() == 2 * details["pairs"] == 600
    assert [details["by_pair"][k][k] for k in range(6)] == [None] * 6
    json.dumps(details)


def test_a_decoder_without_the_factor_keeps_the_class():
    result = class_swaps(encode, blind, pictures(LABELS), LABELS, classify, **SWAP)
    assert (result.score, result.details["kept"]) == (0, 1)
    assert result.details["by_pair"][0][1] == 0


def test_half_if_one_of_two_classes_follows():
    """Each pair has one image of class 0, whose content says to obey, and one of class 1."""
    labels = [0, 0, 0, 1, 1]

    def half(codes):
        return torch.where((codes[:, 2] > 0.5)[:, None, None, None], decode(codes), blind(codes))

    content = [1.0 - label for label in labels]
    result = class_swaps(encode, half, pictures(labels, content), labels, classify, **SWAP)
    assert (result.score, result.details["kept"]) == (0.5, 0.5)
    assert result.details["by_pair"] == [[None, 1], [0, None]]
    assert result.details["confusion"] == [[0, 300], [0, 300]]


def test_several_factors_and_what_is_not_one():
    both = class_swaps(encode, blind, pictures(LABELS), LABELS, classify, factors=(1, 0), pairs=9)
    assert both.score == 1
    content = class_swaps(encode, decode, pictures(LABELS), LABELS, classify, factors=[2], pairs=9)
    assert content.score == 0


def test_each_pair_of_different_classes_is_as_likely():
    classes = np.array([5, 0, 5, 2, 0, 0])
    first, second = draw_pairs(classes, 22_000, np.random.default_rng(3))
    found = Counter(zip(first.tolist(), second.tolist()))
    possible = {(i, j) for i in range(6) for j in range(6) if classes[i] != classes[j]}
    assert set(found) == possible
    assert len(possible) == 22
    # 22 counts of mean 1000 and standard deviation 31.
    assert max(abs(count - 1000) for count in found.values()) < 5 * 31


def test_authors_variant_takes_the_class_of_the_reconstruction():
    def coarse(codes):
        return decode(codes.clone().index_copy(1, torch.tensor([0]), codes[:, :1].clamp(max=0.1)))

    labels = [0, 1, 2, 0, 1, 2]
    paper = class_swaps(encode, coarse, pictures(labels), labels, classify, **SWAP)
    author = class_swaps(
        encode, coarse, pictures(labels), labels, classify, **SWAP, variant="author_code"
    )
    assert [row[2] for row in paper.details["by_pair"]] == [0, 0, None]
    assert paper.score < 1
    assert author.score == 1
    assert author.details["classes"] == [0, 1]
    for result in (paper, author):
        assert result.details["reconstruction_accuracy"] == pytest.approx(4 / 6)
        assert result.details["reconstruction_mse"] == pytest.approx(2 * 0.01 / 18)


def test_the_seed_alone_decides_and_batches_do_not():
    mixed = lambda codes: torch.where(codes[:, 2:, None, None] > 0.4, decode(codes), blind(codes))
    score = lambda **options: class_swaps(
        encode, mixed, pictures(LABELS), LABELS, classify, factors=[0], pairs=101, **options
    )
    before = torch.get_rng_state()
    assert score() == score(batch_size=7) == score(seed=0)
    assert score().details["confusion"] != score(seed=1).details["confusion"]
    assert torch.equal(before, torch.get_rng_state())


def test_no_more_images_at_a_time_than_a_batch():
    sizes = []

    def watched(codes):
        sizes.append(len(codes))
        return decode(codes)

    class_swaps(encode, watched, pictures(LABELS), LABELS, classify, **SWAP, batch_size=8)
    assert max(sizes) == 8
    assert sum(sizes) == 10 + 600


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"images": pictures([])}, ValueError, r"images must be \(N, C, H, W\), all at least 1"),
        ({"images": [1]}, TypeError, "images must be a floating point Tensor, got list"),
        ({"images": pictures(LABELS) / 0}, ValueError, "images must be finite"),
        ({"labels": LABELS[:3]}, ValueError, r"labels must be \(10,\), one per image, got \(3,\)"),
        ({"labels": [0.5] * 10}, TypeError, r"labels must be integers, got float64"),
        ({"labels": [4] * 10}, ValueError, "labels must be at least two different ones; all 10"),
        ({"factors": []}, ValueError, r"factors must be \(k,\) columns"),
        ({"factors": [0, 0]}, ValueError, r"factors must be different columns.*got \[0, 0\]"),
        ({"factors": [-1]}, ValueError, "factors must be different columns, at least 0"),
        ({"factors": [3]}, ValueError, "factors must be below 3, the columns that encode gives"),
        ({"factors": [0.0]}, TypeError, "factors must be integers"),
        ({"pairs": 0}, ValueError, "pairs must be an integer >= 1"),
        ({"batch_size": 1.5}, TypeError, "batch_size must be an integer"),
        (
            {"variant": "code"},
            ValueError,
            "variant must be one of 'paper', 'author_code', got 'code'",
        ),
        ({"encode": lambda x: x}, ValueError, r"encode must return codes \(N, d\) for N = 10"),
        ({"decode": lambda c: c}, ValueError, r"decode must return images \(10, C, H, W\)"),
        ({"decode": lambda c: decode(c)[..., :2]}, ValueError, "decode must return images"),
        ({"classify": lambda x: x.flatten(1)[:, :1]}, TypeError, "classify must return logits"),
        ({"classify": lambda x: classify(x)[:2]}, ValueError, "a class for each of 10 images"),
        ({"classify": lambda x: logits(x) * np.nan}, ValueError, "classify must return logits"),
        ({"classify": lambda x: 3}, TypeError, "classify must return a Tensor, got int"),
    ],
)
def test_bad_arguments(changes, error, words):
    given = {
        "encode": encode,
        "decode": decode,
        "images": pictures(LABELS),
        "labels": LABELS,
        "classify": classify,
        "factors": [0],
        **changes,
    }
    with pytest.raises(error, match=words):
        class_swaps(**given)


def test_reconstructions_of_one_class_alone():
    with pytest.raises(ValueError, match="classes of reconstructions must be at least two"):
        class_swaps(
            encode, lambda c: decode(c * 0), pictures(LABELS), LABELS, classify,
            factors=[0], variant="author_code",
        )  # fmt: skip
