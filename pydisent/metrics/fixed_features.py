"""A feature net that needs no files: fixed random orthonormal filters."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pydisent.metrics.perceptual import StageDistance, check_images, in_own_precision

WIDTHS = (16, 32, 64, 64)
SEED = 20210620
LEAK = 0.2
BIAS = 0.1
# The activation norm at which a response is halfway (in squares) to saturation; a stage's
# activation norms range from 0.3 (grey) to 5 (white).
SATURATION = 2.0
# Minimum traversal length of an active dimension. Measured with VAEs and GANs on sprites (32 x 32):
# the 32 dimensions that a VAE does not use (KL below 0.01 nats) have 0.02 to 0.06, all others at
# least 0.30; this is the geometric mean of the gap's ends.
ACTIVE = 0.13


class FixedFeatures(StageDistance):
    """The net "fixed-features-1": four stages of fixed random filters, for use without weights.

    Each stage convolves with 3 × 3 filters (16, 32, 64 and 64, replicated borders), adds a small
    bias and applies a leaky ReLU (0.2); between stages 2 × 2 pixels are averaged. A stage's filters
    are orthonormal, generated from NumPy's frozen legacy random stream, and so identical on every
    machine up to rounding. Activations f at a location become f / sqrt(‖f‖² + 4): near unit norm
    where the signal is strong, and proportional to f, not amplified noise, where it is weak.

    Its scores are comparable only with each other, never with published LPIPS, TPL, PPL or FID.

    Parameters
    ----------
    squared : bool
        The squared form, "fixed-features-1-squared", which PPL needs; by default the distance is
        a length (see `StageDistance`), and TPL's threshold is 0.13.
    """

    notice = (
        "figures by fixed-features-1, a fixed random net, compare with each other alone, not with "
        "published TPL, PPL, FID or LPIPS"
    )
    channel_weights = (None,) * len(WIDTHS)

    def __init__(self, squared: bool = False) -> None:
        super().__init__(squared)
        self.name = "fixed-features-1" + ("-squared" if squared else "")
        self.threshold = None if squared else ACTIVE

    @in_own_precision()
    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the activations of the four stages, (N, C, h, w), for images of any size >= 8."""
        x = check_images(images) * 2 - 1
        activations: list[Tensor] = []
        for weight, bias in _filters():
            if activations:
                x = F.avg_pool2d(x, 2, ceil_mode=True)
            padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
            x = F.leaky_relu(F.conv2d(padded, weight.to(x), bias.to(x)), LEAK)
            activations.append(x)
        return activations

    def features(self, images: Tensor) -> Tensor:
        """Return each channel's mean and standard deviation over locations, (N, 352)."""
        statistics = [
            statistic
            for stage in self.stages(images)
            for statistic in (stage.mean((2, 3)), stage.std((2, 3), correction=0))
        ]
        return torch.cat(statistics, 1)

    def normalised(self, activations: Tensor) -> Tensor:
        """Return f / sqrt(‖f‖² + 4) for the activations f at each location."""
        energy = activations.square().sum(1, keepdim=True)
        return activations * energy.add_(SATURATION**2).rsqrt_()


@cache
def _filters() -> list[tuple[Tensor, Tensor]]:
    """Return each stage's orthonormal filters (out, in, 3, 3) and its bias (out,), float64."""
    stream = np.random.RandomState(SEED)  # this stream is frozen in NumPy
    filters, channels = [], 3
    for width in WIDTHS:
        drawn = stream.standard_normal((9 * channels, width))
        q, r = np.linalg.qr(drawn)
        # A positive diagonal of R makes the factorisation unique, independent of LAPACK's signs.
        rows = (q * np.sign(np.diag(r))).T.reshape(width, channels, 3, 3)
        bias = BIAS * stream.standard_normal(width)
        filters.append((torch.from_numpy(np.ascontiguousarray(rows)), torch.from_numpy(bias)))
        channels = width
    return filters
