"""Checkpoints that are lost, copied, linked or another run's, and what is no file."""

import dataclasses
import errno
import json
import os
import shutil

import pytest

from pydisent import _atomic
from pydisent.training import Plan, RunFolder, open_run, train
from pydisent.training.checkpoint import path_of, steps_kept

PLAN = dataclasses.replace(
    Plan.from_preset("vae", "digits", "smoke", steps=6), checkpoint_every=2, log_every=1
)


def resumed(path, plan=PLAN):
    return train(plan, path, resume=True, accelerator="cpu", threads=1, progress=False)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of six updates, that has lost the last checkpoint of three."""
    folder = train(
        PLAN, tmp_path_factory.mktemp("begun") / "run", accelerator="cpu", threads=1,
        progress=False, keep=3,
    )  # fmt: skip
    shutil.rmtree(path_of(folder.checkpoints, 6))
    (folder.checkpoints / "latest").write_text("step-00000004")
    return folder.path


@pytest.fixture
def run(begun, tmp_path):
    return RunFolder(shutil.copytree(begun, tmp_path / "run"))


def test_copies_of_checkpoints_are_no_checkpoints_and_stay(run):
    for name in ("step-4", "step-0000004", "step-40", "step-000000006", "step-2 copy"):
        shutil.copytree(path_of(run.checkpoints, 4), run.checkpoints / name)
    before = {p.name for p in run.checkpoints.iterdir()}
    assert steps_kept(run.checkpoints) == [2, 4]
    resumed(run.path)
    assert steps_kept(run.checkpoints) == [4, 6]
    assert {p.name for p in run.checkpoints.iterdir()} == before - {"step-00000002"} | {
        "step-00000006"
    }


@pytest.mark.parametrize("kept", ["nothing", "latest"])
def test_a_run_without_its_checkpoints_does_not_begin_again(run, kept):
    for path in run.checkpoints.iterdir() if kept == "latest" else [run.checkpoints]:
        if path.is_dir():
            shutil.rmtree(path)
    log = run.log.read_bytes()
    with pytest.raises(FileNotFoundError, match=f"{run.checkpoints} has no checkpoint, though"):
        resumed(run.path)
    assert run.log.read_bytes() == log
    train(PLAN, run.path, overwrite=True, accelerator="cpu", threads=1, progress=False)
    assert steps_kept(run.checkpoints) == [4, 6]


def test_a_run_stopped_before_its_first_checkpoint_begins_again(run):
    shutil.rmtree(run.checkpoints)
    lines = run.log.read_text().splitlines(keepends=True)
    run.log.write_text("".join(lines[:2]))
    resumed(run.path)
    assert open_run(run.path).step == 6


def test_checkpoints_of_another_run_are_refused(run, tmp_path):
    other = dataclasses.replace(PLAN, seed=1)
    theirs = train(other, tmp_path / "other", accelerator="cpu", threads=1, progress=False)
    shutil.copytree(path_of(theirs.checkpoints, 6), path_of(run.checkpoints, 6))
    with pytest.raises(ValueError, match=r"00006/state.json does not belong to the plan in .*json"):
        resumed(run.path)
    with pytest.raises(ValueError, match="it is from another run, or that file has been changed"):
        open_run(run.path)


@pytest.mark.parametrize(
    "change", [("seed", 1), ("steps", 8), ("config", {"latent_size": 3}), ("image_size", None)]
)
def test_a_changed_plan_is_refused(run, change):
    name, value = change
    kept = json.loads(run.config.read_text())
    value = kept[name] | value if isinstance(value, dict) else value
    run.config.write_text(json.dumps(kept | {name: value}))
    with pytest.raises(ValueError, match="does not belong to the plan in"):
        resumed(run.path, run.read_plan())
    assert steps_kept(run.checkpoints) == [2, 4]


def test_a_run_from_before_plans_were_recorded_goes_on(run):
    for step in (2, 4):
        file = path_of(run.checkpoints, step) / "state.json"
        state = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in state.items() if k not in ("plan", "sha256")}))
    resumed(run.path)
    assert open_run(run.path).step == 6


def test_a_run_whose_data_and_folder_have_moved_goes_on(run, tmp_path):
    kept = json.loads(run.config.read_text())
    run.config.write_text(json.dumps(kept | {"data_path": "/elsewhere", "command": ["x"]}))
    assert open_run(run.path.rename(tmp_path / "moved"), device="cpu").step == 4


def test_linked_checkpoints_are_used_and_the_link_alone_is_removed(run, tmp_path):
    place = path_of(run.checkpoints, 4)
    place.rename(tmp_path / "disk")
    place.symlink_to(tmp_path / "disk")
    (run.checkpoints / ".step-00000006.tmp").symlink_to(tmp_path / "disk")
    train(PLAN, run.path, resume=True, accelerator="cpu", threads=1, progress=False, keep=1)
    assert steps_kept(run.checkpoints) == [6]
    assert (tmp_path / "disk" / "model.safetensors").is_file()


@pytest.mark.parametrize("make", ["file", "link"])
def test_what_stands_where_a_checkpoint_will_be_is_put_aside(run, make):
    place = path_of(run.checkpoints, 6)
    place.symlink_to("nowhere") if make == "link" else place.write_text("mine")
    with pytest.warns(
        UserWarning, match="step-00000006 is not a folder: it has been moved to .*damaged"
    ):
        resumed(run.path)
    assert steps_kept(run.checkpoints) == [4, 6]
    assert os.path.lexists(run.checkpoints / "damaged-step-00000006")


@pytest.mark.parametrize("kind", ["fifo", "link"])
@pytest.mark.parametrize(
    "name",
    ["log.jsonl", "environment.json", "checkpoints/step-00000004/state.json", "scores.json",
     ".lock", "checkpoints/.latest.tmp", ".environment.json.tmp", ".log.jsonl.tmp"],
)  # fmt: skip
def test_what_is_no_file_neither_hangs_nor_is_written_through(run, tmp_path, name, kind):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    place = run.path / name
    place.unlink(missing_ok=True)
    os.mkfifo(place) if kind == "fifo" else place.symlink_to(victim)
    said = str(place)
    try:
        resumed(run.path)
        open_run(run.path)
    except (ValueError, OSError) as error:
        said = str(error)
    assert str(place) in said
    assert victim.read_text() == "mine"


def test_a_full_disk_is_named_and_half_a_checkpoint_removed(run, monkeypatch):
    sync, halves = _atomic.sync, []

    def full(path):
        if ".step-" not in str(path):
            return sync(path)
        halves.append(path.parent)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_atomic, "sync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*model\.safetensors"):
        resumed(run.path)
    assert halves == [run.checkpoints / ".step-00000006.tmp"]
    assert not halves[0].exists()
    assert steps_kept(run.checkpoints) == [2, 4]
