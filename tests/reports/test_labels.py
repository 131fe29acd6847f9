import subprocess
import sys

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


def test_measuring_needs_no_plotting():
    code = (
        "import sys; from pydisent.reports import alignment_summary; "
        "print('matplotlib' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
