import dataclasses

import numpy as np
import pytest
import torch

from pydisent import systems


def _penalty(mu, logvar, lambda_od, lambda_d):
    """Kumar et al., Eqs. 6 and 7, entry by entry, on NumPy's covariance."""
    matrix = np.cov(mu.numpy(), rowvar=False, bias=True)
    if logvar is not None:
        matrix = matrix + np.diag(np.exp(logvar.numpy()).mean(0))
    total = 0.0
    for i in range(len(matrix)):
        for j in range(len(matrix)):
            weight, target = (lambda_d, 1) if i == j else (lambda_od, 0)
            total += weight * (matrix[i, j] - target) ** 2
    return total


def _third_moments(mu, logvar):
    """Squared third central moments of the mixture of posteriors, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    z = mu.numpy()[..., None] + np.exp(logvar.numpy() / 2)[..., None] * nodes
    average = lambda values: (values @ (weights / weights.sum())).mean(0)
    return (average((z - average(z)[:, None]) ** 3) ** 2).sum()


@pytest.mark.parametrize("name", ["dip-vae-1", "dip-vae-2"])
def test_loss_is_the_vaes_plus_the_penalty(smoke, images, replay, name):
    settings = {"lambda_od": 3.0, "diagonal_ratio": 0.5}
    settings |= {"lambda_3": 2.0} if name == "dip-vae-2" else {}
    system, plain = smoke(name, **settings), smoke("vae")
    with torch.no_grad():
        for twin in (system, plain):
            twin.encoder[-1].weight.mul_(40)  # covariances that count
    x = images(system)
    mu, logvar, _ = replay(system, x, 2)
    expected = _penalty(mu, logvar if name == "dip-vae-2" else None, 3.0, 1.5)
    if name == "dip-vae-2":
        third = 2 * _third_moments(mu, logvar)
        assert third > 0.01 * expected
        expected += third
    torch.manual_seed(2)
    logs = system.step(x)
    torch.manual_seed(2)
    loss = float(plain.step(x)["loss"])
    assert expected > 0.01 * loss
    assert float(logs["covariance"]) == pytest.approx(expected, rel=1e-4)
    assert float(logs["loss"]) == pytest.approx(loss + expected, rel=1e-5)


def test_the_penalty_pulls_the_covariance_to_the_identity(smoke, images):
    system = smoke("dip-vae-1", lambda_od=50.0, diagonal_ratio=1.0, learning_rate=1e-2)
    x = (images(system) > 0.5).float()
    for _ in range(150):
        system.step(x)
    covariance = np.cov(system.encode(x).detach().numpy(), rowvar=False, bias=True)
    assert np.abs(covariance - np.eye(4)).max() < 0.2


def test_the_diagonal_weight_follows():
    config = systems.config_class("dip-vae-1")(lambda_od=5.0)
    assert config.lambda_d == 50
    assert systems.config_class("dip-vae-2")(lambda_od=5.0).lambda_d == 5


def test_published_settings_for_celeba():
    first = systems.preset("dip-vae-1", "paper", "celeba").config
    assert (first.lambda_od, first.lambda_d, first.batch_size) == (2, 100, 100)
    second = systems.preset("dip-vae-2", "paper", "celeba").config
    assert (second.lambda_od, second.lambda_d, second.lambda_3) == (80, 40, 0)
    assert dataclasses.asdict(second)["batch_size"] == 100
