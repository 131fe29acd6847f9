import math

import torch


def gaussian_kl(mu, logvar, *, reduction="mean"):
    kl = 0.5 * (mu.square() + logvar.exp() - logvar - 1)
    return kl


def reparameterized_sample(mu, logvar, noise):
    return mu + (0.5 * logvar).exp() * noise, gaussian_kl(mu, logvar)


def dip_vae_penalty(mu, logvar=None, *, variant="ii", lambda_od, lambda_d, lambda_3=0.0, z=None):
    m = mu - mu.mean(0)
    c = m.T @ m / len(m)
    if variant == "ii":
        c = c + torch.diag(logvar.exp().mean(0))
    d = c.diagonal()
    p = lambda_od * (c.square().sum() - d.square().sum()) + lambda_d * (d - 1).square().sum()
    if lambda_3:
        p = p + lambda_3 * (m**3 + 3 * m * logvar.exp()).mean(0).square().sum()
    return p


def total_correlation(z, mu, logvar, dataset_size, estimator="mws"):
    lp = -0.5 * (
        math.log(2 * math.pi) + logvar[None] + (z[:, None] - mu[None]) ** 2 * (-logvar[None]).exp()
    )
    c = math.log(len(z) * dataset_size)
    return ((lp.sum(2)).logsumexp(1) - c - (lp.logsumexp(1) - c).sum(1)).mean()
