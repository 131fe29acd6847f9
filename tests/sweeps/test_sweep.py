"""A stand-in engine writes what trainings would; real ones are in tests/cli."""

import json
import os
import shlex
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from _stand_ins import wait_for

from pydisent.sweeps import SweepInterrupted, SweepPlan, run_sweep
from pydisent.sweeps import job as job_of
from pydisent.sweeps.engine import LocalWorker, Outcome
from pydisent.training import Plan, RunFolder


class Recorder:
    """An engine that writes plans and scores, fails where it is told to, and may be stopped."""

    def __init__(self, fail=(), stop_after=None):
        self.fail, self.stop_after, self.jobs = fail, stop_after, []

    def run(self, jobs, note):
        for number, job in enumerate(jobs):
            note(Outcome(job.name, "running"))
            if number == self.stop_after:
                note(Outcome(job.name, "interrupted", 1.0))
                return signal.SIGTERM
            self.jobs.append(job)
            if job.name in self.fail:
                note(Outcome(job.name, "failed", 2.0, "loss is nan"))
                continue
            folder = job.output.parent
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.json").write_text("{}")
            asked = [a for c in job.commands if "evaluate" in c for a in c]
            names = asked[asked.index("--metrics") + 1 :] if "--metrics" in asked else []
            RunFolder(folder).add_scores({name: {"score": 0.5} for name in names})
            note(Outcome(job.name, "done", 3.0))
        return None

    @property
    def names(self):
        return [job.name for job in self.jobs]


def plan(**changes):
    settings = {
        "systems": ("gan", "spectral-gan"),
        "preset": "smoke",
        "grid": {"spectral-gan.penalty_weight": ("0.5", "2"), "base": ("2", "4")},
        "seeds": (0, 3),
    }
    return SweepPlan(**settings | changes)


def sweep(tmp_path, engine, chosen=None, **options):
    said = []
    states = run_sweep(
        chosen or plan(), tmp_path / "sweep", engine=engine, say=said.append, **options
    )
    return states, said


def test_every_combination_once_under_a_readable_name():
    runs = plan().runs()
    assert len(runs) == 2 * 2 + 2 * 2 * 2
    assert list(runs)[:3] == ["gan-base-2-seed-0", "gan-base-2-seed-3", "gan-base-4-seed-0"]
    one = runs["spectral-gan-base-4-penalty_weight-2-seed-3"]
    assert (one.system, one.seed, one.preset, one.steps) == ("spectral-gan", 3, "smoke", 20)
    assert (one.config.base, one.config.penalty_weight) == (4, 2.0)
    assert all((run.system == "gan") == (name[0] == "g") for name, run in runs.items())
    assert plan(steps=7).runs()["gan-base-2-seed-0"].steps == 7


def test_the_data_is_loaded_once_for_all_systems(tmp_path, monkeypatch):
    from pydisent import data

    loaded = []
    load = data.load
    monkeypatch.setattr(data, "load", lambda *a, **k: loaded.append(a) or load(*a, **k))
    for name, metrics in (("sweep", ("sap", "mig")), ("other", ())):
        run_sweep(plan(), tmp_path / name, engine=Recorder(), metrics=metrics, say=lambda _: None)
        assert len(loaded) == 1
        loaded.clear()


def test_a_systems_own_values_go_before_those_for_all():
    grid = {"gan.base": ("8",), "base": ("2", "4")}
    runs = plan(grid=grid, seeds=(0,)).runs()
    assert list(runs) == [
        "gan-base-8-seed-0",
        "spectral-gan-base-2-seed-0",
        "spectral-gan-base-4-seed-0",
    ]


def test_regularizers_are_swept_over_systems_that_share_their_settings():
    grid = {"regularizer": ("none", "orthogonal-jacobian", "path-length")}
    runs = plan(grid=grid, seeds=(0,)).runs()
    assert list(runs) == [
        f"{system}-regularizer-{name}-seed-0"
        for system in ("gan", "spectral-gan")
        for name in grid["regularizer"]
    ]
    assert {run.config.regularizer for run in runs.values()} == set(grid["regularizer"])


def test_values_are_short_and_never_mistaken_for_each_other():
    grid = {"learning_rate": ("1e-4", "0.00012345678", "0.00012345679", "2")}
    runs = plan(systems=("gan",), grid=grid, seeds=(0,)).runs()
    assert [name.removeprefix("gan-learning_rate-") for name in runs] == [
        "0.0001-seed-0",
        "0.00012345678-seed-0",
        "0.00012345679-seed-0",
        "2-seed-0",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"systems": ("gan", "gun"), "grid": {}}, "system must be one of .*, got 'gun'"),
        ({"systems": ("gan", "gan")}, "systems must be different values"),
        ({"systems": ()}, "systems must be different values, at least 1, got"),
        ({"seeds": (1, 1)}, r"seeds must be different values, at least 1, got \[1, 1\]"),
        ({"seeds": (-1,)}, "seed must be .*, got -1"),
        (
            {"grid": {"beta": ("1",)}},
            r"a setting of gan, .*SYSTEM\.beta .*, got 'beta'",
        ),
        ({"grid": {"gan.beta": ("1",)}}, "grid must name a setting of gan, .*, got 'gan.beta'"),
        (
            {"grid": {"vae.base": ("1",)}},
            "one of 'gan', 'spectral-gan' before a dot, got",
        ),
        ({"grid": {"base": ("2", "two")}}, "gan: base must be int, got 'two'"),
        ({"grid": {"base": ("2", "0")}}, "gan: base must be an integer >= 1, got 0"),
        ({"grid": {"base": ("2", "2")}}, "grid base must be different values"),
        (
            {"grid": {"learning_rate": ("1", "1.0")}},
            "grid must give each run once, got gan-",
        ),
        ({"preset": "huge"}, "preset must be one of .*, got 'huge'"),
        ({"data": "cats"}, "cats"),
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        (
            {"grid": {"batch_size": ("1000000",)}},
            "batch_size must be an integer from 1 to .*, got 1000000",
        ),
    ],
)
def test_bad_plans_are_refused_before_any_work(tmp_path, changes, words):
    engine = Recorder()
    with pytest.raises(ValueError, match=words):
        sweep(tmp_path, engine, plan(**changes))
    assert not engine.jobs
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("data", "metric", "words"),
    [
        ("sprites", "z-score", "metric must be one of .*'z-diff'.*, got 'z-score'"),
        ("digits", "z-diff", "metric must be one of .* for gan on digits, got 'z-diff'"),
    ],
)
def test_bad_metrics_are_refused_before_any_work(tmp_path, data, metric, words):
    with pytest.raises(ValueError, match=words):
        sweep(tmp_path, Recorder(), plan(data=data), metrics=[metric])
    assert not (tmp_path / "sweep").exists()


def test_the_commands_are_those_a_user_would_type(tmp_path):
    engine = Recorder()
    sweep(tmp_path, engine, metrics=["mig"], threads=3, accelerator="cpu")
    job = next(j for j in engine.jobs if j.name == "spectral-gan-base-2-penalty_weight-2-seed-3")
    folder = tmp_path / "sweep" / job.name
    train, evaluate = (shlex.join(command[1:]) for command in job.commands)
    assert train == (
        f"-m pydisent train --plan {folder}/plan.json --accelerator cpu --threads 3 "
        f"--out {folder} --resume"
    )
    assert evaluate == f"-m pydisent evaluate {folder} --accelerator cpu --threads 3 --metrics mig"
    assert all(command[0] == sys.executable for command in job.commands)
    assert job.output == folder / "output.log"
    assert job.threads == 3


def test_runs_are_scored_in_training_by_the_sweeps_metrics(tmp_path):
    engine = Recorder()
    sweep(tmp_path, engine, metrics=["mig", "z-diff"], score_every=5)
    train, evaluate = engine.jobs[0].commands
    assert train[-5:] == ("--score-every", "5", "--metrics", "mig", "z-diff")
    assert "--score-every" not in evaluate
    with pytest.raises(ValueError, match="metrics must be given with score_every, got none"):
        sweep(tmp_path, engine, score_every=5)
    with pytest.raises(ValueError, match="score_every must be an integer >= 1, got 0"):
        sweep(tmp_path, engine, metrics=["mig"], score_every=0)


def test_a_job_reads_its_whole_plan_from_a_file(tmp_path):
    chosen = plan(systems=("vae",), data="celeba", data_path=tmp_path, grid={}, partial=True)
    for name, each in chosen.runs().items():
        job_of(name, each, tmp_path, (), "cpu", 1)
        folder = RunFolder(tmp_path / name)
        assert Plan.from_json(json.loads(folder.asked.read_text())) == each
        assert folder.is_free()


def test_what_is_done_is_skipped_and_new_metrics_are_added(tmp_path):
    states, said = sweep(tmp_path, Recorder(), metrics=["z-diff"])
    assert set(states.values()) == {"done"}
    assert said[0].startswith("12 runs, 0 of them done before")
    assert said[-1].startswith("[12/12]")
    again = Recorder()
    sweep(tmp_path, again, metrics=["z-diff"])
    sweep(tmp_path, again)
    assert not again.jobs
    sweep(tmp_path, again, metrics=["z-diff", "mig"])
    assert len(again.jobs) == 12
    assert again.jobs[0].commands[1][-2:] == ("--metrics", "mig")


def test_failures_are_recorded_and_tried_again_and_the_rest_goes_on(tmp_path):
    bad = "gan-base-2-seed-3"
    states, said = sweep(tmp_path, Recorder(fail=[bad]))
    assert [name for name, state in states.items() if state == "failed"] == [bad]
    assert len(states) == 12
    assert any(f"{bad}: failed after 2 s: loss is nan" in line for line in said)
    manifest = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert manifest["runs"][bad]["error"] == "loss is nan"
    assert manifest["runs"]["gan-base-2-seed-0"]["state"] == "done"
    again = Recorder()
    states, _ = sweep(tmp_path, again)
    assert again.names == [bad]
    assert set(states.values()) == {"done"}


def test_a_stopped_sweep_goes_on(tmp_path):
    engine = Recorder(stop_after=2)
    with pytest.raises(SweepInterrupted, match="stopped by SIGTERM; the running jobs are saved"):
        sweep(tmp_path, engine)
    again = Recorder()
    states, said = sweep(tmp_path, again)
    assert "12 runs, 2 of them done before" in said[0]
    assert engine.names + again.names == list(states)
    assert set(states.values()) == {"done"}


def test_a_run_that_was_deleted_is_made_again_and_threads_are_kept(tmp_path):
    sweep(tmp_path, Recorder(), plan(systems=("gan",), grid={}))
    folder = RunFolder(tmp_path / "sweep" / "gan-seed-0")
    folder.config.unlink()
    folder.environment.write_text("{}")
    again = Recorder()
    sweep(tmp_path, again, plan(systems=("gan",), grid={}), threads=5)
    assert again.names == ["gan-seed-0"]
    assert "--threads" not in again.jobs[0].commands[0]


def test_a_path_is_the_same_however_it_is_given(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setenv("PYDISENT_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for number in range(8):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
    settings = {"systems": ("gan",), "grid": {}, "data": "images"}
    whole = str(tmp_path / "pictures")
    for count, path in enumerate((Path("pictures"), "pictures", Path(whole), whole)):
        chosen = plan(**settings, data_path=path)
        assert chosen.data_path == whole
        _, said = sweep(tmp_path, Recorder(), chosen)
        assert f"2 runs, {2 * (count > 0)} of them done before" in said[0]
    file = tmp_path / "sweep" / "sweep.json"
    manifest = json.loads(file.read_text())
    assert manifest["asked"]["data_path"] == whole
    manifest["asked"]["data_path"] = "pictures"  # as it was once written
    file.write_text(json.dumps(manifest))
    _, said = sweep(tmp_path, Recorder(), plan(**settings, data_path="pictures"))
    assert "2 runs, 2 of them done before" in said[0]
    with pytest.raises(ValueError, match=f"data_path {whole}, not {tmp_path}"):
        sweep(tmp_path, Recorder(), plan(**settings, data_path=tmp_path))


def test_another_plan_in_the_same_folder_is_refused(tmp_path):
    sweep(tmp_path, Recorder())
    before = (tmp_path / "sweep" / "sweep.json").read_bytes()
    for changes, words in (
        ({"seeds": (0, 1)}, r"seeds \[0, 3\], not \[0, 1\]"),
        ({"grid": {}}, "a sweep with grid"),
        ({"steps": 30}, "steps None, not 30"),
    ):
        with pytest.raises(ValueError, match=words):
            sweep(tmp_path, Recorder(), plan(**changes))
    assert (tmp_path / "sweep" / "sweep.json").read_bytes() == before


def test_folders_of_something_else_are_refused(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not a sweep's folder, and not empty"):
        sweep(tmp_path, Recorder())
    assert [p.name for p in (tmp_path / "sweep").iterdir()] == ["notes.txt"]


def test_damaged_manifests_are_named(tmp_path):
    sweep(tmp_path, Recorder())
    file = tmp_path / "sweep" / "sweep.json"
    whole = file.read_text()
    file.write_text(whole[:-20])
    with pytest.raises(ValueError, match=r"sweep\.json is not valid JSON"):
        sweep(tmp_path, Recorder())
    file.write_text(whole.replace('"format": 1', '"format": 9', 1))
    with pytest.raises(ValueError, match="format must be 1, got 9"):
        sweep(tmp_path, Recorder())


def test_one_sweep_at_a_time_and_what_it_left_behind_counts(tmp_path):
    """A process that outlives its sweep still trains in the folder."""
    pytest.importorskip("fcntl")

    class Orphaning:
        def run(self, jobs, note):
            with pytest.raises(ValueError, match=rf"has a running sweep.*process {os.getpid()}\)"):
                sweep(tmp_path, Recorder())
            code = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
            command = (sys.executable, "-S", "-c", code, str(tmp_path / "ready"))
            self.orphan = LocalWorker(replace(jobs[5], commands=(command,)))
            assert self.orphan.advance().state == "running"
            wait_for(tmp_path / "ready")
            return signal.SIGTERM

    engine = Orphaning()
    with pytest.raises(SweepInterrupted):
        sweep(tmp_path, engine)
    with pytest.raises(
        ValueError, match=r"seed-3/output\.log is being written by a process that a"
    ):
        sweep(tmp_path, Recorder())
    engine.orphan.terminate()
    engine.orphan.wait()
    assert len(sweep(tmp_path, Recorder())[0]) == 12
