"""Plans: whatever is accepted can be read back."""

import dataclasses
import json

import numpy as np
import pytest

from pydisent.sweeps import SweepPlan
from pydisent.sweeps.manifest import Manifest
from pydisent.training import Plan
from pydisent.training.files import read_object, write_json

PLAN = Plan.from_preset("vae", preset="smoke")
VALUES = (
    True, 0, 3, 2.5, 0.25, "1", None, float("nan"), 2**63, (1, 2), [1],
    np.int64(3), np.int32(3), np.float32(0.25), np.float64(0.25), np.bool_(True), np.str_("x"),
)  # fmt: skip
# The names of systems are checked when one is built, before anything is written.
FIELDS = {f.name for f in dataclasses.fields(PLAN)} - {"system", "config", "command"}


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_an_accepted_field_is_read_back_and_another_refused_by_name(tmp_path, name):
    read, refused = [], []
    for value in VALUES:
        try:
            plan = dataclasses.replace(PLAN, **{name: value})
        except (TypeError, ValueError) as error:
            refused.append(str(error))
            continue
        write_json(tmp_path / "plan.json", plan.to_json())
        again = Plan.from_json(read_object(tmp_path / "plan.json"))
        read.append((again == plan, getattr(again, name) == value))
    assert read
    assert set(read) == {(True, True)}
    assert refused
    assert all(message.startswith(f"{name} must be") for message in refused)


def test_numbers_of_numpy_become_plain_ones(tmp_path):
    steps, seed, size = np.arange(3, 6)
    settings = {"latent_size": size, "learning_rate": np.float64(0.5), "precision": np.str_("bf16")}
    plan = Plan.from_preset("vae", preset="smoke", steps=steps, seed=seed, settings=settings)
    direct = dataclasses.replace(plan, config=dataclasses.replace(plan.config, latent_size=size))
    assert direct == plan
    assert (plan.steps, plan.seed, plan.config.latent_size) == (3, 4, 5)
    for each in (plan, direct):
        assert Plan.from_json(json.loads(json.dumps(each.to_json()))) == plan


def test_a_setting_that_cannot_be_read_back_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Config:
        widths: tuple[int, ...] = (8, 8)

    with pytest.raises(ValueError, match="config: widths must be int or float or bool or str"):
        dataclasses.replace(PLAN, config=Config())


def test_a_sweep_of_a_range_or_an_array_is_continued(tmp_path):
    options = {"preset": "smoke", "steps": np.int64(2), "grid": {"beta": np.array([1.0, 4.0])}}
    for seeds in (range(2), np.arange(2), [0, 1], (0, 1)):
        plan = SweepPlan(["beta-vae"], seeds=seeds, **options)
        manifest = Manifest(tmp_path, plan, plan.runs())  # refuses another sweep's
        manifest.write()
    assert sorted(manifest.states) == sorted(plan.runs())
    assert len(manifest.states) == 4
