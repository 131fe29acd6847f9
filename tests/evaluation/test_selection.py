import json

import pytest

from pydisent.evaluation import scored_run, selection
from pydisent.evaluation.perception import Perception
from pydisent.evaluation.selection import select, write_selection

FIXED = {"distance": "fixed-features-1", "threshold": 0.13, "segments": 48, "span": 4.0}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write run folders with a TPL, or without one; scoring adds a TPL of 5 with 3 active."""
    finished, scored = {}, []

    def make(name, tpl=None, active=3, done=True, plan=None, **details):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        config = {"system": "vae", "data": "sprites", "seed": 0, "config": {}, "data_path": None}
        config |= {"image_size": 32, "steps": 10} | (plan or {})
        (folder / "config.json").write_text(json.dumps(config))
        if tpl is not None:
            put(folder, tpl, active, details)
        finished[folder] = (10 if done else 7, 10)
        return folder

    def put(folder, tpl, active, details):
        entry = {"score": tpl, "details": FIXED | {"compat": None, "active": active} | details}
        (folder / "scores.json").write_text(json.dumps({"tpl": entry}))

    def score(path, nets, device):
        scored.append(path)
        put(path, 5.0, 3, nets.tpl_settings())

    monkeypatch.setattr(scored_run, "updates", finished.__getitem__)
    monkeypatch.setattr(selection, "_score", score)
    make.root, make.scored = tmp_path, scored
    return make


def names(ranked):
    return [one.run.path.name for one in ranked]


def test_the_lowest_is_first_and_what_encodes_little_apart(write):
    for name, tpl, active in (("a", 7.0, 5), ("b", 2.0, 2), ("c", 6.0, 4), ("d", 9.0, 3)):
        write(f"deep/er/{name}", tpl, active)
    write("unfinished", 1.0, done=False)
    write(".deleted", 0.5)
    found = select(write.root, active=4)
    assert (names(found.ranked), names(found.apart)) == (["c", "a"], ["b", "d"])
    assert [row[0] for row in found.rows()] == ["1", "2", "–", "–"]
    assert found.rows()[0] == ("1", "deep/er/c", "vae", "0", "6.0000", "4")
    said = " ".join(found.remarks())
    assert "TPL by distance fixed-features-1, threshold 0.13, segments 48, span 4.0" in said
    assert "fewer than 4 active dimensions" in said
    assert "unfinished is unfinished: left out" in said
    assert write.scored == []
    assert names(select(write.root).ranked) == ["b", "c", "a", "d"]


def test_only_what_is_missing_is_scored(write):
    write("a", 7.0)
    new = write("b")
    said = []
    found = select(write.root, say=said.append)
    assert write.scored == [new]
    assert said == [f"scoring {new}: tpl"]
    assert names(found.ranked) == ["b", "a"]
    select(write.root)
    assert write.scored == [new]
    assert names(select(write.root, again=True).ranked) == ["a", "b"]
    assert len(write.scored) == 3


def test_the_file(write):
    write("x/a", 7.0, 5)
    write("b", 2.0, 1)
    path = write_selection(select(write.root, active=2))
    assert path == write.root / "selection.json"
    found = json.loads(path.read_text())
    assert found["ranked"] == [{"run": "x/a", "system": "vae", "seed": 0, "tpl": 7.0, "active": 5}]
    assert [one["run"] for one in found["apart"]] == ["b"]
    assert found["settings"] == FIXED | {"compat": None}


def test_a_run_itself(write):
    found = select(write("alone", 3.0))
    assert found.rows() == [("1", ".", "vae", "0", "3.0000", "3")]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("distance", "vgg16-lpips"), ("threshold", 0.3), ("segments", 50), ("compat", "author_code")],
)
def test_scores_made_otherwise_are_refused(write, setting, value):
    write("a", 7.0)
    write("b", 6.0, **{setting: value})
    write("c")
    with pytest.raises(ValueError, match=f"TPL must be .* same settings, got {setting} .*{value}"):
        select(write.root)
    assert write.scored == []


def test_scores_to_come_are_compared_before_they_are_made(write):
    write("a", 7.0)
    write("b")
    with pytest.raises(ValueError, match=r"threshold 0\.13 for .*a and 0\.5 for the missing"):
        select(write.root, perception=Perception(threshold=0.5))
    assert write.scored == []
    found = select(write.root, perception=Perception(threshold=0.5), again=True)
    assert found.settings["threshold"] == 0.5


@pytest.mark.parametrize("threshold", [0.5, -1.0, float("nan")])
def test_what_is_asked_for_is_not_passed_over(write, threshold):
    """Though nothing is to be scored, so that the nets would not be looked at."""
    write("a", 7.0)
    assert names(select(write.root, perception=Perception(threshold=0.13)).ranked) == ["a"]
    with pytest.raises(ValueError, match=r"threshold (0\.13 .* 0\.5 for the req|must be finite)"):
        select(write.root, perception=Perception(threshold=threshold))


@pytest.mark.parametrize("plan", [{"data": "digits"}, {"image_size": 64}, {"data_path": "/x"}])
def test_other_data_are_refused(write, plan):
    write("a", 7.0)
    write("b", 6.0, plan=plan)
    with pytest.raises(
        ValueError, match=f"runs must be on the same data, got {next(iter(plan))} .* for .*a "
    ):
        select(write.root)


def test_bad_input(write, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        select(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="folder must contain a finished run"):
        select(write.root)
    folder = write("a", 7.0)
    with pytest.raises(ValueError, match="active must be an integer >= 0, got -1"):
        select(write.root, active=-1)
    with pytest.raises(TypeError, match=r"active must be an integer, got 1\.5"):
        select(write.root, active=1.5)
    (folder / "scores.json").write_text('{"tpl": {"score": 1.0, "details": {"active": 1}}}')
    with pytest.raises(
        ValueError, match="tpl lacks distance, threshold, segments, span, compat: ev"
    ):
        select(write.root)
    write("b", float("nan"))
    (folder / "scores.json").unlink()
    with pytest.raises(ValueError, match="tpl must be finite, got nan: evaluate again"):
        select(write.root)
    assert write.scored == []
