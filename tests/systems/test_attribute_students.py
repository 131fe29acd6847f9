"""What students of attribute autoencoders learn from, and from whom."""

import copy
import dataclasses

import pytest
import torch
from _attribute_systems import batch, build, same, state, weights

from pydisent.training import Plan, checkpoint


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_student_losses_equal_their_definitions(weight):
    """Equations 8 and 9; the first student's teacher is the model before, and stays as it is."""
    system = build("teacher-cycle", y_weight=0.7, difference_weight=30, variant="published",
                     student_cross_covariance_weight=weight)  # fmt: skip
    x, signs = batch()
    for _ in range(3):
        system.step(x, signs)
    previous = copy.deepcopy(system.autoencoder).eval()
    system.start_phase("student-1")
    assert same(state(system.teacher), state(previous))
    twin = copy.deepcopy(system)
    scaled = 2 * x - 1
    student, order = twin.autoencoder, torch.randperm(8, generator=torch.manual_seed(4))
    y, z = student.encoder(scaled)
    with torch.no_grad():
        y_t, z_t = previous.encoder(scaled)
        change_t = previous.decoder(y_t[order], z_t) - previous.decoder(y_t, z_t)
    image = student.decoder(y, z)
    change = student.decoder(y[order], z) - image
    reconstruction = (scaled - image).square().mean()
    of_y, of_change = (y - y_t).square().mean(), (change - change_t).square().mean()
    flat = z.reshape(8, -1)
    xcov = ((y - y.mean(0)).T @ (flat - flat.mean(0)) / 8).square().sum()
    torch.manual_seed(4)
    logs = system.step(x, signs)
    expected = {"reconstruction": reconstruction, "y_error": of_y, "difference": of_change}
    for name, value in (expected | ({"cross_covariance": xcov} if weight else {})).items():
        assert float(logs[name]) == pytest.approx(value.item(), rel=1e-4), name
    assert ("cross_covariance" in logs) == bool(weight)
    assert same(state(system.teacher), state(previous))
    assert all(p.grad is None and not p.requires_grad for p in system.teacher.parameters())
    (100 * reconstruction + 0.7 * of_y + 30 * of_change + weight * xcov).backward()
    torch.optim.Adam(student.parameters(), 0.002, betas=(0.5, 0.999)).step()
    torch.testing.assert_close(weights(system.autoencoder), weights(student), rtol=1e-3, atol=1e-4)


def test_the_teacher_stays_in_eval_mode():
    system = build("student-2")
    for mode in (True, False, True):
        system.train(mode)
        assert not any(module.training for module in system.teacher.modules())
        assert system.autoencoder.training is mode


def test_supervision_of_students():
    x, signs = batch()
    teacher = {"reconstruction", "prediction", "cross_covariance", "wrong_attributes"}
    student = {"reconstruction", "y_error", "difference", "wrong_attributes"}
    cycle = {"cycle_attributes", "cycle_z"}
    for name, keys in (
        ("jacobian", student), ("jacobian-cycle", student | cycle), ("cycle", teacher | cycle),
        ("none", teacher),
    ):  # fmt: skip
        for phase in ("student-1", "student-2"):
            system = build(phase, supervision=name)
            assert system.step(x, signs).keys() == keys
            assert (system.teacher is not None) == ("jacobian" in name)


def test_both_losses_of_a_student_are_those_of_each_alone():
    """The last row of Table 5: the student's step, then the decoder's down the cycle losses."""
    x, signs = batch()
    both, alone = (build("student-1", supervision=s) for s in ("jacobian-cycle", "jacobian"))
    for system in (both, alone):
        torch.manual_seed(4)
        system.logged = system.step(x, signs)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        torch.randperm(8)  # the student's pairs
        alone.logged |= alone._update_cycle(2 * x - 1)
    assert both.logged == alone.logged
    assert same(state(both), state(alone))


@pytest.mark.parametrize("supervisor", ["original", "previous"])
def test_who_teaches_the_second_student(supervisor):
    x, signs = batch()
    system = build(supervisor=supervisor)
    models = []
    for phase, _ in system.phases(1):
        models.append(copy.deepcopy(system.autoencoder))
        system.start_phase(phase)
        system.step(x, signs)
    assert system.phase == "student-2"
    # Before "student-1" there was the trained teacher, and before "student-2" the first student.
    assert same(state(system.teacher), state(models[2 if supervisor == "original" else 3]))


def test_older_runs_keep_their_encoder_and_teachers():
    """Runs that did not record these settings were trained without them."""
    plan = Plan.from_preset("attribute-ae", "faces", "smoke")
    kept = plan.to_json()
    for name in ("last_activation", "supervisor"):
        del kept["config"][name]
    config = Plan.from_json(kept).config
    assert (config.last_activation, config.supervisor) == (False, "previous")
    assert dataclasses.replace(config, last_activation=True, supervisor="original") == plan.config


@pytest.mark.parametrize("supervision", ["jacobian", "jacobian-cycle", "cycle"])
def test_a_checkpoint_restores_each_phase(tmp_path, supervision):
    x, signs = batch()
    for phase in ("teacher", "teacher-cycle", "student-1", "student-2"):
        system = build(phase, supervision=supervision)
        system.attribute_names = tuple("abcde")
        system.step(x, signs)
        path = checkpoint.save_checkpoint(tmp_path / phase, system, 1, 0.0, [])
        fresh = build(supervision=supervision)
        checkpoint.load_training(path, fresh)
        assert (fresh.phase, fresh.phase_step) == (phase, 1)
        assert fresh.code_names[:5] == list("abcde")
        for each in (system, fresh):
            torch.manual_seed(9)
            each.step(x, signs)
        assert same(state(system), state(fresh))
