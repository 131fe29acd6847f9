import copy
import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from pydisent import systems
from pydisent.nn import TranslatedPReLU
from pydisent.training import Plan

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


@pytest.mark.parametrize("networks", ["locatello", "dcgan", "ib-gan"])
@pytest.mark.parametrize("name", ["vae", "factor-vae"])
def test_other_networks_train_the_same_losses(smoke, images, replay, name, networks):
    system = smoke(name, channels=2, networks=networks)
    x = images(system)
    before = _weights(system.encoder), _weights(system.decoder)
    twin = copy.deepcopy(system)
    logs = system.step(x)
    if name == "vae" and networks == "locatello":  # the others' norms depend on what came before
        mu, logvar, z = replay(twin, x, 2)
        expected = float(_negative_log_likelihood(twin, z, x, None) + _kl(mu, logvar).sum(1).mean())
        torch.manual_seed(2)
        assert float(twin.step(x)["loss"]) == pytest.approx(expected, rel=1e-5)
    assert all(torch.isfinite(value) for value in logs.values())
    assert not torch.equal(_weights(system.encoder), before[0])
    assert not torch.equal(_weights(system.decoder), before[1])
    system.eval()
    code = system.encode(x)
    assert code.shape == (len(x), 4)
    image = system.decode(code)
    assert image.shape == x.shape
    torch.testing.assert_close(image, system.decoder(code).sigmoid())


@pytest.mark.parametrize(("networks", "range_of"), [("dcgan", (0, 1)), ("ib-gan", (-1, 1))])
def test_a_generator_decodes_as_it_generates(smoke, networks, range_of):
    """(tanh x + 1)/2 = sigmoid(2x), for images in [0, 1] or, of IB-GAN's, in [-1, 1]."""
    system = smoke("vae", networks=networks).eval()
    z = torch.randn(5, 4)
    low, high = range_of
    images = (system.decoder.generator(z) - low) / (high - low)
    torch.testing.assert_close(system.decode(z), images, rtol=1e-5, atol=1e-6)
    relus = [m for m in system.encoder.modules() if isinstance(m, torch.nn.LeakyReLU)]
    x = torch.linspace(-2, 2, 9)
    assert all(torch.equal(relu(x), x.clamp(min=0)) for relu in relus)
    assert bool(relus) == (networks == "ib-gan")


def test_leaks_are_clipped_after_each_update(smoke, images):
    system = smoke("vae", networks="dcgan", learning_rate=10.0)
    system.step(images(system))
    leaks = torch.cat([m.leak for m in system.modules() if isinstance(m, TranslatedPReLU)])
    assert leaks.min() == 0
    assert leaks.max() == 1


def test_runs_that_did_not_record_their_networks_have_the_older_encoder():
    plan = Plan.from_preset("factor-vae", "dsprites", "paper", data_path="x")
    kept = plan.to_json()
    del kept["config"]["networks"]
    config = Plan.from_json(kept).config
    assert plan.config.networks == "locatello"
    encoder = systems.build("factor-vae", config, (1, 64, 64)).encoder
    kernels = {m.kernel_size for m in encoder.modules() if isinstance(m, torch.nn.Conv2d)}
    assert kernels == {(4, 4)}


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
        ("vae", "decoder", "poisson"), ("vae", "networks", "resnet"),
        ("vae", "adam_beta1", 1.0), ("vae", "adam_eps", 0.0), ("beta-vae", "warmup_steps", -1),
        ("beta-vae", "beta", -1.0), ("beta-vae", "beta", float("nan")),
        ("annealed-vae", "gamma", -1.0), ("annealed-vae", "capacity", float("inf")),
        ("annealed-vae", "capacity_steps", 0),
        ("dip-vae-1", "lambda_od", -1.0), ("dip-vae-1", "diagonal_ratio", float("nan")),
        ("dip-vae-2", "lambda_3", -1.0), ("dip-vae-1", "covariance", "whole"),
        ("dip-vae-1", "covariance_decay", 1.0),
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


def test_batch_norm_needs_two_images():
    config = systems.preset("vae", "smoke", "sprites").config
    with pytest.raises(ValueError, match=r"batch_size must be .*, got 1"):
        systems.override(config, {"networks": "ib-gan", "batch_size": 1})


def test_images_must_suit_the_networks():
    config = systems.config_class("vae")()
    for shape in ((1, 28, 28), (1, 4, 4), (1, 16, 32)):
        with pytest.raises(ValueError, match="image_s"):
            systems.build("vae", config, shape)
    with pytest.raises(TypeError, match="must be of beta-vae's BetaVAEConfig, got VAEConfig"):
        systems.build("beta-vae", config, (1, 16, 16))
