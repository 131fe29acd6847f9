"""What a run computes in: chosen once, by the machine that it begins on."""

import json
import re
import warnings

import pytest
import torch

from pydisent import _notice, _precision, systems
from pydisent.systems.precision import chosen_precision
from pydisent.training import Plan, RunFolder, train

CPU = torch.device("cpu")
AUTO = {"precision": "auto"}


@pytest.fixture
def bf16(monkeypatch):
    """Tell the package whether this processor has bf16."""
    monkeypatch.delenv("PYDISENT_STRICT", raising=False)

    def native(has):
        monkeypatch.setattr(_precision, "_cpu_has_bf16", lambda: has)
        _notice._given.clear()

    return native


def _plan(**settings):
    return Plan.from_preset("beta-vae", preset="smoke", steps=2, settings=settings)


def _train(plan, path, **options):
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        folder = train(plan, path, accelerator="cpu", progress=False, **options)
    about = [str(one.message) for one in given if re.search("bf16|bfloat16", str(one.message))]
    return folder.read_environment()["precision"], about


@pytest.mark.parametrize("first", [True, False])
def test_a_run_goes_on_in_what_it_began_in(bf16, tmp_path, first):
    bf16(first)
    began = "bf16" if first else "fp32"
    assert _train(_plan(**AUTO), tmp_path) == (began, [])
    (tmp_path / "checkpoints" / "latest").unlink()
    bf16(not first)
    found, warned = _train(_plan(**AUTO), tmp_path, resume=True)
    assert found == began
    assert len(warned) == (1 if first else 0)
    assert all("continues in it" in text for text in warned)
    assert json.loads((tmp_path / "config.json").read_text())["config"]["precision"] == "auto"
    with pytest.raises(ValueError, match="was trained with precision auto, not"):
        _train(_plan(precision="fp32"), tmp_path, resume=True)


@pytest.mark.parametrize("old", ["bf16", "fp32"])
def test_runs_from_before_the_choice_was_recorded_go_on_as_they_were_asked(bf16, tmp_path, old):
    bf16(True)
    _train(_plan(precision=old), tmp_path)
    folder = RunFolder(tmp_path)
    record = folder.read_environment()
    del record["precision"]
    folder.environment.write_text(json.dumps(record))
    bf16(False)
    assert _train(_plan(**AUTO), tmp_path, resume=True)[0] == old


def test_bf16_where_it_is_slow_is_fp32_with_a_warning_unless_strict(bf16, tmp_path, monkeypatch):
    bf16(False)
    found, warned = _train(_plan(precision="bf16"), tmp_path / "a")
    assert found == "fp32"
    assert ["computing in float32" in text for text in warned] == [True]
    bf16(False)
    monkeypatch.setenv("PYDISENT_STRICT", "1")
    assert chosen_precision("bf16", CPU) == "bf16"
    assert chosen_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize("name", systems.names())
def test_presets_leave_the_choice_to_the_machine(name):
    """bf16 in a preset would be hours on most processors."""
    for preset in systems.PRESETS:
        config = systems.preset(name, preset, "sprites").config
        assert getattr(config, "precision", "auto") in ("auto", "fp32")


@pytest.mark.parametrize("native", [True, False])
def test_what_a_step_computes_in(bf16, native):
    bf16(native)
    for name in systems.names():
        preset = systems.preset(name, "smoke", "sprites")
        if not hasattr(preset.config, "precision"):
            continue
        system = systems.build(name, systems.override(preset.config, AUTO), (3, 16, 16))
        for set_to, expected in ((None, native), ("bf16", True), ("fp32", False)):
            system.precision = set_to
            with systems.precision.mixed_precision(system):
                assert torch.is_autocast_enabled("cpu") == expected


def test_the_choice_is_said_first(bf16, tmp_path, capsys):
    bf16(False)
    train(_plan(**AUTO), tmp_path, accelerator="cpu")
    assert capsys.readouterr().out.startswith("precision: fp32 (bf16 is not native on this cpu)")
