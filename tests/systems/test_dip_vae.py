import numpy as np
import pytest
import torch

from pydisent import systems
from pydisent.losses import dip_vae_penalty
from pydisent.training import checkpoint


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


@pytest.mark.parametrize("name", ["dip-vae-1", "dip-vae-2"])
def test_running_covariance(smoke, images, replay, name):
    """Footnote 4, by its formula in float64: C ← ρC + (1 − ρ) Cov(batch), the first alone."""
    settings = {"lambda_od": 3.0, "diagonal_ratio": 0.5, "covariance": "running"}
    system = smoke(name, **settings, covariance_decay=0.75, learning_rate=1e-2)
    with torch.no_grad():
        system.encoder[-1].weight.mul_(40)  # covariances that count
    running = None
    for update in range(4):
        x = images(system) ** (1 + update)
        mu, logvar, _ = replay(system, x, update)
        now = np.cov(mu.numpy(), rowvar=False, bias=True)
        running = now if running is None else 0.75 * running + 0.25 * now
        whole = running + (np.diag(np.exp(logvar.numpy()).mean(0)) if name == "dip-vae-2" else 0)
        off = whole - np.diag(np.diag(whole))
        expected = 3 * (off**2).sum() + 1.5 * ((np.diag(whole) - 1) ** 2).sum()
        if name == "dip-vae-2":
            expected += 200 * _third_moments(mu, logvar)
        torch.manual_seed(update)
        logs = system.step(x)
        assert float(logs["covariance"]) == pytest.approx(expected, rel=1e-4)
        np.testing.assert_allclose(system.covariance, running, rtol=1e-4, atol=1e-5)
    assert abs(running - now).max() > 0.01


def test_gradients_flow_through_the_batchs_share(double):
    """Of the running covariance's penalty, by central differences of its formula."""
    generator = torch.Generator().manual_seed(0)
    mu, logvar = torch.randn(2, 6, 3, generator=generator)
    before = torch.tensor([[1.5, 0.2, 0.1], [0.2, 0.8, -0.3], [0.1, -0.3, 1.1]])

    def penalty(mu, logvar):
        mixed = 0.75 * before + 0.25 * torch.cov(mu.T, correction=0)
        return dip_vae_penalty(
            mu, logvar, lambda_od=3.0, lambda_d=1.5, lambda_3=2.0, covariance=mixed
        )

    torch.autograd.gradcheck(penalty, (mu.requires_grad_(), logvar.requires_grad_()))
    same = dip_vae_penalty(
        mu, logvar, lambda_od=3.0, lambda_d=1.5, covariance=torch.cov(mu.T, correction=0)
    )
    torch.testing.assert_close(same, dip_vae_penalty(mu, logvar, lambda_od=3.0, lambda_d=1.5))
    with pytest.raises(ValueError, match=r"covariance must have shape \(3, 3\), got \(2, 2\)"):
        dip_vae_penalty(mu, logvar, lambda_od=1.0, lambda_d=1.0, covariance=torch.eye(2))


def test_a_checkpoint_holds_the_running_covariance(smoke, images, tmp_path):
    settings = {"covariance": "running", "covariance_decay": 0.5}
    system = smoke("dip-vae-2", **settings)
    for _ in range(2):
        system.step(images(system))
    path = checkpoint.save_checkpoint(tmp_path, system, 2, 0.0, [])
    fresh = smoke("dip-vae-2", **settings)
    checkpoint.load_training(path, fresh)
    assert torch.equal(fresh.covariance, system.covariance)
    for each in (system, fresh):
        torch.manual_seed(9)
        each.step(images(each))
    assert all(map(torch.equal, fresh.state_dict().values(), system.state_dict().values()))
    assert not any("covariance" in key for key in smoke("dip-vae-2").state_dict())
