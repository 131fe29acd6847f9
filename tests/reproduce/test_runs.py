import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from _inline import InlineEngine

from pydisent import reproduce
from pydisent.reproduce.entry import STAND_INS, Case, Column, Entry, Row
from pydisent.reproduce.estimate import gpu_hours
from pydisent.reproduce.records import score
from pydisent.reproduce.results import collect
from pydisent.reproduce.runs import Runs, Scale, folder_name
from pydisent.reproduce.training import Training, finish
from pydisent.sweeps.engine import RunsFailedError
from pydisent.training import Plan, RunFolder, train
from pydisent.training.checkpoint import latest_checkpoint

SMOKE = Scale("smoke")


def quiet(engine=None):
    return Training(engine or InlineEngine(), "cpu", say=lambda line: None)


@pytest.mark.parametrize("entry", reproduce.entries(), ids=lambda entry: entry.name)
def test_every_row_has_a_plan_at_every_scale(entry):
    assert entry.paper in reproduce.PAPERS
    official = {case.data: Path("files") for case in entry.cases}
    for scale in (SMOKE, Scale("small"), Scale("paper", data_paths=official)):
        for case in entry.cases:
            if scale.data(case) is None:
                assert scale.name != "paper"
                continue
            plans = Runs.of(case, scale, Path("runs")).plans
            assert bool(plans) == bool(case.rows)
            for (row, _), plan in plans.items():
                data = case.data if scale.name == "paper" else STAND_INS[case.data]
                assert plan.data == data, row
    assert (gpu_hours(entry) > 0) == any(case.rows for case in entry.cases)


def test_official_files_take_the_place_of_a_stand_in():
    (entry,) = reproduce.find("lezama/table1")
    assert SMOKE.data(entry.cases[0]) == ("digits", None)
    given = Scale("smoke", data_paths={"mnist": Path("idx")})
    assert given.data(entry.cases[0]) == ("mnist", Path("idx"))
    assert Scale("paper").data(entry.cases[0]) is None
    with pytest.raises(ValueError, match="official must give the data of lezama/table1 at scale"):
        reproduce.reproduce([entry], Scale("paper"), Path("nowhere"), quiet())
    with pytest.raises(ValueError, match="entry must be one of"):
        reproduce.find("lezama/table9")


def test_the_same_plan_has_the_same_folder_whatever_the_entry():
    (one,), (other,) = reproduce.find("zhu/figure7"), reproduce.find("zhu/table3")
    names = [
        {folder_name(plan) for case in entry.cases if SMOKE.data(case)
         for plan in Runs.of(case, SMOKE, Path()).plans.values()}
        for entry in (one, other)
    ]  # fmt: skip
    assert names[0] & names[1]
    plans = [Plan.from_preset("vae", preset="smoke", seed=seed) for seed in (0, 1)]
    assert folder_name(plans[0]) != folder_name(plans[1])


def test_updates_may_differ_at_each_scale():
    row = Row("vae", "VAE", "vae", steps=30, small_steps=20, paper_steps=10)
    case = Case("dsprites", (row,))
    wanted = {"smoke": 30, "small": 20, "paper": 10}
    paths = {"dsprites": Path()}
    for name, steps in wanted.items():
        assert Scale(name, data_paths=paths).plan(case, row, 0).steps == steps


@pytest.mark.parametrize(
    ("entry", "row", "other", "same"),
    [
        ("kumar/third-moments", "with-5", "kumar/figure1", "dip-vae-2-5"),
        ("kumar/third-moments", "with-100", "kumar/figure1", "dip-vae-2-100"),
        ("locatello/comparison", "factor-vae", "jeon/table1", "factor-vae"),
        ("locatello/comparison", "beta-vae", "jeon/table1", "beta-vae"),
    ],
)
def test_runs_at_scale_small_that_entries_share(entry, row, other, same):
    plans = []
    for name, chosen in ((entry, row), (other, same)):
        (found,) = reproduce.find(name)
        case = next(case for case in found.cases if case.data == "dsprites")
        plans.append(Runs.of(case, Scale("small"), Path()).plans[chosen, 0])
    assert folder_name(plans[0]) == folder_name(plans[1])


@pytest.mark.parametrize(("scale", "size"), [("small", 64), ("smoke", 16)])
def test_a_case_may_have_an_image_size_of_its_own_at_scale_small(scale, size):
    (found,) = reproduce.find("kumar/figure1")
    (case,) = found.cases
    assert {Scale(scale).plan(case, row, 0).image_size for row in case.rows} == {size}


def test_a_student_that_begins_as_its_teacher_is_what_it_would_be(tmp_path):
    """A run that begins with a copy of its teacher's end ends like one that trained it."""
    settings = {"students": 1, "student_steps": 3}
    case = Case(
        "celeba",
        (
            Row("teacher", "teacher", "attribute-ae", {"students": 0}, steps=4),
            Row("student", "student", "attribute-ae", settings, steps=4, begins_as="teacher"),
        ),
    )
    runs, engine = Runs.of(case, SMOKE, tmp_path / "runs"), InlineEngine()
    assert finish([runs], quiet(engine)) is None
    student = RunFolder(runs.path("student", 0))
    whole = train(runs.plans["student", 0], tmp_path / "whole", accelerator="cpu", progress=False)
    weights = [
        (latest_checkpoint(folder.checkpoints) / "model.safetensors").read_bytes()
        for folder in (student, whole)
    ]
    assert weights[0] == weights[1]
    first = [line["phase"] for line in student.read_log()]
    assert first == [line["phase"] for line in whole.read_log()]


def test_a_failed_run_is_named_and_others_are_finished(tmp_path):
    case = Case(
        "dsprites",
        (
            Row("right", "right", "vae", steps=2),
            Row("wrong", "wrong", "vae", {"learning_rate": 1e30}, steps=20),
        ),
        (Column("reconstruction", "error"),),
    )
    runs = Runs.of(case, SMOKE, tmp_path)
    with pytest.raises(RunsFailedError, match=runs.path("wrong", 0).name):
        finish([runs], quiet())
    assert runs.is_done("right", 0)
    entry = Entry("ramesh/table0", "a title", "a claim", (case,))
    assert reproduce.Reproduction(entry, SMOKE, tmp_path / "out").state() == "not run"


def test_a_recorded_run_is_not_trained_again(tmp_path):
    """Elsewhere the record stands for the run, in tables too; a student's teacher is trained."""
    case = Case(
        "dsprites",
        (Row("one", "one", "vae", steps=2), Row("two", "two", "beta-vae", {"beta": 2.0}, steps=2)),
        (Column("reconstruction", "error"),),
    )
    records, engine = tmp_path / "records", InlineEngine()
    here = Runs.of(case, SMOKE, tmp_path / "here", records=records)
    assert finish([here], quiet(engine)) is None
    assert sorted(file.stem for file in records.iterdir()) == sorted(
        here.path(*key).name for key in here.plans
    )
    there, before = Runs.of(case, SMOKE, tmp_path / "there", records=records), len(engine.commands)
    assert finish([there], quiet(engine)) is None
    assert len(engine.commands) == before
    assert collect(there) == collect(here)
    third = Row("third", "third", "vae", {"latent_size": 3}, steps=2)
    more = replace(case, rows=(*case.rows, third))
    entry = Entry("ramesh/table0", "a title", "a claim", (more,))
    page = reproduce.reproduce(
        [entry], Scale("small"), tmp_path / "out", replace(quiet(engine), missing=False),
        records=records,
    )[0]  # fmt: skip
    assert len(engine.commands) == before
    assert page.is_file()
    without = replace(there, records=None)
    assert not without.is_done("one", 0)
    another = replace(case, columns=(Column("reconstruction", "error"), Column("mig", "MIG")))
    assert not replace(there, case=another).is_done("one", 0)


def test_figures_are_not_drawn_of_unfinished_runs(tmp_path):
    case = Case("dsprites", (Row("a", "first", "vae", steps=4),))
    runs = Runs.of(case, SMOKE, tmp_path)
    plan = replace(runs.plans["a", 0], checkpoint_every=2)
    folder = train(plan, runs.path("a", 0), accelerator="cpu", progress=False)
    assert runs.open(["a"]).step == 4
    shutil.rmtree(latest_checkpoint(folder.checkpoints))
    with pytest.raises(FileNotFoundError, match="first, seed 0, is not trained here"):
        runs.open(["a"])


def test_a_student_needs_its_teacher_itself_and_not_its_record(tmp_path):
    settings = {"students": 1, "student_steps": 3}
    teacher = Row("teacher", "teacher", "attribute-ae", {"students": 0}, steps=4)
    student = Row("student", "student", "attribute-ae", settings, steps=4, begins_as="teacher")
    records = tmp_path / "records"
    alone = Runs.of(Case("celeba", (teacher,)), SMOKE, tmp_path / "one", records=records)
    assert finish([alone], quiet()) is None
    both = Runs.of(Case("celeba", (teacher, student)), SMOKE, tmp_path / "two", records=records)
    assert both.is_done("teacher", 0)
    assert not both.is_trained("teacher", 0)
    with pytest.raises(FileNotFoundError, match="teacher, seed 0, is not trained here"):
        both.open(["teacher"])
    assert finish([both], quiet()) is None
    assert both.is_trained("teacher", 0)
    assert both.is_done("student", 0)


def test_settings_that_were_added_to_all_change_no_name_until_they_are_set():
    """What was trained, or recorded, before there were regularizers is found again."""
    names = [
        folder_name(Plan.from_preset("spectral-gan", "sprites", "smoke", steps=5, settings=own))
        for own in ({}, {"penalty_weight": 0.0})
    ]
    assert names == [
        "spectral-gan-seed-0-sprites-7431551d",
        "spectral-gan-seed-0-sprites-cfaed787",
    ]
    plans = [
        Plan.from_preset("gan", preset="smoke", settings={"regularizer": name})
        for name in ("none", "isometry", "path-length")
    ]
    assert len(set(map(folder_name, plans))) == 3


def test_regularizers_are_rows_of_a_case(tmp_path):
    names = ("none", "orthogonal-jacobian")
    rows = tuple(Row(name, name, "gan", {"regularizer": name}, steps=5) for name in names)
    log = Column("log/orthogonal_jacobian", "penalty", "lower")
    case = Case("dsprites", rows, (Column("reconstruction", "error", "lower"), log))
    runs = Runs.of(case, SMOKE, tmp_path / "runs", records=tmp_path / "records")
    assert finish([runs], quiet()) is None
    found = {row: runs.record(row, 0) for row in names}
    assert all(record["scores"]["reconstruction"]["score"] > 0 for record in found.values())
    logged = {row: score(record, log.key) for row, record in found.items()}
    assert logged["orthogonal-jacobian"] > 0
    assert logged["none"] is None


def test_a_column_may_be_a_score_s_median_over_training(tmp_path):
    columns = (Column("log/score/mig", "MIG, median"), Column("log/score/mig/bins", "bins"))
    case = Case("dsprites", (Row("one", "one", "vae", steps=3),), columns)
    engine = InlineEngine()
    runs = Runs.of(case, SMOKE, tmp_path / "runs", records=tmp_path / "records")
    assert finish([runs], quiet(engine)) is None
    options = ["--score-every", "3", "--metrics", "mig", "mig/bins"]
    (train_command,) = [command for command in engine.commands if command[0] == "train"]
    assert list(train_command[-len(options) :]) == options
    (line,) = [x for x in RunFolder(runs.path("one", 0)).read_log() if "score/mig" in x]
    assert [score(runs.record("one", 0), column.key) for column in columns] == [
        line["score/mig"], 20.0,
    ]  # fmt: skip
