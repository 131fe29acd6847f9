"""FID: Fréchet distance between generated and real images in feature space."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pydisent._checks import check, check_tensor
from pydisent.metrics._decoded import PLACES
from pydisent.metrics._result import MetricResult
from pydisent.metrics.fixed_features import FixedFeatures
from pydisent.metrics.perceptual import FeatureNet

BATCH = 64

Statistics = tuple[int, Tensor, Tensor]


def fid(
    real: Tensor | Iterable[Tensor],
    fake: Tensor | Iterable[Tensor],
    *,
    features: FeatureNet | None = None,
) -> MetricResult:
    """Fréchet distance between the features of real and generated images (Heusel et al. 2017).

    Both sets of features are treated as Gaussian; see `frechet_distance`. The score has a positive
    bias that decreases with the number of images and increases with the number of features: compare
    only scores from the same net and equally many images.

    Parameters
    ----------
    real, fake : Tensor, or iterable of Tensor
        Images (N, 1 or 3, H, W) in [0, 1], or batches of such; each batch is read once, at most 64
        images at a time.
    features : FeatureNet, optional
        By default `FixedFeatures`; published scores use `InceptionFeatures` with the weights "fid".

    Returns
    -------
    MetricResult
        Score, >= 0; details: the net's name, the numbers of ``real`` and ``fake`` images and of
        ``features``, and ``singular``, whether there were too few images for the number of
        features.

    Warns
    -----
    UserWarning
        If there are no more images than features: a covariance is singular and the bias large.

    Raises
    ------
    ValueError, TypeError
        If either set has fewer than two images, images are not as above, or features are not (N, F)
        and finite.
    """
    net = FixedFeatures() if features is None else features
    if not isinstance(net, FeatureNet):
        raise TypeError(f"features must be a FeatureNet, got {type(net).__name__}")
    count, mean, covariance = _statistics(real, net, "real")
    made, made_mean, made_covariance = _statistics(fake, net, "fake")
    singular = min(count, made) <= len(mean)
    if singular:
        warnings.warn(
            f"FID of {count} real and {made} made images by {len(mean)} features: a covariance is "
            "singular and the figure biased upwards; give more images than features, many more at "
            "best",
            stacklevel=2,
        )
    return MetricResult(
        frechet_distance(mean, covariance, made_mean, made_covariance),
        {
            "distance": net.name,
            "notice": net.notice,
            "real": count,
            "fake": made,
            "features": len(mean),
            "singular": singular,
        },
    )


def frechet_distance(
    mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor
) -> float:
    """Squared Fréchet (2-Wasserstein) distance between two Gaussians.

    ‖μ − ν‖² + tr Σ + tr Λ − 2 ‖Σ^½ Λ^½‖_*, where the last term is tr (Σ^½ Λ Σ^½)^½ as a sum of
    singular values: symmetric roots in float64, with no complex square root to correct, and exact
    up to rounding for singular covariances.

    Parameters
    ----------
    mean, other_mean : Tensor
        (F,) μ and ν.
    covariance, other_covariance : Tensor
        (F, F) Σ and Λ, symmetric and positive semidefinite.

    Raises
    ------
    ValueError, TypeError
        If an argument is not a tensor of real numbers, the shapes do not match, a number is not
        finite, or a covariance is not symmetric and positive semidefinite, up to rounding.
    """
    check_tensor("mean", mean)
    size = mean.numel()
    given = {
        "mean": (mean, (size,)),
        "covariance": (covariance, (size, size)),
        "other_mean": (other_mean, (size,)),
        "other_covariance": (other_covariance, (size, size)),
    }
    for name, (tensor, shape) in given.items():
        check_tensor(name, tensor)
        if tensor.is_complex():
            raise TypeError(f"{name} must be real, got {tensor.dtype}")
        if not size or tuple(tensor.shape) != shape:
            wanted = shape if size else "(F,), F >= 1"
            raise ValueError(f"{name} must be {wanted}, got {tuple(tensor.shape)}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    first, second = covariance.double(), other_covariance.double()
    root, other = _root(covariance, "covariance"), _root(other_covariance, "other_covariance")
    overlap = torch.linalg.svdvals(root @ other).sum()
    gap = (mean.double() - other_mean.double()).square().sum()
    return max(0.0, float(gap + first.trace() + second.trace() - 2 * overlap))


def _root(given: Tensor, name: str) -> Tensor:
    """Return the symmetric square root; eigenvalues at rounding level count as zero."""
    covariance = given.double()
    values, vectors = torch.linalg.eigh(covariance)
    largest = len(values) * values.abs().max()
    # Whatever its dtype, it may come from float32 statistics.
    half = given.dtype in (torch.float16, torch.bfloat16)
    rounding = torch.finfo(given.dtype if half else torch.float32).eps * largest
    skew, lowest = (covariance - covariance.T).abs().max(), values[0]
    check(bool(skew <= rounding), name, "symmetric", f"entries that differ by {skew:.3g}")
    check(bool(lowest >= -rounding), name, "positive semidefinite", f"an eigenvalue {lowest:.3g}")
    least = torch.finfo(values.dtype).eps * largest
    return (vectors * torch.where(values > least, values, 0).sqrt()) @ vectors.T


def _statistics(images: Tensor | Iterable[Tensor], net: FeatureNet, name: str) -> Statistics:
    """Return the number of images, and their features' mean and covariance in float64."""
    total: Statistics | None = None
    for part in _parts(images, name):
        with torch.no_grad():
            found = _checked(net.features(part.clone()), len(part), net.name).cpu().double()
        mean = found.mean(0)
        centred = found - mean
        own = (len(found), mean, centred.T @ centred)
        total = own if total is None else _merged(total, own)
    if total is None or total[0] < 2:
        raise ValueError(f"{name} must be at least 2 images, got {total[0] if total else 0}")
    return total[0], total[1], total[2] / (total[0] - 1)


def _parts(images: Tensor | Iterable[Tensor], name: str) -> Iterator[Tensor]:
    """Yield the images in chunks, smaller ones if the images are large."""
    if not isinstance(images, Tensor | Iterable):
        raise TypeError(f"{name} must be a Tensor or Tensors, got {type(images).__name__}")
    for batch in [images] if isinstance(images, Tensor) else images:
        if not isinstance(batch, Tensor):
            raise TypeError(f"{name} must be a Tensor or Tensors, got a {type(batch).__name__}")
        if batch.ndim != 4:
            raise ValueError(f"{name} must be (N, 1 or 3, H, W), got {tuple(batch.shape)}")
        size = max(1, min(BATCH, PLACES // max(1, batch.shape[2] * batch.shape[3])))
        yield from (part for part in batch.split(size) if len(part))


def _merged(one: Statistics, other: Statistics) -> Statistics:
    """Merge counts, means and scatters without differences of large sums."""
    count = one[0] + other[0]
    gap = other[1] - one[1]
    mean = one[1] + gap * (other[0] / count)
    return count, mean, one[2] + other[2] + torch.outer(gap, gap) * (one[0] * other[0] / count)


def _checked(found: Tensor, count: int, name: str) -> Tensor:
    if found.ndim != 2 or len(found) != count or not found.shape[1]:
        raise ValueError(f"features of {name} must be ({count}, F), got {tuple(found.shape)}")
    if not found.isfinite().all():
        raise ValueError(f"features of {name} must be finite, got NaN or infinity")
    return found
