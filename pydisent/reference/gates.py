"""Cumulative softmax gates, and the rectangular masks made of them (Zhu et al., Eqs. 1-5)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from pydisent.reference.dtypes import compute_dtype, without_autocast


def _exponentials(logits: Tensor) -> Tensor:
    """Return e^(x − max x), whose ratios are the softmax, in the dtype of the arithmetic."""
    x = logits.to(compute_dtype(logits))
    return (x - x.detach().amax(dim=-1, keepdim=True)).exp()


def _from_the_end(x: Tensor) -> Tensor:
    return x.flip(-1).cumsum(-1).flip(-1)


def rising(logits: Tensor) -> Tensor:
    """Return the cumulative sums of the softmax: in [0, 1], and 1 at the end.

    The sums are divided by the last one; summing quotients would end only near 1.
    """
    sums = _exponentials(logits).cumsum(-1)
    # In a parallel scan a sum may exceed the last one by rounding.
    return (sums / sums[..., -1:]).clamp(max=1)


def falling(logits: Tensor) -> Tensor:
    """Return 1 − :func:`rising` as sums after each position: >= 0, and exactly 0 at the end."""
    sums = _from_the_end(_exponentials(logits))
    return (F.pad(sums[..., 1:], (0, 1)) / sums[..., :1]).clamp(max=1)


def _rising_backward(grad: Tensor, logits: Tensor) -> Tensor:
    """Adjoint of :func:`rising`: p (s − Σ p s), with p the softmax and s_k = Σ_{i >= k} grad_i."""
    p = logits.to(grad.dtype).softmax(-1)
    sums = _from_the_end(grad)
    return p * (sums - (p * sums).sum(-1, keepdim=True))


def cumax(logits: Tensor) -> Tensor:
    """Cumulative sum of the softmax over the last axis, in the dtype of ``logits``."""
    return rising(logits).to(logits.dtype)


def cumax_backward(grad_sums: Tensor, logits: Tensor) -> Tensor:
    """Adjoint of :func:`cumax`."""
    grad = grad_sums.to(compute_dtype(logits))
    return _rising_backward(grad, logits).to(logits.dtype)


def band_gate(rise: Tensor, fall: Tensor) -> Tensor:
    """cumax(rise) (1 − cumax(fall)) over the last axis (Eq. 3)."""
    return (rising(rise) * falling(fall)).to(rise.dtype)


def _gate_backward(grad: Tensor, rise: Tensor, fall: Tensor) -> tuple[Tensor, Tensor]:
    grad_rise = _rising_backward(grad * falling(fall), rise)
    grad_fall = _rising_backward(-grad * rising(rise), fall)
    return grad_rise.to(rise.dtype), grad_fall.to(fall.dtype)


def band_gate_backward(grad_gate: Tensor, rise: Tensor, fall: Tensor) -> tuple[Tensor, Tensor]:
    """Adjoint of :func:`band_gate`: the gradients of both edges' logits."""
    return _gate_backward(grad_gate.to(compute_dtype(rise)), rise, fall)


def band_mask(rise_h: Tensor, fall_h: Tensor, rise_w: Tensor, fall_w: Tensor) -> Tensor:
    """Mean over J of the outer products of band gates (..., J, H) and (..., J, W) (Eqs. 4-5)."""
    gate_h = rising(rise_h) * falling(fall_h)
    gate_w = rising(rise_w) * falling(fall_w)
    with without_autocast(gate_h):
        # Divided last: J terms of at most 1 sum to at most J exactly.
        return (gate_h.mT @ gate_w / gate_h.shape[-2]).to(rise_h.dtype)


def band_mask_backward(
    grad_mask: Tensor, rise_h: Tensor, fall_h: Tensor, rise_w: Tensor, fall_w: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Adjoint of :func:`band_mask`: the gradients of its four arguments."""
    grad = grad_mask.to(compute_dtype(rise_h)) / rise_h.shape[-2]
    gate_h = rising(rise_h) * falling(fall_h)
    gate_w = rising(rise_w) * falling(fall_w)
    with without_autocast(grad):
        grad_h, grad_w = gate_w @ grad.mT, gate_h @ grad
    return *_gate_backward(grad_h, rise_h, fall_h), *_gate_backward(grad_w, rise_w, fall_w)
