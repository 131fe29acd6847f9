"""Aggregate posterior and total correlation: extreme values, lower precisions, no samples."""

import itertools
import math

import numpy as np
import pytest
import torch
from _density import IMPLEMENTATIONS, by_scipy, posteriors, tensors
from _native import needs_native

from pydisent.ops import aggregate_posterior, total_correlation

EXTREMES = list(itertools.product([-30.0, 30.0], [1, 2, 40], [1, 3, 512]))


@pytest.mark.parametrize(("logvar", "batch", "d"), EXTREMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_extreme_log_variances_at_the_means(logvar, batch, d, dtype, impl):
    """z at its own mean: at −30 every sample sees itself alone, at 30 all of them alike."""
    mu = (torch.arange(batch)[:, None] % 7 + torch.arange(batch)[:, None] / 8).expand(batch, d)
    mu = mu.to(dtype).contiguous()
    lv = torch.full_like(mu, logvar)
    inputs = [x.clone().requires_grad_() for x in (mu, mu, lv)]
    distinct = len(set(mu[:, 0].tolist()))
    joint, marginals = aggregate_posterior(*inputs, 100, "mws", impl=impl)
    assert joint.dtype == (torch.float32 if dtype == torch.bfloat16 else dtype)
    peak = -0.5 * (logvar + math.log(2 * math.pi))
    seen = math.log(batch) if logvar > 0 else 0.0
    if logvar > 0 or distinct == batch:
        wanted = torch.full_like(marginals, peak + seen - math.log(batch * 100))
        torch.testing.assert_close(marginals, wanted)
        wanted = torch.full_like(joint, d * peak + seen - math.log(batch * 100))
        torch.testing.assert_close(joint, wanted)
    grads = torch.autograd.grad(total_correlation(*inputs, 100, "mws", impl=impl), inputs)
    assert all(g.isfinite().all() for g in grads)
    if logvar < 0 and distinct == batch:
        # Each sample under its own posterior: the d-fold joint and the d marginals cancel.
        assert all(torch.equal(g, torch.zeros_like(g)) for g in grads[:2])
        torch.testing.assert_close(grads[2], torch.zeros_like(lv), rtol=0, atol=1e-6)


@pytest.mark.parametrize("logvar", [-30.0, 30.0])
@pytest.mark.parametrize("estimator", ["mws", "mss"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_extreme_log_variances_far_from_every_mean(logvar, estimator, dtype, impl):
    """Log-densities of −1e13, whose rounding is larger than 1: nothing overflows or is NaN."""
    z, mu, _ = tensors(posteriors(50, 5), dtype)
    inputs = [x.requires_grad_() for x in (z, mu, torch.full_like(mu, logvar))]
    outputs = aggregate_posterior(*inputs, 100, estimator, impl=impl)
    exact = by_scipy(*(x.detach().double().numpy() for x in inputs), 100, estimator)
    for got, want in zip(outputs, exact):
        bound = 10 if dtype == torch.float32 else 1e-8
        np.testing.assert_allclose(got.detach().numpy(), want, rtol=bound * 1e-6)
    grads = torch.autograd.grad(sum(x.sum() for x in outputs), inputs)
    assert all(g.isfinite().all() for g in grads)
    # Each row of responsibilities sums to 1: log q(z_i) and each log q(z_id) move with all means.
    total = -grads[0].double().sum()
    torch.testing.assert_close(grads[1].double().sum(), total, rtol=1e-4, atol=1e-12)
    second = torch.autograd.grad(
        sum(x.sum() for x in aggregate_posterior(*inputs, 100, estimator, impl=impl)),
        inputs,
        create_graph=True,
    )
    third = torch.autograd.grad(sum(g.sum() for g in second), inputs)
    assert all(not g.isnan().any() for g in third)


def by_autograd(z, mu, logvar, dataset_size):
    """Total correlation under "mws", with autograd through torch.logsumexp."""
    log_density = torch.distributions.Normal(mu, (logvar / 2).exp()).log_prob(z[:, None])
    offset = math.log(len(z) * dataset_size)
    joint = log_density.sum(-1).logsumexp(1) - offset
    return (joint - (log_density.logsumexp(1) - offset).sum(1)).mean()


@pytest.mark.parametrize("logvar", [-80.0, -90.0, -100.0])
@pytest.mark.parametrize("collapsed", ["one", "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_posteriors_whose_distances_overflow(logvar, collapsed, dtype, impl):
    """Below −87 u² is infinite in float32 for all other samples: a density of 0, no NaN.

    The oracle is plain autograd in float64, where nothing overflows.
    """
    generator = torch.Generator().manual_seed(0)
    mu, noise = (torch.randn(8, 3, generator=generator).to(dtype).float() for _ in range(2))
    lv = torch.zeros(8, 3)
    lv[(0, 0) if collapsed == "one" else ...] = logvar
    mu[0, 0] = 0  # where the sample of a posterior of width 1e-20 is not rounded to its mean
    z = mu + (0.5 * lv).exp() * noise
    inputs = [x.to(dtype).requires_grad_() for x in (z, mu, lv)]
    wide = [x.detach().double().requires_grad_() for x in inputs]
    want = by_autograd(*wide, 100)
    got = total_correlation(*inputs, 100, impl=impl)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    grads = torch.autograd.grad(got, inputs)
    bound = 1e-5 if dtype == torch.float32 else 1e-2
    # Where a sample sees its own posterior alone, joint and marginals cancel to exactly 0.
    for a, b in zip(grads, torch.autograd.grad(want, wide)):
        torch.testing.assert_close(a.double(), b, rtol=bound, atol=1e-6)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_densities_that_underflow_give_minus_infinity_alone(impl):
    """z so far away that u² overflows: log q is −inf there, and no other row is touched."""
    z, mu, logvar = tensors(posteriors(20, 3), torch.float32)
    near = aggregate_posterior(z, mu, logvar, 100, impl=impl)
    z[3, 1] = 1e30
    joint, marginals = aggregate_posterior(z, mu, logvar, 100, impl=impl)
    assert joint[3] == -math.inf
    assert marginals[3, 1] == -math.inf
    joint[3], marginals[3, 1] = near[0][3], near[1][3, 1]
    torch.testing.assert_close((joint, marginals), near, rtol=0, atol=0)


@needs_native
@pytest.mark.parametrize("size", [(64, 10), (200, 5)])
@pytest.mark.parametrize("logvar", [-12.0, -6.0, 0.0])
def test_gradients_are_as_accurate_as_those_of_the_reference(size, logvar):
    """Largest errors in float32 over eight draws: no weight is added to a total to be taken off."""
    generator = torch.Generator().manual_seed(0)

    def gradients(inputs, dtype, impl):
        inputs = [x.to(dtype).requires_grad_() for x in inputs]
        return torch.autograd.grad(total_correlation(*inputs, 5000, impl=impl), inputs)

    ratios = []
    for _ in range(8):
        mu, noise = (torch.randn(size, generator=generator) for _ in range(2))
        lv = logvar + 0.3 * torch.randn(size, generator=generator)
        inputs = mu + (lv / 2).exp() * noise, mu, lv
        exact = gradients(inputs, torch.float64, "reference")
        errors = [
            [(a - b).abs().max().item() for a, b in zip(gradients(inputs, dtype, impl), exact)]
            for dtype, impl in ((torch.float32, "native"), (torch.float32, "reference"))
        ]
        ratios.append(np.divide(*errors))
    assert np.exp(np.log(ratios).mean()) <= 1.25


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    """The densities of the rounded inputs, not those rounded: in bfloat16 they would be 0.4 off."""
    inputs = tensors(posteriors(100, 8), dtype)
    want = aggregate_posterior(*(x.double() for x in inputs), 10**6, "mss")
    got = aggregate_posterior(*inputs, 10**6, "mss")
    for a, b in zip(got, want):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=2e-6, atol=2e-6)


def test_no_cancellation_far_from_the_origin():
    """Posteriors around 1000: z² − 2 z mu + mu² would have no digit left in float32."""
    z, mu, _ = tensors(posteriors(60, 3), torch.float32)
    z, mu, logvar = z + 1000, mu + 1000, torch.full_like(mu, -4.0)
    want = by_scipy(*(x.double().numpy() for x in (z, mu, logvar)), 100, "mws")
    for got, exact in zip(aggregate_posterior(z, mu, logvar, 100), want):
        np.testing.assert_allclose(got.numpy(), exact, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_empty_batch(estimator, impl):
    inputs = [torch.empty(0, 3, requires_grad=True) for _ in range(3)]
    joint, marginals = aggregate_posterior(*inputs, 10, estimator, impl=impl)
    assert joint.shape == (0,)
    assert marginals.shape == (0, 3)
    grads = torch.autograd.grad(joint.sum() + marginals.sum(), inputs)
    assert all(g.shape == (0, 3) for g in grads)
    assert total_correlation(*inputs, 10, estimator, impl=impl).isnan()
