import json

import pytest
import torch

from pydisent.metrics import attribute_flips


def pictures(count=7, attributes=3, seed=0):
    """Pixels: attributes, then one of content."""
    return torch.rand(count, 1, 1, attributes + 1, generator=torch.Generator().manual_seed(seed))


def encode(images):
    return images.flatten(1) - 0.5


def decode(codes):
    return (codes + 0.5).clamp(0, 1)[:, None, None, :]


def classify(images):
    return images[:, 0, 0, :-1] - 0.5


FACTORS = [0, 1, 2]


def test_a_perfect_code_flips_each_attribute_and_no_other():
    images = pictures()
    result = attribute_flips(encode, decode, images, classify, factors=FACTORS, alpha=1)
    assert result.score == 1
    assert result.details["by_attribute"] == result.details["changed"] == [1, 1, 1]
    assert result.details["others_kept"] == 1
    assert result.details["agreement"] == [1, 1, 1]
    assert result.details["reconstruction_mse"] == pytest.approx(0, abs=1e-12)
    assert (result.details["alpha"], result.details["validation_scores"]) == (1, None)
    json.dumps(result.details)


def test_a_decoder_without_the_factors_flips_nothing():
    twice = lambda images: encode(images).repeat(1, 2)
    result = attribute_flips(
        twice, lambda c: decode(c[:, 4:]), pictures(), classify, factors=FACTORS, alpha=40
    )
    assert result.score == 0
    assert result.details["changed"] == [0, 0, 0]
    assert result.details["others_kept"] == 1


def test_half_if_one_of_two_attributes_follows():
    def half(codes):
        return decode(torch.stack([codes[:, 0], codes[:, 3], codes[:, 2]], 1))

    coder = lambda images: torch.cat([encode(images), encode(images)[:, 1:2]], 1)
    images = pictures(attributes=2)
    result = attribute_flips(coder, half, images, classify, factors=[0, 1], alpha=1)
    assert result.score == 0.5
    assert result.details["by_attribute"] == [1, 0]


def test_attributes_that_move_together_are_told():
    tied = lambda codes: decode(codes[:, [0, 0, 2, 3]])
    images = pictures()
    result = attribute_flips(encode, tied, images, classify, factors=FACTORS, alpha=1)
    assert result.details["others_kept_by_flip"][0] == 0.5  # takes the second along
    assert result.details["others_kept_by_flip"][1:] == [1, 1]
    assert result.details["others_kept"] == pytest.approx(2.5 / 3)
    assert result.details["changed"] == [1, 0, 1]


def test_zero_counts_as_positive():
    images = torch.full((2, 1, 1, 2), 0.5)
    seen = []

    def watched(codes):
        seen.append(codes.clone())
        return decode(codes)

    result = attribute_flips(encode, watched, images, classify, factors=[0], alpha=3)
    assert seen[1].tolist() == [[-3, 0], [-3, 0]]
    assert result.score == 1
    # A logit of 0 is no attribute: the flip changes nothing, and the code did not agree.
    assert result.details["changed"] == [0]
    assert result.details["agreement"] == [0]
    assert result.details["others_kept"] is None


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_rates_are_those_of_the_definition(batch_size):
    """Random nets, one flip at a time in plain loops."""
    generator = torch.Generator().manual_seed(5)
    into, out, judge = (torch.randn(6, 6, generator=generator, dtype=torch.float64) for _ in "abc")
    images = torch.rand(9, 1, 2, 3, generator=generator, dtype=torch.float64)
    encoder = lambda x: (x.flatten(1) - 0.5) @ into
    sizes = []

    def decoder(codes):
        sizes.append(len(codes))
        return torch.tanh(codes @ out).view(-1, 1, 2, 3)

    judged = lambda x: x.flatten(1) @ judge[:, :4]
    factors, alpha = [4, 0, 2, 5], 1.7
    result = attribute_flips(
        encoder, decoder, images, judged, factors=factors, alpha=alpha, batch_size=batch_size
    )
    assert max(sizes) <= batch_size
    right, changed, kept = [0] * 4, [0] * 4, 0
    for image in images:
        code = encoder(image[None])
        plain = judged(decoder(code))[0] > 0
        for i, column in enumerate(factors):
            flipped = code.clone()
            flipped[0, column] = alpha if code[0, column] < 0 else -alpha
            verdict = judged(decoder(flipped))[0] > 0
            right[i] += bool(verdict[i]) == bool(flipped[0, column] > 0)
            changed[i] += bool(verdict[i] != plain[i])
            kept += sum(bool(verdict[j] == plain[j]) for j in range(4) if j != i)
    assert result.score == pytest.approx(sum(right) / 36)
    assert result.details["by_attribute"] == pytest.approx([r / 9 for r in right])
    assert result.details["changed"] == pytest.approx([c / 9 for c in changed])
    assert result.details["others_kept"] == pytest.approx(kept / (36 * 3))


def test_alpha_is_the_smallest_of_the_best_on_validation():
    deaf = lambda codes: decode(torch.where(codes.abs() < 7, 0.4 * torch.ones(()), codes))
    images, validation = pictures(), pictures(5, seed=1)
    result = attribute_flips(encode, deaf, images, classify, factors=FACTORS, validation=validation)
    assert result.details["alpha"] == 10
    assert [alpha for alpha, _ in result.details["validation_scores"]] == [1, 2, 5, 10, 20, 40]
    assert [score for _, score in result.details["validation_scores"][3:]] == [1, 1, 1]
    assert result == attribute_flips(
        encode, deaf, images, classify, factors=FACTORS, validation=validation, batch_size=3
    )
    given = attribute_flips(encode, deaf, images, classify, factors=FACTORS, alpha=10)
    assert given.details["by_attribute"] == result.details["by_attribute"]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"images": pictures(0)}, ValueError, r"images must be \(N, C, H, W\), all at least 1"),
        ({"images": 3}, TypeError, "images must be a floating point Tensor, got int"),
        ({"factors": []}, ValueError, r"factors must be \(k,\) columns"),
        ({"factors": [0, 1, 1]}, ValueError, "factors must be different columns"),
        ({"factors": [0, 1, 4]}, ValueError, "factors must be below 4"),
        ({"factors": [0]}, ValueError, r"must return logits \(7, 1\), one for each of factors"),
        ({"alpha": 0}, ValueError, "alpha must be finite and above 0, got 0"),
        ({"alpha": "1"}, TypeError, "alpha must be real numbers"),
        (
            {"alpha": None},
            ValueError,
            "alpha or validation must be given, one of them, got neither",
        ),
        ({"validation": pictures()}, ValueError, "one of them, got both"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1"),
        ({"classify_attributes": lambda x: classify(x) > 0}, TypeError, "floating point logits"),
        ({"classify_attributes": lambda x: classify(x) / 0 * 0}, ValueError, "logits, got NaN"),
        ({"decode": lambda c: decode(c)[..., :2]}, ValueError, "decode must return images"),
    ],
)
def test_bad_arguments(changes, error, words):
    given = {
        "encode": encode,
        "decode": decode,
        "images": pictures(),
        "classify_attributes": classify,
        "factors": FACTORS,
        "alpha": 1,
        **changes,
    }
    with pytest.raises(error, match=words):
        attribute_flips(**given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alphas": []}, "alphas must name at least one multiplier"),
        ({"alphas": [1, -2]}, "alphas must be finite and above 0, got -2"),
        ({"validation": pictures(attributes=2)}, r"validation must be \(M, 1, 1, 4\), as images"),
        ({"validation": pictures(0)}, r"validation must be \(N, C, H, W\), all at least 1"),
    ],
)
def test_bad_validation(changes, words):
    given = {"validation": pictures(), **changes}
    with pytest.raises(ValueError, match=words):
        attribute_flips(encode, decode, pictures(), classify, factors=FACTORS, **given)
