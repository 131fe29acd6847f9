"""The decomposition of beta-TCVAE's KL divergence against explicit mixtures."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import pydisent
from pydisent.losses import beta_tc_decomposition, total_correlation


def posteriors(batch=7, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mu, logvar, noise = (
        torch.randn(batch, d, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    return mu + (0.5 * logvar).exp() * noise, mu, logvar


def mixtures(z, mu, logvar, dataset_size):
    """log q(z), log q(z_d) with mixtures of torch.distributions: 1/B each, then times 1/N."""
    scale, weights = (0.5 * logvar).exp(), Categorical(torch.ones(len(mu)).double())
    joint = MixtureSameFamily(weights, Independent(Normal(mu, scale), 1)).log_prob(z)
    marginals = torch.stack(
        [
            MixtureSameFamily(weights, Normal(mu[:, d], scale[:, d])).log_prob(z[:, d])
            for d in range(mu.shape[1])
        ],
        dim=1,
    )
    return joint - np.log(dataset_size), marginals - np.log(dataset_size)


def test_each_term_equals_its_definition():
    z, mu, logvar = posteriors()
    joint, marginals = mixtures(z, mu, logvar, 50)
    posterior = Normal(mu, (0.5 * logvar).exp()).log_prob(z).sum(1)
    prior = Normal(0.0, 1.0).log_prob(z).sum(1)
    got = beta_tc_decomposition(z, mu, logvar, 50)
    torch.testing.assert_close(got.index_code_mi, (posterior - joint).mean())
    torch.testing.assert_close(got.total_correlation, (joint - marginals.sum(1)).mean())
    torch.testing.assert_close(got.dimension_wise_kl, (marginals.sum(1) - prior).mean())
    torch.testing.assert_close(got.total_correlation, total_correlation(z, mu, logvar, 50))


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_terms_sum_to_the_monte_carlo_divergence(estimator):
    z, mu, logvar = (x.requires_grad_() for x in posteriors())
    parts = beta_tc_decomposition(z, mu, logvar, 50, estimator)
    posterior = Normal(mu, (0.5 * logvar).exp()).log_prob(z).sum(1)
    whole = (posterior - Normal(0.0, 1.0).log_prob(z).sum(1)).mean()
    torch.testing.assert_close(sum(parts), whole)
    got = torch.autograd.grad(sum(parts), (z, mu, logvar))
    want = torch.autograd.grad(whole, (z, mu, logvar))
    torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("extreme", [30.0, -30.0])
def test_extreme_variances_are_finite(extreme):
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    mu = torch.arange(12.0).reshape(4, 3).requires_grad_()
    logvar = torch.full((4, 3), extreme, requires_grad=True)
    z = mu + (0.5 * logvar).exp() * noise
    parts = beta_tc_decomposition(z, mu, logvar, 100)
    grads = torch.autograd.grad(sum(parts), (mu, logvar))
    assert all(x.isfinite().all() for x in (*parts, *grads))


def test_half_precision_gives_single():
    parts = beta_tc_decomposition(*(x.half() for x in posteriors()), 50)
    want = beta_tc_decomposition(*(x.half().double() for x in posteriors()), 50)
    for got, exact in zip(parts, want):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-4)


def test_it_compiles_whole():
    inputs = tuple(x.float() for x in posteriors())
    compiled = torch.compile(beta_tc_decomposition, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs, 50), beta_tc_decomposition(*inputs, 50))


def test_names_and_bad_arguments():
    assert pydisent.total_correlation is total_correlation
    z, mu, logvar = posteriors()
    with pytest.raises(ValueError, match=r"dataset_size must .*got 0"):
        beta_tc_decomposition(z, mu, logvar, 0)
    with pytest.raises(ValueError, match="mu must have shape "):
        total_correlation(z, mu[:, :2], logvar, 50)
    with pytest.raises(ValueError, match=r"estimator must .*got 'exact'"):
        beta_tc_decomposition(z, mu, logvar, 50, "exact")
