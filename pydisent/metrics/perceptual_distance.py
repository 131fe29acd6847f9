"""Perceptual distances by name."""

from __future__ import annotations

import os
from typing import Literal

from pydisent._checks import check_one_of
from pydisent.metrics.fixed_features import FixedFeatures
from pydisent.metrics.perceptual import StageDistance
from pydisent.metrics.vgg16 import Vgg16Distance


def perceptual_distance(
    kind: Literal["fixed", "vgg16"] = "fixed",
    *,
    squared: bool | None = None,
    weights: str | os.PathLike[str] | None = None,
    lpips: str | os.PathLike[str] | None = None,
) -> StageDistance:
    """Return a perceptual distance that is also a feature net.

    Parameters
    ----------
    kind : {"fixed", "vgg16"}
        `FixedFeatures`, which needs no files, or `Vgg16Distance`.
    squared : bool, optional
        The squared form of LPIPS, or a length; by default a length for the fixed net, and the
        published squared form for VGG16.
    weights, lpips : path, optional
        VGG16's weights, and LPIPS's channel weights.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        If ``kind`` is unknown, a file is given that it does not read or omitted that it needs, or a
        file is missing or invalid.
    """
    if kind == "fixed":
        if weights is not None or lpips is not None:
            raise ValueError("weights and lpips must be None for kind 'fixed', which reads no file")
        return FixedFeatures(False if squared is None else squared)
    check_one_of("kind", kind, ("fixed", "vgg16"))
    if weights is None:
        raise ValueError("weights must be given for kind 'vgg16': the file of its weights")
    return Vgg16Distance(weights, lpips, squared=True if squared is None else squared)
