import math

import pytest
import torch

from pydisent.metrics import reconstruction_error


def test_a_perfect_reconstruction_has_no_error(small_grid):
    result = reconstruction_error(lambda x: x, small_grid)
    assert result.score == 0
    assert result.details["standard_error"] == 0
    assert result.details["images"] == 720


def test_errors_are_those_of_the_definition(small_grid):
    made = torch.rand(720, 1, 1, 5, generator=torch.Generator().manual_seed(0))
    calls = []

    def reconstruct(images):
        start = sum(calls)
        calls.append(len(images))
        return made[start : start + len(images)]

    result = reconstruction_error(reconstruct, small_grid, batch_size=100)
    assert calls == [100] * 7 + [20]
    images = small_grid.images(range(720))
    squared, absolute, bernoulli = [], [], []
    for x, p in zip(images.flatten(1).tolist(), made.flatten(1).tolist()):
        squared.append(sum((a - b) ** 2 for a, b in zip(x, p)) / 5)
        absolute += [abs(a - b) for a, b in zip(x, p)]
        bernoulli += [-a * math.log(b) - (1 - a) * math.log(1 - b) for a, b in zip(x, p)]
    mean = sum(squared) / 720
    assert result.score == pytest.approx(mean, rel=1e-6)
    assert result.details["per_image"] == pytest.approx(5 * mean, rel=1e-6)
    deviation = (sum((s - mean) ** 2 for s in squared) / 719) ** 0.5
    assert result.details["standard_error"] == pytest.approx(deviation / 720**0.5, rel=1e-6)
    assert result.details["absolute_error"] == pytest.approx(sum(absolute) / 3600, rel=1e-6)
    assert result.details["bernoulli"] == pytest.approx(sum(bernoulli) / 3600, rel=1e-5)


def test_certain_mistakes_are_finite(small_grid):
    result = reconstruction_error(lambda x: (x < 0.5).float(), small_grid, [0, 719])
    assert result.score == 1
    assert result.details["bernoulli"] == pytest.approx(-math.log(1e-6))
    assert reconstruction_error(lambda x: x, small_grid, [5]).details["standard_error"] is None


@pytest.mark.parametrize(
    ("reconstruct", "error", "words"),
    [
        (lambda x: x[:2], ValueError, r"must return images \(3, 1, 1, 5\), got \(2, 1, 1, 5\)"),
        (lambda x: x / 0, ValueError, "reconstruct must return finite images"),
        (lambda x: x.numpy(), TypeError, "reconstruct must return a Tensor, got ndarray"),
    ],
)
def test_bad_reconstructions(small_grid, reconstruct, error, words):
    with pytest.raises(error, match=words):
        reconstruction_error(reconstruct, small_grid, [0, 1, 2])


def test_bad_arguments(small_grid):
    with pytest.raises(ValueError, match="indices must name at least one image"):
        reconstruction_error(lambda x: x, small_grid, [])
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1"):
        reconstruction_error(lambda x: x, small_grid, batch_size=0)
