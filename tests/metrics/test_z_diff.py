from importlib import import_module

import numpy as np
import pytest
import torch

from pydisent.data import load
from pydisent.metrics import encode_dataset, z_diff

pytest.importorskip("sklearn")
module = import_module("pydisent.metrics.z_diff")
VARIANTS = ("higgins", "kumar", "kumar-squared-hinge", "ramesh")
TESTED = 800


@pytest.mark.in_turn
@pytest.mark.in_turn
@pytest.mark.parametrize("variant", VARIANTS)
def test_order_of_codes_by_how_disentangled_they_are(grid, encoders, variant):
    options = {"variant": variant, "train_points": 1500, "test_points": TESTED}
    if variant == "ramesh":
        options |= {"train_points": 32 * 150, "pairs": 32}
    scores = {
        name: z_diff(getattr(encoders, name), grid, **options).score
        for name in ("perfect", "doubled", "rotated", "noisy", "constant")
    }
    assert scores["perfect"] >= 0.99
    assert scores["doubled"] >= 0.99
    # Below a perfect code by more than chance: four standard errors.
    error = (scores["rotated"] * (1 - scores["rotated"]) / TESTED) ** 0.5
    assert scores["constant"] < scores["rotated"] < scores["perfect"] - 4 * error
    assert scores["noisy"] < 0.9
    # A constant code's classifier always gives one answer: right for one factor in all.
    choices = 4 if variant == "ramesh" else 5
    assert abs(scores["constant"] - 1 / choices) < 4 * (0.25 / TESTED) ** 0.5


def slow_points(drawn, codes):
    points = []
    for pairs in drawn:
        total = np.zeros(codes.shape[1])
        for first, second in pairs:
            total += np.abs(codes[first] - codes[second])
        points.append(total / len(pairs))
    return np.array(points)


@pytest.mark.parametrize("variant", ["higgins", "kumar", "kumar-squared-hinge"])
def test_score_is_that_of_the_definition(small_grid, encoders, record, variant):
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    seen = record(module)
    result = z_diff(
        encoders.entangled,
        small_grid,
        variant=variant,
        pairs=8,
        train_points=600,
        test_points=400,
    )
    drawn = seen["draws"][0]
    label = seen["factor"].reshape(1000, 8)[:, 0]
    values = small_grid.factors(drawn.ravel()).numpy().reshape(1000, 8, 2, 5)
    shared = np.take_along_axis(values, label[:, None, None, None], 3)[..., 0]
    assert (shared[:, :, 0] == shared[:, :, 1]).all()
    assert (shared[:, 0, 0] != shared[:, 1, 0]).any()  # each pair has its own value

    codes = encode_dataset(encoders.entangled, small_grid).numpy()
    points = slow_points(drawn, codes)
    if variant == "higgins":
        classifier = LogisticRegression(max_iter=10_000)
    else:
        loss = "hinge" if variant == "kumar" else "squared_hinge"
        classifier = LinearSVC(C=0.01, loss=loss, max_iter=100_000, random_state=0)
    classifier.fit(points[:600], label[:600])
    # The figure differs from the definition's only where a tie is broken by rounding.
    assert abs(result.score - classifier.score(points[600:], label[600:])) <= 2 / 400
    assert 0.25 < result.score < 1


@pytest.mark.parametrize(("variant", "power"), [("kumar", 1), ("kumar-squared-hinge", 2)])
def test_the_svm_minimises_the_loss_of_the_text(variant, power):
    """½‖w‖² + C Σ max(0, 1 − s w'x)^p, C = 0.01, by its dual and SciPy's bounded optimiser.

    The dual's bounds are [0, C] for p = 1; for p = 2 there are none above, and its matrix has
    1 / 2C more on the diagonal (Hsieh et al. 2008). The bias is the weight of a one.
    """
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 240)
    points = rng.normal(size=(240, 4)) + 2 * np.eye(4)[label]
    found = module.build_classifier(variant).fit(points, label)
    rows, c = np.hstack([points, np.ones((240, 1))]), 0.01
    for k in range(3):
        signed = np.where(label == k, 1, -1)[:, None] * rows
        gram = signed @ signed.T + (power == 2) * np.eye(240) / (2 * c)
        dual = optimize.minimize(
            lambda a, m=gram: (a @ m @ a / 2 - a.sum(), m @ a - 1),
            np.zeros(240),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, c if power == 1 else None)] * 240,
            options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-10},
        )
        weight = dual.x @ signed
        np.testing.assert_allclose(found.coef_[k], weight[:4], atol=2e-3)
        np.testing.assert_allclose(found.intercept_[k], weight[4], atol=2e-3)


def slow_nesterov(points, label, classes):
    """Softmax regression by autograd and PyTorch's optimiser."""
    layer = torch.nn.Linear(points.shape[1], classes).double()
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1e-2, momentum=0.99, nesterov=True)
    for start in range(0, len(points), 32):
        logits = layer(torch.from_numpy(points[start : start + 32]))
        loss = torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(label[start : start + 32])
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return torch.cat([layer.weight, layer.bias[:, None]], 1).detach().numpy()


def test_ramesh_score_is_that_of_the_definition(small_grid, encoders, record):
    seen = record(module)
    result = z_diff(
        encoders.entangled,
        small_grid,
        variant="ramesh",
        pairs=4,
        train_points=3200,
        test_points=800,
    )
    drawn, factor = seen["draws"][0], seen["factor"]
    assert set(factor) == {1, 2, 3, 4}  # never the shape
    assert result.details["factors"] == ["scale", "orientation", "x", "y"]
    values = small_grid.factors(drawn.ravel()).numpy().reshape(4000, 8, 5)
    shared = np.take_along_axis(values, factor[:, None, None], 2)
    assert (shared == shared[:, :1]).all()  # all pairs of a point have one value
    assert set(values[:, :, 0].ravel()) == {0, 1, 2}

    codes = encode_dataset(encoders.entangled, small_grid).numpy()
    points, label = slow_points(drawn, codes), factor - 1
    weight = slow_nesterov(points[:3200], label[:3200], 4)
    guess = (np.hstack([points[3200:], np.ones((800, 1))]) @ weight.T).argmax(1)
    assert result.score == pytest.approx((guess == label[3200:]).mean(), abs=1e-12)
    classifier = module.NesterovSoftmax().fit(points[:3200], label[:3200])
    np.testing.assert_allclose(classifier.weight, weight, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_seed_fixes_the_result(small_grid, encoders, variant):
    options = {"variant": variant, "pairs": 4, "train_points": 640, "test_points": 300}
    first, second, other = (
        z_diff(encoders.entangled, small_grid, seed=seed, **options) for seed in (3, 3, 4)
    )
    assert first == second
    assert first.score != other.score


def test_each_image_is_encoded_once_at_most(small_grid, encoders):
    result = z_diff(encoders.perfect, small_grid, train_points=500, test_points=100)
    read = np.concatenate(small_grid.reads)
    assert len(read) == len(np.unique(read)) == result.details["images_encoded"] == 720


def test_details(small_grid, encoders):
    details = z_diff(encoders.perfect, small_grid, train_points=500, test_points=100).details
    assert details["train_accuracy"] >= 0.99
    assert details["factors"] == list(small_grid.factor_names)
    assert len(details["accuracy_by_factor"]) == 5


def test_chosen_factors(small_grid, encoders):
    result = z_diff(
        encoders.perfect, small_grid, factors=("y", "shape"), train_points=200, test_points=100
    )
    assert result.details["factors"] == ["y", "shape"]
    assert result.score >= 0.99


def test_any_number_of_factors(make_grid, encoders):
    named = make_grid((4, 5, 6), ("hue", "size", "place"))
    for variant in VARIANTS:
        result = z_diff(
            encoders.perfect, named, variant=variant, train_points=3200, test_points=200
        )
        assert result.details["factors"] == ["hue", "size", "place"]
        assert result.score >= 0.99


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"variant": "kim"},
            "variant must be one of 'higgins', 'ramesh', 'kumar', 'kumar-squared-hinge'",
        ),
        ({"pairs": 0}, "pairs must be an integer >= 1"),
        ({"train_points": -1}, "train_points must be an integer >= 1"),
        ({"test_points": 0}, "test_points must be an integer >= 1"),
        ({"variant": "ramesh", "train_points": 33}, "train_points must be a multiple of 32"),
        ({"train_points": 1}, "train_points must be enough to see two factors"),
        ({"factors": ("x",)}, "factors must be two or more different names"),
        ({"factors": ("x", "x")}, "factors must be two or more different names"),
        ({"factors": ("x", "z")}, "factors must be two or more different names"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(small_grid, encoders, options, words):
    with pytest.raises(ValueError, match=words):
        z_diff(encoders.perfect, small_grid, **options)
    assert small_grid.reads == []


def test_a_factor_of_one_value_cannot_be_shared(make_grid, encoders):
    grid = make_grid((3, 1, 4), ("hue", "size", "place"))
    with pytest.raises(ValueError, match=r"2 values of each shared factor.*got 1 of 'size'"):
        z_diff(encoders.constant, grid)
    assert grid.reads == []
    options = {"factors": ("hue", "place"), "train_points": 200, "test_points": 100}
    assert z_diff(lambda x: x.flatten(1)[:, [0, 2]], grid, **options).score >= 0.99


def test_only_data_with_factors(encoders):
    with pytest.raises(TypeError, match=r"dataset must be a FactorDataset.*got Digits"):
        z_diff(encoders.perfect, load("digits"))


def test_sprites_tell_their_position(encoders):
    """Centroid and area of real images: position and scale are named without mistake."""
    across = (torch.arange(32) + 0.5) / 32

    def moments(images):
        mass = images.sum((1, 2, 3))
        x = (images.sum((1, 2)) * across).sum(1) / mass
        y = (images.sum((1, 3)) * across).sum(1) / mass
        return torch.stack([x, y, mass / 100], 1)

    result = z_diff(
        moments,
        load("sprites", image_size=32),
        pairs=16,
        factors=("scale", "x", "y"),
        train_points=300,
        test_points=200,
    )
    assert result.score >= 0.97
