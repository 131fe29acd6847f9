"""Floating dtypes that differ, as autocast leaves them: promoted as torch promotes them."""

import itertools

import pytest
import torch

from pydisent import losses, ops

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MATRIX = (6, 3)
DIMENSION = torch.tensor([0, 2, 1, 1, 0, 2])
#: Each function of matrices, and how many it takes.
CALLS = {
    "aggregate_posterior": (3, lambda *x: ops.aggregate_posterior(*x, 100)),
    "total_correlation": (3, lambda *x: ops.total_correlation(*x, 100, "mss")),
    "beta_tc_decomposition": (3, lambda *x: losses.beta_tc_decomposition(*x, 100)),
    "covariance_penalty": (2, lambda *x: ops.covariance_penalty(*x, lambda_od=2, lambda_d=1)),
    "dip_vae_penalty": (
        2,
        lambda *x: losses.dip_vae_penalty(*x, lambda_od=1.0, lambda_d=1.0, lambda_3=1.0),
    ),
    "cross_covariance_penalty": (2, ops.cross_covariance_penalty),
    "third_central_moment_penalty": (2, ops.third_central_moment_penalty),
    "gaussian_kl": (2, ops.gaussian_kl),
    "reparameterized_sample": (3, ops.reparameterized_sample),
    "perceptual_simplicity_loss": (4, lambda *x: ops.perceptual_simplicity_loss(*x, DIMENSION)),
}
#: Sums of terms whose gradients are each rounded to the dtype of the input.
COMPOSED = ("beta_tc_decomposition", "dip_vae_penalty")


def as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def with_gradients(call, inputs):
    outputs = as_tuple(call(*inputs))
    loss = sum((i + 1) * y.double().square().sum() for i, y in enumerate(outputs))
    return outputs, torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("name", CALLS)
def test_equals_the_call_on_what_torch_promotes_to(name):
    count, call = CALLS[name]
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(MATRIX, generator=generator) for _ in range(count)]
    for place, (common, other) in itertools.product(
        range(count), itertools.product(DTYPES, DTYPES)
    ):
        inputs = [
            x.to(other if i == place else common).requires_grad_() for i, x in enumerate(matrices)
        ]
        promoted = torch.promote_types(common, other)
        want = with_gradients(call, [x.detach().to(promoted).requires_grad_() for x in inputs])
        got = with_gradients(call, inputs)
        for a, b in zip(got[0], want[0]):
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
        for x, a, b in zip(inputs, got[1], want[1]):
            assert a.dtype == x.dtype
            if name in COMPOSED and x.dtype != promoted:
                continue
            torch.testing.assert_close(a, b.to(x.dtype), rtol=0, atol=0, equal_nan=True)


def test_a_step_under_autocast():
    """A linear encoder in bfloat16, and noise in float32: the usual loop."""
    x, encoder = torch.randn(8, 5), torch.nn.Linear(5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mu, logvar = encoder(x).chunk(2, dim=1)
        z, kl = ops.reparameterized_sample(mu, logvar, torch.randn(8, 3))
        loss = kl.sum() + ops.total_correlation(z, mu, logvar, 100)
    assert mu.dtype == torch.bfloat16
    assert z.dtype == loss.dtype == torch.float32
    loss.backward()
    assert encoder.weight.grad.isfinite().all()
