"""VGG16's perceptual distance, LPIPS, with weights from files."""

from __future__ import annotations

import os

import torch
from torch import Tensor
from torch.nn import functional as F

from pydisent._checks import check_counts
from pydisent.metrics._weights import CastWeights, read_weights, take_weights
from pydisent.metrics.perceptual import StageDistance, check_images, in_own_precision

# Channels of each stage's convolutions, and the authors' largest image side.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
LARGEST = 256
# LPIPS's input scaling, for images in [-1, 1].
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
LEAST_NORM = 1e-10


class Vgg16Distance(StageDistance):
    """LPIPS on VGG16 (Zhang et al. 2018), with weights from files.

    Activations after the last ReLU of each of the five stages are scaled to unit norm over the
    channels; see `StageDistance`. Images larger than 256 are first averaged over whole blocks of
    pixels, as by the authors of StyleGAN and PS-SC; PS-SC passes smaller ones unchanged.

    Parameters
    ----------
    weights : path
        VGG16's convolutions with torchvision's names, features.0.weight to features.28.bias (.pth,
        .pt or .safetensors); the classifier is ignored.
    lpips : path, optional
        LPIPS's channel weights, lin0.model.1.weight to lin4.model.1.weight; the name is then
        "vgg16-lpips". Without them, weights are ones and the name is "vgg16-unweighted".
    squared : bool
        LPIPS's form, as published; False gives a length, named "…-length".
    upscale : int
        Images with a smaller side are enlarged to this side (bilinear); at least 16, which leaves
        one location at the last stage. The Hessian penalty's PPL uses 256.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        If a file is missing, any tensor invalid, or an option out of range.
    """

    threshold = None

    def __init__(
        self,
        weights: str | os.PathLike[str],
        lpips: str | os.PathLike[str] | None = None,
        *,
        squared: bool = True,
        upscale: int = 32,
    ) -> None:
        super().__init__(squared)
        check_counts(upscale=upscale)
        if upscale < 16:
            raise ValueError(f"upscale must be at least 16, which VGG16 needs, got {upscale}")
        self._upscale = upscale
        self.name = "vgg16-unweighted" if lpips is None else "vgg16-lpips"
        self.name += "" if squared else "-length"
        self.notice = None if lpips and squared else f"{self.name} is not LPIPS as published"
        self._weights = CastWeights(_read_convolutions(weights))
        self.channel_weights = (None,) * len(STAGES) if lpips is None else _read_lpips(lpips)

    @in_own_precision()
    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the activations of the five stages, (N, C, h, w)."""
        x = self._scaled(check_images(images))
        weights = self._weights.like(x)
        activations: list[Tensor] = []
        number = 0
        for widths in STAGES:
            if activations:
                x = F.max_pool2d(x, 2)
                number += 1
            for _ in widths:
                name = f"features.{number}."
                x = F.conv2d(x, weights[name + "weight"], weights[name + "bias"], padding=1)
                x = F.relu_(x)
                number += 2
            activations.append(x)
        return activations

    def normalised(self, activations: Tensor) -> Tensor:
        """Return f / (‖f‖ + 1e-10) for the activations f at each location, as in LPIPS."""
        return activations / (activations.square().sum(1, keepdim=True).sqrt_() + LEAST_NORM)

    def _scaled(self, images: Tensor) -> Tensor:
        side = min(images.shape[2:])
        if side < self._upscale:
            size = [round(s * self._upscale / side) for s in images.shape[2:]]
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        elif (block := side // LARGEST) > 1:
            images = F.avg_pool2d(images, block)
        shift, scale = (images.new_tensor(v)[:, None, None] for v in (SHIFT, SCALE))
        return (2 * images - 1 - shift) / scale


def _read_convolutions(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {}
    number, channels = 0, 3
    for widths in STAGES:
        for width in widths:
            shapes[f"features.{number}.weight"] = (width, channels, 3, 3)
            shapes[f"features.{number}.bias"] = (width,)
            number, channels = number + 2, width
        number += 1
    found = read_weights(path, "vgg16")
    return take_weights(found, shapes, f"vgg16 {path}", lambda name: name.startswith("classifier."))


def _read_lpips(path: str | os.PathLike[str]) -> tuple[Tensor, ...]:
    shapes = {f"lin{k}.model.1.weight": (1, w[-1], 1, 1) for k, w in enumerate(STAGES)}
    found = take_weights(read_weights(path, "lpips"), shapes, f"lpips {path}")
    for name, tensor in found.items():
        if (tensor < 0).any():
            raise ValueError(f"lpips {path}: {name} must be at least 0, got {float(tensor.min())}")
    return tuple(torch.flatten(tensor) for tensor in found.values())
