"""z-diff, or beta-VAE score: identifying the factor that pairs of images share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from pydisent._checks import check_counts, check_integer, check_one_of
from pydisent._extras import optional
from pydisent.metrics._active import ACTIVE_STD, activity
from pydisent.metrics._encode import CodeTable, Encoder, FactorGrid
from pydisent.metrics._result import MetricResult
from pydisent.metrics._sampling import (
    check_factor_dataset,
    check_varying,
    draw_sharing,
    image_pool,
)

Variant = Literal["higgins", "ramesh", "kumar", "kumar-squared-hinge"]
TRAIN_POINTS = {
    "higgins": 10_000,
    "ramesh": 320_000,
    "kumar": 10_000,
    "kumar-squared-hinge": 10_000,
}
# Ramesh et al. 2018, App. D: 10 000 updates on batches of 32 fresh points.
BATCH, STEP_SIZE, MOMENTUM = 32, 1e-2, 0.99
SVM_C = 0.01
SVM_PASSES = 100_000
SVM_LOSS = {"kumar": "hinge", "kumar-squared-hinge": "squared_hinge"}
CHUNK = 4096


def z_diff(
    encode: Encoder,
    dataset: FactorGrid,
    *,
    variant: Variant = "higgins",
    seed: int = 0,
    pairs: int = 64,
    train_points: int | None = None,
    test_points: int = 5_000,
    factors: Sequence[str] | None = None,
    max_images: int | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
) -> MetricResult:
    """Test accuracy of a linear classifier that identifies the factor shared by pairs of images.

    A point is the mean of abs(z_0 - z_1), (d,), over pairs whose images share the value of one
    factor and are otherwise independent; its label is that factor (Higgins et al. 2017; Ramesh
    et al. 2018, Alg. 4). Each distinct image drawn is encoded once.

    Parameters
    ----------
    encode : callable
        From images (N, C, H, W), float32 in [0, 1], to codes (N, d).
    dataset : FactorDataset or ObservedFactorDataset
        Images with their ground-truth factors.
    variant : {"higgins", "ramesh", "kumar", "kumar-squared-hinge"}
        ``higgins``: each pair has its own value of the shared factor; logistic regression.
        ``kumar`` (sec. 4): the same points; one-vs-rest linear SVM with C = 0.01 on the hinge loss.
        ``kumar-squared-hinge``: the same with the squared hinge loss, scikit-learn's default, which
        is much stricter: on entangled codes its score is far higher. ``ramesh`` (App. D, Alg. 4):
        all pairs of a point share one value, a factor named "shape" is never shared, and softmax
        regression takes one Nesterov step (1e-2, momentum 0.99) on each batch of 32 fresh points.
    seed : int
        Determines the result.
    pairs : int
        Pairs per point.
    train_points : int, optional
        Training points: 10 000 by default, or 320 000 for ``ramesh`` (10 000 updates).
    test_points : int
        Test points.
    factors : sequence of str, optional
        Names of the factors that may be shared; by default the variant's.
    max_images : int, optional
        Draw only from this many images, themselves drawn uniformly from the grid; by default, the
        definition, from all.
    batch_size : int, optional
        Images per call of ``encode``; see `encode_dataset`.
    device : torch.device, optional
        Device of the images passed to ``encode``; the CPU by default.

    Returns
    -------
    MetricResult
        Accuracy in [0, 1]; details: train accuracy, accuracy of each factor, images encoded, and
        ``active_codes``, with a ``notice`` if that is at most one.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, a factor has one value, or ``encode`` does not return
        finite (N, d) codes.
    """
    check_one_of("variant", variant, tuple(TRAIN_POINTS))
    check_integer("seed", seed, at_least=0)
    check_factor_dataset(dataset)
    train_points = TRAIN_POINTS[variant] if train_points is None else train_points
    _check_points(variant, pairs, train_points, test_points)
    choices = shared_factors(dataset, variant, factors)
    classifier = build_classifier(variant)
    pool = image_pool(dataset, max_images, seed)
    rng = np.random.default_rng(seed)
    label = rng.integers(0, len(choices), train_points + test_points)
    if len(set(label[:train_points])) < 2:
        raise ValueError(
            f"train_points must be enough to see two factors, got {train_points} (seed {seed})"
        )
    draws = draw_points(dataset, choices[label], pairs, variant == "ramesh", rng, pool)
    table = CodeTable(encode, dataset, draws, batch_size=batch_size, device=device)
    points = mean_differences(table, draws)
    classifier.fit(points[:train_points], label[:train_points])
    right = classifier.predict(points) == label
    test, tested = right[train_points:], label[train_points:]
    by_factor = (test[tested == c] for c in range(len(choices)))
    return MetricResult(
        float(test.mean()),
        {
            "variant": variant,
            "train_accuracy": float(right[:train_points].mean()),
            "factors": [dataset.factor_names[c] for c in choices],
            "accuracy_by_factor": [float(r.mean()) if r.size else None for r in by_factor],
            "pairs": pairs,
            "train_points": train_points,
            "test_points": test_points,
            "images_encoded": len(table),
            "images_drawn_from": len(dataset) if pool is None else len(pool),
            "seed": seed,
            **activity(table.codes, ACTIVE_STD),
        },
    )


def _check_points(variant: str, pairs: int, train_points: int, test_points: int) -> None:
    check_counts(pairs=pairs, train_points=train_points, test_points=test_points)
    if variant == "ramesh" and train_points % BATCH:
        raise ValueError(f"train_points must be a multiple of {BATCH}, got {train_points}")


def shared_factors(dataset: FactorGrid, variant: str, names: Sequence[str] | None) -> np.ndarray:
    """Return the positions of the factors that a point's pairs may share.

    Raises
    ------
    ValueError
        If there are fewer than two, or one is repeated, unknown, or has a single value.
    """
    known = dataset.factor_names
    if names is None:
        names = [name for name in known if variant != "ramesh" or name != "shape"]
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) != len(names) or len(names) < 2:
        raise ValueError(
            f"factors must be two or more different names among {known}, got {tuple(names)}"
        )
    positions = np.array([known.index(name) for name in names])
    check_varying(dataset, positions)
    return positions


def draw_points(
    dataset: FactorGrid,
    factor: np.ndarray,
    pairs: int,
    one_value: bool,
    rng: np.random.Generator,
    pool: np.ndarray | None = None,
) -> np.ndarray:
    """Draw each point's pairs, (n, pairs, 2) image numbers, sharing ``factor`` (n,).

    The shared value is the same for all pairs of a point (``one_value``; Ramesh Alg. 4), or drawn
    per pair (Higgins).
    """
    if one_value:
        return draw_sharing(dataset, factor, (pairs, 2), rng, pool)
    draws = draw_sharing(dataset, np.repeat(factor, pairs), (2,), rng, pool)
    return draws.reshape(len(factor), pairs, 2)


def mean_differences(table: CodeTable, draws: np.ndarray) -> np.ndarray:
    """Return the points, means of abs(z_0 - z_1) over their pairs: (n, d) float64."""
    parts = np.array_split(draws, -(-len(draws) // CHUNK))
    return np.concatenate(
        [
            np.abs(table[part[..., 0]] - table[part[..., 1]]).mean(1, dtype=np.float64)
            for part in parts
        ]
    )


def build_classifier(variant: str) -> Any:
    """Return the variant's linear classifier, with scikit-learn's ``fit`` and ``predict``."""
    if variant == "ramesh":
        return NesterovSoftmax()
    if variant in SVM_LOSS:
        with optional("the z-diff score"):
            from sklearn.svm import LinearSVC

        # For some codes the hinge's dual needs more of its cheap passes than scikit-learn's 1000.
        return LinearSVC(C=SVM_C, loss=SVM_LOSS[variant], max_iter=SVM_PASSES, random_state=0)
    with optional("the z-diff score"):
        from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000)


class NesterovSoftmax:
    """Softmax regression from zero weights, with one Nesterov step per batch, each used once.

    Ramesh et al. 2018, App. D. ``weight`` is (classes, d + 1), the bias last.
    """

    def fit(self, points: np.ndarray, label: np.ndarray) -> NesterovSoftmax:
        """Train on ``points`` (n, d) with ``label`` (n,) counted from 0, in the order given."""
        # Ten thousand tiny steps, in which autograd would cost far more than the arithmetic.
        rows, target = with_one(points), np.eye(int(label.max()) + 1)[label]
        self.weight = np.zeros((target.shape[1], rows.shape[1]))
        velocity = np.zeros_like(self.weight)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            logits = batch @ self.weight.T
            chance = np.exp(logits - logits.max(1, keepdims=True))
            chance /= chance.sum(1, keepdims=True)
            gradient = (chance - target[start : start + BATCH]).T @ batch / len(batch)
            velocity = MOMENTUM * velocity + gradient
            self.weight -= STEP_SIZE * (gradient + MOMENTUM * velocity)
        return self

    def predict(self, points: np.ndarray) -> np.ndarray:
        """Return the most likely class of each of ``points`` (n, d)."""
        return (with_one(points) @ self.weight.T).argmax(1)


def with_one(points: np.ndarray) -> np.ndarray:
    """Append a column of ones, (n, d) to (n, d + 1), for the bias."""
    return np.pad(points, ((0, 0), (0, 1)), constant_values=1.0)
