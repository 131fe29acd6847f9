"""Inception-v3's pooled features, with weights from a file, for FID."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pydisent.metrics._weights import CastWeights, read_weights, take_weights
from pydisent.metrics.perceptual import FeatureNet, check_images, in_own_precision

SIZE = 299
NORM_EPS = 1e-3
# The two sets of weights differ in their number of classes.
CLASSES = {1000: "torchvision", 1008: "fid"}


@dataclass(frozen=True)
class _Conv:
    """A convolution, batch norm and ReLU, with a padded input unless stated otherwise."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padded: bool = True

    @property
    def padding(self) -> tuple[int, int]:
        return (self.kernel[0] // 2, self.kernel[1] // 2) if self.padded else (0, 0)


# Steps of a branch: a convolution, several in parallel, or a pooling by name.
_Step = _Conv | tuple[_Conv, ...] | str
_Block = tuple[tuple[_Step, ...], ...]


def _down(name: str, width: int) -> _Conv:
    return _Conv(name, width, (3, 3), stride=2, padded=False)


def _block_a(pooled: int) -> _Block:
    return (
        (_Conv("branch1x1", 64),),
        (_Conv("branch5x5_1", 48), _Conv("branch5x5_2", 64, (5, 5))),
        (
            _Conv("branch3x3dbl_1", 64),
            _Conv("branch3x3dbl_2", 96, (3, 3)),
            _Conv("branch3x3dbl_3", 96, (3, 3)),
        ),
        ("average", _Conv("branch_pool", pooled)),
    )


def _block_b() -> _Block:
    double = (
        _Conv("branch3x3dbl_1", 64),
        _Conv("branch3x3dbl_2", 96, (3, 3)),
        _down("branch3x3dbl_3", 96),
    )
    return ((_down("branch3x3", 384),), double, ("halve",))


def _block_c(inner: int) -> _Block:
    flat, tall = (1, 7), (7, 1)
    return (
        (_Conv("branch1x1", 192),),
        (
            _Conv("branch7x7_1", inner),
            _Conv("branch7x7_2", inner, flat),
            _Conv("branch7x7_3", 192, tall),
        ),
        (
            _Conv("branch7x7dbl_1", inner),
            _Conv("branch7x7dbl_2", inner, tall),
            _Conv("branch7x7dbl_3", inner, flat),
            _Conv("branch7x7dbl_4", inner, tall),
            _Conv("branch7x7dbl_5", 192, flat),
        ),
        ("average", _Conv("branch_pool", 192)),
    )


def _block_d() -> _Block:
    long = (
        _Conv("branch7x7x3_1", 192),
        _Conv("branch7x7x3_2", 192, (1, 7)),
        _Conv("branch7x7x3_3", 192, (7, 1)),
        _down("branch7x7x3_4", 192),
    )
    return ((_Conv("branch3x3_1", 192), _down("branch3x3_2", 320)), long, ("halve",))


def _block_e(pooling: str) -> _Block:
    def split(name: str) -> tuple[_Conv, ...]:
        return _Conv(f"{name}a", 384, (1, 3)), _Conv(f"{name}b", 384, (3, 1))

    return (
        (_Conv("branch1x1", 320),),
        (_Conv("branch3x3_1", 384), split("branch3x3_2")),
        (
            _Conv("branch3x3dbl_1", 448),
            _Conv("branch3x3dbl_2", 384, (3, 3)),
            split("branch3x3dbl_3"),
        ),
        (pooling, _Conv("branch_pool", 192)),
    )


def _network(last_pooling: str) -> tuple[tuple[str, _Block], ...]:
    """Return the blocks in order; a block's name prefixes those of its convolutions."""
    stem: tuple[_Step, ...] = (
        _down("Conv2d_1a_3x3", 32),
        _Conv("Conv2d_2a_3x3", 32, (3, 3), padded=False),
        _Conv("Conv2d_2b_3x3", 64, (3, 3)),
        "halve",
        _Conv("Conv2d_3b_1x1", 80),
        _Conv("Conv2d_4a_3x3", 192, (3, 3), padded=False),
        "halve",
    )
    mixed = {
        "5b": _block_a(32),
        "5c": _block_a(64),
        "5d": _block_a(64),
        "6a": _block_b(),
        "6b": _block_c(128),
        "6c": _block_c(160),
        "6d": _block_c(160),
        "6e": _block_c(192),
        "7a": _block_d(),
        "7b": _block_e("average"),
        "7c": _block_e(last_pooling),
    }
    return (("", (stem,)), *((f"Mixed_{name}.", block) for name, block in mixed.items()))


class InceptionFeatures(FeatureNet):
    """The 2048 pooled features of Inception-v3, with weights from a file.

    Images are resized to 299 × 299 (bilinear) and scaled to [−1, 1]. Two sets of weights are in
    use: those of the original FID as converted by pytorch-fid ("inception-v3-fid", 1008 classes;
    its average pooling excludes the padding, and its last block uses max pooling), and
    torchvision's ("inception-v3-torchvision", 1000 classes), which gives different scores.

    Parameters
    ----------
    weights : path
        A state dict with torchvision's names (.pth, .pt or .safetensors); classifiers are ignored.
    variant : {"fid", "torchvision"}, optional
        By default determined by the number of classes of fc.weight.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing or any tensor invalid, or ``variant`` is unknown, or omitted where it
        cannot be determined.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        variant: Literal["fid", "torchvision"] | None = None,
    ) -> None:
        if variant not in (None, "fid", "torchvision"):
            raise ValueError(f"variant must be fid, torchvision or None, got {variant!r}")
        found = read_weights(weights, "inception")
        chosen = variant or _variant(found, f"inception {weights}")
        self.name = f"inception-v3-{chosen}"
        if chosen != "fid":
            self.notice = f"{self.name} is not the net of published FID: figures are not comparable"
        self._blocks = _network("maximum" if chosen == "fid" else "average")
        self._count_padding = chosen != "fid"
        folded = _folded(found, self._blocks, f"inception {weights}")
        self._weights = CastWeights(folded)

    @in_own_precision()
    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features (N, 2048) for images (N, 1 or 3, H, W) in [0, 1]."""
        x = check_images(images, smallest=1)
        x = F.interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False) * 2 - 1
        weights = self._weights.like(x)
        for prefix, block in self._blocks:
            x = torch.cat([self._branch(x, branch, prefix, weights) for branch in block], 1)
        return x.mean((2, 3))

    def _branch(
        self, x: Tensor, steps: tuple[_Step, ...], prefix: str, weights: dict[str, Tensor]
    ) -> Tensor:
        for step in steps:
            if isinstance(step, str):
                x = self._pool(x, step)
            else:
                side = step if isinstance(step, tuple) else (step,)
                x = torch.cat([_convolve(x, conv, prefix, weights) for conv in side], 1)
        return x

    def _pool(self, x: Tensor, name: str) -> Tensor:
        if name == "average":
            return F.avg_pool2d(x, 3, 1, 1, count_include_pad=self._count_padding)
        return F.max_pool2d(x, 3, 1, 1) if name == "maximum" else F.max_pool2d(x, 3, 2)


def _convolve(x: Tensor, conv: _Conv, prefix: str, weights: dict[str, Tensor]) -> Tensor:
    name = prefix + conv.name
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return F.relu_(F.conv2d(x, weight, bias, conv.stride, conv.padding))


def _convolutions(blocks: tuple[tuple[str, _Block], ...]) -> Iterator[tuple[str, _Conv, int]]:
    """Yield each convolution's full name, itself and its number of input channels."""
    channels = 3
    for prefix, block in blocks:
        widths = []
        for branch in block:
            width = channels
            for step in branch:
                if isinstance(step, str):
                    continue
                side = step if isinstance(step, tuple) else (step,)
                yield from ((prefix + conv.name, conv, width) for conv in side)
                width = sum(conv.width for conv in side)
            widths.append(width)
        channels = sum(widths)


def _variant(found: dict[str, Tensor], what: str) -> str:
    if "fc.weight" not in found:
        raise ValueError(f"{what} lacks fc.weight, which tells fid from torchvision: give variant")
    classes = len(found["fc.weight"]) if found["fc.weight"].ndim else 0
    if classes not in CLASSES:
        raise ValueError(f"{what}: fc.weight must have 1000 or 1008 classes, got {classes}")
    return CLASSES[classes]


def _ignored(name: str) -> bool:
    return name.startswith(("fc.", "AuxLogits.")) or name.endswith(".num_batches_tracked")


def _folded(
    found: dict[str, Tensor], blocks: tuple[tuple[str, _Block], ...], what: str
) -> dict[str, Tensor]:
    """Return each convolution's weight and bias with its batch norm folded in."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, conv, channels in _convolutions(blocks):
        shapes[f"{name}.conv.weight"] = (conv.width, channels, *conv.kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{part}"] = (conv.width,)
    taken = take_weights(found, shapes, what, _ignored)
    folded = {}
    for name, _, _ in _convolutions(blocks):
        weight, bias, mean, variance = (
            taken[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        if (variance < 0).any():
            raise ValueError(f"{what}: {name}.bn.running_var must be at least 0")
        gain = weight / (variance + NORM_EPS).sqrt()
        folded[f"{name}.weight"] = taken[f"{name}.conv.weight"] * gain[:, None, None, None]
        folded[f"{name}.bias"] = bias - mean * gain
    return folded
