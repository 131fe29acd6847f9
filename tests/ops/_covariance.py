"""Codes, and penalties of their moments as one would write them."""

import torch

IMPLS = ["auto", "reference"]


def normal(*shape, seed=0, mean=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) + mean


def plain(mu, logvar, lambda_od, lambda_d):
    """The same with torch.cov, for autograd."""
    covariance = torch.cov(mu.T, correction=0).reshape(mu.shape[1], mu.shape[1])
    if logvar is not None:
        covariance = covariance + torch.diag_embed(logvar.exp().mean(0))
    target = torch.eye(len(covariance), dtype=mu.dtype)
    weights = lambda_od + (lambda_d - lambda_od) * target
    return (weights * (covariance - target) ** 2).sum()


def mixture_moments(mu, logvar):
    """Third central moments of a mixture of Gaussians, from its raw moments."""
    v = torch.zeros_like(mu) if logvar is None else logvar.exp()
    first, second = mu.mean(0), (mu**2 + v).mean(0)
    third = (mu**3 + 3 * mu * v).mean(0)
    return third - 3 * first * second + 2 * first**3
