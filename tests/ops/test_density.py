"""Aggregate posterior and total correlation against NumPy, scipy, closed forms, and autograd."""

import math

import numpy as np
import pytest
import torch
from _density import IMPLEMENTATIONS, by_scipy, posteriors, tensors, weights_by_hand
from scipy.stats import norm

from pydisent.ops import aggregate_posterior, total_correlation


def by_probabilities(z, mu, logvar, dataset_size, estimator):
    """Total correlation from plain probabilities: no logsumexp, nothing shared but the formula."""
    normal = torch.distributions.Normal(mu, torch.exp(logvar) ** 0.5)
    q = torch.stack([normal.log_prob(row).exp() for row in z])
    weights = torch.from_numpy(weights_by_hand(len(z), dataset_size, estimator)).to(z)
    joint = (weights * q.prod(dim=2)).sum(1)
    marginals = (weights[..., None] * q).sum(1)
    return (joint / marginals.prod(dim=1)).log().mean()


# One tile of columns and several, whole and not; chunks of the backward pass; d = 1 and 512.
SIZES = [(1, 1), (1, 4), (2, 3), (7, 1), (16, 2), (33, 5), (300, 3), (531, 2), (20, 512)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("estimator", ["mws", "mss"])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_forward_equals_scipy(size, estimator, impl):
    arrays = posteriors(*size)
    want_joint, want_marginals = by_scipy(*arrays, 1000, estimator)
    joint, marginals = aggregate_posterior(*tensors(arrays), 1000, estimator, impl=impl)
    np.testing.assert_allclose(joint.numpy(), want_joint, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(marginals.numpy(), want_marginals, rtol=1e-12, atol=1e-12)
    got = total_correlation(*tensors(arrays), 1000, estimator, impl=impl)
    want = np.mean(want_joint - want_marginals.sum(1))
    np.testing.assert_allclose(got.item(), want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size", [(1, 3), (2, 1), (7, 4), (40, 3), (300, 2)])
@pytest.mark.parametrize("estimator", ["mws", "mss"])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_gradients_equal_those_of_plain_probabilities(size, estimator, impl):
    inputs = [x.requires_grad_() for x in tensors(posteriors(*size))]
    want = torch.autograd.grad(by_probabilities(*inputs, 1000, estimator), inputs)
    value = total_correlation(*inputs, 1000, estimator, impl=impl)
    got = torch.autograd.grad(value, inputs)
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_gradients_of_each_output_alone(impl):
    """Against central differences of scipy's densities, along random directions."""
    arrays, step = posteriors(35, 4), 1e-6
    rng = np.random.default_rng(1)
    cotangents = rng.standard_normal(35), rng.standard_normal((35, 4))
    inputs = [x.requires_grad_() for x in tensors(arrays)]
    outputs = aggregate_posterior(*inputs, 100, "mss", impl=impl)
    for output, cotangent, which in zip(outputs, cotangents, (0, 1)):
        on = torch.from_numpy(cotangent)
        grads = torch.autograd.grad(output, inputs, on, retain_graph=True)
        for grad, i in zip(grads, range(3)):
            direction = rng.standard_normal(arrays[i].shape)
            moved = [
                [x + s * step * direction if j == i else x for j, x in enumerate(arrays)]
                for s in (1, -1)
            ]
            plus, minus = (np.sum(cotangent * by_scipy(*m, 100, "mss")[which]) for m in moved)
            got = np.sum(grad.numpy() * direction)
            np.testing.assert_allclose(got, (plus - minus) / (2 * step), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_equal_posteriors_have_the_closed_form(impl):
    """All posteriors N(m, s²): "mss" gives the exact density, "mws" that over N."""
    rng = np.random.default_rng(2)
    z, mean, logvar = rng.standard_normal((50, 6)), rng.standard_normal(6), rng.standard_normal(6)
    exact = norm.logpdf(z, mean, np.exp(logvar / 2))
    inputs = torch.from_numpy(z), *(torch.from_numpy(x).expand(50, 6) for x in (mean, logvar))
    for estimator, offset in (("mss", 0.0), ("mws", math.log(700))):
        joint, marginals = aggregate_posterior(*inputs, 700, estimator, impl=impl)
        np.testing.assert_allclose(joint.numpy(), exact.sum(1) - offset, rtol=1e-12)
        np.testing.assert_allclose(marginals.numpy(), exact - offset, rtol=1e-12, atol=1e-13)
        got = total_correlation(*inputs, 700, estimator, impl=impl).item()
        assert got == pytest.approx(5 * offset, abs=1e-11)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_stratified_weights_by_hand(impl):
    """Posteriors so narrow that each sample sees one of them, and so the one weight.

    B = 4, N = 10: 1/10 for itself, (10 - 3) / (10 · 3) for the next, 1/3 for the other two.
    """
    mu = torch.arange(4.0, dtype=torch.float64)[:, None]
    logvar = torch.full_like(mu, -12.0)
    peak = 6 - 0.5 * math.log(2 * math.pi)
    for shift, weight in ((0, 1 / 10), (1, 7 / 30), (2, 1 / 3), (3, 1 / 3)):
        z = mu.roll(-shift, 0)
        joint, marginals = aggregate_posterior(z, mu, logvar, 10, "mss", impl=impl)
        want = torch.full_like(joint, peak + math.log(weight))
        torch.testing.assert_close(joint, want, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(marginals[:, 0], want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_stratified_weights_sum_to_one(batch):
    """With one posterior for all the estimate is exact, which it is for no other sum."""
    z = torch.zeros(batch, 1, dtype=torch.float64)
    for dataset_size in (batch, batch + 1, 10**12):
        joint, _ = aggregate_posterior(z, z, z, dataset_size, "mss")
        torch.testing.assert_close(joint, torch.full_like(joint, -0.5 * math.log(2 * math.pi)))


def test_total_correlation_of_a_correlated_gaussian():
    """Posteriors of nearly no width around N(0, [[1, r], [r, 1]]): −log(1 − r²) / 2 nats."""
    generator = torch.Generator().manual_seed(0)
    r, batch = 0.9, 4000
    x = torch.randn(batch, 2, generator=generator, dtype=torch.float64)
    mu = torch.stack([x[:, 0], r * x[:, 0] + math.sqrt(1 - r * r) * x[:, 1]], 1)
    logvar = torch.full_like(mu, math.log(0.05))
    z = mu + torch.randn(mu.shape, generator=generator, dtype=torch.float64) * math.sqrt(0.05)
    covariance = np.array([[1.05, r], [r, 1.05]])
    exact = 0.5 * (2 * math.log(1.05) - np.linalg.slogdet(covariance)[1])
    got = total_correlation(z, mu, logvar, batch, "mss").item()
    assert got == pytest.approx(exact, abs=0.05)


def test_smaller_dataset_than_batch_is_an_offset_of_mws():
    inputs = tensors(posteriors(8, 3))
    small, large = (aggregate_posterior(*inputs, n)[0] for n in (2, 200))
    torch.testing.assert_close(small - large, torch.full_like(small, math.log(100)))
