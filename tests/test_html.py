"""What notebooks show of results: whole, escaped, small, and without anything that runs."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pydisent import _html, metrics
from pydisent.metrics import MetricResult
from pydisent.training import Plan, Run

RNG = np.random.default_rng(0)
FACTORS = RNG.integers(0, 3, (60, 2))
EVIL = "<script>alert('x')</script>&\""


def parsed(page):
    """The page as a tree: HTML that is well-formed XML, which escapes whatever it must."""
    tree = ElementTree.fromstring(page)
    tags = {element.tag for element in tree.iter()}
    assert tags <= {"div", "strong", "table", "tr", "th", "td", "svg", "polyline"}, tags
    for element in tree.iter():
        assert not [name for name in element.attrib if name.startswith("on")]
    return tree


def words(tree):
    return ["".join(cell.itertext()) for cell in tree.iter() if cell.tag in ("td", "th", "strong")]


@pytest.mark.parametrize("metric", [metrics.mig, metrics.sap, metrics.modularity, metrics.mcc])
def test_a_score_shows_number_details_and_matrix(metric):
    result = metric(RNG.normal(size=(60, 3)), FACTORS)
    page = result._repr_html_()
    shown = words(parsed(page))
    assert f"score {result.score:.4g}" in shown
    name = "mutual_information" if "mutual_information" in result.details else "matrix"
    assert name in shown
    for value in np.ravel(result.details[name]):
        assert f"{value:.2f}" in shown
    assert len(page) < 10_000


def test_names_of_codes_and_factors_are_labels():
    result = MetricResult(
        0.5, {"matrix": [[0.25, 1.0]], "codes": ["z1"], "factors": ["shape", EVIL]}
    )
    shown = words(parsed(result._repr_html_()))
    assert {"z1", "shape", EVIL, "0.25"} <= set(shown)


def test_anything_among_details():
    details = {
        EVIL: EVIL,
        "none": None,
        "nan": float("nan"),
        "ragged": [[1.0], [1.0, 2.0]],
        "empty": [],
        "odd": [[float("inf"), -1.0], [float("nan"), 0.0]],
        "large": [[0.0] * 200] * 200,
        "long": [0.0] * 9999,
        "deep": {"a": 1},
        "few": [1, 2.5],
    }
    page = MetricResult(float("nan"), details)._repr_html_()
    shown = words(parsed(page))
    assert EVIL in shown
    assert "script" not in {element.tag for element in parsed(page).iter()}
    assert "1, 2.5" in shown
    assert {"inf", "-1.00", "nan"} <= set(shown)
    assert not {"large", "long", "ragged", "deep"} & set(shown)
    assert len(page) < 5000


def test_a_run_shows_plan_scores_and_curves():
    plan = Plan.from_preset("vae", "digits", "smoke", seed=7)
    system = SimpleNamespace(
        image_shape=(1, 32, 32), code_names=["z1", "z2"], phase="train", name="vae"
    )
    log = [
        {"step": s, "seconds": 1.0, "phase": "train", "loss": 1 / s, EVIL: 2.0} for s in range(1, 9)
    ]
    scores = {"mig": {"score": 0.25}, EVIL: {"score": 1.0}}
    run = Run(Path("runs") / EVIL, plan, {}, log, scores, system, 30)
    tree = parsed(run._repr_html_())
    shown = words(tree)
    assert "vae on digits" in shown
    assert {"7", "30", "mig", "0.25", "1, 32, 32", EVIL, "loss"} <= set(shown)
    assert len(list(tree.iter("polyline"))) == 2
    bare = Run(Path("x"), plan, {}, [], None, system, 0)
    assert not list(parsed(bare._repr_html_()).iter("polyline"))


def test_a_curve_is_its_values():
    (path,) = re.findall('points="([^"]*)"', _html.curve([0.0, float("nan"), 5.0, 10.0], width=90))
    points = [tuple(map(float, point.split(","))) for point in path.split()]
    assert points == [(0.0, 23.0), (60.0, 12.0), (90.0, 1.0)]
    assert len(_html.curve([float(i % 7) for i in range(100_000)])) < 6000
    assert 'points=""' in _html.curve([])
