import pytest
import torch


def test_the_kl_counts_beta_times(smoke, images):
    system = smoke("beta-vae", beta=7.0)
    logs = system.step(images(system))
    expected = float(logs["reconstruction"]) + 7 * float(logs["kl"])
    assert float(logs["loss"]) == pytest.approx(expected, rel=1e-6)


def test_beta_one_is_the_vae(smoke, images):
    trained = []
    for system in (smoke("vae"), smoke("beta-vae", beta=1.0)):
        torch.manual_seed(1)
        for _ in range(3):
            system.step(images(system))
        trained.append(system.state_dict())
    assert all(torch.equal(value, trained[1][key]) for key, value in trained[0].items())


def test_beta_warms_up_linearly(smoke, images):
    """Ramesh et al., App. C: from 0 to β over the first updates, and then β."""
    system = smoke("beta-vae", beta=6.0, warmup_steps=3)
    for weight in (0, 2, 4, 6, 6):
        logs = system.step(images(system))
        assert float(logs["beta"]) == pytest.approx(weight)
        expected = float(logs["reconstruction"]) + weight * float(logs["kl"])
        assert float(logs["loss"]) == pytest.approx(expected, rel=1e-6)
