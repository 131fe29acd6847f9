from importlib import import_module

import numpy as np
import pytest
import torch

from pydisent.data import load
from pydisent.metrics import encode_dataset, factor_vae_score

module = import_module("pydisent.metrics.factor_vae_score")
QUICK = {"train_votes": 1500, "eval_votes": 1500}


def test_order_of_codes_by_how_disentangled_they_are(grid, encoders):
    scores = {
        name: factor_vae_score(getattr(encoders, name), grid, **QUICK).score
        for name in ("perfect", "doubled", "rotated", "noisy", "constant")
    }
    assert scores["perfect"] == 1
    assert scores["doubled"] == 1
    assert scores["rotated"] < 0.95
    assert scores["noisy"] < 0.95
    assert scores["constant"] == 0  # every code is pruned


def test_irrelevant_codes_do_no_harm_and_a_lost_factor_does(grid):
    def padded(images):
        return torch.nn.functional.pad(images.flatten(1), (2, 3), value=1.0)

    assert factor_vae_score(padded, grid, **QUICK).score == 1
    lost = factor_vae_score(lambda images: images.flatten(1)[:, 1:], grid, **QUICK).score
    assert lost == pytest.approx(0.8, abs=4 * (0.16 / 1500) ** 0.5)


def slow_score(codes, population, sets, factor, train, prune):
    """The definition, vote by vote."""
    d = codes.shape[1]

    def variance(rows):
        centre = sum(rows) / len(rows)
        return sum((row - centre) ** 2 for row in rows) / (len(rows) - 1)

    overall = variance([codes[i] for i in population])
    kept = [j for j in range(d) if overall[j] ** 0.5 >= prune]
    votes = {j: {} for j in range(d)}
    answers = []
    for images, fixed in zip(sets, factor):
        spread = variance([codes[i] for i in images])
        answers.append((min(kept, key=lambda j: spread[j] / overall[j]), fixed))
    for j, fixed in answers[:train]:
        votes[j][fixed] = votes[j].get(fixed, 0) + 1
    name = {j: max(sorted(v), key=lambda f: v[f]) if v else 0 for j, v in votes.items()}
    accuracy = [
        float(np.mean([name[j] == f for j, f in part]))
        for part in (answers[:train], answers[train:] or answers[:train])
    ]
    return accuracy, votes, overall


@pytest.mark.parametrize("held_out", [300, 0])
def test_score_is_that_of_the_definition(small_grid, encoders, record, held_out):
    seen = record(module)

    def encode(images):  # the second code is all but constant
        codes = encoders.entangled(images)
        codes[:, 1] *= 0.01
        return codes

    result = factor_vae_score(
        encode, small_grid, batch=6, train_votes=400, eval_votes=held_out, variance_samples=200
    )
    population, sets = seen["draws"]
    assert (len(population), sets.shape) == (200, (400 + held_out, 6))
    codes = encode_dataset(encode, small_grid).numpy()
    (train, score), votes, overall = slow_score(
        codes, population, sets, seen["factor"], 400, prune=0.05
    )
    assert result.score == pytest.approx(score, abs=1e-12)
    assert 0.2 < result.score < 1
    assert result.details["train_accuracy"] == pytest.approx(train, abs=1e-12)
    np.testing.assert_allclose(result.details["std"], overall**0.5, rtol=1e-12)
    for j, row in enumerate(result.details["votes"]):
        assert row == [votes[j].get(f, 0) for f in range(5)]
    assert sum(result.details["votes"][1]) == 0
    assert result.details["num_active_dims"] == 3


def test_votes_share_one_value_of_the_factor(small_grid, encoders, record):
    seen = record(module)
    factor_vae_score(encoders.perfect, small_grid, train_votes=500, eval_votes=100)
    values = small_grid.factors(seen["drawn"].ravel()).numpy().reshape(600, 64, 5)
    shared = np.take_along_axis(values, seen["factor"][:, None, None], 2)
    assert (shared == shared[:, :1]).all()
    assert set(seen["factor"]) == set(range(5))


def test_count_of_active_codes_and_the_known_fault(grid):
    def encode(images):
        codes = images.flatten(1)
        codes[:, 3:] *= 0.01
        return codes

    assert factor_vae_score(encode, grid, **QUICK).details["num_active_dims"] == 3
    faulty = factor_vae_score(encode, grid, compat="disentanglement_lib", **QUICK)
    assert faulty.details["num_active_dims"] == 5
    assert faulty.score == factor_vae_score(encode, grid, **QUICK).score


def test_pruning_follows_the_threshold(grid):
    def encode(images):  # standard deviations of about 0.3 and 0.075
        return images.flatten(1)[:, 3:] * torch.tensor([1.0, 0.25])

    expected = {"locatello": 2, "zhu": 1, "jeon": 1}
    for variant, active in expected.items():
        result = factor_vae_score(encode, grid, variant=variant, train_votes=100)
        assert result.details["num_active_dims"] == active
    assert factor_vae_score(encode, grid, prune_std=0.5, **QUICK).score == 0


def test_constant_codes_never_vote_even_unpruned(grid):
    def encode(images):
        return torch.nn.functional.pad(images.flatten(1), (1, 0))

    result = factor_vae_score(encode, grid, prune_std=0.0, **QUICK)
    assert result.score == 1
    assert result.details["num_active_dims"] == 5


@pytest.mark.parametrize(
    ("variant", "batch", "train", "held_out"),
    [("locatello", 64, 10_000, 5_000), ("zhu", 60, 10_000, 5_000), ("jeon", 100, 800, 0)],
)
def test_variants_have_their_counts(small_grid, encoders, record, variant, batch, train, held_out):
    seen = record(module)
    result = factor_vae_score(encoders.perfect, small_grid, variant=variant)
    assert seen["drawn"].shape == (train + held_out, batch)
    assert result.score > 0.97
    assert (result.details["eval_accuracy"] is None) == (held_out == 0)


def test_the_seed_fixes_the_result(small_grid, encoders):
    options = {"batch": 4, "train_votes": 300, "eval_votes": 300}
    first, second, other = (
        factor_vae_score(encoders.entangled, small_grid, seed=seed, **options) for seed in (3, 3, 4)
    )
    assert first == second
    assert first.score != other.score


def test_each_image_is_encoded_once_at_most(small_grid, encoders):
    result = factor_vae_score(encoders.perfect, small_grid)
    read = np.concatenate(small_grid.reads)
    assert len(read) == len(np.unique(read)) == result.details["images_encoded"] == 720


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variant": "kim"}, "variant must be one of 'locatello', 'zhu', 'jeon', got 'kim'"),
        ({"compat": "theirs"}, "compat must be 'disentanglement_lib' or None"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"variance_samples": 1}, "variance_samples must be at least 2"),
        ({"train_votes": 0}, "train_votes must be an integer >= 1"),
        ({"eval_votes": -1}, "eval_votes must be an integer >= 1"),
        ({"prune_std": -0.1}, "prune_std must be a finite number >= 0"),
        ({"prune_std": float("nan")}, "prune_std must be a finite number >= 0"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(small_grid, encoders, options, words):
    with pytest.raises(ValueError, match=words):
        factor_vae_score(encoders.perfect, small_grid, **options)
    assert small_grid.reads == []


def test_a_factor_of_one_value_cannot_be_shared(make_grid, encoders):
    grid = make_grid((3, 4, 1), ("hue", "size", "place"))
    with pytest.raises(ValueError, match=r"2 values of each shared factor.*got 1 of 'place'"):
        factor_vae_score(encoders.constant, grid)
    assert grid.reads == []


def test_only_data_with_factors(encoders):
    with pytest.raises(TypeError, match=r"dataset must be a FactorDataset.*got Digits"):
        factor_vae_score(encoders.perfect, load("digits"))
