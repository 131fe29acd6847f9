import copy
import math
import pickle

import numpy as np
import pytest
import torch

from pydisent import systems
from pydisent.systems.ps_sc import PSSC, perturb

# The paper's InfoGAN: both switched off.
PLAIN = {"ps_weight": 0.0, "spatial_constriction": False}


def _weights(*modules):
    return torch.cat([p.detach().flatten().clone() for m in modules for p in m.parameters()])


class _Quadratic(torch.nn.Module):
    """D(x) = a/2 |x|², whose gradient is a x."""

    def __init__(self, a):
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(a))

    def forward(self, x):
        return self.a / 2 * x.square().sum((1, 2, 3))


@pytest.mark.parametrize("size", [8, 16, 32])
@pytest.mark.parametrize("ps", [0.0, 0.1])
@pytest.mark.parametrize(
    "settings", [{"spatial_constriction": False}, {"mask": "band"}, {"mask": "softmax"}]
)
def test_every_combination_trains_every_weight(size, ps, settings):
    config = systems.override(
        systems.preset("ps-sc", "smoke", "shapes3d").config,
        {"ps_weight": ps, "r1_interval": 1, **settings},
    )
    torch.manual_seed(0)
    system = systems.build("ps-sc", config, (3, size, size))
    system.start_phase("train")
    before = {name: p.detach().clone() for name, p in system.named_parameters()}
    for _ in range(2):
        logs = system.step(torch.rand(8, 3, size, size))
    assert set(logs) == {"generator", "recognition", "discriminator", "r1"}
    assert all(np.isfinite(float(value)) for value in logs.values())
    still = [n for n, p in system.named_parameters() if torch.equal(p.detach(), before[n])]
    assert still == []
    code = system.sample_code(3)
    assert code.shape == (3, 2 * int(math.log2(size) - 2))
    assert len(system.code_names) == code.shape[1]
    assert system.decode(code).shape == (3, 3, size, size)
    assert system.encode(torch.rand(3, 3, size, size)).shape == code.shape


def test_each_update_touches_its_own_networks(smoke, images):
    system = smoke("ps-sc")
    pair = (system.generator, system.recogniser)
    before = _weights(*pair), _weights(system.discriminator)
    system._update_generator(8)
    trained = _weights(*pair)
    assert not torch.equal(trained, before[0])
    assert torch.equal(_weights(system.discriminator), before[1])
    assert all(p.grad is None for p in system.discriminator.parameters())
    for update in (system._update_discriminator, system._regularize_discriminator):
        discriminator = _weights(system.discriminator)
        update(2 * images(system) - 1)
        assert torch.equal(_weights(*pair), trained)
        assert not torch.equal(_weights(system.discriminator), discriminator)
    held = {id(p) for group in system.optimizers["generator"].param_groups for p in group["params"]}
    assert held == {id(p) for module in pair for p in module.parameters()}


@pytest.mark.parametrize("ps_weight", [0.3, 0.0])
def test_losses_equal_their_definitions(smoke, images, ps_weight):
    system = smoke("ps-sc", ps_weight=ps_weight, r1_weight=0)
    before = copy.deepcopy(system)
    torch.manual_seed(2)
    z = torch.randn(8, 4)
    codes, dimension = z, None
    if ps_weight:
        codes, dimension = perturb(z, 6.0)
        codes = torch.cat([z, codes])
    with torch.no_grad():
        fakes = before.generator(codes)  # the noise has no strength yet
        logits = before.discriminator(fakes[:8]).double().numpy()
        found = before.recogniser(fakes).double().numpy()
    torch.manual_seed(2)
    logs = system.step(images(system))
    assert float(logs["generator"]) == pytest.approx(np.log1p(np.exp(-logits)).mean(), rel=1e-5)
    codes, errors = codes.double().numpy(), []
    for i in range(8):
        own = (found[i] - codes[i]) ** 2
        if ps_weight:
            j, k = i + 8, dimension[i]
            own = ((found[i] + found[j]) / 2 - codes[i]) ** 2
            pair = (found[i, k] - codes[i, k]) ** 2 + (found[j, k] - codes[j, k]) ** 2
            own[k] = pair / 2
        errors.append(own.sum())
    assert float(logs["recognition"]) == pytest.approx(np.mean(errors), rel=1e-5)


def test_the_discriminators_loss_equals_its_definition(smoke, images):
    system = smoke("ps-sc", **PLAIN)
    real = 2 * images(system) - 1
    torch.manual_seed(2)
    with torch.no_grad():
        fake = system.generator(torch.randn(8, 4))
        logits = [system.discriminator(x).double().numpy() for x in (real, fake)]
    torch.manual_seed(2)
    logs = system._update_discriminator(real)
    loss = np.log1p(np.exp(-logits[0])).mean() + np.log1p(np.exp(logits[1])).mean()
    assert float(logs["discriminator"]) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(("settings", "weights"), [({}, (2.0, 5.0)), (PLAIN, (0.0, 5.0))])
def test_generator_and_recogniser_descend_the_weighted_sum(smoke, settings, weights):
    """With D ≡ 0, the gradient is that of the recognition loss times its weight."""
    ps, regression = weights
    system = smoke("ps-sc", **settings | {"ps_weight": ps, "regression_weight": regression})
    system.discriminator = _Quadratic(0.0)
    parameters = [*system.generator.parameters(), *system.recogniser.parameters()]
    system.optimizers["generator"] = torch.optim.SGD(parameters, 0.0)
    torch.manual_seed(2)
    codes, dimension = system.sample_code(8), None
    if ps:
        perturbed, dimension = perturb(codes, 6.0)
        codes = torch.cat([codes, perturbed])
    found = system.recogniser(system.generator(codes, fresh_noise=True))
    loss = (ps or regression) * system.recognition_loss(found, codes, dimension)
    expected = torch.autograd.grad(loss, parameters)
    torch.manual_seed(2)
    system._update_generator(8)
    for parameter, gradient in zip(parameters, expected):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ps_weight", [0.1, 0.0])
def test_only_the_first_image_of_a_pair_is_discriminated(smoke, images, ps_weight):
    system = smoke("ps-sc", ps_weight=ps_weight, r1_interval=2)
    seen = {"discriminator": [], "recogniser": []}
    for name, sizes in seen.items():
        system.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, sizes=sizes: sizes.append(len(inputs[0]))
        )
    system.phase_step = 1  # no R1
    system.step(images(system))
    assert seen == {"discriminator": [8, 8, 8], "recogniser": [16 if ps_weight else 8]}


def test_one_dimension_a_sample_is_perturbed():
    torch.manual_seed(0)
    code = torch.randn(20_000, 5)
    moved, dimension = perturb(code, 6.0)
    shift = moved - code
    assert torch.equal((shift != 0).sum(1), torch.ones(20_000, dtype=torch.long))
    assert torch.equal((shift != 0).int().argmax(1), dimension)
    counts = dimension.bincount(minlength=5)
    assert (counts - 4000).abs().max() < 5 * np.sqrt(20_000 * 0.2 * 0.8)
    assert float(shift.sum(1).std()) == pytest.approx(6, rel=5 / np.sqrt(40_000))
    assert abs(float(shift.sum(1).mean())) < 5 * 6 / np.sqrt(20_000)


def test_ps_loss_is_infogans_regression_when_nothing_is_shared():
    """One code a pair has no shared dimension: both images are regressed, like any others."""
    torch.manual_seed(0)
    found, codes = torch.randn(2, 14, 1)
    ps = PSSC.recognition_loss(found, codes, torch.zeros(7, dtype=torch.long))
    torch.testing.assert_close(ps, PSSC.recognition_loss(found, codes, None))
    found, codes = torch.randn(2, 14, 3)
    codes[7:, 1:] = codes[:7, 1:]
    ps = PSSC.recognition_loss(found, codes, torch.zeros(7, dtype=torch.long))
    assert ps < 0.9 * PSSC.recognition_loss(found, codes, None)


def test_r1_equals_its_closed_form(smoke, images):
    system = smoke("ps-sc", r1_weight=3.0, r1_interval=4)
    system.discriminator = _Quadratic(0.7)
    system.optimizers["discriminator"] = torch.optim.SGD(system.discriminator.parameters(), 1e-3)
    batch = images(system)
    squares = ((2 * batch.double() - 1) ** 2).sum((1, 2, 3)).mean().item()
    logs = system._regularize_discriminator(2 * batch - 1)
    assert float(logs["r1"]) == pytest.approx(0.7**2 * squares, rel=1e-5)
    # γ/2 · interval · a² s has the slope γ · interval · a s.
    moved = 0.7 - 1e-3 * 3.0 * 4 * 0.7 * squares
    assert system.discriminator.a.item() == pytest.approx(moved, rel=1e-4)


def test_r1_comes_every_interval_and_its_steps_are_made_up_for(smoke, images):
    system = smoke("ps-sc", r1_interval=3)
    assert ["r1" in system.step(images(system)) for _ in range(6)] == [True, False, False] * 2
    group = system.optimizers["discriminator"].param_groups[0]
    assert group["lr"] == pytest.approx(2e-3 * 3 / 4)
    assert group["betas"] == pytest.approx((0.0, 0.99 ** (3 / 4)))
    group = smoke("ps-sc", r1_weight=0).optimizers["discriminator"].param_groups[0]
    assert (group["lr"], group["betas"], group["eps"]) == (2e-3, (0.0, 0.99), 1e-8)


def test_half_of_the_average_is_new_after_its_half_life(smoke, images):
    """After the first updates, which count more: they are left out here."""
    system = smoke("ps-sc", ema_half_life=0.4)
    assert system.average.decay ** (400 / 8) == pytest.approx(0.5)
    old = _weights(system.average)
    with torch.no_grad():
        for parameter in system.generator.parameters():
            parameter.add_(1)
    for update in range(50):
        system.average.update(system.generator, 10_000 + update)
    torch.testing.assert_close(_weights(system.average), old + 0.5, rtol=1e-4, atol=1e-4)
    assert smoke("ps-sc", ema_half_life=0).average is None


def test_the_moving_average_decodes_with_fixed_noise(smoke, images):
    system = smoke("ps-sc", ema_half_life=0.05)
    for _ in range(5):
        system.step(images(system))
    z = system.sample_code(6)
    decoded = system.decode(z)
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    assert torch.equal(system.decode(z), decoded)
    torch.testing.assert_close(system.decode(z[:2]), decoded[:2])
    expected = (system.average.module(z).clamp(-1, 1) + 1) / 2
    torch.testing.assert_close(decoded, expected)
    assert not torch.allclose(decoded, (system.generator(z).clamp(-1, 1) + 1) / 2)
    assert not torch.equal(system.average.module(z, fresh_noise=True), system.average.module(z))


def test_encoding_is_the_recognisers_and_one_images(smoke, images):
    system = smoke("ps-sc")
    x = images(system)
    torch.testing.assert_close(system.encode(x), system.recogniser(2 * x - 1))
    torch.testing.assert_close(system.encode(x[:1]), system.encode(x)[:1])


def test_code_masks(smoke):
    z = torch.randn(5, 4)
    masks = smoke("ps-sc").code_masks(z)
    assert masks.shape == (5, 4, 16, 16)
    assert 0 <= masks.min() <= masks.max() <= 1
    averaged = smoke("ps-sc")
    with torch.no_grad():
        for parameter in averaged.average.parameters():
            parameter.mul_(1.5)
    assert torch.equal(averaged.code_masks(z), averaged.average.module.masks(z))
    assert not torch.equal(averaged.code_masks(z), masks)
    assert smoke("ps-sc", **PLAIN).code_masks(z) is None
    assert smoke("gan").code_masks(z) is None


def test_a_seed_fixes_the_training(smoke, images):
    trained = []
    for seed in (1, 1, 2):
        system = smoke("ps-sc")
        torch.manual_seed(seed)
        for _ in range(3):
            system.step(images(system))
        trained.append(_weights(system))
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


@pytest.mark.parametrize("settings", [{}, PLAIN])
def test_mixed_precision_trains_close_to_full(smoke, images, settings):
    logs = {}
    for precision in ("fp32", "bf16"):
        system = smoke("ps-sc", precision=precision, **settings)
        system.precision = precision  # also on a processor without bf16
        torch.manual_seed(1)
        logs[precision] = system.step(images(system))
        before = _weights(system)
        for _ in range(3):
            system.step(images(system))
        assert {p.dtype for p in system.parameters()} == {torch.float32}
        assert torch.isfinite(_weights(system)).all()
        assert not torch.equal(_weights(system), before)
        assert system.decode(system.sample_code(2)).dtype == torch.float32
    for key, value in logs["fp32"].items():
        assert logs["bf16"][key].dtype == torch.float32
        # bf16 keeps 8 bits; a dozen layers and the first update of Adam widen that.
        assert float(logs["bf16"][key]) == pytest.approx(float(value), rel=0.15, abs=0.02), key
    assert float(logs["bf16"]["generator"]) != float(logs["fp32"]["generator"])


def test_copies_and_pickles(smoke, images):
    system = smoke("ps-sc")
    system.step(images(system))
    z = torch.randn(3, 4)
    for other in (copy.deepcopy(system), pickle.loads(pickle.dumps(system))):
        assert torch.equal(other.decode(z), system.decode(z))
        torch.manual_seed(4)
        other.step(images(other))
        assert not torch.equal(other.decode(z), system.decode(z))


def test_weights_and_fixed_noise_travel_in_the_state(smoke, images):
    system = smoke("ps-sc")
    for _ in range(3):
        system.step(images(system))
    torch.manual_seed(9)
    other = systems.build("ps-sc", system.config, system.image_shape)
    other.load_state_dict(system.state_dict())
    z = torch.randn(3, 4)
    assert torch.equal(other.decode(z), system.decode(z))
