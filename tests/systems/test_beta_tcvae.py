import math

import pytest
import torch
from torch.distributions import Normal


def _total_correlation(z, mu, logvar, size):
    """Chen et al., Eq. S6 (minibatch-weighted), pair by pair by torch.distributions."""
    posterior = Normal(mu, (logvar / 2).exp())
    b = len(z)
    pairs = torch.stack([posterior.log_prob(z[i]) for i in range(b)])  # (i, j, d)
    joint = pairs.sum(2).exp().sum(1).log() - math.log(b * size)
    marginals = (pairs.exp().sum(1).log() - math.log(b * size)).sum(1)
    return float((joint - marginals).mean())


def test_loss_equals_its_definition(smoke, images, replay):
    system = smoke("beta-tcvae", beta=5.0)
    system.dataset_size = 123
    x = images(system)
    tc = _total_correlation(*_ordered(replay(system, x, 2)), 123)
    torch.manual_seed(2)
    logs = system.step(x)
    assert float(logs["total_correlation"]) == pytest.approx(tc, rel=1e-4)
    expected = float(logs["reconstruction"]) + float(logs["kl"]) + 4 * tc
    assert float(logs["loss"]) == pytest.approx(expected, rel=1e-5)


def _ordered(latents):
    mu, logvar, z = latents
    return z, mu, logvar


def test_the_estimator_changes_the_estimate(smoke, images):
    values = []
    for estimator in ("mws", "mss"):
        system = smoke("beta-tcvae", estimator=estimator)
        torch.manual_seed(2)
        values.append(float(system.step(images(system))["total_correlation"]))
    assert abs(values[0] - values[1]) > 0.01


def test_beta_one_is_the_vae(smoke, images):
    logs = []
    for name, settings in (("vae", {}), ("beta-tcvae", {"beta": 1.0})):
        system = smoke(name, **settings)
        torch.manual_seed(1)
        logs.append([float(system.step(images(system))["loss"]) for _ in range(3)])
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)


def test_the_size_of_the_data_is_needed(smoke, images):
    system = smoke("beta-tcvae")
    system.dataset_size = None
    with pytest.raises(ValueError, match="dataset_size must be set to the number of training"):
        system.step(images(system))
