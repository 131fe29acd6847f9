import io

import numpy as np
import pytest
from PIL import Image

from pydisent.reports import figures
from pydisent.reports.information import bounds_of, draw_information


def _log(upper=lambda step: step / 100):
    return [
        {"step": step, "seconds": 1.0, "phase": "train", "generator": 0.7, "mi_lower": 0.4,
         "mi_upper": upper(step), "kl/r1": 0.3, "kl/r2": upper(step) - 0.3}
        for step in range(10, 500, 10)
    ]  # fmt: skip


def _pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_what_is_drawn_is_what_was_logged():
    found = bounds_of([{"step": 1, "mi_lower": 1.0}, *_log()])
    assert list(found) == ["step", "mi_lower", "mi_upper", "kl/r1", "kl/r2"]
    assert found["step"].tolist() == list(range(10, 500, 10))
    np.testing.assert_allclose(found["kl/r1"] + found["kl/r2"], found["mi_upper"])
    assert bounds_of([{"step": 1, "loss": 1.0}])["step"].size == 0


def test_a_score_gets_its_own_axis_and_a_line_at_the_best():
    plain, scored = (
        _pixels(draw_information(_log(), "a run", scores))
        for scores in (None, {100: 0.4, 300: 0.7})
    )
    assert plain.shape == scored.shape
    assert (plain != scored).any()
    other = _pixels(draw_information(_log(), "a run", {100: 0.7, 300: 0.4}))
    assert (other != scored).any()


def test_no_bounds_no_picture():
    with pytest.raises(ValueError, match="no bounds"):
        draw_information([{"step": 1, "loss": 1.0}], "a run")


def test_dimensions_are_not_among_the_losses():
    names = {name for _, name in figures._curves({"a": _log()})}
    assert names == {"generator", "mi_lower", "mi_upper"}
