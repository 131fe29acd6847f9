"""Aggregate posterior and total correlation against NumPy, scipy, closed forms, and autograd."""

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm

from pydisent import _backends
from pydisent.ops import aggregate_posterior, total_correlation

needs_native = pytest.mark.skipif(
    _backends.native_reason("cpu") != "", reason=_backends.native_reason("cpu") or "built"
)
IMPLEMENTATIONS = [pytest.param("native", marks=needs_native), "reference"]


def weights_by_hand(batch, dataset_size, estimator):
    """Row by row, with exact fractions of Python's integers."""
    if estimator == "mws":
        return np.full((batch, batch), 1 / (batch * dataset_size))
    if batch == 1:
        return np.ones((1, 1))
    others = batch - 1
    rows = []
    for i in range(batch):
        row = [1 / others] * batch
        row[(i + 1) % batch] = (dataset_size - others) / (dataset_size * others)
        row[i] = 1 / dataset_size
        rows.append(row)
    return np.array(rows)


def by_scipy(z, mu, logvar, dataset_size, estimator):
    """log q(z_i), log q(z_id) from scipy's normal density, one sample at a time."""
    weights = weights_by_hand(len(z), dataset_size, estimator)
    joint, marginals = [], []
    for i in range(len(z)):
        densities = norm.logpdf(z[i], loc=mu, scale=np.exp(logvar / 2))
        joint.append(logsumexp(densities.sum(1), b=weights[i]))
        marginals.append(logsumexp(densities, b=weights[i][:, None], axis=0))
    return np.array(joint), np.array(marginals)


def by_probabilities(z, mu, logvar, dataset_size, estimator):
    """Total correlation from plain probabilities: no logsumexp, nothing shared but the formula."""
    normal = torch.distributions.Normal(mu, torch.exp(logvar) ** 0.5)
    q = torch.stack([normal.log_prob(row).exp() for row in z])
    weights = torch.from_numpy(weights_by_hand(len(z), dataset_size, estimator)).to(z)
    joint = (weights * q.prod(dim=2)).sum(1)
    marginals = (weights[..., None] * q).sum(1)
    return (joint / marginals.prod(dim=1)).log().mean()


def posteriors(batch, d, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    mu, logvar = rng.standard_normal((batch, d)), spread * rng.standard_normal((batch, d)) - 1
    return mu + np.exp(logvar / 2) * rng.standard_normal((batch, d)), mu, logvar


def tensors(arrays, dtype=torch.float64):
    return [torch.from_numpy(x).to(dtype) for x in arrays]


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


def test_smaller_dataset_than_batch_is_an_offset_of_mws():
    inputs = tensors(posteriors(8, 3))
    small, large = (aggregate_posterior(*inputs, n)[0] for n in (2, 200))
    torch.testing.assert_close(small - large, torch.full_like(small, math.log(100)))


@needs_native
@pytest.mark.parametrize("limit", ["baseline", "avx2"])
def test_every_instruction_set(limit):
    code = """
import sys, torch
from pydisent.ops import total_correlation
for batch, d in ((1, 1), (37, 3), (300, 5)):
    for dtype, bound in ((torch.float32, 2e-5), (torch.float64, 1e-11)):
        torch.manual_seed(0)
        xs = [torch.randn(batch, d, dtype=dtype, requires_grad=True) for _ in range(3)]
        found = []
        for impl in ("native", "reference"):
            value = total_correlation(*xs, 1000, "mss", impl=impl)
            found.append((value, *torch.autograd.grad(value, xs)))
        torch.testing.assert_close(*found, rtol=bound, atol=bound)
"""
    environment = {**os.environ, "PYDISENT_INSTRUCTION_SET": limit, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


PEAK = """
import sys
from pathlib import Path
import torch
from pydisent.ops import total_correlation

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

def both(impl, batch, d):
    xs = [torch.randn(batch, d, requires_grad=True) for _ in range(3)]
    torch.autograd.grad(total_correlation(*xs, 10**6, "mss", impl=impl), xs)

for impl, batch in zip(sys.argv[1::2], sys.argv[2::2]):
    both(impl, 16, 2)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    both(impl, int(batch), 8)
    print(status("VmHWM") - before)
"""


@needs_native
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_memory_is_linear_in_the_batch():
    """At B = 8192, d = 8 a (B, B, d) tensor of floats would take 2 GiB, a (B, B) one 256 MiB."""

    cases = "native 2048 native 8192 reference 1024".split()
    # Freed memory goes back at once, and is not there for the next.
    environment = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *cases],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    small, large, reference = (int(line) / 1024 for line in done.stdout.split())
    assert large < 16  # 0.25 MiB an array (B, d), of which there are about 40
    assert large < 4 * small + 8
    # What the reference holds under autograd: the measure does see a (B, B, d) tensor.
    assert reference > 1024 * 1024 * 8 * 4 / 2**20


def test_reference_without_gradients_holds_some_rows_at_a_time():
    seen = []
    inputs = tensors(posteriors(1500, 4), torch.float32)

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            seen.extend(x.numel() for x in torch.utils._pytree.tree_leaves(out))
            return out

    with Largest():
        aggregate_posterior(*inputs, 2000, impl="reference")
    assert 0 < max(seen) < 1500 * 1500 * 4 / 4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"z": torch.ones(3)}, ValueError, r"z must have shape .*got \(3,\)"),
        ({"z": torch.ones(3, 2).long()}, TypeError, "z must .*got torch.int64"),
        ({"z": [[1.0]]}, TypeError, "z must .*got list"),
        ({"mu": torch.ones(3, 1)}, ValueError, r"mu must have shape .*got \(3, 1\)"),
        ({"logvar": torch.ones(1, 2)}, ValueError, r"logvar must have shape .*got \(1, 2\)"),
        ({"mu": torch.ones(3, 2).long()}, TypeError, "mu must .*got torch.int64"),
        ({"logvar": torch.ones(3, 2, device="meta")}, ValueError, "logvar must .*got meta"),
        ({"dataset_size": 0}, ValueError, "dataset_size must .*got 0"),
        ({"dataset_size": 10.0}, TypeError, "dataset_size must .*got 10.0"),
        ({"dataset_size": True}, TypeError, "dataset_size must .*got True"),
        (
            {"estimator": "stratified"},
            ValueError,
            "estimator must .*'mws', 'mss', got 'stratified'",
        ),
        (
            {"dataset_size": 2, "estimator": "mss"},
            ValueError,
            "dataset_size must .*got 2",
        ),
    ],
)
@pytest.mark.parametrize("function", [aggregate_posterior, total_correlation])
def test_bad_arguments_are_named(function, change, error, message):
    arguments = {name: torch.ones(3, 2) for name in ("z", "mu", "logvar")}
    arguments |= {"dataset_size": 10, "estimator": "mws"}
    with pytest.raises(error, match=message):
        function(**(arguments | change))


def test_a_numpy_integer_is_an_integer():
    inputs = tensors(posteriors(4, 2))
    got = total_correlation(*inputs, np.int64(50))
    assert torch.equal(got, total_correlation(*inputs, 50))
