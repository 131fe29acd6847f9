import io
import re

import numpy as np
import pytest
from _fake_runs import fake_run
from PIL import Image

from pydisent.reports import write_matrices, write_report
from pydisent.reports.matrices import draw_matrices, matrices_of

NAMES = {"codes": ["z1", "z2", "z3"], "factors": ["shape", "x"]}


def scores(*names, codes=3):
    keys = {
        "mig": "mutual_information",
        "sap": "matrix",
        "dci": "importance",
        "factor-vae": "votes",
    }
    matrix = np.random.default_rng(0).random((codes, 2)).tolist()
    about = NAMES | {"codes": [f"z{i}" for i in range(codes)]}
    return {n: {"score": 0.5, "details": {keys[n]: matrix, **about}} for n in names}


def size(png):
    return Image.open(io.BytesIO(png)).size


def test_matrices_are_found_among_scores():
    found = matrices_of(scores("mig", "dci") | {"z-diff": {"score": 1.0, "details": {"pairs": 64}}})
    assert list(found) == ["mig", "dci"]
    assert found["mig"].shape == (3, 2)
    assert matrices_of(None) == matrices_of({}) == {}
    # scores of an earlier version, and of a metric that pruned every code, have no matrix
    assert matrices_of({"factor-vae": {"score": 0.0, "details": NAMES}}) == {}


def test_a_panel_for_each_metric():
    one, two = (draw_matrices(scores(*names)) for names in (("mig",), ("mig", "sap")))
    four = draw_matrices(scores("mig", "sap", "dci", "factor-vae"))
    assert size(two)[0] > 1.5 * size(one)[0]
    assert size(four)[1] > 1.5 * size(two)[1]
    assert size(four)[0] == size(two)[0]
    many = draw_matrices(scores("mig", codes=128))
    assert size(one)[1] < size(many)[1] < 3000
    zero = scores("mig")
    zero["mig"]["details"]["mutual_information"] = [[0.0, 0.0]] * 3
    assert size(draw_matrices(zero)) == size(one)


def test_files(tmp_path):
    run = fake_run(tmp_path / "a", scores=scores("sap"))
    (path,) = write_matrices(run, tmp_path / "figures")
    assert path.read_bytes() == draw_matrices(run.scores)
    with pytest.raises(ValueError, match="scores must include one of mig, sap"):
        write_matrices(fake_run(tmp_path / "b"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("entry", [None, [[1.0, 2.0]], [[1.0], [2.0, 3.0]], "x", [[[1.0]]], {}])
def test_a_damaged_matrix_is_named_with_its_file(tmp_path, entry):
    damaged = scores("sap")
    damaged["sap"]["details"]["matrix"] = entry
    run = fake_run(tmp_path / "a", scores=damaged)
    file = re.escape(str(tmp_path / "a" / "scores.json"))
    with pytest.raises(ValueError, match=f"{file}: matrix of sap must be a matrix of codes"):
        write_matrices(run, tmp_path / "figures")


def test_the_page_shows_them_where_there_are_scores(tmp_path):
    scored = fake_run(tmp_path / "a", scores=scores("mig", "dci"))
    page = write_report([scored], tmp_path / "one").read_text()
    assert "Codes and factors" in page
    assert "mig 0.500, dci 0.500" in page
    assert (tmp_path / "one" / "matrices.png").is_file()
    plain = write_report([fake_run(tmp_path / "b")], tmp_path / "two").read_text()
    assert "Codes and factors" not in plain


def test_long_names_are_upright_and_dollars_are_dollars(monkeypatch):
    """Names of 9 letters or more ran into each other; two dollars made a formula of a name."""
    drawn = []
    monkeypatch.setattr("pydisent.reports.matrices.figure_png", lambda made: drawn.append(made))

    def labels(*names):
        given = scores("mig")
        given["mig"]["details"]["factors"] = list(names)
        draw_matrices(given)
        drawn[-1].canvas.draw()
        return drawn[-1].axes[0].get_xticklabels()

    many = [f"horizontal_axis_{i}" for i in range(2)]
    for names in (["shape", "x"], many, ["$_{$", "US$ to CA$"], ["a" * 300, "line\nbreak"]):
        found = labels(*names)
        boxes = [text.get_window_extent() for text in found]
        assert boxes[0].x1 < boxes[1].x0
        assert all(box.y0 >= 0 for box in boxes)
        assert all(not text.get_parse_math() for text in found)
    assert [text.get_text() for text in labels("$_{$", "US$ to CA$")] == ["$_{$", "US$ to CA$"]
