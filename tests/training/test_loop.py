import dataclasses
import functools
import json
import os
import shutil

import numpy as np
import pytest
import torch

from pydisent import data, systems
from pydisent.systems import VAE
from pydisent.training import NonFiniteError, Plan, RunFolder, open_run, train
from pydisent.training.sampling import BatchSampler


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _plan(system="spectral-gan", **options):
    return Plan.from_preset(system, preset="smoke", **options)


def _train(plan, path, **options):
    return train(plan, path, accelerator="cpu", progress=False, **options)


def _result(path):
    folder = RunFolder(path)
    name = (folder.checkpoints / "latest").read_text()
    weights = (folder.checkpoints / name / "model.safetensors").read_bytes()
    log = [{k: v for k, v in line.items() if k != "seconds"} for line in folder.read_log()]
    return weights, log


class _Stop(Exception):
    pass


def _stop_at(monkeypatch, step):
    """Make training raise before that update, which leaves what a kill would leave."""
    original = systems.System.step
    seen = []

    def counted(self, *batch):
        seen.append(None)
        if len(seen) == step:
            raise _Stop
        return original(self, *batch)

    monkeypatch.setattr(systems.System, "step", counted)


def test_a_seed_fixes_the_run_and_another_changes_it(tmp_path):
    first, second, third = (
        _train(_plan(seed=s), tmp_path / n).path for n, s in zip("abc", (7, 7, 8))
    )
    assert _result(first) == _result(second)
    assert _result(first)[0] != _result(third)[0]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Each system's plan, and what training leaves that nothing stops."""

    @functools.cache
    def trained(system):
        plan = _plan(system, data="faces" if system == "attribute-ae" else "sprites")
        return plan, _result(_train(plan, tmp_path_factory.mktemp(system) / "whole").path)

    return trained


@pytest.mark.in_turn
@pytest.mark.parametrize(
    ("system", "step"),
    [
        *(("spectral-gan", step) for step in (1, 13, 20, 21)),
        ("vae", 13), ("annealed-vae", 8), ("factor-vae", 13), ("beta-tcvae", 13),
        ("ps-sc", 6), ("gan", 13), ("ib-gan", 13),
        *(("attribute-ae", step) for step in (13, 31, 34, 48)),
    ],
)  # fmt: skip
def test_resumed_equals_uninterrupted(tmp_path, uninterrupted, monkeypatch, system, step):
    plan, whole = uninterrupted(system)
    with monkeypatch.context() as patch:
        _stop_at(patch, step)
        with pytest.raises(_Stop):
            _train(plan, tmp_path / "stopped")
    with (tmp_path / "stopped" / "log.jsonl").open("a") as log:
        log.write('{"step": 1, "sec')  # a line that was being written
    _train(plan, tmp_path / "stopped", resume=True)
    assert _result(tmp_path / "stopped") == whole


def test_a_run_stopped_between_penalties_goes_on_in_step(tmp_path, monkeypatch):
    """Each line of the log has the latest penalty, though most updates have none."""
    settings = {"interval": 3, "sub_batch": 4, "rank": 2, "encoder_steps": 0}
    plan = _plan(steps=12, settings=settings)
    whole = _result(_train(plan, tmp_path / "whole").path)
    with monkeypatch.context() as patch:
        _stop_at(patch, 9)
        with pytest.raises(_Stop):
            _train(plan, tmp_path / "stopped")
    _train(plan, tmp_path / "stopped", resume=True)
    assert _result(tmp_path / "stopped") == whole
    assert [line["step"] for line in whole[1] if "alignment" in line] == [5, 10]


def test_a_system_gets_the_images_it_asks_for_and_their_number(tmp_path, monkeypatch):
    seen = []

    def noted(self, batch):
        seen.append((len(batch), self.dataset_size))
        raise _Stop

    monkeypatch.setattr(systems.System, "step", noted)
    for name, settings in (("factor-vae", {}), ("factor-vae", {"permuted_batch": "same"})):
        with pytest.raises(_Stop):
            _train(_plan(name, settings=settings), tmp_path / str(len(seen)))
    assert seen == [(16, 737_280), (8, 737_280)]


def test_a_system_that_needs_them_gets_the_attributes_of_its_images(tmp_path, monkeypatch):
    seen = []

    def noted(self, *batch):
        seen.append((self.attribute_names, *batch))
        raise _Stop

    monkeypatch.setattr(systems.System, "step", noted)
    plan = _plan("attribute-ae", data="faces")
    with pytest.raises(_Stop):
        _train(plan, tmp_path / "run")
    names, images, attributes = seen[0]
    faces, unseen = data.hold_out(data.load("faces", image_size=16), plan.held_out)
    assert len(unseen) == 1800
    numbers = torch.from_numpy(BatchSampler(len(faces), 8, 0)(0))
    assert torch.equal(images, faces.images(numbers))
    assert names == faces.attribute_names
    assert attributes.dtype == torch.float32
    assert torch.equal(attributes, torch.where(faces.attributes[numbers], 1.0, -1.0))


def test_log(tmp_path):
    folder = _train(_plan(), tmp_path / "run")
    log = [json.loads(line) for line in folder.log.read_text().splitlines()]
    assert [line["step"] for line in log] == [5, 10, 15, 20, 25, 30]
    assert [line["phase"] for line in log] == ["train"] * 4 + ["encoder"] * 2
    assert log[0].keys() == {
        "step", "seconds", "phase", "discriminator", "generator", "alignment"
    }  # fmt: skip
    assert log[-1].keys() == {"step", "seconds", "phase", "reconstruction"}
    assert np.all(np.diff([line["seconds"] for line in log]) >= 0)
    assert list(folder.tensorboard.iterdir())


def test_a_folder_in_use_is_not_touched(tmp_path):
    folder = _train(_plan(), tmp_path / "run")
    before = _result(folder.path)
    with pytest.raises(FileExistsError, match=r"--resume.*--overwrite"):
        _train(_plan(seed=1), folder.path)
    with pytest.raises(ValueError, match="was trained with seed 0, not 1"):
        _train(_plan(seed=1), folder.path, resume=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(FileExistsError, match="not a run folder"):
            _train(_plan(), other, **options)
    with pytest.raises(ValueError, match="must not both be given"):
        _train(_plan(), folder.path, resume=True, overwrite=True)
    assert _result(folder.path) == before
    assert [p.name for p in other.iterdir()] == ["letter.txt"]
    _train(_plan(seed=1), folder.path, overwrite=True)
    assert _result(folder.path) != before


def test_bad_data_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="batch_size must be"):
        _train(_plan(settings={"batch_size": 10**6}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def _poison(monkeypatch, step, what):
    original = systems.System.step

    def poisoned(self, batch):
        logs = original(self, batch)
        if self.phase_step == step:
            if what == "loss":
                logs["generator"] = torch.tensor(float("nan"))
            else:
                self.generator.project.bias.data[0] = float("inf")
        return logs

    monkeypatch.setattr(systems.System, "step", poisoned)


def test_a_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    _poison(monkeypatch, 13, "loss")
    with pytest.raises(NonFiniteError, match=r"loss 'generator' is nan at step 13.*step-00000010"):
        _train(_plan(), tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.step == 10
    assert torch.isfinite(run.system.decode(run.system.sample_code(4))).all()


def test_a_non_finite_weight_is_never_saved(tmp_path, monkeypatch):
    _poison(monkeypatch, 15, "weight")
    with pytest.raises(NonFiniteError, match=r"weight 'generator.project.bias'.* step 15"):
        _train(_plan(), tmp_path / "run")
    assert open_run(tmp_path / "run").step == 10


def test_plan_round_trip_and_errors():
    plan = _plan(seed=3, settings={"r1_weight": 2}, data_path="x", command=("pydisent", "train"))
    kept = json.loads(json.dumps(plan.to_json()))
    assert Plan.from_json(kept) == plan
    assert Plan.from_json({k: v for k, v in kept.items() if k != "partial"}) == plan  # as before
    part = _plan(data="celeba", data_path="x", partial=True)
    assert Plan.from_json(json.loads(json.dumps(part.to_json()))) == part
    with pytest.raises(ValueError, match="partial must be bool, got 1"):
        Plan.from_json(kept | {"partial": 1})
    assert kept.keys() >= {"system", "data", "data_path", "image_size", "preset", "seed", "steps"}
    with pytest.raises(ValueError, match="format must be 1, got 9"):
        Plan.from_json(kept | {"format": 9})
    with pytest.raises(ValueError, match="lacks seed"):
        Plan.from_json({key: value for key, value in kept.items() if key != "seed"})
    with pytest.raises(ValueError, match="config must be dict, got 5"):
        Plan.from_json(kept | {"config": 5})
    with pytest.raises(ValueError, match="steps must be an integer >= 1, got 0"):
        _plan(steps=0)
    with pytest.raises(ValueError, match=r"seed must be .*, got -1"):
        _plan(seed=-1)


@pytest.mark.parametrize("stop", [1, 2, 6])
def test_losses_of_some_updates_are_logged_after_a_resume_too(tmp_path, stop):
    plan = _plan("ps-sc", steps=8, settings={"r1_interval": 4})  # R1 in updates 1 and 5
    plan = dataclasses.replace(plan, log_every=4, checkpoint_every=stop)

    def ends(system, step):
        if step > stop:
            raise MemoryError
        return {}

    _train(plan, tmp_path / "whole")
    with pytest.raises(MemoryError):
        _train(plan, tmp_path / "part", measure=ends, measure_every=1)
    _train(plan, tmp_path / "part", resume=True)
    assert _result(tmp_path / "part") == _result(tmp_path / "whole")
    assert all("r1" in line for line in RunFolder(tmp_path / "part").read_log())


def _small(**settings):
    plan = Plan.from_preset("vae", "digits", "smoke", steps=8)
    return dataclasses.replace(plan, checkpoint_every=2, log_every=2, **settings)


def _begin(plan, path, **options):
    return train(plan, path, threads=1, accelerator="cpu", progress=False, **options)


def test_a_run_goes_on_bit_for_bit_from_what_damage_left(tmp_path):
    whole, run = _begin(_small(), tmp_path / "whole"), _begin(_small(), tmp_path / "run")
    (run.checkpoints / "latest").unlink()
    file = run.checkpoints / "step-00000008" / "optimizers.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.warns(UserWarning, match=r"step-00000008/optimizers\.safetensors is damaged"):
        _begin(_small(), run.path, resume=True)
    for name in ("model.safetensors", "optimizers.safetensors"):
        for step in (6, 8):
            one, other = (f.checkpoints / f"step-{step:08d}" / name for f in (whole, run))
            assert one.read_bytes() == other.read_bytes()
    assert (run.checkpoints / "damaged-step-00000008" / file.name).read_bytes() == data
    assert [line["step"] for line in run.read_log()] == [2, 4, 6, 8]


def test_one_trainer_a_folder(tmp_path, monkeypatch):
    """Whoever else trains there is named; a lock that is left stops nobody."""
    pytest.importorskip("fcntl")
    path, words = tmp_path / "run", rf"trained by another process \(process {os.getpid()}\)"
    path.mkdir()
    (path / ".lock").write_text("process 1")
    step, tried = VAE.step, []

    def meanwhile(self, images):
        if not tried:
            tried.append(True)
            before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
            for options in ({"resume": True}, {"overwrite": True}):
                with pytest.raises(ValueError, match=words):
                    _begin(_small(), path, **options)
            assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before
        return step(self, images)

    monkeypatch.setattr(VAE, "step", meanwhile)
    _begin(_small(), path)
    assert tried
    _begin(_small(), path, overwrite=True)


def test_overwriting_keeps_a_link_and_refuses_the_working_folder(tmp_path, monkeypatch):
    target, link = tmp_path / "target", tmp_path / "link"
    _begin(_small(), target)
    (target / "notes").touch()
    link.symlink_to(target)
    _begin(_small(seed=1), link, overwrite=True)
    assert link.is_symlink()
    assert RunFolder(target).read_plan().seed == 1
    assert not (target / "notes").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "target"]
    (target / "deep").mkdir()
    for folder, out in ((target, "."), (target / "deep", "..")):
        monkeypatch.chdir(folder)
        with pytest.raises(ValueError, match="is or contains the working directory"):
            _begin(_small(), out, overwrite=True)
    assert RunFolder(target).read_plan().seed == 1


@pytest.mark.parametrize("step", [3, 4])
def test_a_folder_that_is_removed_is_one_error(tmp_path, monkeypatch, capfd, step):
    """Whether a log line or a checkpoint is next; nothing of the folder comes back."""
    whole, count = VAE.step, []

    def removing(self, images):
        count.append(True)
        if len(count) == step:
            shutil.rmtree(tmp_path / "run")
        return whole(self, images)

    monkeypatch.setattr(VAE, "step", removing)
    with pytest.raises(FileNotFoundError, match="run was removed during training"):
        _begin(dataclasses.replace(_small(), log_every=step), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in capfd.readouterr().err
