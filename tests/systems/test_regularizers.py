import re

import pytest
import torch

from pydisent import systems
from pydisent.jacobian import linearize, objectives
from pydisent.systems._regularizers import REGULARIZERS
from pydisent.training import Interrupted, Plan, RunFolder, open_run, train

GANS = ("gan", "infogan", "ib-gan", "ps-sc", "spectral-gan")


def _logged(name):
    return name.replace("-", "_")


def _weights(module):
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def _gradients(system, images, seed=1):
    """The generator's gradient at one update after `torch.manual_seed(seed)`, and the logs."""
    for group in (g for o in system.optimizers.values() for g in o.param_groups):
        group["lr"] = 0.0
    torch.manual_seed(seed)
    logs = system.step(images)
    return torch.cat([p.grad.flatten() for p in system.generator.parameters()]), logs


def _gram(generator, codes):
    """M by central differences in double precision, which the engine has no part in."""
    step = 1e-6
    columns = []
    with torch.no_grad():
        for axis in torch.eye(codes.shape[1]):
            ends = [generator(codes + sign * step * axis) for sign in (1, -1)]
            columns.append((ends[0] - ends[1]).flatten(1) / (2 * step))
    jacobian = torch.stack(columns, -1)
    return jacobian.mT @ jacobian


# Of M (B, m, m), written another way than the objectives are.
VALUES = {
    "orthogonal-jacobian": lambda m: (m * (1 - torch.eye(m.shape[-1]))).square().sum((1, 2)).mean(),
    "isometry": lambda m: torch.linalg.matrix_norm(m - torch.eye(m.shape[-1])).square().mean(),
    "scaled-isometry": lambda m: (
        torch.einsum("bij,bji->b", m, m).mean() / torch.einsum("bii->b", m).mean() ** 2
    ),
    "jacobian-clamping": lambda m: (
        torch.relu(torch.linalg.svdvals(m).sqrt() - 2).square().mean()
        + torch.relu(1 - torch.linalg.svdvals(m).sqrt()).square().mean()
    ),
    "log-determinant": lambda m: -0.5 * torch.linalg.det(m).log().mean(),
    "spectral-norm": lambda m: torch.linalg.matrix_norm(m, 2).sqrt().mean(),
    "nuclear-norm": lambda m: torch.linalg.svdvals(m).sqrt().sum(1).mean(),
    "condition-number": lambda m: torch.linalg.cond(m).sqrt().mean(),
}


def test_all_names_have_a_test():
    assert VALUES.keys() | {"path-length", "hessian"} == REGULARIZERS.keys()


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", VALUES)
def test_logged_is_the_value_at_the_updates_codes(smoke, images, name):
    system = smoke("spectral-gan", regularizer=name, regularizer_high=2.0)
    _, logs = _gradients(system, images(system))
    torch.manual_seed(1)
    system.draw_codes(8)  # the discriminator's, and two batches of noise
    torch.randn(2, 8, *system.image_shape)
    wanted = VALUES[name](_gram(system.generator, system.draw_codes(8)))
    torch.testing.assert_close(logs[_logged(name)], wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.usefixtures("double")
def test_the_hessian_is_along_random_signs(smoke):
    """Second differences, which the engine has no part in; of it the variance over directions."""
    system, step = smoke("gan", regularizer="hessian", regularizer_directions=3), 1e-3
    generator = torch.nn.Sequential(  # the system's own is piecewise linear, nearly
        torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 8)
    )
    codes, logs = system.draw_codes(8), {}
    torch.manual_seed(4)
    system.regularized(torch.zeros(()), generator, codes, logs)
    torch.manual_seed(4)
    along = (torch.randint(0, 2, (8, 3, 4)) * 2.0 - 1).transpose(0, 1)
    with torch.no_grad():
        middle = generator(codes)
        ends = [[generator(codes + sign * step * v) for sign in (1, -1)] for v in along]
    seconds = torch.stack([(a - 2 * middle + b) / step**2 for a, b in ends])
    assert float(logs["hessian"]) == pytest.approx(float(seconds.var(0).mean()), rel=1e-3)


@pytest.mark.in_turn
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", GANS)
def test_its_gradient_is_added_with_its_weight(smoke, images, name):
    """Twice the weight adds twice as much, and what it adds is the gradient of the objective."""
    found = {}
    for weight in (0.0, 0.5, 1.0):
        settings = {"regularizer": "orthogonal-jacobian", "regularizer_weight": weight}
        system = smoke(name, **settings)
        found[weight], logs = _gradients(system, images(system))
        assert ("orthogonal_jacobian" in logs) == (weight > 0)
    added = found[1.0] - found[0.0]
    torch.testing.assert_close(2 * (found[0.5] - found[0.0]), added, rtol=1e-7, atol=1e-10)
    assert added.norm() > 1e-3 * found[0.0].norm()


@pytest.mark.parametrize("name", GANS)
def test_every_gan_trains_with_one(smoke, images, name):
    system = smoke(name, regularizer="isometry", regularizer_directions=2)
    before = _weights(system.generator)
    for _ in range(3):
        assert torch.isfinite(system.step(images(system))["isometry"])
    assert torch.isfinite(_weights(system)).all()
    assert not torch.equal(_weights(system.generator), before)


@pytest.mark.in_turn
@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_one_trains_and_falls(smoke, images, name):
    """Alone in the generator's loss, nearly; the same codes are drawn at each update."""
    system = smoke("spectral-gan", regularizer=name, regularizer_weight=1e4, learning_rate=3e-4,
                   instance_noise=0.0, regularizer_low=5.0)  # fmt: skip
    values = []
    for _ in range(20):
        torch.manual_seed(2)
        values.append(float(system.step(images(system))[_logged(name)]))
    assert values[-1] < values[0]


@pytest.mark.in_turn
@pytest.mark.parametrize("name", GANS)
@pytest.mark.parametrize("settings", [{}, {"regularizer_weight": 0.0, "regularizer": "isometry"}])
def test_without_one_updates_are_what_they_were(smoke, images, name, settings):
    """No number is drawn for it, nothing is remembered, and the batch norms see one pass."""
    plain = {"penalty_weight": 0.0} if name == "spectral-gan" else {}
    ours = smoke(name, **{"regularizer": "none", **settings})
    theirs = smoke(name, **plain)
    for system in (ours, theirs):
        torch.manual_seed(3)
        for _ in range(2):
            system.step(images(system))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_batch_norms_keep_the_statistics_of_one_pass(smoke, images):
    found = []
    for regularizer in ("none", "orthogonal-jacobian"):
        system = smoke("gan", regularizer=regularizer)
        _gradients(system, images(system))
        found.append(dict(system.generator.named_buffers()))
    assert any("running_mean" in key for key in found[0])
    assert all(map(torch.equal, *(buffers.values() for buffers in found)))


def test_an_interval_makes_up_for_the_updates_without(smoke, images):
    system = smoke("gan", regularizer="isometry", regularizer_interval=3)
    seen = ["isometry" in system.step(images(system)) for _ in range(6)]
    assert seen == [True, False, False] * 2
    weights = []
    for settings in ({"regularizer_interval": 3, "regularizer_weight": 2.0},
                     {"regularizer_weight": 6.0}):  # fmt: skip
        system = smoke("gan", regularizer="isometry", **settings)
        weights.append(_gradients(system, images(system))[0])
    assert torch.equal(*weights)


def test_the_encoder_of_ib_gan_is_not_trained_by_it(smoke, images):
    gradients = []
    for weight in (0.0, 100.0):
        system = smoke("ib-gan", regularizer="isometry", regularizer_weight=weight)
        _gradients(system, images(system))
        gradients.append(torch.cat([p.grad.flatten() for p in system.encoder.parameters()]))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("orthogonal-jacobian", lambda squares: squares.var(0).mean()),
        ("isometry", lambda squares: (squares.sqrt() - 1).square().mean()),
        ("jacobian-clamping", lambda squares: torch.relu(1 - squares.sqrt()).square().mean()),
    ],
)
@pytest.mark.usefixtures("double")
def test_estimates_are_of_j_along_their_directions(smoke, name, value, monkeypatch):
    system = smoke("gan", regularizer=name, regularizer_directions=3)
    seen = []
    whole = objectives.__dict__[_logged(name) + "_estimate"]

    def noted(gram, **settings):
        seen.append(gram.detach().clone())
        return whole(gram, **settings)

    monkeypatch.setattr(system.regularizer, "estimate", noted)
    codes = system.draw_codes(8)
    logs = {}
    torch.manual_seed(4)
    system.regularized(torch.zeros(()), system.generator, codes, logs)
    squares = seen[0].diagonal(dim1=1, dim2=2).T
    assert squares.shape == (3, 8)
    assert float(logs[_logged(name)]) == pytest.approx(float(value(squares)), rel=1e-9)
    torch.manual_seed(4)
    if name == "orthogonal-jacobian":
        along = (torch.randint(0, 2, (8, 3, 4)) * 2.0 - 1).transpose(0, 1)
    else:
        along = torch.nn.functional.normalize(torch.randn(8, 3, 4), dim=-1).transpose(0, 1)
        assert along.norm(dim=-1).allclose(torch.ones(3, 8))
    pushed = linearize(system.generator, codes).jvp(along)
    torch.testing.assert_close(pushed.flatten(2).square().sum(-1), squares)


@pytest.mark.parametrize(
    ("system", "settings", "message"),
    [
        ("gan", {"regularizer": "alignment"},
         "regularizer must be one of 'none', 'orthogonal-jacobian', .*, got 'alignment'"),
        ("spectral-gan", {"regularizer": "hesian"},
         "regularizer must be one of 'none', 'alignment', 'orthogonal-jacobian', .* got 'hesian'"),
        ("gan", {"regularizer": "path-length", "regularizer_directions": 2},
         "regularizer_directions must be none with path-length, got 2"),
        ("gan", {"regularizer": "orthogonal-jacobian", "regularizer_directions": 1},
         "regularizer_directions must be at least 2, got 1"),
        ("gan", {"regularizer": "path-length", "regularizer_rank": 2},
         "regularizer_rank must be none with path-length, got 2"),
        ("gan", {"regularizer": "isometry", "regularizer_rank": 2, "regularizer_directions": 2},
         "regularizer_rank must be none with regularizer_directions, got 2"),
        ("gan", {"regularizer_weight": -1.0}, "regularizer_weight must be .*>= 0, got -1"),
        ("gan", {"regularizer_interval": 0}, "regularizer_interval must be .*>= 1, got 0"),
        ("gan", {"regularizer_decay": 0.0}, "regularizer_decay must be .*, got 0.0"),
        ("gan", {"regularizer_high": 0.5}, "regularizer_high must be .*>= 1.0, got 0.5"),
        ("spectral-gan", {"regularizer_weight": 1.0},
         "regularizer_weight must be none with regularizer alignment, got 1.0"),
        ("spectral-gan", {"regularizer": "isometry", "interval": 2},
         "interval must be 1 with regularizer isometry, got 2"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(system, settings, message):
    config = systems.preset(system, "smoke", "sprites").config
    with pytest.raises(ValueError, match=rf"^{message}"):
        systems.override(config, settings)


def test_a_rank_is_at_most_the_codes_size(smoke, images):
    system = smoke("gan", regularizer="isometry", regularizer_rank=5)
    with pytest.raises(ValueError, match="rank must be at most m = 4, got 5"):
        system.step(images(system))


@pytest.mark.parametrize(
    ("settings", "captured"),
    [
        ({}, True),
        ({"regularizer": "isometry"}, False),
        ({"regularizer": "isometry", "regularizer_weight": 0.0}, True),
        ({"regularizer": "isometry", "regularizer_rank": 4}, True),
        ({"regularizer": "isometry", "regularizer_directions": 2}, True),
        ({"regularizer": "jacobian-clamping", "regularizer_rank": 4}, False),
        ({"regularizer": "path-length"}, True),
    ],
)
@pytest.mark.parametrize("name", ["gan", "spectral-gan"])
def test_which_updates_can_be_captured(smoke, name, settings, captured, monkeypatch):
    monkeypatch.setattr("pydisent.systems._regularizers.warn_once", lambda message: None)
    settings = {"regularizer": "none"} | settings
    assert (smoke(name, **settings).graph_key() is not None) == captured


def test_former_configurations_are_read_as_they_were_trained():
    for name in GANS:
        plan = Plan.from_preset(name, preset="smoke")
        older = plan.to_json()
        older["config"] = {
            key: value for key, value in older["config"].items() if not re.match("regulariz", key)
        }
        found = Plan.from_json(older).config
        assert found == plan.config
        assert found.regularizer == ("alignment" if name == "spectral-gan" else "none")


def test_path_lengths_resume_bit_for_bit(tmp_path, monkeypatch):
    """Their running mean goes into the weights and is saved with them."""

    def plan():
        settings = {"regularizer": "path-length", "regularizer_interval": 2}
        return Plan.from_preset("gan", preset="smoke", steps=12, settings=settings)

    def run(name, **options):
        path = tmp_path / name
        train(plan(), path, accelerator="cpu", threads=1, progress=False, **options)
        return path

    def result(path):
        latest = RunFolder(path).checkpoints / "step-00000012"
        return [(latest / f"{n}.safetensors").read_bytes() for n in ("model", "optimizers")]

    whole = run("whole")
    kept = open_run(whole).system.regularizer.mean
    assert float(kept) > 0
    step = systems.System.step

    def stopped(self, *batch):
        if self.phase_step == 7:
            raise Interrupted(15, tmp_path)
        return step(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(systems.System, "step", stopped)
        with pytest.raises(Interrupted):
            run("stopped")
    assert result(run("stopped", resume=True)) == result(whole)
