"""Reductions of the Gaussian KL divergence against torch.distributions."""

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from pydisent.losses import gaussian_kl


def posteriors(batch=6, d=4):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(batch, d, generator=generator, dtype=torch.float64) for _ in range(2))


def test_mean_is_the_term_of_the_elbo():
    mu, logvar = posteriors()
    joint = Independent(Normal(mu, (0.5 * logvar).exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)
    torch.testing.assert_close(gaussian_kl(mu, logvar), kl_divergence(joint, prior).mean())


def test_other_reductions():
    mu, logvar = posteriors()
    kl = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mu, logvar, reduction="none"), kl)
    torch.testing.assert_close(gaussian_kl(mu, logvar, reduction="sum"), kl.sum())
    torch.testing.assert_close(gaussian_kl(mu, logvar, reduction="dimensions"), kl.mean(0))


def test_it_is_zero_at_the_prior_alone():
    zeros = torch.zeros(3, 2)
    assert gaussian_kl(zeros, zeros).item() == 0
    assert gaussian_kl(zeros + 0.1, zeros).item() > 0
    assert gaussian_kl(zeros, zeros + 0.1).item() > 0


def test_empty_batch():
    empty = torch.empty(0, 2)
    assert gaussian_kl(empty, empty).item() == 0
    assert torch.equal(gaussian_kl(empty, empty, reduction="dimensions"), torch.zeros(2))


def test_bad_arguments_are_named():
    mu, logvar = posteriors()
    with pytest.raises(ValueError, match=r"reduction must .*got 'batchmean'"):
        gaussian_kl(mu, logvar, reduction="batchmean")
    with pytest.raises(ValueError, match=r"mu must have shape .*got \(4,\)"):
        gaussian_kl(mu[0], logvar[0])
    with pytest.raises(ValueError, match="logvar must have shape "):
        gaussian_kl(mu, logvar[:2])
