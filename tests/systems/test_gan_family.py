import numpy as np
import pytest
import torch
from torch import nn

from pydisent import systems
from pydisent.training import Plan

FAMILY = ("gan", "infogan", "ib-gan")


def _weights(*modules):
    return torch.cat([p.detach().flatten().clone() for m in modules for p in m.parameters()])


def test_optimizers_train_every_weight_once(smoke):
    for name in FAMILY:
        for shared in (True, False):
            system = smoke(name, shared_front=shared)
            trained = [
                id(p)
                for o in system.optimizers.values()
                for g in o.param_groups
                for p in g["params"]
            ]
            assert sorted(trained) == sorted(id(p) for p in system.parameters())
            for optimizer in system.optimizers.values():
                assert isinstance(optimizer, torch.optim.RMSprop)
                assert optimizer.param_groups[0]["momentum"] == 0.9


def _drawn(system, seed):
    """The codes and noises of a step after `torch.manual_seed(seed)`: z, then r's, then images'."""
    torch.manual_seed(seed)
    if system.name != "ib-gan":
        return torch.randn(8, system.config.latent_size), None
    z = torch.randn(8, system.config.noise_size)
    return z, torch.randn(8, system.config.latent_size)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("shared", [True, False])
def test_losses_equal_their_definitions(smoke, images, name, shared):
    system = smoke(name, noise_start=0, noise_end=0, shared_front=shared)
    real = images(system)
    z, noise = _drawn(system, 2)
    with torch.no_grad():
        code, kl = z, None
        if name == "ib-gan":
            mu, logvar = system.encoder(z)
            code = mu + (logvar / 2).exp() * noise
            mu, logvar = mu.double(), logvar.double()
            kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean(0)
        fake = system.generator(code)
        features = [system.front(x) for x in (fake, 2 * real - 1)]
        logits = [system.discriminator(f).double().numpy() for f in features]
        seen = features[0] if shared else system.own_front(fake)
        found = system.reconstructor(seen).double()
    torch.manual_seed(2)
    logs = system.step(real)
    fake_loss = np.log1p(np.exp(logits[0])).mean()
    assert float(logs["discriminator"]) == pytest.approx(
        np.log1p(np.exp(-logits[1])).mean() + fake_loss, rel=1e-5
    )
    assert float(logs["generator"]) == pytest.approx(np.log1p(np.exp(-logits[0])).mean(), rel=1e-5)
    lower = 0.5 * (z.double() ** 2 - (z - found) ** 2).sum(1).mean()
    assert float(logs["mi_lower"]) == pytest.approx(float(lower), rel=1e-5, abs=1e-6)
    by_dimension = [float(v) for k, v in logs.items() if k.startswith("kl/")]
    if kl is None:
        assert "mi_upper" not in logs
        assert not by_dimension
    else:
        assert by_dimension == pytest.approx(kl.tolist(), rel=1e-4, abs=1e-7)
        assert float(logs["mi_upper"]) == pytest.approx(float(kl.sum()), rel=1e-4)


def _objectives(system, real, gamma, beta):
    """What each optimiser is to minimise at the step after `torch.manual_seed(2)`."""
    z, noise = _drawn(system, 2)
    code, kl = z, 0.0
    if system.name == "ib-gan":
        mu, logvar = system.encoder(z)
        code = mu + (logvar / 2).exp() * noise
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
    features = system.front(system.generator(code))
    logits = system.discriminator(features)
    error = 0.5 * (z - system.reconstructor(features)).square().sum(1).mean()
    true = system.discriminator(system.front(2 * real - 1))
    softplus = nn.functional.softplus
    generator = gamma * softplus(-logits).mean() + beta * kl
    return {
        "discriminator": softplus(-true).mean() + softplus(logits).mean(),
        "generator": generator if system.name == "gan" else generator + error,
        "reconstructor": error,
    }


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("name", "settings"),
    [("gan", {}), ("infogan", {"gamma": 3.0}), ("ib-gan", {"gamma": 3.0, "beta": 0.7})],
)
def test_each_descends_its_own_objective_at_the_same_weights(smoke, images, name, settings):
    system = smoke(name, noise_start=0, noise_end=0, **settings)
    real = images(system)
    weights = {"gamma": 1.0, "beta": 0.0} | settings
    expected = []
    for optimizer in system.optimizers:
        group = system.optimizers[optimizer].param_groups[0]
        loss = _objectives(system, real, **weights)[optimizer]
        expected.append((group["params"], torch.autograd.grad(loss, group["params"])))
        group["lr"] = 0.0
    torch.manual_seed(2)
    system.step(real)
    for parameters, gradients in expected:
        for parameter, gradient in zip(parameters, gradients):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("variant", ["published", "author_code"])
def test_the_reconstructors_statistics_are_of_the_images_it_sees(smoke, images, variant, shared):
    """Its last batch norm's running mean, which moves a tenth of the way at each batch seen."""
    settings = {"reconstructor_statistics": variant, "shared_front": shared, "noise_start": 0}
    system = smoke("ib-gan", **settings)
    norm, seen = system.reconstructor.dense[1], []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().mean(0)))
    system.step(images(system))
    assert len(seen) == (1 if variant == "published" else 2)
    mean = torch.zeros_like(seen[0])
    for batch in seen:
        mean = 0.9 * mean + 0.1 * batch
    torch.testing.assert_close(norm.running_mean, mean)


def test_the_reconstructors_statistics_change_no_weight(smoke, images):
    trained = []
    for variant in ("published", "author_code"):
        system = smoke("ib-gan", reconstructor_statistics=variant)
        torch.manual_seed(1)
        for _ in range(3):
            system.step(images(system))
        trained.append(system)
    assert torch.equal(*map(_weights, trained))
    codes = [system.eval().encode(images(system)) for system in trained]
    assert not torch.allclose(*codes)


@pytest.mark.parametrize("name", FAMILY)
def test_networks_of_the_authors_code(name):
    """As many weights as its networks for Color-dSprites, less a bias before a batch norm."""
    config = systems.preset(name, "paper", "color-dsprites").config
    own = {"heads": "author_code", "shared_front": False}
    system = systems.build(name, systems.override(config, own), (3, 64, 64))

    def count(*modules):
        return sum(p.numel() for module in modules for p in module.parameters())

    assert count(system.front, system.discriminator) == 2_213_841
    of_a_value = 257  # the last layer's weights and bias
    codes = 16 if name == "ib-gan" else 10
    found = count(system.own_front, system.reconstructor)
    assert found == 2_284_000 - 256 - (16 - codes) * of_a_value


@pytest.mark.parametrize("name", FAMILY)
def test_runs_from_before_there_was_a_choice_are_read_as_they_were_trained(name):
    plan = Plan.from_preset(name, "sprites", "paper")
    older = plan.to_json()
    del older["config"]["reconstructor_statistics"], older["config"]["heads"]
    assert Plan.from_json(older).config == plan.config
    assert plan.config.reconstructor_statistics == "published"


def test_the_reconstructor_of_a_gan_goes_unnoticed(smoke, images):
    seen = []
    for rate in (1e-3, 0.0):
        system = smoke("gan")
        system.optimizers["reconstructor"].param_groups[0]["lr"] = rate
        before = _weights(system.reconstructor)
        torch.manual_seed(1)
        for _ in range(3):
            system.step(images(system))
        assert torch.equal(_weights(system.reconstructor), before) == (rate == 0)
        seen.append(_weights(system.generator, system.front, system.discriminator))
    assert torch.equal(*seen)


def test_noise_is_annealed_and_added_to_real_and_fake(smoke, images):
    system = smoke("infogan", noise_start=1.0, noise_end=0.2, noise_steps=4, clamp_noise=False)
    assert [round(_std_at(system, step), 3) for step in (0, 1, 2, 4, 9)] == [1, 0.8, 0.6, 0.2, 0.2]
    system.phase_step = 0
    seen = []
    system.front.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    system.step(torch.full((8, 1, 16, 16), 0.5))
    fake, real = seen
    assert float(real.std()) == pytest.approx(1, rel=0.1)
    assert fake.abs().max() > 2
    clamped = smoke("infogan", noise_start=1.0)
    clamped.front.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    clamped.step(images(clamped))
    assert max(float(x.abs().max()) for x in seen[2:]) == 1


def _std_at(system, step):
    system.phase_step = step
    return system.scheduled_noise()


def test_one_sided_label_smoothing(smoke):
    system = smoke("gan", label_smoothing=True)
    real, fake = torch.randn(2, 8, 1)
    torch.manual_seed(0)
    loss = float(system.discriminator_loss(real, fake))
    torch.manual_seed(0)
    labels = 0.7 + 0.5 * torch.rand(8, 1)
    bce = nn.functional.binary_cross_entropy_with_logits
    assert loss == pytest.approx(float(bce(real, labels) + bce(fake, torch.zeros(8, 1))), rel=1e-6)
    plain = float(smoke("gan").discriminator_loss(real, fake))
    both = bce(real, torch.ones(8, 1)) + bce(fake, torch.zeros(8, 1))
    assert plain == pytest.approx(float(both), rel=1e-6)


def test_initial_weights(smoke):
    for rule in ("normal", "orthogonal"):
        system = smoke("ib-gan", initialization=rule)
        for network in (system.encoder, system.generator, system.reconstructor):
            weights = [
                layer.weight.detach().flatten(1)
                for layer in network.modules()
                if isinstance(layer, (nn.Linear, nn.Conv2d)) and layer.weight.numel() > 200
            ]
            for weight in weights:
                if rule == "normal":
                    assert float(weight.std()) == pytest.approx(0.02, rel=0.25)
                else:
                    wide = weight if weight.shape[0] <= weight.shape[1] else weight.T
                    torch.testing.assert_close(wide @ wide.T, torch.eye(len(wide)))
