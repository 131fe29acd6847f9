"""The nets that judge images for TPL, PPL and FID."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydisent.metrics import FeatureNet, FixedFeatures, InceptionFeatures, perceptual_distance
from pydisent.metrics.perceptual import StageDistance

SEGMENTS, SPAN = 48, 4.0
# Keys of the details that TPL scores must share to be comparable.
TPL_SETTINGS = ("distance", "threshold", "segments", "span", "compat")


@dataclass(frozen=True)
class Perception:
    """The nets that judge images; without weights, the fixed random net.

    Attributes
    ----------
    vgg16, lpips : Path or None
        Weights of VGG16, for TPL and PPL, and the channel weights of LPIPS.
    inception : Path or None
        Weights of Inception-v3, for FID.
    threshold : float or None
        The length from which TPL considers a dimension active; required with VGG16.
    """

    vgg16: Path | None = None
    lpips: Path | None = None
    inception: Path | None = None
    threshold: float | None = None

    def check(self, names: Sequence[str]) -> None:
        """Read the files that these metrics need, and check the settings.

        Raises
        ------
        ValueError, FileNotFoundError
            If LPIPS weights are given without VGG16, or VGG16 without a threshold for TPL, or if a
            file is missing or invalid.
        """
        if self.lpips is not None and self.vgg16 is None:
            raise ValueError(f"lpips must be given with vgg16, which it weights, got {self.lpips}")
        if "tpl" in names:
            self.tpl_settings()
        if "ppl" in names:
            self.squared  # noqa: B018
        if "fid" in names:
            self.features  # noqa: B018

    def tpl_settings(self) -> dict[str, Any]:
        """Return the settings of TPL, as in the details of its score.

        Raises
        ------
        ValueError
            If there is no threshold, or it is out of range.
        """
        threshold = self.length.threshold if self.threshold is None else self.threshold
        if threshold is None:
            raise ValueError(
                f"threshold must be given for TPL by {self.length.name}; published with LPIPS of "
                "VGG16: 0.3 for CelebA, 0.5 for FFHQ, 0.01 for VAEs on dSprites"
            )
        if not 0 <= threshold < float("inf"):
            raise ValueError(f"threshold must be finite and >= 0, got {threshold}")
        values = (self.length.name, float(threshold), SEGMENTS, SPAN, None)
        return dict(zip(TPL_SETTINGS, values))

    @cached_property
    def length(self) -> StageDistance:
        """Return TPL's distance: LPIPS as published if VGG16 is given, else the fixed net's."""
        if self.vgg16 is None:
            return perceptual_distance("fixed")
        return perceptual_distance("vgg16", weights=self.vgg16, lpips=self.lpips)

    @cached_property
    def squared(self) -> StageDistance:
        """Return PPL's squared distance."""
        return self.length if self.length.squared else perceptual_distance("fixed", squared=True)

    @cached_property
    def features(self) -> FeatureNet:
        """Return FID's feature net."""
        return FixedFeatures() if self.inception is None else InceptionFeatures(self.inception)
