import dataclasses

import numpy as np
import pytest
import torch

from pydisent import systems

SHAPE = (1, 16, 16)


def _system(name="spectral-gan", **settings):
    config = systems.override(systems.preset(name, "smoke", "sprites").config, settings)
    torch.manual_seed(0)
    system = systems.build(name, config, SHAPE)
    system.start_phase("train")
    return system


def _images(n=8):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(5))


def _weights(module):
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def test_paper_settings():
    config = systems.preset("spectral-gan", "paper", "sprites").config
    table_1_and_appendix_c = {
        "latent_size": 10, "k": 6, "penalty_weight": 0.6, "base": 64, "batch_size": 32,
        "learning_rate": 1e-4, "rmsprop_decay": 0.9, "rmsprop_eps": 1e-6, "instance_noise": 0.6,
        "r1_weight": 0.0, "discriminator_learning_rate": None, "encoder_steps": 30_000,
        "encoder_base": None, "code_regression": 0.0, "ema_decay": 0.0,
    }  # fmt: skip
    assert dataclasses.asdict(config).items() >= table_1_and_appendix_c.items()
    assert systems.preset("spectral-gan", "paper", "sprites").steps == 750_000
    assert systems.preset("spectral-gan", "paper", "mnist").config.instance_noise == 0.6
    assert systems.preset("spectral-gan", "paper", "celeba").config.instance_noise == 0
    system = systems.build("spectral-gan", dataclasses.replace(config, base=4), SHAPE)
    for name in ("generator", "discriminator"):
        group = system.optimizers[name].param_groups[0]
        assert (group["lr"], group["alpha"], group["eps"]) == (1e-4, 0.9, 1e-6)
    group = system.optimizers["encoder"].param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.5, 0.99), 1e-8)
    assert next(system.encoder.trunk.children()).out_channels == 8


def test_without_its_weight_there_is_no_penalty(monkeypatch):
    system = _system(penalty_weight=0)
    monkeypatch.setattr("pydisent.alignment_penalty", None)
    assert system.step(_images()).keys() == {"discriminator", "generator"}


def test_losses_equal_their_definitions():
    system = _system(penalty_weight=0, instance_noise=0, r1_weight=3.0)
    real = _images()
    with torch.no_grad():
        torch.manual_seed(2)
        fake = system.generator(torch.randn(8, 4))
    logits = [system.discriminator(x).detach().double().numpy() for x in (real, fake)]
    x = real.clone().requires_grad_()
    squares = []
    for i in range(8):
        (gradient,) = torch.autograd.grad(system.discriminator(x[i : i + 1]).sum(), x)
        squares.append(gradient[i].square().sum().item())
    torch.manual_seed(2)
    logs = system.step(real)
    loss = np.log1p(np.exp(-logits[0])).mean() + np.log1p(np.exp(logits[1])).mean()
    assert float(logs["discriminator"]) == pytest.approx(loss, rel=1e-5)
    assert float(logs["r1"]) == pytest.approx(np.mean(squares), rel=1e-4)


def test_generator_loss_does_not_saturate():
    system = _system(penalty_weight=0, instance_noise=0)
    torch.manual_seed(2)
    z = torch.randn(8, 4)
    system._update_discriminator(_images())
    with torch.no_grad():
        torch.manual_seed(4)
        z = torch.randn(8, 4)
        logits = system.discriminator(system.generator(z)).double().numpy()
    torch.manual_seed(4)
    logs = system._update_generator(8)
    assert float(logs["generator"]) == pytest.approx(np.log1p(np.exp(-logits)).mean(), rel=1e-5)


def test_r1_comes_every_interval():
    system = _system(penalty_weight=0, r1_weight=1.0, r1_interval=3)
    seen = ["r1" in system.step(_images()) for _ in range(6)]
    assert seen == [True, False, False, True, False, False]


def test_noise_is_added_to_real_and_fake():
    system = _system(penalty_weight=0, instance_noise=0.6)
    seen = []
    system.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    gray = torch.full((8, *SHAPE), 0.5)
    system.step(gray)
    real, fake = (images.detach() for images in seen[0].chunk(2))
    assert (real - gray).std() == pytest.approx(0.6, rel=0.1)
    for images in (fake, seen[1].detach()):
        assert images.min() < -0.3  # a generated pixel lies in [0, 1]
        assert images.max() > 1.3


def test_leaks_stay_in_range():
    system = _system(learning_rate=0.5, encoder_learning_rate=0.5)
    for phase in ("train", "encoder"):
        system.start_phase(phase)
        for _ in range(3):
            system.step(_images())
    leaks = torch.cat([p for name, p in system.named_parameters() if name.endswith("leak")])
    assert leaks.min() >= 0
    assert leaks.max() <= 1
    assert (leaks == 1).any() or (leaks == 0).any()


def test_penalty_aligns_the_generator():
    """The mean of R falls, which an update with the opposite sign or none would not do."""
    system = _system(penalty_weight=20.0, learning_rate=3e-3, iterations=4)
    values = [float(system.step(_images())["alignment"]) for _ in range(80)]
    assert np.mean(values[-20:]) < np.mean(values[:20]) - 0.2


def test_encoder_inverts_a_frozen_generator():
    system = _system(code_regression=1.0, encoder_learning_rate=3e-3)
    system.step(_images())
    generator = _weights(system.generator)
    with pytest.raises(RuntimeError, match="cannot encode yet"):
        system.encode(_images())
    system.start_phase("encoder")
    with torch.no_grad():
        images = system.decode(system.sample_code(8))
    logs = [system.step(images) for _ in range(60)]
    assert torch.equal(_weights(system.generator), generator)
    assert float(logs[-1]["reconstruction"]) < 0.5 * float(logs[0]["reconstruction"])
    assert float(logs[-1]["code_regression"]) < 0.8 * float(logs[0]["code_regression"])
    assert system.encode(images).shape == (8, 4)


def test_the_moving_average_decodes():
    system = _system(penalty_weight=0, ema_decay=0.9)
    first = system.decode(torch.ones(1, 4))
    for _ in range(5):
        system.step(_images())
    z = torch.ones(1, 4)
    assert not torch.equal(system.decode(z), first)
    assert not torch.equal(system.decode(z), system.generator(z))
    assert torch.equal(system.decode(z), system.average.module(z))
    assert torch.equal(_system(penalty_weight=0).decode(z), _system(penalty_weight=0).generator(z))


def test_protocol():
    system = _system()
    generator = torch.Generator().manual_seed(3)
    codes = system.sample_code(5, generator)
    assert torch.equal(codes, system.sample_code(5, torch.Generator().manual_seed(3)))
    assert system.decode(codes).shape == (5, *SHAPE)
    assert system.code_names == ["z1", "z2", "z3", "z4"]
    assert system.phases(9) == (("train", 9), ("encoder", 10))
    assert _system(encoder_steps=0).phases(9) == (("train", 9),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("k", 5), ("k", 0), ("iterations", 0), ("batch_size", 0), ("learning_rate", 0.0),
        ("rmsprop_decay", 1.0), ("penalty_weight", -1.0), ("instance_noise", float("nan")),
        ("encoder_steps", -1),
    ],
)  # fmt: skip
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be "):
        systems.override(systems.preset("spectral-gan", "smoke", "sprites").config, {name: value})


def test_images_must_suit_the_networks():
    config = systems.config_class("spectral-gan")()
    for shape in ((1, 28, 28), (1, 16, 32)):
        with pytest.raises(ValueError, match="image_s"):
            systems.build("spectral-gan", config, shape)
    with pytest.raises(TypeError, match=r"config must be of .*, got dict"):
        systems.build("spectral-gan", {}, SHAPE)
