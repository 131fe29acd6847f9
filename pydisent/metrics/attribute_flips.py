"""Attribute flips: whether flipping a code unit flips its attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check_counts
from pydisent.metrics._decoded import Decoder, decode_checked
from pydisent.metrics._edited import (
    Classify,
    Device,
    Images,
    check_columns,
    check_image_batch,
    encode_images,
    image_shape,
    verdicts_on_reconstructions,
)
from pydisent.metrics._encode import Encoder
from pydisent.metrics._result import MetricResult
from pydisent.metrics.perceptual import full_precision

ALPHAS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)


def attribute_flips(
    encode: Encoder,
    decode: Decoder,
    images: Images,
    classify_attributes: Classify,
    *,
    factors: Sequence[int],
    alpha: float | None = None,
    validation: Images | None = None,
    alphas: Sequence[float] = ALPHAS,
    batch_size: int = 256,
    device: Device = None,
) -> MetricResult:
    """Fraction of successful attribute flips (Lezama 2019, section 4.3, Table 2).

    In the code of each image, one factor y_i at a time becomes −alpha sign(y_i), with sign(0) = 1,
    and the rest is unchanged. The flip succeeds if attribute i of the decoded image agrees with the
    new y_i: present if and only if that is positive.

    Parameters
    ----------
    encode : callable
        From images (N, C, H, W) to codes (N, d).
    decode : callable
        From codes (N, d) to images (N, C, H, W).
    images : Tensor or ImageDataset
        (N, C, H, W) in [0, 1]; a data set's images are read on demand, a batch at a time.
    classify_attributes : callable
        From images (N, C, H, W) to logits (N, A): an attribute is present if its logit is above 0.
        For a net that returns probabilities, subtract 0.5.
    factors : sequence of int
        (A,) the code column that is each attribute's factor.
    alpha : float, optional
        Multiplier, > 0; 40 in the paper. None chooses it on ``validation``.
    validation : Tensor or ImageDataset, optional
        (M, C, H, W) images on which ``alphas`` are tried; the smallest of the best is used for all
        attributes. Required if ``alpha`` is None, and not accepted otherwise.
    alphas : sequence of float
        The multipliers to try.
    batch_size : int
        Images per call.
    device : torch.device, optional
        Device of the images passed to ``encode`` and the codes passed to ``decode``; the CPU by
        default.

    Returns
    -------
    MetricResult
        Score in [0, 1], the mean over images and attributes. Details: the score ``by_attribute``
        (A,); ``changed`` (A,), the fraction of flips after which the predicted attribute differs
        from that of the reconstruction; ``others_kept``, the fraction of other attributes whose
        prediction is unchanged (None if there are none), and ``others_kept_by_flip`` (A,) by the
        flipped attribute; ``agreement`` (A,), the fraction of reconstructions that already agree
        with sign(y_i); ``alpha``; ``validation_scores``, [alpha, score] of those tried, or None;
        and ``reconstruction_mse`` per pixel.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type, shape or range, there are no images, or a callable does
        not return what is described.
    """
    check_counts(batch_size=batch_size)
    columns = check_columns(factors)
    check_image_batch(images)
    tried = _checked_alphas(alpha, validation, alphas, images)
    where = device if device is not None else "cpu"

    def prepared(batch: Images) -> _Flips:
        codes = encode_images(encode, batch, columns, batch_size, where)
        found, error = verdicts_on_reconstructions(
            decode,
            codes,
            batch,
            lambda made: predicted_attributes(classify_attributes, made, len(columns)),
            batch_size,
        )
        y = torch.from_numpy(columns)
        return _Flips(decode, classify_attributes, codes, y, found, error, batch_size)

    scores = None
    if validation is not None:
        flips = prepared(validation)
        scores = [[a, float(flips.rates(a)["by_attribute"].mean())] for a in tried]
        tried = [max(scores, key=lambda entry: (entry[1], -entry[0]))[0]]
    flips = prepared(images)
    rates = flips.rates(tried[0])
    return MetricResult(float(rates["by_attribute"].mean()), _details(flips, rates, tried, scores))


def predicted_attributes(classify: Classify, images: Tensor, count: int) -> Tensor:
    """Return whether images have each of ``count`` attributes, (N, A) bool on the CPU.

    Raises
    ------
    TypeError, ValueError
        If ``classify`` does not return logits (N, A), or one is NaN.
    """
    with torch.no_grad(), full_precision():
        logits = classify(images)
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"classify_attributes must return floating point logits, got {kind}")
    if logits.shape != (len(images), count):
        raise ValueError(
            f"classify_attributes must return logits ({len(images)}, {count}), one for each of "
            f"factors, got {tuple(logits.shape)}"
        )
    if logits.isnan().any():
        raise ValueError("classify_attributes must return logits, got NaN")
    return (logits > 0).cpu()


@dataclass(frozen=True)
class _Flips:
    """Codes (N, d), columns (A,) to flip, and the reconstructions' attributes (N, A)."""

    decode: Decoder
    classify: Classify
    codes: Tensor
    columns: Tensor
    before: Tensor
    error: float
    batch_size: int

    @property
    def wanted(self) -> Tensor:
        """Return whether each attribute should be present after its flip, (N, A) bool."""
        return (self.codes[:, self.columns.to(self.codes.device)] < 0).cpu()

    def rates(self, alpha: float) -> dict[str, Tensor]:
        """Return rates (A,) of flips that succeed, that change the prediction, and of others kept.

        Flips are numbered through images and attributes, so that only one batch of images exists at
        a time.
        """
        images, attributes = self.before.shape
        succeeded, changed, kept = torch.zeros(3, attributes, dtype=torch.int64).unbind()
        wanted = self.wanted
        for numbers in torch.arange(images * attributes).split(self.batch_size):
            image, flipped = numbers // attributes, numbers % attributes
            after = self._after(image, flipped, wanted[image, flipped], alpha)
            row = torch.arange(len(numbers))
            same = after == self.before[image]
            succeeded.index_add_(0, flipped, (after[row, flipped] == wanted[image, flipped]).long())
            changed.index_add_(0, flipped, (~same[row, flipped]).long())
            kept.index_add_(0, flipped, same.sum(1) - same[row, flipped].long())
        return {
            "by_attribute": succeeded.double() / images,
            "changed": changed.double() / images,
            "others_kept_by_flip": kept.double() / (images * max(1, attributes - 1)),
        }

    def _after(self, image: Tensor, flipped: Tensor, positive: Tensor, alpha: float) -> Tensor:
        """Return the attributes of images after one flip each, (n, A) bool."""
        device = self.codes.device
        edited = self.codes[image.to(device)]
        value = torch.where(positive, alpha, -alpha).to(edited)
        row = torch.arange(len(image), device=device)
        edited[row, self.columns[flipped].to(device)] = value
        made = decode_checked(self.decode, edited)
        return predicted_attributes(self.classify, made, len(self.columns))


def _details(
    flips: _Flips, rates: dict[str, Tensor], tried: list[float], scores: list | None
) -> dict[str, Any]:
    several = len(flips.columns) > 1
    kept = rates["others_kept_by_flip"]
    return {
        "by_attribute": rates["by_attribute"].tolist(),
        "changed": rates["changed"].tolist(),
        "others_kept": float(kept.mean()) if several else None,
        "others_kept_by_flip": kept.tolist() if several else None,
        "agreement": (flips.before != flips.wanted).double().mean(0).tolist(),
        "alpha": tried[0],
        "validation_scores": scores,
        "reconstruction_mse": flips.error,
        "images": len(flips.codes),
    }


def _checked_alphas(
    alpha: float | None, validation: Images | None, alphas: Sequence[float], images: Images
) -> list[float]:
    """Return the multipliers to try; a single one without validation images."""
    if (alpha is None) == (validation is None):
        given = "neither" if alpha is None else "both"
        raise ValueError(f"alpha or validation must be given, one of them, got {given}")
    if validation is not None:
        check_image_batch(validation, "validation")
        wanted, got = image_shape(images), image_shape(validation)
        if got != wanted:
            raise ValueError(
                f"validation must be (M, {', '.join(map(str, wanted))}), as images, got "
                f"{(len(validation), *got)}"
            )
    name, tried = ("alphas", list(alphas)) if alpha is None else ("alpha", [alpha])
    if not tried:
        raise ValueError("alphas must name at least one multiplier, got none")
    for value in tried:
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise TypeError(f"{name} must be real numbers, got {value!r}")
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be finite and above 0, got {value}")
    return [float(value) for value in tried]
