"""Progressive discovery: growth, the student's loss, and a run that stops and goes on."""

import copy
import pickle

import pytest
import torch

from pydisent import systems
from pydisent.training import Plan, train
from pydisent.training.batches import Batches


def build(shape=(1, 8, 8), **settings):
    config = systems.override(
        systems.preset("jacobian-ae", "smoke", "digits").config, {"nuisance": 3} | settings
    )
    torch.manual_seed(0)
    system = systems.build("jacobian-ae", config, shape)
    system.start_phase("teacher")
    return system.train()


def images(system, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(16, *system.image_shape, generator=generator)


@pytest.mark.parametrize("batch_norm", ["teacher", "all"])
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_growth_is_exact(network, batch_norm):
    """With the new unit zeroed a student gives its teacher's images, and its codes."""
    system = build((3, 16, 16), network=network, batch_norm=batch_norm)
    x = images(system)
    for phase in ("student-1", "student-2", "student-3"):
        for _ in range(4):
            system.step(x)
        with torch.no_grad():
            before = copy.deepcopy(system.model).eval()
            system.start_phase(phase)
            student = system.model.eval()
            code = student.encode(x)
            torch.testing.assert_close(code[:, :-1], before.encode(x), rtol=0, atol=1e-6)
            assert code[:, -1].std() > 0
            without = torch.cat([code[:, :-1], torch.zeros(16, 1)], dim=1)
            wanted = before.decode(before.encode(x))
            torch.testing.assert_close(student.decode(without), wanted, rtol=0, atol=1e-6)
            torch.testing.assert_close(
                system.teacher.decode(code[:, :-1]), wanted, rtol=0, atol=1e-6
            )
        system.train()


@pytest.mark.parametrize(("batch_norm", "normal"), [("teacher", False), ("all", True)])
def test_whose_codes_are_normalised(batch_norm, normal):
    """App. A.1: the first teacher's. App. A.5: also the students', all of k + d units."""
    system = build((3, 16, 16), network="conv", batch_norm=batch_norm)
    x = images(system)
    for phase in ("teacher", "student-1", "student-2"):
        system.start_phase(phase)
        system.train()
        system.step(x)
        with torch.no_grad():
            system.model.encoder.head.weight.mul_(1000)  # variances far above the norm's eps
            code = system.model.encode(x)
        variance = code.var(0, correction=0)
        close = torch.allclose(variance, torch.ones(len(variance)), atol=0.02)
        assert close == (normal or phase == "teacher")
        assert not list(system.model.norm.parameters())


def test_the_students_loss_is_that_of_the_paper():
    system = build(weight_y=0.5, weight_diff=0.3, weight_cross_covariance=0.7)
    x = images(system)
    system.step(x)
    system.start_phase("student-1")
    system.train()
    torch.manual_seed(3)
    pairs = torch.randperm(16)
    with torch.no_grad():
        teacher, student = system.teacher, system.model
        assert not teacher.training
        code, wanted = student.encode(x), teacher.encode(x)
        y, z = code[:, :-1], code[:, -1:]
        out = student.decode(code)
        rec = ((x - out) ** 2).mean()
        lhs = teacher.decode(wanted[pairs]) - teacher.decode(wanted)
        rhs = student.decode(torch.cat([y[pairs], z], 1)) - out
        diff = ((lhs - rhs) ** 2).mean()
        cov = (y - y.mean(0)).T @ (z - z.mean(0)) / 16
        loss = rec + 0.5 * ((y - wanted) ** 2).mean() + 0.3 * diff + 0.7 * (cov**2).sum()
    torch.manual_seed(3)
    logs = system.step(x)
    assert float(logs["loss"]) == pytest.approx(float(loss), rel=1e-5)
    assert float(logs["difference"]) == pytest.approx(float(diff), rel=1e-4)
    assert float(logs["code_size"]) == 3


def test_without_supervision_only_the_cross_covariance_is_left():
    system = build(supervision=False)
    system.start_phase("student-1")
    logs = system.train().step(images(system))
    assert set(logs) == {"loss", "reconstruction", "cross_covariance", "code_size"}


def test_the_authors_cross_covariance_is_a_norm():
    losses = {}
    for kind in ("published", "author_code"):
        system = build(supervision=False, cross_covariance=kind, weight_cross_covariance=1.0)
        system.start_phase("student-1")
        losses[kind] = float(system.train().step(images(system))["cross_covariance"])
    assert losses["author_code"] == pytest.approx(losses["published"] ** 0.5, rel=1e-4)


@pytest.mark.parametrize("variant", ["published", "exact"])
def test_the_teacher_is_frozen_and_the_student_learns(variant):
    system = build(variant=variant)
    system.step(images(system))
    system.start_phase("student-1")
    system.train()
    teacher, model = (copy.deepcopy(m) for m in (system.teacher, system.model))
    for seed in range(3):
        system.step(images(system, seed))
    assert all(map(torch.equal, teacher.parameters(), system.teacher.parameters()))
    assert all(map(torch.equal, teacher.buffers(), system.teacher.buffers()))
    assert not any(map(torch.equal, model.parameters(), system.model.parameters()))


def test_phases_and_protocol():
    system = build()
    assert system.phases(7) == tuple(
        (p, 7) for p in ("teacher", "student-1", "student-2", "student-3")
    )
    for phase in ("student-1", "student-2"):
        system.start_phase(phase)
    x = images(system)
    code = system.eval().encode(x)
    assert code.shape == (16, 4)
    assert system.code_names == ["y1", "y2", "z1", "z2"]
    assert list(system.factor_columns) == [0, 1]
    decoded = system.decode(3 * code)
    assert decoded.shape == x.shape
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    assert system.sample_code(5).shape == (5, 4)
    again = pickle.loads(pickle.dumps(system))
    torch.testing.assert_close(again.encode(x), code)
    torch.testing.assert_close(copy.deepcopy(system).encode(x), code)
    assert build(nuisance=0).phases(7) == (("teacher", 7),)


def test_phases_come_in_their_order():
    system = build(nuisance=2)
    for wrong in ("student-2", "other"):
        with pytest.raises(ValueError, match="must be the next one, 'teacher' or 'student-1', got"):
            system.start_phase(wrong)
    system.start_phase("student-1")
    with pytest.raises(ValueError, match="the next one, 'student-2', got 'student-1'"):
        system.start_phase("student-1")
    system.start_phase("student-2")
    with pytest.raises(ValueError, match="none, as all are done"):
        system.start_phase("teacher")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factors": 0}, "factors must be .*, got 0"),
        ({"nuisance": -1}, "nuisance must be .*, got -1"),
        ({"batch_size": 1}, "batch_size must be .*, got 1"),
        ({"network": "other"}, "network must be .*, got 'other'"),
        ({"batch_norm": "none"}, "batch_norm must be .*, got 'none'"),
        ({"variant": "other"}, "variant must be .*, got 'other'"),
        ({"weight_diff": -1.0}, "weight_diff must be .*, got -1.0"),
    ],
)
def test_settings_that_are_not_accepted(change, message):
    with pytest.raises(ValueError, match=message):
        build(**change)


def test_images_that_convolutions_cannot_halve():
    with pytest.raises(ValueError, match="image_shape must be a multiple of 8"):
        build((1, 12, 12), network="conv")


class _Stop(Exception):
    pass


def test_a_run_killed_in_its_third_stage_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    """Bit for bit: weights, moments and log; the kill comes between two checkpoints."""

    def plan():
        settings = {"nuisance": 3}
        return Plan.from_preset("jacobian-ae", "digits", "smoke", steps=8, settings=settings)

    def result(path):
        latest = path / "checkpoints" / (path / "checkpoints" / "latest").read_text()
        names = ("model.safetensors", "optimizers.safetensors")
        log = [line.split(",", 2)[2] for line in (path / "log.jsonl").read_text().splitlines()]
        return *((latest / name).read_bytes() for name in names), log

    train(plan(), tmp_path / "whole", accelerator="cpu", progress=False)
    batch = Batches.__call__

    def killed(self, step):
        if step == 2 * 8 + 6:  # the third stage's seventh update; checkpoints every 5
            raise _Stop
        return batch(self, step)

    monkeypatch.setattr(Batches, "__call__", killed)
    with pytest.raises(_Stop):
        train(plan(), tmp_path / "cut", accelerator="cpu", progress=False)
    monkeypatch.setattr(Batches, "__call__", batch)
    train(plan(), tmp_path / "cut", resume=True, accelerator="cpu", progress=False)
    assert result(tmp_path / "cut") == result(tmp_path / "whole")
