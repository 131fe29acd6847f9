import math
import subprocess
import sys
from dataclasses import replace

from _fake_runs import fake_run

from pydisent.evaluation.alignment import penalty_weight
from pydisent.reports._labels import subjects_of
from pydisent.reports._tables import summary


def test_a_run_without_the_penalty_is_measured_like_the_one_with_it(tmp_path):
    twin = fake_run(tmp_path, name="gan", penalty_weight=0.0, k=3)
    with_penalty = fake_run(tmp_path)
    assert [s.alignment["k"] for s in subjects_of([with_penalty, twin], 0)] == [2, 2]
    assert [s.alignment["k"] for s in subjects_of([twin], 0)] == [3]


def test_a_run_with_another_regularizer_has_no_alignment_penalty(tmp_path):
    other = fake_run(tmp_path / "a", regularizer="path-length", k=3)
    assert penalty_weight(other) == 0
    subjects = subjects_of([other, fake_run(tmp_path / "b")], 0)
    assert [s.alignment["k"] for s in subjects] == [2, 2]
    rows = {row.label: row.cells for row in summary(subjects)}
    assert rows["Regularizer"] == ["path-length", "alignment"]
    assert rows["Penalty weight λ"] == ["none", "0.5"]
    assert "Regularizer" not in {row.label for row in summary(subjects[1:])}


def test_labels_tell_runs_apart(tmp_path):
    a, b = fake_run(tmp_path / "a"), fake_run(tmp_path / "b")
    assert [s.label for s in subjects_of([a, fake_run(tmp_path, name="gan")], 0)] == [
        "spectral-gan",
        "gan",
    ]
    assert [s.label for s in subjects_of([a, b], 0)] == ["a", "b"]
    assert [s.label for s in subjects_of([a, a], 0)] == ["a-1", "a-2"]


def test_no_two_labels_are_the_same(tmp_path):
    """Figures and files are by label: one of two runs with the same would be missing."""
    for names in (["x", "x", "x-1"], ["x-1", "x", "x"], ["x-1", "x", "x-1", "x"], ["x"] * 4):
        runs = [fake_run(tmp_path / "".join(names) / str(i) / n) for i, n in enumerate(names)]
        labels = [s.label for s in subjects_of(runs, 0)]
        assert len(set(labels)) == len(names)
        assert all(label.startswith(name) for label, name in zip(labels, names))
    assert labels == ["x-1", "x-2", "x-3", "x-4"]


def test_a_score_that_is_not_a_number_is_never_the_best(tmp_path):
    def best(*scores):
        runs = [fake_run(tmp_path / str(i)) for i in range(len(scores))]
        for run, score in zip(runs, scores):
            run.scores = {"mig": {"score": score, "details": {}}}
        rows = {row.label: row.best for row in summary(subjects_of(runs, 0))}
        return rows["MIG"]

    assert best(0.1, 0.2) == {1}
    assert best(math.nan, 0.1, 0.2) == {2}
    assert best(0.2, math.nan, 0.1) == {0}
    assert best(math.nan, 0.1) == best(0.1, math.nan) == frozenset()


def test_nothing_is_best_on_different_data(tmp_path):
    runs = [fake_run(tmp_path / str(i)) for i in range(2)]
    for run, score in zip(runs, (0.1, 0.2)):
        run.scores = {"mig": {"score": score, "details": {}}}
    assert any(row.best for row in summary(subjects_of(runs, 0)))
    runs[1].plan = replace(runs[1].plan, data="shapes3d")
    assert not any(row.best for row in summary(subjects_of(runs, 0)))


def test_measuring_needs_no_plotting():
    code = (
        "import sys; from pydisent.reports import alignment_summary; "
        "print('matplotlib' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
