"""Covariance, cross-covariance and third moments against NumPy, SciPy and plain autograd."""

import numpy as np
import pytest
import scipy.stats
import torch
from _covariance import IMPLS, mixture_moments, normal, plain

from pydisent.ops import (
    covariance_penalty,
    cross_covariance_penalty,
    third_central_moment_penalty,
)

SIZES = [(64, 10), (1, 3), (7, 1), (300, 2), (33, 130), (5, 512)]


def by_numpy(mu, logvar, lambda_od, lambda_d):
    covariance = np.atleast_2d(np.cov(mu.numpy(), rowvar=False, bias=True))
    if logvar is not None:
        covariance = covariance + np.diag(np.exp(logvar.numpy()).mean(axis=0))
    diagonal = np.diag(covariance)
    off = covariance - np.diag(diagonal)
    return lambda_od * np.sum(off**2) + lambda_d * np.sum((diagonal - 1) ** 2)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("with_logvar", [False, True])
def test_covariance_penalty_equals_numpy(size, with_logvar, impl):
    mu, logvar = normal(*size), normal(*size, seed=1) if with_logvar else None
    got = covariance_penalty(mu, logvar, lambda_od=3.0, lambda_d=0.7, impl=impl)
    assert got.shape == ()
    np.testing.assert_allclose(got.item(), by_numpy(mu, logvar, 3.0, 0.7), rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("with_logvar", [False, True])
def test_covariance_gradient_equals_plain_autograd(size, with_logvar):
    inputs = [normal(*size).requires_grad_()]
    if with_logvar:
        inputs.append(normal(*size, seed=1).requires_grad_())
    mu, logvar = inputs[0], inputs[1] if with_logvar else None
    want = torch.autograd.grad(plain(mu, logvar, 3.0, 0.7), inputs)
    got = torch.autograd.grad(
        1.5 * covariance_penalty(mu, logvar, lambda_od=3.0, lambda_d=0.7), inputs
    )
    torch.testing.assert_close(got, tuple(1.5 * x for x in want), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("size", [(64, 3, 10), (1, 2, 2), (300, 1, 1), (33, 40, 300), (9, 300, 7)])
def test_cross_covariance_equals_its_sums(size, impl):
    batch, k, d = size
    y = normal(batch, k, mean=2.0).requires_grad_()
    z = normal(batch, d, seed=1, mean=-1.0).requires_grad_()
    products = torch.einsum("bi,bj->ij", y - y.mean(0), z - z.mean(0)) / batch
    want = (products**2).sum()
    got = cross_covariance_penalty(y, z, impl=impl)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-13)
    by_autograd = torch.autograd.grad(want, (y, z))
    torch.testing.assert_close(
        torch.autograd.grad(got, (y, z)), by_autograd, rtol=1e-10, atol=1e-13
    )


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("size", SIZES)
def test_third_moments_of_samples_equal_scipy(size, impl):
    z = normal(*size) ** 2
    want = np.sum(scipy.stats.moment(z.numpy(), order=3, axis=0) ** 2)
    got = third_central_moment_penalty(z, impl=impl).item()
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-20)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("with_logvar", [False, True])
def test_third_moments_of_a_mixture_equal_its_raw_moments(size, with_logvar):
    inputs = [(normal(*size) ** 2).requires_grad_()]
    if with_logvar:
        inputs.append(normal(*size, seed=1).requires_grad_())
    mu, logvar = inputs[0], inputs[1] if with_logvar else None
    want = (mixture_moments(mu, logvar) ** 2).sum()
    got = third_central_moment_penalty(mu, logvar)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-20)
    by_autograd = torch.autograd.grad(want, inputs)
    torch.testing.assert_close(torch.autograd.grad(got, inputs), by_autograd, rtol=1e-9, atol=1e-11)


def test_third_moment_of_a_mixture_by_sampling():
    """Of draws from the mixture itself, to within their standard error."""
    mu, logvar = torch.tensor([[0.0], [1.0]]).double(), torch.tensor([[-1.0], [1.0]]).double()
    rng = np.random.default_rng(0)
    index = rng.integers(2, size=400_000)
    draws = mu.numpy()[index, 0] + np.exp(0.5 * logvar.numpy()[index, 0]) * rng.standard_normal(
        len(index)
    )
    cubes = (draws - draws.mean()) ** 3
    error = cubes.std() / len(cubes) ** 0.5
    got = third_central_moment_penalty(mu, logvar).item()
    assert abs(got**0.5 - cubes.mean()) < 4 * error
    assert cubes.mean() > 20 * error


def test_variances_go_on_the_diagonal_alone():
    """The derivative to a log-variance sees the entry (i, i) and none besides."""
    mu, logvar = normal(16, 3), normal(16, 3, seed=1)
    for impl in IMPLS:
        off_only = covariance_penalty(mu, logvar, lambda_od=1.0, lambda_d=0.0, impl=impl)
        without = covariance_penalty(mu, None, lambda_od=1.0, lambda_d=0.0, impl=impl)
        assert torch.equal(off_only, without)


def test_a_gradient_of_one_input_alone():
    mu, logvar = normal(9, 4), normal(9, 4, seed=1)
    both = [x.clone().requires_grad_() for x in (mu, logvar)]
    want = torch.autograd.grad(covariance_penalty(*both, lambda_od=1.0, lambda_d=2.0), both)
    for i in range(2):
        inputs = [mu, logvar]
        inputs[i] = inputs[i].clone().requires_grad_()
        penalty = covariance_penalty(*inputs, lambda_od=1.0, lambda_d=2.0)
        (got,) = torch.autograd.grad(penalty, inputs[i])
        assert torch.equal(got, want[i])


@pytest.mark.parametrize("impl", IMPLS)
def test_a_mean_of_ten_thousand_does_not_hurt(impl):
    """In float32, where E[x²] - E[x]² has no right digit left."""
    mu = (normal(64, 10) ** 2 + 1e4).float()
    exact = mu.double()
    for penalty in (
        lambda x, impl=impl: covariance_penalty(x, lambda_od=5.0, lambda_d=10.0, impl=impl),
        lambda x, impl=impl: cross_covariance_penalty(x, x[:, :3] * 2, impl=impl),
        lambda x, impl=impl: third_central_moment_penalty(x, impl=impl),
    ):
        got, want = penalty(mu), penalty(exact)
        assert abs(got.double() / want - 1) < 1e-5
    naive = (mu.T @ mu / 64 - mu.mean(0)[:, None] * mu.mean(0)).double()
    exact_covariance = torch.cov(exact.T, correction=0)
    assert (naive - exact_covariance).norm() > 0.1 * exact_covariance.norm()


@pytest.mark.parametrize("impl", IMPLS)
def test_one_sample_and_none(impl):
    for batch in (0, 1):
        mu = torch.full((batch, 3), 7.0, requires_grad=True)
        got = covariance_penalty(mu, lambda_od=5.0, lambda_d=2.0, impl=impl)
        assert got.item() == 6.0  # the covariance is zero
        assert cross_covariance_penalty(mu, mu, impl=impl).item() == 0
        assert third_central_moment_penalty(mu, mu, impl=impl).item() == 0
        (grad,) = torch.autograd.grad(got, mu)
        assert torch.equal(grad, torch.zeros(batch, 3))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("logvar", [30.0, -30.0])
def test_extreme_variances_are_finite(logvar, impl):
    mu = normal(8, 4).float().requires_grad_()
    spread = torch.full((8, 4), logvar, requires_grad=True)
    penalty = covariance_penalty(mu, spread, lambda_od=1.0, lambda_d=1.0, impl=impl)
    third = third_central_moment_penalty(mu, spread, impl=impl)
    grads = torch.autograd.grad(penalty + third, (mu, spread))
    assert all(x.isfinite().all() for x in (penalty, third, *grads))
    exact = plain(mu.double(), spread.double(), 1.0, 1.0)
    torch.testing.assert_close(penalty.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_single(dtype):
    """A sum of 300² is beyond float16; the penalty comes in float32, the gradients as the codes."""
    mu = (300 * normal(64, 4)).to(dtype).requires_grad_()
    penalty = covariance_penalty(mu, lambda_od=1e-8, lambda_d=1e-8)
    assert penalty.dtype == torch.float32
    want = plain(mu.detach().double(), None, 1e-8, 1e-8)
    torch.testing.assert_close(penalty.double(), want, rtol=1e-5, atol=0)
    penalty.backward()
    assert mu.grad.dtype == dtype
    assert mu.grad.isfinite().all()
