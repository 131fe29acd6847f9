import numpy as np
import pytest

from pydisent.metrics import udr

pytest.importorskip("sklearn")
KL = [np.ones(3)] * 3


@pytest.fixture
def codes():
    return np.random.default_rng(0).normal(size=(4000, 3))


def test_the_same_codes_in_other_orders_and_signs_agree(codes):
    models = [codes, codes[:, [2, 0, 1]] * [-1, 3, 0.2] + 1, -codes[:, ::-1]]
    # A lasso at α = 0.1 finds 0.9 of each standardised code and nothing else: 0.9² / 0.9.
    assert udr(models, KL).score == pytest.approx(0.9, abs=0.01)
    ranked = udr(models, KL, similarity="spearman")
    assert 0.9 < ranked.score < 1  # a few percent of rank correlation by chance
    assert ranked.details["models"] == pytest.approx([ranked.score] * 3, abs=0.02)


def test_order_of_agreement(codes):
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    others = {
        "same": codes[:, ::-1],
        "rotated": codes @ rotation,
        "noisy": codes + 2 * rng.normal(size=codes.shape),
        "unrelated": rng.normal(size=codes.shape),
    }
    for similarity in ("lasso", "spearman"):
        score = {
            name: udr([codes, other], KL[:2], similarity=similarity).score
            for name, other in others.items()
        }
        assert score["unrelated"] < min(score["noisy"], score["rotated"])
        assert max(score["noisy"], score["rotated"]) < score["same"]
    assert udr([codes, others["unrelated"]], KL[:2]).score == 0


def test_uninformative_codes_do_not_take_part(codes):
    noise = np.random.default_rng(2).normal(size=(4000, 2))
    padded = np.concatenate([noise, codes], 1)
    result = udr([codes, padded], [np.ones(3), [0.0, 0.01, 1, 1, 1]])
    assert result.details["informative"] == [3, 3]
    assert result.score == pytest.approx(0.9, abs=0.01)
    assert udr([codes, padded], [np.ones(3), np.zeros(5)]).score == 0
    constant = np.concatenate([np.full((4000, 1), 0.1), codes], 1)
    assert udr([codes, constant], [np.ones(3), np.ones(4)]).score == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("similarity", ["lasso", "spearman"])
def test_score_is_that_of_the_definition(similarity):
    """Expected: scikit-learn's lasso and SciPy's rank correlation, pair by pair, code by code."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    base = rng.normal(size=(500, 3))
    models = [base @ rng.normal(size=(3, d)) + rng.normal(size=(500, d)) for d in (2, 3, 4)]
    pairs = np.zeros((3, 3))
    for i, x in enumerate(models):
        for j, y in enumerate(models):
            x, y = (x - x.mean(0)) / x.std(0), (y - y.mean(0)) / y.std(0)
            r = np.zeros((x.shape[1], y.shape[1]))
            for b in range(y.shape[1]):
                lasso = linear_model.Lasso(alpha=0.1).fit(x, y[:, b])
                for a in range(x.shape[1]):
                    rank = stats.spearmanr(x[:, a], y[:, b]).statistic
                    r[a, b] = abs(lasso.coef_[a] if similarity == "lasso" else rank)
            over_b = [
                max(r[:, b]) ** 2 / sum(r[:, b]) if r[:, b].any() else 0 for b in range(len(r[0]))
            ]
            over_a = [max(row) ** 2 / sum(row) if row.any() else 0 for row in r]
            pairs[i, j] = (np.mean(over_b) + np.mean(over_a)) / 2
    result = udr(models, [np.ones(m.shape[1]) for m in models], similarity=similarity)
    for i, j in ((0, 1), (1, 0), (0, 2), (2, 1)):
        assert result.details["pairs"][i][j] == pytest.approx(pairs[i, j], abs=1e-4)
    expected = [np.median(np.delete(pairs[:, j], j)) for j in range(3)]
    assert result.details["models"] == pytest.approx(expected, abs=1e-4)
    assert result.score == pytest.approx(np.median(pairs[~np.eye(3, dtype=bool)]), abs=1e-4)
    assert 0.1 < result.score < 0.9


@pytest.mark.parametrize(
    ("models", "kl", "options", "words"),
    [
        (1, 1, {}, "two models or more, got 1 and 1"),
        (2, 3, {}, "two models or more, got 2 and 3"),
        (2, 2, {"similarity": "cosine"}, "similarity must be one of 'lasso', 'spearman'"),
        (2, 2, {"kl_threshold": -1}, "kl_threshold must be finite and at least 0"),
    ],
)
def test_bad_options(codes, models, kl, options, words):
    with pytest.raises(ValueError, match=words):
        udr([codes] * models, KL[:1] * kl, **options)


def test_bad_codes(codes):
    for other, kl, words in (
        (codes[:10], np.ones(3), r"codes\[1\] must be of the same 4000 images, got 10"),
        (codes, np.ones(2), r"kl\[1\] must have one value per code, 3, got 2"),
        (codes * np.nan, np.ones(3), r"codes\[1\] must be finite"),
        (codes, np.full(3, np.inf), r"kl\[1\] must be finite"),
    ):
        with pytest.raises(ValueError, match=words):
            udr([codes, other], [np.ones(3), kl])
