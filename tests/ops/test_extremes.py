"""Statistics of Gaussian codes at the ends of float32's range, against plain PyTorch in float64."""

import itertools
import math

import pytest
import torch
from _native import needs_native

from pydisent import beta_tc_decomposition, ops
from pydisent.ops import masked_power_iteration
from pydisent.ops.registry import REGISTRY

IMPLEMENTATIONS = [pytest.param("native", marks=needs_native), "reference"]
LARGEST = torch.finfo(torch.float32).max
DATASET = 100


def kl(x, mu, lv):
    return (mu * mu + torch.expm1(lv) - lv) / 2


def log_densities(z, mu, lv):
    # By a mask, as 0 times infinity is NaN in any range.
    square = torch.where(z[:, None] == mu, 0.0, (z[:, None] - mu) ** 2)
    scaled = torch.where(square == 0, 0.0, square * torch.exp(-lv).clamp(max=1e300))
    density = -0.5 * (scaled + lv + math.log(2 * math.pi))
    offset = math.log(len(z) * DATASET)
    return density.sum(-1).logsumexp(1) - offset, density.logsumexp(1) - offset


def total_correlation(z, mu, lv):
    joint, marginals = log_densities(z, mu, lv)
    return (joint - marginals.sum(1)).mean()


def third_moment(x, mu, lv):
    c = mu - mu.mean(0)
    return ((c**3 + 3 * c * lv.exp()).mean(0) ** 2).sum()


def covariance(x, mu, lv):
    c = mu - mu.mean(0)
    matrix = c.T @ c / len(mu) + lv.exp().mean(0).diag()
    return ((matrix - torch.eye(mu.shape[1])) ** 2).sum()


#: Each op as a function of samples or noise, means and log-variances, and the same in PyTorch.
FAMILY = {
    "gaussian_kl": (lambda x, mu, lv, impl: ops.gaussian_kl(mu, lv, impl=impl), kl),
    "sample": (
        lambda x, mu, lv, impl: ops.reparameterized_sample(mu, lv, x, impl=impl)[0],
        lambda x, mu, lv: mu + torch.exp(lv / 2) * x,
    ),
    "first of the samples": (
        lambda x, mu, lv, impl: ops.reparameterized_sample(mu, lv, x, impl=impl)[0][:, :1],
        lambda x, mu, lv: (mu + torch.exp(lv / 2) * x)[:, :1],
    ),
    "divergence of the samples": (
        lambda x, mu, lv, impl: ops.reparameterized_sample(mu, lv, x, impl=impl)[1],
        kl,
    ),
    "aggregate_posterior": (
        lambda x, mu, lv, impl: torch.cat(
            [y.flatten() for y in ops.aggregate_posterior(x, mu, lv, DATASET, impl=impl)]
        ),
        lambda x, mu, lv: torch.cat([y.flatten() for y in log_densities(x, mu, lv)]),
    ),
    "total_correlation": (
        lambda x, mu, lv, impl: ops.total_correlation(x, mu, lv, DATASET, impl=impl),
        total_correlation,
    ),
    "covariance_penalty": (
        lambda x, mu, lv, impl: ops.covariance_penalty(
            mu, lv, lambda_od=1.0, lambda_d=1.0, impl=impl
        ),
        covariance,
    ),
    "third_central_moment_penalty": (
        lambda x, mu, lv, impl: ops.third_central_moment_penalty(mu, lv, impl=impl),
        third_moment,
    ),
}
LOG_VARIANCES = [-1e4, -200.0, -100.0, -50.0, 50.0, 100.0, 200.0, 1e4]


def inputs(name, logvar, where, mean, batch):
    generator = torch.Generator().manual_seed(0)
    mu, noise = (torch.randn(batch, 3, generator=generator) for _ in range(2))
    mu = mean * mu.sort(0).values
    lv = torch.zeros(batch, 3)
    lv[(0, 0) if where == "one" else ...] = logvar
    if name in ("aggregate_posterior", "total_correlation"):
        return mu.clone(), mu, lv  # at their means, as a sample of such a width is after rounding
    return noise, mu, lv


def compare(name, impl, tensors, bound):
    """Where float64 has a number that float32 has too, float32 has it, to rounding."""
    own, plain = FAMILY[name]
    narrow = [x.clone().requires_grad_() for x in tensors]
    wide = [x.double().requires_grad_() for x in tensors]
    got, want = own(*narrow, impl), plain(*wide)
    fits = want.isfinite() & (want.abs() < LARGEST)
    compared = [(got, want)]
    if fits.all():
        grads = (
            torch.autograd.grad(y.sum(), x, allow_unused=True)
            for y, x in ((got, narrow), (want, wide))
        )
        compared += [(a, b) for a, b in zip(*grads) if a is not None and b is not None]
    for a, b in compared:
        fits = b.isfinite() & (b.abs() < LARGEST)
        scale = b[fits].abs().max().item() if fits.any() else 0.0
        torch.testing.assert_close(a.double()[fits], b[fits], rtol=bound, atol=bound * (1 + scale))


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_what_float64_gives_and_float32_can_hold(name, impl):
    for logvar, where, mean, batch in itertools.product(
        LOG_VARIANCES, ["one", "all"], [0.0, 1.0, 1e4], [1, 7]
    ):
        if name.startswith(("third", "cov")) and (mean > 1 or logvar == 50):
            continue  # powers of what rounding left of the mean
        compare(name, impl, inputs(name, logvar, where, mean, batch), 2e-4)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_products_in_range_of_exponentials_out_of_range(impl):
    """Weights of 1e-20 take e^100 = 2.7e43 back to where float32 is."""
    lv = torch.tensor([[100.0, -1.0, 0.0, 200.0]])
    mu, noise = torch.zeros(1, 4), torch.full((1, 4), 1e-20)
    z = ops.reparameterized_sample(mu, lv, noise, impl=impl)[0]
    want = noise.double() * torch.exp(lv.double() / 2)
    torch.testing.assert_close(z.double(), want, rtol=1e-5, atol=0)
    adjoint = torch.ops.pydisent.gaussian_kl_backward
    if impl == "native":
        grad = adjoint(noise[:, :3], mu[:, :3], lv[:, :3])[1]
        want = 0.5 * noise[:, :3].double() * torch.expm1(lv[:, :3].double())
        torch.testing.assert_close(grad.double(), want, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grad_kl", [1e4, 1.0, 0.0, -1.0])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_gradient_of_the_log_variance_by_samples_and_divergences(impl, grad_kl, dtype):
    """Each term is in range where the other, or a factor of it, is not; NaN stays NaN."""
    ends = [-1000.0, -200.0, -180.0, -176.0, -160.0, -100.0, -1.0]
    ends += [0.0, 1.0, 100.0, 160.0, 176.0, 200.0, math.nan]
    values = itertools.product(ends, [1.0, -2.0, 0.0], [0.5, -1.0])
    lv, grad_z, noise = torch.tensor(list(values)).to(dtype).unbind(1)
    mu, to_kl = torch.ones_like(lv), torch.full_like(lv, grad_kl, dtype=torch.float32)
    adjoint = REGISTRY["reparameterized_sample_backward"]
    got = adjoint(grad_z, to_kl, mu, lv, noise, impl=impl)[1]
    assert got.dtype == dtype
    wide = lv.double()
    by_z = 0.5 * grad_z.double() * noise.double() * torch.exp(wide / 2)
    by_kl = 0.5 * grad_kl * torch.expm1(wide)
    want = (by_z + by_kl).to(dtype)
    held = want.isfinite()
    assert torch.equal(got[want.isinf()], want[want.isinf()])
    assert torch.equal(got.isnan(), lv.isnan())
    error = (got.double() - want.double()).abs()[held]
    bound = 8 * torch.finfo(dtype).eps * (by_z.abs() + by_kl.abs())[held]
    assert (error <= bound + 2 * torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps).all()


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_divergence_whose_half_alone_is_in_range(impl):
    lv = torch.tensor([88.0, 88.7, 88.8, 89.0, 89.3, 90.0, -89.0], requires_grad=True)
    mu = torch.zeros_like(lv)
    got, want = ops.gaussian_kl(mu, lv, impl=impl), kl(None, 0.0, lv.detach().double()).float()
    assert want[:-2].isfinite().all()
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)
    (grad,) = torch.autograd.grad(got.sum(), lv)
    want = (0.5 * torch.expm1(lv.detach().double())).float()
    torch.testing.assert_close(grad, want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("logvar", [-177.0, -200.0, -300.0])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_distances_of_a_narrow_posterior_are_not_rounded_off(logvar, impl):
    """z and mu so near 0 that (z − mu) / std is a number, though 1 / std is not."""
    z = torch.tensor([[1e-37], [3e-36]])
    mu, lv = torch.zeros_like(z), torch.full_like(z, logvar)
    got = ops.aggregate_posterior(z, mu, lv, DATASET, impl=impl)[0]
    want = log_densities(z.double(), mu.double(), lv.double())[0]
    held = want.abs() < LARGEST
    torch.testing.assert_close(got.double()[held], want[held], rtol=1e-4, atol=1e-4)
    assert (got[~held] == -math.inf).all()


@pytest.mark.parametrize("logvar", LOG_VARIANCES)
def test_decomposition_at_the_means(logvar):
    mu = torch.arange(12.0).reshape(4, 3)
    tensors = [x.requires_grad_() for x in (mu.clone(), mu.clone(), torch.full_like(mu, logvar))]
    terms = beta_tc_decomposition(*tensors, DATASET)
    wide = beta_tc_decomposition(*(x.double() for x in tensors), DATASET)
    for got, want in zip(terms, wide):
        assert want.isfinite()
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-2)
    for grad in torch.autograd.grad(sum(terms), tensors):
        assert grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_power_iteration_whose_norm_overflows_is_constant(dtype, impl):
    """W has numbers, W² has none: V = W / ∞ = 0 and n = ∞, of which autograd's gradient is 0."""
    large = math.sqrt(torch.finfo(dtype).max) * 10
    gram = torch.full((1, 3, 3), large, dtype=dtype, requires_grad=True)
    probe = torch.ones(1, 3, 2, dtype=dtype)
    mask = torch.tensor([[1, 0], [1, 1], [1, 1]], dtype=dtype)
    w = mask * (gram @ (mask * probe))
    norms = (w * w).sum(1).sqrt()
    plain = torch.autograd.grad((w / norms[:, None]).sum() + norms.sum(), gram)[0]
    for output in masked_power_iteration(gram, probe, mask, 1, impl=impl):
        (grad,) = torch.autograd.grad(output.sum(), gram, retain_graph=True)
        assert torch.equal(grad, torch.zeros_like(gram))
        assert torch.equal(grad, plain)
