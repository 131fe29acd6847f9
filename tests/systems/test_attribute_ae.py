import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch
from _attribute_systems import SHAPE, batch, build, same, state, weights
from torch.nn import functional as F

from pydisent import systems
from pydisent.systems._attribute_losses import cross_covariance, hinge_loss
from pydisent.systems.attribute_ae import AttributeAEConfig


def test_paper_settings():
    preset = systems.preset("attribute-ae", "paper", "celeba")
    section_4_and_appendix_a2 = {
        "attributes": 40, "z_channels": 512, "base": 16, "batch_size": 128, "students": 2,
        "reconstruction_weight": 100.0, "prediction_weight": 0.1, "cross_covariance_weight": 0.1,
        "cycle_attributes_weight": 1e-4, "cycle_z_weight": 1e-5, "y_weight": 1.0,
        "difference_weight": 50.0, "learning_rate": 0.002, "adam_beta1": 0.5, "adam_beta2": 0.999,
        "gradient_clip": None, "supervision": "jacobian", "supervisor": "original",
        # The published weights are those of the author's code, and of its forms of the losses.
        "variant": "author_code", "last_activation": True,
    }  # fmt: skip
    assert dataclasses.asdict(preset.config).items() >= section_4_and_appendix_a2.items()
    assert preset.image_size == 256
    assert preset.steps == preset.config.cycle_steps == round(100 * 162_770 / 128)
    assert (preset.split, preset.crop, preset.mirror) == ("train", 178, True)
    assert systems.preset("attribute-ae", "paper", "faces").config.attributes == 32
    for optimizer in build().optimizers.values():
        group = optimizer.param_groups[0]
        assert (group["lr"], group["betas"]) == (0.002, (0.5, 0.999))


def test_phases_and_growth():
    system = build()
    assert system.phases(7) == (
        ("teacher", 7), ("teacher-cycle", 10), ("student-1", 10), ("student-2", 10)
    )  # fmt: skip
    sizes = []
    for name, _ in system.phases(1):
        system.start_phase(name)
        sizes.append(system.z_size)
        assert system.encode(batch()[0]).shape == (8, 5 + system.z_size)
        assert len(system.code_names) == 5 + system.z_size
        assert system.sample_code(3).shape == (3, 5 + system.z_size)
        assert system.decode(system.sample_code(3)).shape == (3, *SHAPE)
    assert sizes == [8, 8, 16, 32]
    assert [name for name, _ in build(students=0, cycle_steps=0).phases(1)] == ["teacher"]
    with pytest.raises(ValueError, match="phase must be one of 'teacher', 'teacher-cycle', 'st"):
        system.start_phase("train")


def test_the_code_is_attributes_then_the_rest():
    system = build().eval()
    x, _ = batch()
    assert list(system.factor_columns) == [0, 1, 2, 3, 4]
    y, z = system.autoencoder.encoder(2 * x - 1)
    assert torch.equal(system.encode(x), torch.cat([y, z.reshape(8, -1)], 1))
    decoded = system.decode(system.encode(x))
    torch.testing.assert_close(decoded, (system.autoencoder(2 * x - 1) + 1) / 2)
    assert system.code_names[:6] == ["y1", "y2", "y3", "y4", "y5", "z1"]
    system.attribute_names = tuple("abcde")
    assert system.code_names[:6] == ["a", "b", "c", "d", "e", "z1"]


@pytest.mark.parametrize("variant", ["published", "author_code"])
def test_teacher_losses_equal_their_definitions(variant):
    """Equations 8, 10, 11 in float64, and the step that follows their weighted sum."""
    system = build(variant=variant, prediction_weight=0.3, cross_covariance_weight=0.2)
    x, signs = batch()
    twin = copy.deepcopy(system)
    y, z = twin.autoencoder.encoder(2 * x - 1)
    image = twin.autoencoder.decoder(y, z)
    reconstruction = ((2 * x - 1 - image) ** 2).mean()
    penalties = (1 - y * signs).clamp(min=0)
    prediction = penalties.sum() / (8 if variant == "author_code" else 8 * 5)
    flat = z.reshape(8, -1)
    covariance = (y - y.mean(0)).T @ (flat - flat.mean(0)) / 8
    xcov = covariance.norm() if variant == "author_code" else covariance.square().sum()
    logs = system.step(x, signs)
    for name, value in (
        ("reconstruction", reconstruction), ("prediction", prediction), ("cross_covariance", xcov),
        ("wrong_attributes", (y * signs <= 0).double().mean()),
    ):  # fmt: skip
        assert float(logs[name]) == pytest.approx(value.item(), rel=1e-4), name
    (100 * reconstruction + 0.3 * prediction + 0.2 * xcov).backward()
    adam = torch.optim.Adam(twin.autoencoder.parameters(), 0.002, betas=(0.5, 0.999))
    adam.step()
    torch.testing.assert_close(
        weights(system.autoencoder), weights(twin.autoencoder), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("variant", ["published", "author_code"])
@pytest.mark.parametrize("optimizer", ["shared", "own"])
def test_the_cycle_step(variant, optimizer):
    """Equations 12 and 13 by their definitions; the encoder and its statistics stay."""
    system = build("teacher-cycle", variant=variant, cycle_optimizer=optimizer)
    x, signs = batch()
    for _ in range(3):
        system.step(x, signs)
    twin = copy.deepcopy(system)
    encoder, decoder = twin.autoencoder.encoder.eval(), twin.autoencoder.decoder
    with torch.no_grad():
        torch.manual_seed(4)
        y, z = encoder(2 * x - 1)
        y = y[torch.randperm(8)]
        y_again, z_again = encoder(decoder(y, z))
    if variant == "published":
        of_y = np.maximum(1 - (y * y_again).double().numpy(), 0).mean()
        of_z = (z - z_again).double().square().mean()
    else:
        of_y = np.maximum(1 - (y.sign() * y_again).double().numpy(), 0).sum() / 8
        of_z = (z - z_again).double().norm() / 8
    before = state(system.autoencoder.encoder)
    gradients = [p.grad.clone() for p in system.autoencoder.encoder.parameters()]
    decoding = weights(system.autoencoder.decoder)
    torch.manual_seed(4)
    logs = system._update_cycle(2 * x - 1)
    assert float(logs["cycle_attributes"]) == pytest.approx(float(of_y), rel=1e-4)
    assert float(logs["cycle_z"]) == pytest.approx(float(of_z), rel=1e-4)
    assert same(state(system.autoencoder.encoder), before)
    for parameter, gradient in zip(system.autoencoder.encoder.parameters(), gradients):
        assert torch.equal(parameter.grad, gradient)
        assert parameter.requires_grad
    assert system.autoencoder.encoder.training
    assert not torch.equal(weights(system.autoencoder.decoder), decoding)
    assert set(system.optimizers) == {"encoder", "decoder"} | (
        {"cycle"} if optimizer == "own" else set()
    )


def test_cycles_are_taken_in_their_phase_alone():
    x, signs = batch()
    assert "cycle_z" not in build("teacher").step(x, signs)
    assert "cycle_z" in build("teacher-cycle").step(x, signs)
    assert "cycle_z" not in build("student-1").step(x, signs)


def test_cycle_losses_fall():
    system = build("teacher-cycle", cycle_optimizer="own", base=8)
    x, signs = batch()
    for _ in range(30):
        system._update_autoencoder(2 * x - 1, signs)
    losses = [float(system._update_cycle(2 * x - 1)["cycle_attributes"]) for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_the_published_weights_fit_the_authors_forms():
    """How far each weighted loss pulls a fresh encoder, beside the reconstruction error."""
    pulls = {}
    for variant in ("published", "author_code"):
        system = build(variant=variant, attributes=40, base=16, z_channels=512)
        c, encoder = system.config, system.autoencoder.encoder
        x, signs = batch(64, 40)
        y, z = encoder(2 * x - 1)
        losses = (
            c.reconstruction_weight * F.mse_loss(system.autoencoder.decoder(y, z), 2 * x - 1),
            c.prediction_weight * hinge_loss(y, signs, variant),
            c.cross_covariance_weight * cross_covariance(y, z, variant),
        )
        weights = list(encoder.parameters())
        found = [torch.autograd.grad(loss, weights, retain_graph=True) for loss in losses]
        pulls[variant] = [float(torch.cat([g.flatten() for g in each]).norm()) for each in found]
    for first, second in zip(*pulls.values()):
        pulls.setdefault("ratio", []).append(first / second)
    same, prediction, covariance = pulls["ratio"]
    assert same == pytest.approx(1)
    assert prediction == pytest.approx(1 / 40, rel=1e-4)
    assert covariance > 10
    reconstruction, *others = pulls["author_code"]
    assert all(0.01 < pull / reconstruction < 0.5 for pull in others)


def test_gradients_are_clipped_together():
    x, signs = batch()
    norms = []
    for clip in (None, 1e-3):
        system = build(gradient_clip=clip)
        system.step(x, signs)
        norms.append(float(torch.cat([p.grad.flatten() for p in system.parameters()]).norm()))
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_sampled_codes_follow_the_codes_seen():
    system = build()
    x, signs = batch()
    with torch.no_grad():
        z = copy.deepcopy(system).encode(x)[:, 5:]
    system.step(x, signs)
    torch.testing.assert_close(system.z_mean, 0.01 * z.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(system.z_variance, 0.99 + 0.01 * z.var(0), rtol=1e-4, atol=1e-5)
    system.z_mean.copy_(torch.linspace(-2, 2, 8))
    system.z_variance.copy_(torch.linspace(0.1, 2, 8))
    code = system.sample_code(20_000, torch.Generator().manual_seed(1))
    assert torch.equal(code, system.sample_code(20_000, torch.Generator().manual_seed(1)))
    assert set(code[:, :5].unique().tolist()) == {-1.0, 1.0}
    assert code[:, :5].mean(0).abs().max() < 0.05
    torch.testing.assert_close(code[:, 5:].mean(0), system.z_mean, rtol=0, atol=0.06)
    torch.testing.assert_close(code[:, 5:].var(0), system.z_variance, rtol=0.1, atol=0)


def test_attributes_are_checked():
    system = build()
    x, signs = batch()
    before = weights(system)
    for wrong in ((), (signs[:, :4],), (signs[:7],)):
        with pytest.raises(ValueError, match=r"attributes must have shape \(8, 5\), got "):
            system.step(x, *wrong)
    assert torch.equal(weights(system), before)
    assert system.phase_step == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attributes": 0}, "attributes must be .*, got 0"),
        ({"batch_size": 1}, "batch_size must be .*, got 1"),
        ({"student_steps": 0}, "student_steps must be .*, got 0"),
        ({"students": -1}, "students must be .*, got -1"),
        ({"y_weight": -1.0}, "y_weight must be .*, got -1.0"),
        ({"gradient_clip": 0.0}, "gradient_clip must be .*, got 0.0"),
        (
            {"supervision": "both"},
            "supervision must be one of 'jacobian', .*, got 'both'",
        ),
        ({"supervisor": "none"}, "supervisor must be .*, got 'none'"),
        ({"variant": "mine"}, "variant must be .*, got 'mine'"),
        ({"cycle_optimizer": "none"}, "cycle_optimizer must be .*, got 'none'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        AttributeAEConfig(**settings)


def test_copies():
    system = build("student-1")
    x, signs = batch()
    system.step(x, signs)
    system.eval()
    code = system.encode(x)
    for other in (copy.deepcopy(system), pickle.loads(pickle.dumps(system))):
        assert torch.equal(other.encode(x), code)
        assert torch.equal(other.decode(code), system.decode(code))
    fresh = build("student-1").eval()
    fresh.load_state_dict(system.state_dict())
    assert torch.equal(fresh.encode(x), code)


def test_quick_is_as_measured():
    """The settings whose flips are in the README."""
    c = systems.preset("attribute-ae", "quick", "faces").config
    assert (c.variant, c.prediction_weight, c.cross_covariance_weight) == ("published", 20, 0.1)
    assert (c.cycle_attributes_weight, c.cycle_z_weight) == (2, 0.1)
    assert (c.last_activation, c.supervisor) == (False, "previous")
