import numpy as np
import pytest
import torch

from pydisent.systems.factor_vae import permute_dimensions


def _weights(module):
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def test_permuting_keeps_marginals_and_breaks_the_joint():
    torch.manual_seed(0)
    z = torch.randn(2000, 1).repeat(1, 3) + torch.tensor([0.0, 5.0, 10.0])
    permuted = permute_dimensions(z)
    assert torch.equal(permuted.sort(0).values, z.sort(0).values)
    assert np.abs(np.corrcoef(permuted.T) - np.eye(3)).max() < 0.1


def test_permutations_are_uniform():
    """Each of the 3! orders of three codes comes up as often as chance has it (5 σ)."""
    torch.manual_seed(1)
    z = torch.arange(3.0)[:, None].repeat(1, 6000)
    orders = permute_dimensions(z).T @ torch.tensor([9.0, 3.0, 1.0])
    counts = orders.unique(return_counts=True)[1]
    assert len(counts) == 6
    assert (counts - 1000).abs().max() < 5 * np.sqrt(6000 / 6 * 5 / 6)


def test_loss_equals_its_definition(smoke, images, replay):
    system = smoke("factor-vae", gamma=9.0)
    first, second = images(system).chunk(2)
    _, _, z = replay(system, first, 2)
    with torch.no_grad():
        log_probabilities = system.discriminator(z.float()).double().log_softmax(1)
    # The density ratio D / (1 − D) of the joint to the product.
    tc = (log_probabilities[:, 0] - log_probabilities[:, 1]).mean()
    torch.manual_seed(2)
    logs = system.step(torch.cat([first, second]))
    assert float(logs["total_correlation"]) == pytest.approx(float(tc), rel=1e-4)
    expected = sum(float(logs[key]) for key in ("reconstruction", "kl")) + 9 * float(tc)
    assert float(logs["loss"]) == pytest.approx(expected, rel=1e-5)


def test_each_update_touches_its_own_networks(smoke, images):
    system = smoke("factor-vae", batch_size=8)
    autoencoder = torch.nn.ModuleList([system.encoder, system.decoder])
    before = _weights(autoencoder), _weights(system.discriminator)
    codes, _ = system.update_autoencoder(images(system)[:8])
    trained = _weights(autoencoder)
    assert not torch.equal(trained, before[0])
    assert torch.equal(_weights(system.discriminator), before[1])
    assert all(p.grad is None for p in system.discriminator.parameters())
    system.update_discriminator(codes, torch.randn(8, 4))
    assert torch.equal(_weights(autoencoder), trained)
    assert not torch.equal(_weights(system.discriminator), before[1])


def test_the_second_batch_is_the_one_permuted(smoke, images, monkeypatch):
    system = smoke("factor-vae")
    assert system.images_per_step == 16
    seen = []
    monkeypatch.setattr(system, "update_discriminator", lambda *codes: seen.extend(codes) or {})
    encoded = []
    system.encoder.register_forward_pre_hook(lambda _, inputs: encoded.append(inputs[0]))
    x = images(system)
    system.step(x)
    assert torch.equal(encoded[0], x[:8])
    assert torch.equal(encoded[1], x[8:])
    assert not any(codes.requires_grad for codes in seen)
    same = smoke("factor-vae", permuted_batch="same")
    assert same.images_per_step == 8
    monkeypatch.setattr(same, "update_discriminator", lambda a, b: {"equal": torch.equal(a, b)})
    assert same.step(x[:8])["equal"]


def test_batches_that_cannot_be_permuted_are_refused(smoke, images):
    system = smoke("factor-vae")
    x = images(system)
    before = _weights(system)
    for count in (1, 0, 7):
        with pytest.raises(ValueError, match=rf"batch must be an even number >= 2 .*, got {count}"):
            system.step(x[:count])
    assert torch.equal(_weights(system), before)
    assert system.phase_step == 0
    system.step(x[:2])
    with pytest.raises(ValueError, match="batch_size must be an integer >= 2, got 1"):
        smoke("factor-vae", batch_size=1)


def test_the_discriminator_learns_the_total_correlation(smoke):
    """Of a normal pair with correlation r, −½ log(1 − r²), beside two independent dimensions."""
    system = smoke("factor-vae", discriminator_width=64, discriminator_learning_rate=3e-3)
    torch.manual_seed(0)
    r = 0.8

    def draw(n):
        z = torch.randn(n, 4)
        z[:, 1] = r * z[:, 0] + np.sqrt(1 - r**2) * z[:, 1]
        return z

    for _ in range(400):
        system.update_discriminator(draw(256), draw(256))
    with torch.no_grad():
        joint, permuted = system.discriminator(draw(20_000)).unbind(1)
    assert float((joint - permuted).mean()) == pytest.approx(-0.5 * np.log(1 - r**2), abs=0.1)
