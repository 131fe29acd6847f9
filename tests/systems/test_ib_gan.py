import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from pydisent import systems
from pydisent.systems.gan import GAN

FAMILY = ("gan", "infogan", "ib-gan")


def _weights(*modules):
    return torch.cat([p.detach().flatten().clone() for m in modules for p in m.parameters()])


# Table 7, and Tables 3-5 for sizes and networks.
PUBLISHED = {
    "sprites": (16, 10, 1.0, 0.141, 1e-6, 150_000, 1.0, 0.0, 100_000, False, 16, True, "64,64,32"),
    "dsprites": (16, 10, 1.0, 0.141, 1e-6, 150_000, 1.0, 0.0, 100_000, False, 16, True, "64,64,32"),
    "color-sprites": (
        16, 10, 1.0, 0.071, 1e-6, 500_000, 1.0, 0.0, 400_000, False, 16, False, "32,32",
    ),
    "chairs": (64, 10, 1.2, 0.35, 2e-6, 700_000, 0.5, 0.01, 700_000, True, 32, True, "64,64,32"),
    "celeba": (
        64, 15, 2.0, 0.325, 2e-6, 1_000_000, 0.5, 0.01, 1_000_000, True, 64, True, "64,64,32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", PUBLISHED)
def test_paper_settings(data):
    preset = systems.preset("ib-gan", "paper", data)
    c = preset.config
    found = (
        c.noise_size, c.latent_size, c.gamma, c.beta, c.discriminator_learning_rate, preset.steps,
        c.noise_start, c.noise_end, c.noise_steps, c.label_smoothing, c.base, c.shared_front,
        c.encoder_units,
    )  # fmt: skip
    assert found == PUBLISHED[data]
    assert (c.learning_rate, c.rmsprop_momentum, c.batch_size) == (5e-5, 0.9, 64)
    assert c.discriminator_base == c.base
    assert preset.image_size == 64


def test_paper_settings_of_the_baselines():
    """All as IB-GAN's but the sizes, and one network on both kinds of sprites (Table 6)."""
    for name in ("gan", "infogan"):
        for data in PUBLISHED:
            ours = systems.preset(name, "paper", data)
            whole = systems.preset("ib-gan", "paper", data)
            assert ours.steps == whole.steps
            for field in dataclasses.fields(ours.config):
                if field.name not in ("latent_size", "shared_front"):
                    assert getattr(ours.config, field.name) == getattr(whole.config, field.name)
            assert ours.config.latent_size == 10
            assert ours.config.shared_front


def test_optimizers_train_every_weight_once():
    for name in FAMILY:
        for shared in (True, False):
            system = _smoke(name, shared_front=shared)
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


def _smoke(name, channels=1, **settings):
    config = systems.override(systems.preset(name, "smoke", "sprites").config, settings)
    torch.manual_seed(0)
    system = systems.build(name, config, (channels, 16, 16))
    system.start_phase("train")
    return system


def _images(channels=1):
    return torch.rand(8, channels, 16, 16, generator=torch.Generator().manual_seed(5))


def _drawn(system, seed):
    """The codes and noises of a step after `torch.manual_seed(seed)`: z, then r's, then images'."""
    torch.manual_seed(seed)
    if system.name != "ib-gan":
        return torch.randn(8, system.config.latent_size), None
    z = torch.randn(8, system.config.noise_size)
    return z, torch.randn(8, system.config.latent_size)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("shared", [True, False])
def test_losses_equal_their_definitions(name, shared):
    system = _smoke(name, noise_start=0, noise_end=0, shared_front=shared)
    real = _images()
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


@pytest.fixture
def double():
    """Make everything in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


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
def test_each_descends_its_own_objective_at_the_same_weights(name, settings):
    system = _smoke(name, noise_start=0, noise_end=0, **settings)
    real = _images()
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


class _Composed(nn.Module):
    """G(r(z)), r drawn from the encoder, as the generator of an InfoGAN."""

    def __init__(self, encoder, generator):
        super().__init__()
        self.encoder, self.generator = encoder, generator

    def forward(self, z):
        mu, logvar = self.encoder(z)
        return self.generator(mu + (logvar / 2).exp() * torch.randn_like(mu))


@pytest.mark.usefixtures("double")
def test_without_beta_it_is_infogan_whose_generator_draws_r():
    bottleneck = _smoke("ib-gan", beta=0.0, gamma=2.0)
    plain = _smoke("infogan", gamma=2.0, latent_size=bottleneck.config.noise_size)
    plain.generator = _Composed(bottleneck.encoder, bottleneck.generator)
    for name in ("front", "discriminator", "reconstructor"):
        setattr(plain, name, getattr(bottleneck, name))
    plain = copy.deepcopy(plain)
    plain.optimizers = {
        "discriminator": plain._rmsprop([plain.front, plain.discriminator], 1e-6),
        "generator": plain._rmsprop([plain.generator], plain.config.learning_rate),
        "reconstructor": plain._rmsprop([plain.reconstructor], plain.config.learning_rate),
    }
    for system in (bottleneck, plain):
        torch.manual_seed(3)
        for _ in range(4):
            logs = system.step(_images())
        assert np.isfinite(float(logs["mi_lower"]))
    assert torch.allclose(
        _weights(bottleneck.encoder, bottleneck.generator, bottleneck.reconstructor),
        _weights(plain.generator.encoder, plain.generator.generator, plain.reconstructor),
        rtol=1e-9,
        atol=1e-11,
    )


def test_the_reconstructor_of_a_gan_goes_unnoticed():
    seen = []
    for rate in (1e-3, 0.0):
        system = _smoke("gan")
        system.optimizers["reconstructor"].param_groups[0]["lr"] = rate
        before = _weights(system.reconstructor)
        torch.manual_seed(1)
        for _ in range(3):
            system.step(_images())
        assert torch.equal(_weights(system.reconstructor), before) == (rate == 0)
        seen.append(_weights(system.generator, system.front, system.discriminator))
    assert torch.equal(*seen)


def _bounds(system, n=4096):
    """I^L, I^U and the KL of each dimension over many codes, all networks in evaluation mode."""
    system.eval()
    with torch.no_grad():
        codes = system.draw_inputs(n)
        images = system.generator(codes.code)
        found = system._reconstruct(images, system.front(images))
    z = codes.target
    lower = 0.5 * (z**2 - (z - found) ** 2).sum(1)
    return lower.mean(), codes.kl_by_dimension.sum(), lower.std() / n**0.5


@pytest.fixture(scope="module")
def trained():
    """IB-GANs that learned to tell, without an adversary, by β."""
    by_beta = {}
    for beta in (0.0, 0.1, 1.0):
        system = _smoke("ib-gan", beta=beta, noise_start=0, gamma=0, initialization="orthogonal")
        system.optimizers = {
            name: torch.optim.Adam(optimizer.param_groups[0]["params"], 1e-2)
            for name, optimizer in system.optimizers.items()
        }
        torch.manual_seed(4)
        images = torch.rand(64, 1, 16, 16)
        for _ in range(80):
            system.step(images)
        by_beta[beta] = system
    return by_beta


def test_the_lower_bound_is_below_the_upper(trained):
    for system in (_smoke("ib-gan"), *trained.values()):
        lower, upper, error = _bounds(system)
        assert lower <= upper + 4 * error
    assert _bounds(trained[0.1])[0] > 0.4  # so that there was something to bound


def test_beta_closes_the_channel(trained):
    """Jeon et al., Fig. 3: from β = 1 on nothing is gained by telling the generator anything."""
    lower, upper = zip(*(_bounds(trained[beta])[:2] for beta in (0.0, 0.1, 1.0)))
    assert upper[0] > 2 * upper[1] > 2
    assert upper[2] < 0.25
    assert lower[2] < 0.1
    assert min(lower[:2]) > 0.4


def test_without_beta_the_encoder_is_kept_within_the_range_of_numbers():
    system = _smoke("ib-gan", beta=0.0, kl_limit=2.0)
    adversarial, lower = torch.tensor(0.7), torch.tensor(0.2)
    for kl, weight in ((1.9, 0), (2.0, 100), (5.0, 100)):
        terms = {"discriminator": adversarial, "generator": adversarial, "mi_lower": lower}
        loss = system.generative_loss(terms | {"mi_upper": torch.tensor(kl)})
        assert float(loss) == pytest.approx(0.7 - 0.2 + weight * kl)


def test_noise_is_annealed_and_added_to_real_and_fake():
    system = _smoke("infogan", noise_start=1.0, noise_end=0.2, noise_steps=4, clamp_noise=False)
    assert [round(_std_at(system, step), 3) for step in (0, 1, 2, 4, 9)] == [1, 0.8, 0.6, 0.2, 0.2]
    system.phase_step = 0
    seen = []
    system.front.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    system.step(torch.full((8, 1, 16, 16), 0.5))
    fake, real = seen
    assert float(real.std()) == pytest.approx(1, rel=0.1)
    assert fake.abs().max() > 2
    clamped = _smoke("infogan", noise_start=1.0)
    clamped.front.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    clamped.step(_images())
    assert max(float(x.abs().max()) for x in seen[2:]) == 1


def _std_at(system, step):
    system.phase_step = step
    return system._scheduled_noise()


def test_one_sided_label_smoothing():
    system = _smoke("gan", label_smoothing=True)
    real, fake = torch.randn(2, 8, 1)
    torch.manual_seed(0)
    loss = float(system._discriminator_loss(real, fake))
    torch.manual_seed(0)
    labels = 0.7 + 0.5 * torch.rand(8, 1)
    bce = nn.functional.binary_cross_entropy_with_logits
    assert loss == pytest.approx(float(bce(real, labels) + bce(fake, torch.zeros(8, 1))), rel=1e-6)
    plain = float(_smoke("gan")._discriminator_loss(real, fake))
    both = bce(real, torch.ones(8, 1)) + bce(fake, torch.zeros(8, 1))
    assert plain == pytest.approx(float(both), rel=1e-6)


def test_protocol():
    system = _smoke("ib-gan", channels=3).eval()
    x = _images(3)
    z = system.reconstructor(system.front(2 * x - 1))
    assert torch.equal(system.encode(x), system.encoder(z)[0])
    codes = system.sample_code(5, torch.Generator().manual_seed(3))
    assert torch.equal(codes, system.sample_code(5, torch.Generator().manual_seed(3)))
    assert not codes.requires_grad
    images = system.decode(codes)
    assert images.shape == (5, 3, 16, 16)
    assert images.min() >= 0
    assert images.max() <= 1
    assert system.code_names == ["r1", "r2", "r3", "r4"]
    for name in ("gan", "infogan"):
        plain = _smoke(name, shared_front=False).eval()
        assert plain.code_names == ["z1", "z2", "z3", "z4"]
        assert plain.encode(_images()).shape == (8, 4)
        assert isinstance(plain, GAN)


def test_initial_weights():
    for rule in ("normal", "orthogonal"):
        system = _smoke("ib-gan", initialization=rule)
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


def test_mixed_precision_trains_close_to_full():
    logs = {}
    for precision in ("fp32", "bf16"):
        system = _smoke("ib-gan", precision=precision)
        system.precision = precision  # also on a processor without bf16
        torch.manual_seed(1)
        logs[precision] = system.step(_images())
        assert {p.dtype for p in system.parameters()} == {torch.float32}
    for key, value in logs["fp32"].items():
        assert logs["bf16"][key].dtype == torch.float32
        assert float(logs["bf16"][key]) == pytest.approx(float(value), rel=0.15, abs=0.05), key
    assert float(logs["bf16"]["generator"]) != float(logs["fp32"]["generator"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 1), ("beta", -0.1), ("beta", float("inf")), ("gamma", -1.0), ("base", 0),
        ("noise_size", 0), ("noise_steps", 0), ("noise_start", float("nan")),
        ("rmsprop_momentum", 1.0), ("learning_rate", 0.0), ("encoder_units", "64,"),
        ("encoder_units", ""), ("encoder_units", "8,0"), ("initialization", "uniform"),
        ("precision", "fp16"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is "):
        systems.override(systems.preset("ib-gan", "smoke", "sprites").config, {name: value})
