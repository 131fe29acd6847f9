import dataclasses

import numpy as np
import pytest
import torch

import pydisent
from pydisent import systems
from pydisent.training import Plan

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


@pytest.mark.parametrize(
    ("variant", "root"),
    # of the mean square after one gradient of 0.01: with 1e-6 inside, or outside
    [("tensorflow", (0.9 + 0.1 * 1e-4 + 1e-6) ** 0.5), ("torch", (0.1 * 1e-4) ** 0.5 + 1e-6)],
)
def test_the_players_steps_follow_the_variant(variant, root):
    system = _system(rmsprop_variant=variant)
    for name in ("generator", "discriminator"):
        optimizer = system.optimizers[name]
        (group,) = optimizer.param_groups
        before = [p.detach().clone() for p in group["params"]]
        for p in group["params"]:
            p.grad = torch.full_like(p, 0.01)
        optimizer.step()
        for p, old in zip(group["params"], before):
            moved = torch.full_like(p, 1e-3 * 0.01 / root)
            torch.testing.assert_close(old - p.detach(), moved, rtol=1e-3, atol=2e-7)
    assert isinstance(system.optimizers["encoder"], torch.optim.Adam)


def test_settings_reach_the_penalty(monkeypatch):
    seen = []
    whole = pydisent.alignment_penalty

    def noted(*args, **options):
        seen.append(options)
        return whole(*args, **options)

    monkeypatch.setattr("pydisent.alignment_penalty", noted)
    _system().step(_images())
    chosen = {"reweight": False, "tolerance": 0.0, "method": "gram", "compute_dtype": "bf16"}
    _system(**chosen).step(_images())
    plain, asked = ({name: options[name] for name in chosen} for options in seen)
    assert plain == {
        "reweight": True, "tolerance": 1e-3, "method": "auto", "compute_dtype": None,
    }  # fmt: skip
    assert asked == chosen | {"compute_dtype": torch.bfloat16}
    _system(rank=3).step(_images())
    assert (seen[-1]["rank"], seen[-1]["tolerance"]) == (3, None)


def test_the_penalty_comes_every_interval_and_makes_up_for_the_rest():
    system = _system(interval=3)
    seen = ["alignment" in system.step(_images()) for _ in range(6)]
    assert seen == [True, False, False, True, False, False]
    weights = []
    for settings in ({"interval": 3, "penalty_weight": 2.0}, {"penalty_weight": 6.0}):
        system = _system(**settings)
        torch.manual_seed(1)
        system.step(_images())
        weights.append(_weights(system.generator))
    assert torch.equal(*weights)


def test_the_penalty_of_a_part_is_that_of_its_first_codes():
    z = torch.randn(8, 4)
    torch.manual_seed(1)
    part = _system(sub_batch=3)._alignment(z)
    torch.manual_seed(1)
    assert part == _system()._alignment(z[:3])


@pytest.mark.parametrize(("reweight", "value"), [(True, -3 / 6), (False, -1)])
def test_columns_are_reweighted_unless_told_otherwise(reweight, value):
    """Where one coordinate acts alone, only the first column is not zero: by Eq. 13 it has 3/6."""
    system = _system(k=3, reweight=reweight, iterations=30)
    with torch.no_grad():
        system.generator.project.parametrizations.weight.original1[:, 1:] = 0
    assert float(system._alignment(system.draw_codes(8)).detach()) == pytest.approx(value, abs=1e-3)


def test_runs_from_before_there_was_a_choice_are_read_as_they_were_trained():
    plan = Plan.from_preset("spectral-gan", "sprites", "paper")
    older = plan.to_json()
    for name in ("reweight", "method", "tolerance", "compute_dtype", "rmsprop_variant", "rank",
                 "interval", "sub_batch"):  # fmt: skip
        del older["config"][name]
    assert Plan.from_json(older).config == dataclasses.replace(plan.config, rmsprop_variant="torch")


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
        ("encoder_steps", -1), ("method", "fast"), ("compute_dtype", "fp16"), ("tolerance", 1.0),
        ("rmsprop_variant", "keras"), ("rank", 0), ("rank", 5), ("interval", 0), ("sub_batch", 9),
    ],
)  # fmt: skip
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be "):
        systems.override(systems.preset("spectral-gan", "smoke", "sprites").config, {name: value})


def test_what_contradicts_a_rank_is_named():
    config = systems.preset("spectral-gan", "smoke", "sprites").config
    with pytest.raises(ValueError, match=r"^tolerance must be 0\.001 with a rank, got 0\.0"):
        systems.override(config, {"rank": 2, "tolerance": 0.0})
    with pytest.raises(ValueError, match=r"^rank must be none with method autograd, got 2"):
        systems.override(config, {"rank": 2, "method": "autograd"})


def test_images_must_suit_the_networks():
    config = systems.config_class("spectral-gan")()
    for shape in ((1, 28, 28), (1, 16, 32)):
        with pytest.raises(ValueError, match="image_s"):
            systems.build("spectral-gan", config, shape)
    with pytest.raises(TypeError, match=r"config must be of .*, got dict"):
        systems.build("spectral-gan", {}, SHAPE)
