"""DIP-VAE's penalties and the cross-covariance loss: closed forms, and a known wrong port."""

import re

import numpy as np
import pytest
import scipy.linalg
import torch

import pydisent
from pydisent.losses import cross_covariance_penalty, dip_vae_penalty

BATCH, LATENTS = 64, 10


def orthogonal_codes(variance):
    """Codes whose batch covariance is variance times the identity: columns of a Hadamard matrix."""
    columns = scipy.linalg.hadamard(BATCH)[:, 1 : LATENTS + 1]
    return torch.from_numpy(columns * np.sqrt(variance))


def penalty_of(covariance):
    off = covariance - torch.diag(covariance.diagonal())
    return ((off**2).sum() + ((covariance.diagonal() - 1) ** 2).sum()).item()


def wrong_dip_vae_ii(mu, logvar):
    """The port's fault alone: the mean variance, a scalar, is added to every entry."""
    centred = mu - mu.mean(0)
    return penalty_of(centred.T @ centred / len(mu) + logvar.exp().mean())


def test_the_well_known_wrong_port():
    """B = 64, 10 latents: 1.66 is right, and the port gives 61.0.

    Constructed, since no encoder's output is on record: with batch covariance a I and variances v,
    the right penalty is 10 (a + v − 1)², and a scalar v in the 90 entries off the diagonal adds
    90 v². So 90 v² = 61.0 − 1.66 and (a + v − 1)² = 0.166 give exactly these figures.
    """
    v = np.sqrt((61.0 - 1.66) / 90)
    a = 1 + np.sqrt(0.166) - v
    mu, logvar = orthogonal_codes(a), torch.full((BATCH, LATENTS), np.log(v), dtype=torch.float64)
    covariance = torch.cov(mu.T, correction=0)
    torch.testing.assert_close(covariance, a * torch.eye(LATENTS).double())
    right = dip_vae_penalty(mu, logvar, variant="ii", lambda_od=1.0, lambda_d=1.0)
    np.testing.assert_allclose(right.item(), 1.66, rtol=1e-12)
    np.testing.assert_allclose(wrong_dip_vae_ii(mu, logvar), 61.0, rtol=1e-12)


def test_the_wrong_port_is_wrong_on_random_codes_too():
    generator = torch.Generator().manual_seed(0)
    mu = 0.6 * torch.randn(BATCH, LATENTS, generator=generator, dtype=torch.float64)
    logvar = torch.randn(BATCH, LATENTS, generator=generator, dtype=torch.float64) - 1
    covariance = torch.cov(mu.T, correction=0) + torch.diag(logvar.exp().mean(0))
    right = dip_vae_penalty(mu, logvar, lambda_od=1.0, lambda_d=1.0).item()
    np.testing.assert_allclose(right, penalty_of(covariance), rtol=1e-12)
    assert wrong_dip_vae_ii(mu, logvar) > 5 * right


def test_variant_one_does_not_read_the_variances():
    mu, logvar = torch.randn(9, 4).double(), torch.full((9, 4), float("nan")).double()
    got = dip_vae_penalty(mu, logvar, variant="i", lambda_od=2.0, lambda_d=3.0, lambda_3=1.0)
    assert torch.equal(
        got, dip_vae_penalty(mu, variant="i", lambda_od=2.0, lambda_d=3.0, lambda_3=1.0)
    )
    covariance = torch.cov(mu.T, correction=0)
    off = covariance - torch.diag(covariance.diagonal())
    third = ((mu - mu.mean(0)) ** 3).mean(0)
    want = 2 * (off**2).sum() + 3 * ((covariance.diagonal() - 1) ** 2).sum() + (third**2).sum()
    torch.testing.assert_close(got, want)


def test_the_penalty_vanishes_at_the_prior():
    """Codes with covariance (1 − v) I and variances v: the aggregate has the prior's moments."""
    v = 0.3
    logvar = torch.full((BATCH, LATENTS), np.log(v), dtype=torch.float64)
    got = dip_vae_penalty(
        orthogonal_codes(1 - v), logvar, lambda_od=10.0, lambda_d=10.0, lambda_3=200.0
    )
    assert got.item() < 1e-25


def test_third_moments_enter_with_their_weight():
    mu, logvar = torch.rand(32, 5).double() ** 3, torch.randn(32, 5).double()
    weights = {"lambda_od": 1.0, "lambda_d": 2.0}
    with_third = dip_vae_penalty(mu, logvar, **weights, lambda_3=200.0)
    c = mu - mu.mean(0)
    third = (c**3 + 3 * c * logvar.exp()).mean(0)
    want = dip_vae_penalty(mu, logvar, **weights) + 200 * (third**2).sum()
    torch.testing.assert_close(with_third, want)


def test_descent_on_the_penalty_decorrelates():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(4, 4, generator=generator)
    mu = (torch.randn(256, 4, generator=generator) @ mixing).requires_grad_()
    optimiser = torch.optim.Adam([mu], lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        dip_vae_penalty(mu, variant="i", lambda_od=5.0, lambda_d=10.0).backward()
        optimiser.step()
    covariance = torch.cov(mu.detach().T, correction=0)
    torch.testing.assert_close(covariance, torch.eye(4), rtol=0, atol=0.02)


def test_cross_covariance_variants():
    y, z = torch.randn(32, 3).double(), torch.randn(32, 7).double()
    c = np.cov(y.numpy(), z.numpy(), rowvar=False, bias=True)[:3, 3:]
    paper = cross_covariance_penalty(y, z)
    authors = cross_covariance_penalty(y, z, variant="author_code")
    np.testing.assert_allclose(paper.item(), np.sum(c**2), rtol=1e-12)
    np.testing.assert_allclose(authors.item(), np.linalg.norm(c), rtol=1e-12)


def test_the_norm_has_a_finite_gradient_at_zero():
    y = torch.ones(4, 2, requires_grad=True)
    z = torch.randn(4, 3, requires_grad=True)
    norm = cross_covariance_penalty(y, z, variant="author_code")
    assert norm.item() == 0
    for grad in torch.autograd.grad(norm, (y, z)):
        assert torch.equal(grad, torch.zeros_like(grad))


def test_compiles_whole():
    mu, logvar = torch.randn(8, 3), torch.randn(8, 3)
    compiled = torch.compile(dip_vae_penalty, fullgraph=True, backend="aot_eager")
    weights = {"lambda_od": 1.0, "lambda_d": 2.0, "lambda_3": 3.0}
    torch.testing.assert_close(
        compiled(mu, logvar, **weights), dip_vae_penalty(mu, logvar, **weights)
    )


def test_top_level_names():
    assert pydisent.dip_vae_penalty is dip_vae_penalty
    assert pydisent.cross_covariance_penalty is cross_covariance_penalty


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"variant": "iii"}, ValueError, "variant must .*got 'iii'"),
        ({"logvar": None}, ValueError, "logvar must .*got None"),
        ({"lambda_3": -1.0}, ValueError, "lambda_3 must .*got -1.0"),
        ({"lambda_od": -1.0}, ValueError, "lambda_od must .*got -1.0"),
        ({"mu": torch.ones(3)}, ValueError, r"mu must have shape .*got \(3,\)"),
        (
            {"lambda_od": torch.ones(())},
            TypeError,
            "lambda_od must be a finite number >= 0, got Tensor",
        ),
        (
            {"lambda_d": torch.ones(())},
            TypeError,
            "lambda_d must be a finite number >= 0, got Tensor",
        ),
        (
            {"lambda_3": torch.ones(())},
            TypeError,
            "lambda_3 must be a finite number >= 0, got Tensor",
        ),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    arguments = {"mu": torch.ones(4, 3), "logvar": torch.ones(4, 3), "lambda_od": 1.0}
    with pytest.raises(error, match=message):
        dip_vae_penalty(**(arguments | {"lambda_d": 1.0} | change))


def test_bad_variant_of_the_cross_covariance():
    with pytest.raises(ValueError, match=r"variant must .*got 'theirs'"):
        cross_covariance_penalty(torch.ones(2, 1), torch.ones(2, 1), variant="theirs")


DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", ["i", "ii"])
def test_a_given_covariance_is_as_the_batch_covariance(variant, dtype):
    """Even where float16 holds neither e^13 nor the sum of squares."""
    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(9, 3, generator=generator, dtype=torch.float64).to(dtype)
    logvar = torch.full((9, 3), 13.0, dtype=dtype)
    covariance = (300 * torch.cov(mu.double().T, correction=0)).to(dtype)
    wide = covariance.double()
    found = dip_vae_penalty(
        mu, logvar, variant=variant, lambda_od=2.0, lambda_d=3.0, covariance=covariance
    )
    variances = wide.diagonal() + (np.exp(13) if variant == "ii" else 0)
    off = wide[~torch.eye(3, dtype=torch.bool)]
    want = 2 * (off**2).sum() + 3 * ((variances - 1) ** 2).sum()
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), want, rtol=1e-5, atol=0)


def test_a_given_covariance_of_an_empty_batch():
    empty = torch.empty(0, 3)
    found = dip_vae_penalty(empty, empty, lambda_od=1.0, lambda_d=1.0, covariance=torch.eye(3))
    assert found.item() == 0


@pytest.mark.parametrize("given", [None, torch.eye(3)])
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"logvar": torch.zeros(1, 3)}, ValueError, "logvar must have shape (5, 3), that of mu"),
        ({"logvar": torch.zeros(3)}, ValueError, "logvar must have shape (5, 3), that of mu"),
        ({"logvar": torch.zeros(5, 1)}, ValueError, "logvar must have shape (5, 3), that of mu"),
        ({"logvar": torch.zeros(4, 3)}, ValueError, "logvar must have shape (5, 3), that of mu"),
        ({"logvar": torch.zeros(5, 3).long()}, TypeError, "logvar must be float16"),
        ({"logvar": [[0.0] * 3] * 5}, TypeError, "logvar must be a torch.Tensor, got list"),
        ({"mu": torch.zeros(3)}, ValueError, "mu must have shape (B, d), d >= 1, got (3,)"),
        ({"mu": torch.zeros(5, 3).long()}, TypeError, "mu must be float16"),
        ({"mu": [[0.0] * 3] * 5}, TypeError, "mu must be a torch.Tensor, got list"),
    ],
)
def test_bad_codes_are_refused_with_a_covariance_as_without(given, change, error, words):
    arguments = {"mu": torch.zeros(5, 3), "logvar": torch.zeros(5, 3), "covariance": given}
    weights = {"lambda_od": 1.0, "lambda_d": 1.0}
    dip_vae_penalty(**arguments, **weights)
    with pytest.raises(error, match=f"^{re.escape(words)}"):
        dip_vae_penalty(**(arguments | change), **weights)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_a_given_covariance_is_floating(dtype):
    with pytest.raises(TypeError, match=r"^covariance must be float16, bfloat16"):
        dip_vae_penalty(
            torch.zeros(5, 3), variant="i", lambda_od=1.0, lambda_d=1.0,
            covariance=torch.eye(3).to(dtype),
        )  # fmt: skip
