"""The rule for spatial constriction: K tangents share the primal's statistics and weights.

out = A x + Σ_n w_n (scale_n x̂ + shift_n), with the masks' weights w_n = m_n Π_{k>n} (1 − m_k)
and A = Π_n (1 − m_n). So the K tangent maps are read and written only a few times; most work for
the N codes is on the B primal maps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pydisent.jacobian._call import Call, NoRuleError
from pydisent.jacobian._diagonal import like_tangent
from pydisent.jacobian._step import Step
from pydisent.jacobian.rules._base import rule
from pydisent.jacobian.rules.gates import moving, placed
from pydisent.reference.dtypes import compute_dtype


def _normalized(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x̂ (B, C, H, W) and 1 / std (B, C), composed of primitives only."""
    centred = x - x.mean((2, 3), keepdim=True)
    centred = centred - centred.mean((2, 3), keepdim=True)  # what rounding leaves of a large mean
    rstd = (centred.square().mean((2, 3)) + eps).rsqrt()
    return centred * rstd[..., None, None], rstd


def _folded(
    x: Tensor, normalized: Tensor, masks: Tensor, scales: Tensor, shifts: Tensor
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return A (B, 1, H, W), the weights w (B, N, H, W), and ∂out/∂m_n (B, C, H, W) for each n."""
    changes = []
    for mask, scale, shift in zip(masks.unbind(1), scales.unbind(1), shifts.unbind(1)):
        changes.append(scale[..., None, None] * normalized + shift[..., None, None] - x)
        x = x + mask[:, None] * changes[-1]
    kept = torch.ones_like(masks[:, :1])
    weights, slopes = [], []
    for mask, change in zip(reversed(masks.split(1, 1)), reversed(changes)):
        weights.append(mask * kept)
        slopes.append(change * kept)
        kept = kept * (1 - mask)
    return kept, torch.cat(weights[::-1], 1), slopes[::-1]


def _spread(styles: Tensor, weights: Tensor, like: Tensor) -> Tensor:
    """Sum w_n (B, N, H, W) styles_n (K, B, N, C) over n, in the memory format of a tangent."""
    flat = weights.flatten(2)
    spread = (flat.mT @ styles).mT if like.stride(2) == 1 else styles.mT @ flat
    return spread.unflatten(3, weights.shape[2:])


def _plus(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    return a * b if total is None else torch.addcmul(total, a, b)


@rule("pydisent.spatial_constriction.default")
def _spatial_constriction(call: Call) -> Step:
    if call.args[1].shape[1] == 0:
        raise NoRuleError
    tensors, inputs, places = moving(call, 4)
    eps = call.args[4]

    def push(captured, tangents):
        of_x, of_masks, of_scales, of_shifts = placed(tangents, places, 4)
        x, masks, scales, shifts = (t.to(compute_dtype(captured[0])) for t in captured)
        like = x[None] if of_x is None else of_x
        normalized, rstd = _normalized(x, eps)
        kept, weights, slopes = _folded(x, normalized, masks, scales, shifts)
        narrow = lambda value: like_tangent(value.to(tangents[0].dtype), like)  # noqa: E731
        normalized, total = narrow(normalized), None
        if of_x is not None:
            # x̂ moves by (t − ⟨t⟩ − x̂ ⟨x̂ t⟩) / std: the means act like tangents of the styles.
            scaled = rstd[:, None] * scales
            slope = narrow(scaled)
            mean, along = of_x.mean((3, 4)), (of_x * normalized).mean((3, 4))
            of_shifts = _plus(of_shifts, slope, -mean[:, :, None])
            of_scales = _plus(of_scales, slope, -along[:, :, None])
            total = of_x * narrow(kept + _spread(scaled[None], weights, x[None])[0])
        if of_scales is not None:
            total = _plus(total, _spread(of_scales, narrow(weights), like), normalized)
        if of_shifts is not None:
            spread = _spread(of_shifts, narrow(weights), like)
            total = spread if total is None else total + spread
        if of_masks is not None:
            for n, slope in enumerate(slopes):
                total = _plus(total, of_masks[:, :, n, None], narrow(slope))
        return total

    return Step(inputs, tensors, push, outputs=[call.out[0]], keep=True, by_rows=True)
