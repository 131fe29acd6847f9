"""Interfaces of perceptual distances and feature nets, and distances between net stages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

MIN_SIZE = 8
# Tolerated excess over [0, 1], for rounding in resizing or bfloat16.
BEYOND = 0.01


class FeatureNet(ABC):
    """A net from images to feature vectors, as for FID.

    Attributes
    ----------
    name : str
        Printed with every score from the net.
    notice : str or None
        A caveat for readers of such scores.
    """

    name: str
    notice: str | None = None

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Return one vector per image, (N, F), for images (N, 1 or 3, H, W) in [0, 1]."""


class PerceptualDistance(ABC):
    """A perceptual distance between images.

    Attributes
    ----------
    name : str
        Printed with every score from the distance.
    notice : str or None
        A caveat for readers of such scores.
    squared : bool
        Whether it grows with the square of a small change, as in LPIPS and as PPL requires; else it
        is a length, which adds up along a path.
    threshold : float or None
        The traversal length from which TPL counts a dimension as active, if none is given.
    """

    name: str
    notice: str | None = None
    squared: bool
    threshold: float | None = None

    @abstractmethod
    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances (N,) between images (N, 1 or 3, H, W) in [0, 1], pair by pair."""

    def steps(self, images: Tensor) -> Tensor:
        """Return the distances (N − 1,) from each image (N, C, H, W) to the next."""
        return self.distance(images[:-1].clone(), images[1:].clone())


class StageDistance(PerceptualDistance, FeatureNet):
    """Distance between a convolutional net's activations, stage by stage.

    At each location of a stage, activations are scaled to unit norm over the channels. The squared
    form is LPIPS's: squared differences, weighted over channels, averaged over locations and summed
    over stages. It suits PPL, whose steps have one size, but is not a length: the sum over a path
    of n steps falls as 1/n, and to first order the sum over all latent axes is a trace, which
    rotations leave unchanged. The unsquared form takes the root at each location before averaging,
    so that lengths add up along a path; where two factors change different locations, a step along
    both is as long as the two in sequence (|cos α| + |sin α| >= 1), which is what makes the axes of
    a disentangled code short.

    Parameters
    ----------
    squared : bool
        Whether to use the squared form.
    """

    #: Channel weights of each stage, (C,), or None for ones.
    channel_weights: Sequence[Tensor | None]

    def __init__(self, squared: bool) -> None:
        if not isinstance(squared, bool):
            raise TypeError(f"squared must be True or False, got {squared!r}")
        self.squared = squared

    @abstractmethod
    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the activations of each stage, (N, C, h, w), for images (N, 1 or 3, H, W)."""

    @abstractmethod
    def normalised(self, activations: Tensor) -> Tensor:
        """Return activations (N, C, h, w) scaled to unit norm over the channels."""

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances (N,) between images (N, 1 or 3, H, W) in [0, 1], pair by pair."""
        for name, images in (("first", first), ("second", second)):
            check_images(images, name)
        if first.shape != second.shape:
            raise ValueError(
                f"second must be images of the shape of first, {tuple(first.shape)}, got "
                f"{tuple(second.shape)}"
            )
        return self._between(self._embed(first), self._embed(second))

    def steps(self, images: Tensor) -> Tensor:
        """Return the distances (N − 1,) from each image (N, C, H, W) to the next."""
        embedded = self._embed(images)
        return self._between([e[:-1] for e in embedded], [e[1:] for e in embedded])

    def features(self, images: Tensor) -> Tensor:
        """Return the mean activation of each channel of each stage, (N, F)."""
        return torch.cat([stage.mean((2, 3)) for stage in self.stages(images)], 1)

    def _embed(self, images: Tensor) -> list[Tensor]:
        return [self.normalised(stage) for stage in self.stages(images)]

    def _between(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        total = first[0].new_zeros(len(first[0]))
        for a, b, weights in zip(first, second, self.channel_weights):
            squares = (a - b).square_()
            if weights is not None:
                squares = squares * weights.to(squares)[:, None, None]
            local = squares.sum(1)
            total += (local if self.squared else local.sqrt_()).mean((1, 2))
        return total


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable TF32, cuDNN's default for float32 convolutions.

    Its rounding error, 1e-3, exceeds the differences of neighbouring images in paths and PPL.
    """
    settings = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, precision in zip(settings, before):
            setting.fp32_precision = precision


@contextmanager
def in_own_precision() -> Iterator[None]:
    """Disable TF32 and autocast: the caller's precision must not alter a published net's scores."""
    with full_precision(), ExitStack() as stack:
        for device in ("cpu", "cuda", "mps", "xpu"):
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def check_images(images: Tensor, name: str = "images", smallest: int = MIN_SIZE) -> Tensor:
    """Return images with three channels, in float32, or float64 if given so.

    Raises
    ------
    TypeError, ValueError
        If ``images`` is not a real Tensor (N, 1 or 3, H, W) with sides of at least ``smallest``, or
        its values are not in [0, 1].
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {type(images).__name__}")
    if not images.is_floating_point():
        raise TypeError(f"{name} must be floating point, in [0, 1], got {images.dtype}")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or min(images.shape[2:]) < smallest:
        raise ValueError(
            f"{name} must be (N, 1 or 3, H, W), of at least {smallest} x {smallest} pixels, got "
            f"{tuple(images.shape)}"
        )
    if images.numel():
        low, high = (float(end) for end in images.detach().aminmax())
        if low < -BEYOND or high > 1 + BEYOND:
            raise ValueError(f"{name} must be in [0, 1], got values from {low:.4g} to {high:.4g}")
    wide = images if images.dtype == torch.float64 else images.float()
    return wide.expand(-1, 3, -1, -1)
