import copy
import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from pydisent import systems

FAMILY = (
    "vae", "beta-vae", "annealed-vae", "dip-vae-1", "dip-vae-2", "factor-vae", "beta-tcvae"
)  # fmt: skip


def _weights(module):
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def _negative_log_likelihood(system, z, x, std):
    """By torch.distributions, in float64."""
    with torch.no_grad():
        logits = copy.deepcopy(system.decoder).double()(z)
    if std is None:
        pixels = Bernoulli(logits=logits, validate_args=False)
    else:
        pixels = Normal(logits.sigmoid(), std)
    return -Independent(pixels, 3).log_prob(x.double()).mean()


def _kl(mu, logvar):
    posterior = Normal(mu, (logvar / 2).exp())
    return kl_divergence(posterior, Normal(torch.zeros_like(mu), 1.0))


@pytest.mark.parametrize("std", [None, 0.3, math.sqrt(0.5)])
def test_loss_is_the_negative_elbo(smoke, images, replay, std):
    settings = {} if std is None else {"decoder": "gaussian", "decoder_std": std}
    system = smoke("vae", channels=2, **settings)
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.mul_(2)  # log-variances and logits far from zero
    x = images(system)
    mu, logvar, z = replay(system, x, 2)
    expected = _negative_log_likelihood(system, z, x, std)
    kl = _kl(mu, logvar).sum(1).mean()
    torch.manual_seed(2)
    logs = system.step(x)
    assert float(logs["reconstruction"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(logs["kl"]) == pytest.approx(float(kl), rel=1e-5)
    assert float(logs["loss"]) == pytest.approx(float(expected + kl), rel=1e-5)
    assert int(logs["active_dimensions"]) == int((_kl(mu, logvar).mean(0) > 0.01).sum())


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("channels", [1, 3])
def test_two_steps_train_encoder_and_decoder(smoke, images, name, channels):
    system = smoke(name, channels)
    before = _weights(system.encoder), _weights(system.decoder)
    for _ in range(2):
        logs = system.step(images(system))
        assert logs.keys() >= {"loss", "reconstruction", "kl", "active_dimensions"}
        assert all(torch.isfinite(value) and not value.requires_grad for value in logs.values())
    assert not torch.equal(_weights(system.encoder), before[0])
    assert not torch.equal(_weights(system.decoder), before[1])
    assert system.phase_step == 2


@pytest.mark.parametrize("name", FAMILY)
def test_training_lowers_the_reconstruction_loss(smoke, images, name):
    """Strengths at which the penalty does not dominate; the published ones are for long runs."""
    gentle = {"annealed-vae": {"gamma": 1.0}, "dip-vae-1": {"lambda_od": 0.1}}
    system = smoke(name, learning_rate=3e-3, **gentle.get(name, {}))
    x = (images(system) > 0.5).float()
    logs = [system.step(x) for _ in range(40)]
    assert float(logs[-1]["reconstruction"]) < float(logs[0]["reconstruction"]) - 1


@pytest.mark.parametrize("name", FAMILY)
def test_protocol(smoke, images, name):
    system = smoke(name)
    x = images(system)
    mu, logvar = system.posterior(x)
    assert mu.shape == logvar.shape == (len(x), 4)
    assert torch.equal(system.encode(x), mu)
    generator = torch.Generator().manual_seed(3)
    codes = system.sample_code(500, generator)
    assert torch.equal(codes, system.sample_code(500, torch.Generator().manual_seed(3)))
    assert codes.mean().abs() < 0.1
    assert codes.std() == pytest.approx(1, abs=0.1)
    decoded = system.decode(1000 * codes)
    assert decoded.shape == (500, *system.image_shape)
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    assert system.code_names == ["z1", "z2", "z3", "z4"]
    assert system.phases(9) == (("train", 9),)


@pytest.mark.parametrize("name", FAMILY)
def test_published_settings(name):
    chosen = systems.preset(name, "paper", "sprites")
    c = chosen.config
    assert (chosen.steps, chosen.image_size) == (300_000, 64)
    assert (c.latent_size, c.base, c.hidden, c.learning_rate) == (10, 32, 256, 1e-4)
    assert (c.adam_beta1, c.adam_beta2, c.adam_eps) == (0.9, 0.999, 1e-8)
    assert c.batch_size == (400 if name.startswith("dip") else 64)
    assert c.decoder == "bernoulli"
    assert systems.preset(name, "paper", "celeba").config.decoder == "gaussian"
    assert c == systems.config_class(name)()
    group = systems.build(name, c, (1, 64, 64)).optimizers["vae"].param_groups[0]
    assert (group["lr"], group["betas"], group["eps"]) == (1e-4, (0.9, 0.999), 1e-8)


def test_published_strengths():
    published = {
        "beta-vae": {"beta": 4},
        "annealed-vae": {"gamma": 1000, "capacity": 25, "capacity_steps": 100_000},
        "dip-vae-1": {"lambda_od": 10, "lambda_d": 100},
        "dip-vae-2": {"lambda_od": 500, "lambda_d": 500, "lambda_3": 200},
        "factor-vae": {"gamma": 35, "discriminator_width": 1000, "discriminator_layers": 6},
        "beta-tcvae": {"beta": 6, "estimator": "mws"},
    }
    for name, strengths in published.items():
        config = systems.config_class(name)()
        assert {key: getattr(config, key) for key in strengths} == strengths


@pytest.mark.parametrize("preset", ["smoke", "quick"])
def test_the_family_shares_everything_but_the_regularizer(preset):
    base = systems.preset("vae", preset, "sprites")
    for name in FAMILY:
        chosen = systems.preset(name, preset, "sprites")
        assert (chosen.steps, chosen.image_size) == (base.steps, base.image_size)
        for key, _, value in systems.describe(base.config):
            assert getattr(chosen.config, key) == value, (name, key)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("vae", "latent_size", 0), ("vae", "base", 0), ("vae", "hidden", -1),
        ("vae", "batch_size", 0), ("vae", "learning_rate", 0.0), ("vae", "decoder_std", 0.0),
        ("vae", "decoder", "poisson"), ("vae", "adam_beta1", 1.0), ("vae", "adam_eps", 0.0),
        ("beta-vae", "beta", -1.0), ("beta-vae", "beta", float("nan")),
        ("annealed-vae", "gamma", -1.0), ("annealed-vae", "capacity", float("inf")),
        ("annealed-vae", "capacity_steps", 0),
        ("dip-vae-1", "lambda_od", -1.0), ("dip-vae-1", "diagonal_ratio", float("nan")),
        ("dip-vae-2", "lambda_3", -1.0),
        ("factor-vae", "gamma", -1.0), ("factor-vae", "permuted_batch", "third"),
        ("factor-vae", "discriminator_width", 0), ("factor-vae", "discriminator_layers", 0),
        ("factor-vae", "discriminator_learning_rate", 0.0),
        ("factor-vae", "discriminator_beta2", 1.0),
        ("beta-tcvae", "beta", -1.0), ("beta-tcvae", "estimator", "exact"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(name, setting, value):
    with pytest.raises(ValueError, match=rf"^{setting} must be .*, got "):
        systems.override(systems.preset(name, "smoke", "sprites").config, {setting: value})


def test_images_must_suit_the_networks():
    config = systems.config_class("vae")()
    for shape in ((1, 28, 28), (1, 4, 4), (1, 16, 32)):
        with pytest.raises(ValueError, match="image_s"):
            systems.build("vae", config, shape)
    with pytest.raises(TypeError, match="must be of beta-vae's BetaVAEConfig, got VAEConfig"):
        systems.build("beta-vae", config, (1, 16, 16))
