"""Operands of spatial constriction, and the operation as one would write it."""

import torch

IMPLS = ["auto", "reference"]
FORMATS = [torch.contiguous_format, torch.channels_last]


def normal(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def problem(batch, channels, height, width, codes, dtype=torch.float64):
    """Masks are soft, with zeros and ones."""
    masks = (1.4 * normal(batch, codes, height, width, seed=1).sigmoid() - 0.2).clamp(0, 1)
    x = normal(batch, channels, height, width) + normal(1, channels, 1, 1, seed=2)
    styles = (normal(batch, codes, channels, seed=s) for s in (3, 4))
    return [t.to(dtype) for t in (x, masks, *styles)]


def require_gradients(inputs):
    return [t.detach().requires_grad_() for t in inputs]


def plain(x, masks, scales, shifts, eps=1e-8):
    """As one would write it; autograd does the rest."""
    mean = x.mean((2, 3), keepdim=True)
    centred = x - mean
    normalized = centred / (centred.square().mean((2, 3), keepdim=True) + eps).sqrt()
    for n in range(masks.shape[1]):
        styled = scales[:, n, :, None, None] * normalized + shifts[:, n, :, None, None]
        x = torch.lerp(x, styled, masks[:, n, None])
    return x
