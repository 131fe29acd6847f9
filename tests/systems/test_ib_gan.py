import copy

import numpy as np
import pytest
import torch
from torch import nn

from pydisent import systems


def _weights(*modules):
    return torch.cat([p.detach().flatten().clone() for m in modules for p in m.parameters()])


def _smoke(name, channels=1, **settings):
    config = systems.override(systems.preset(name, "smoke", "sprites").config, settings)
    torch.manual_seed(0)
    system = systems.build(name, config, (channels, 16, 16))
    system.start_phase("train")
    return system


def _images(channels=1):
    return torch.rand(8, channels, 16, 16, generator=torch.Generator().manual_seed(5))


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


def _bounds(system, n=4096):
    """I^L, I^U and the KL of each dimension over many codes, all networks in evaluation mode."""
    system.eval()
    with torch.no_grad():
        z, r, kl = system.represent(n)
        found = system.reconstructor(system.front(system.generator(r)))
    lower = 0.5 * (z**2 - (z - found) ** 2).sum(1)
    return lower.mean(), kl.sum(), lower.std() / n**0.5


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
    for kl, weight in ((1.9, 0), (2.0, 100), (5.0, 100)):
        assert float(system.kl_weight(torch.tensor(kl))) == weight
    assert _smoke("ib-gan", beta=0.3).kl_weight(torch.tensor(5.0)) == 0.3


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
        ("precision", "fp16"), ("reconstructor_statistics", "real"), ("heads", "wide"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be "):
        systems.override(systems.preset("ib-gan", "smoke", "sprites").config, {name: value})
