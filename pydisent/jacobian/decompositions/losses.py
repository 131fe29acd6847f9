"""Loss functions."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pydisent.jacobian.decompositions._registry import decomposes


@decomposes(F.poisson_nll_loss)
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of counts ``target``; Stirling's term only for counts above 1."""
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        large = target.detach() > 1
        count = torch.where(large, target, torch.full_like(target, 2.0))
        term = count * count.log() - count + 0.5 * (2 * math.pi * count).log()
        loss = loss + torch.where(large, term, torch.zeros_like(term))
    return _reduce(loss, size_average, reduce, reduction)


@decomposes(*filter(None, [getattr(F, "linear_cross_entropy", None)]))
def linear_cross_entropy(
    input: Tensor, linear_weight: Tensor, target: Tensor, *, options: Any = None, **kwargs: Any
) -> Tensor:
    """Cross-entropy of a linear layer without chunks, whose second derivative is wrong."""
    return F.linear_cross_entropy(input, linear_weight, target, **kwargs)


@decomposes(F.multi_margin_loss)
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Hinge loss of scores ``input`` (N, C) or (C,) for the classes ``target`` (N,) or ()."""
    scores, labels = torch.atleast_2d(input), torch.atleast_1d(target)
    gaps = (margin - scores.gather(1, labels[:, None]) + scores).clamp_min(0)
    gaps = gaps if p == 1 else gaps * gaps
    gaps = gaps if weight is None else gaps * weight[labels][:, None]
    losses = gaps.scatter(1, labels[:, None], 0.0).sum(1) / scores.shape[1]
    reduced = _reduce(losses, size_average, reduce, reduction)
    return reduced.reshape(target.shape) if reduced.dim() else reduced


@decomposes(F.multilabel_margin_loss)
def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Hinge loss of scores (N, C) or (C,) for several classes; those before the first −1 count."""
    scores, labels = torch.atleast_2d(input), torch.atleast_2d(target)
    valid = (labels >= 0).cumprod(1).bool()
    chosen = torch.zeros_like(labels, dtype=torch.bool)
    chosen.scatter_reduce_(1, labels.clamp_min(0), valid, "amax")
    gaps = (1 - scores.gather(1, labels.clamp_min(0))[:, :, None] + scores[:, None, :]).clamp_min(0)
    counted = valid[:, :, None] & ~chosen[:, None, :]
    losses = gaps.masked_fill(~counted, 0.0).sum((1, 2)) / scores.shape[1]
    reduced = _reduce(losses, size_average, reduce, reduction)
    return reduced.reshape(input.shape[:-1]) if reduced.dim() else reduced


def _reduce(
    losses: Tensor, size_average: bool | None, reduce: bool | None, reduction: str
) -> Tensor:
    if size_average is not None or reduce is not None:  # deprecated in torch
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
    return {"none": losses, "mean": losses.mean(), "sum": losses.sum()}[reduction]
