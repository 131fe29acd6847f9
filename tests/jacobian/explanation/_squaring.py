"""A generator whose Jacobian is known in closed form, codes for it, and a test of directions."""

import torch

M, SIDE = 10, 8


def matrix(m=M, rows=3 * SIDE * SIDE, decay=0.8, seed=0):
    random = torch.Generator().manual_seed(seed)
    whole = torch.randn(rows, m, generator=random, dtype=torch.float64)
    left, _, right = torch.linalg.svd(whole, full_matrices=False)
    return left * decay ** torch.arange(m, dtype=torch.float64) @ right


def squaring(a):
    """G(z) = A (z ∘ z) / 2 as images: J = A diag(z), another at each code."""
    return lambda z: (z.flatten(1).square() @ a.T / 2).reshape(-1, 3, SIDE, SIDE)


def codes(count=5, *shape, seed=1):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, *(shape or (M,)), generator=random, dtype=torch.float64)


def aligned(found, expected, atol=1e-8):
    """Whether unit vectors, flattened to rows, are the columns expected, but for their signs."""
    inner = (found.flatten(-found.dim() + 1 + expected.dim() - 2).double() * expected.mT).sum(-1)
    return torch.allclose(inner.abs(), torch.ones_like(inner), atol=atol)
