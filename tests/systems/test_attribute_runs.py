import pytest
import torch

from pydisent import systems
from pydisent.training import Plan, open_run, train


def _plan(data="faces", **settings):
    return Plan.from_preset("attribute-ae", data, "smoke", steps=5, settings=settings)


def test_training_names_codes_and_a_run_opens_without_its_data(tmp_path):
    plan = _plan(cycle_steps=5, student_steps=5, students=1)
    train(plan, tmp_path / "run", accelerator="cpu", progress=False)
    run = open_run(tmp_path / "run")
    assert run.system.phase == "student-1"
    assert "Eyeglasses" in run.system.code_names[:32]
    assert run.system.code_names[32] == "z1"
    assert not run.system.teacher.training


def test_data_must_have_the_attributes(tmp_path):
    for plan, message in (
        (_plan("sprites"), "data must be one of 'faces', .* for attribute-ae, .*, got 'sprites'"),
        (
            _plan(attributes=40),
            r"attributes must be 32 for 'faces' \(--set attributes=32\), got 40",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            train(plan, tmp_path / "run", accelerator="cpu", progress=False)
        assert not (tmp_path / "run").exists()


def test_other_systems_are_called_as_before(monkeypatch):
    system = systems.build("vae", systems.preset("vae", "smoke", "faces").config, (3, 16, 16))
    seen = []
    monkeypatch.setattr(system, "update", lambda *given: seen.append(len(given)) or {})
    system.step(torch.rand(8, 3, 16, 16))
    assert seen == [1]
