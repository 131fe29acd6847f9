"""A folder of pictures with a table of their factors, from training to scores."""

import json
from dataclasses import replace

import numpy as np
import pytest
from _command_line import error_line, train_smoke
from PIL import Image

from pydisent.cli import main
from pydisent.sweeps import SweepPlan
from pydisent.sweeps.manifest import Manifest

METRICS = ("factor-vae", "sap", "mig")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Squares at 4 x 4 places in shades of grey, not all combinations, and their table."""
    folder = tmp_path_factory.mktemp("labelled")
    rng, lines = np.random.default_rng(0), ["image,x,y,shade"]
    for number in range(90):
        x, y, shade = rng.integers(0, 4), rng.integers(0, 4), rng.uniform(0.5, 1)
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = 255 * shade
        (folder / "pictures").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
        lines.append(f"{number}.png,column {x},{y},{shade:.3f}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_from_training_to_scores(labelled, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.chdir(labelled)
    options = ["--data", "images", "--data-path", "pictures", "--factors", "table.csv"]
    options += ["--bins", "3", "--out", str(run)]
    assert train_smoke(*options, system="vae") == 0
    plan = json.loads((run / "config.json").read_text())
    assert (plan["factors"], plan["bins"]) == (str(labelled / "table.csv"), 3)
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(run), "--metrics", *METRICS]) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert "factors were observed in" in said
    assert "shade in 3 bins" in said
    scores = json.loads((run / "scores.json").read_text())
    assert scores.keys() == set(METRICS)
    for name in METRICS:
        assert scores[name]["details"]["factors"] == ["x", "y", "shade"]
        assert "the others follow the images with that value" in scores[name]["details"]["observed"]
    assert (run / "figures" / "matrices.png").is_file()
    capsys.readouterr()
    monkeypatch.chdir(labelled)
    assert train_smoke(*options, "--resume", system="vae") == 0
    options[options.index("--bins") + 1] = "4"
    assert train_smoke(*options, "--resume", system="vae") == 2
    assert "was trained with bins 3, not 4" in error_line(capsys)


def test_a_sweep_passes_the_table_on(labelled, tmp_path, monkeypatch):
    monkeypatch.chdir(labelled)
    sweep = SweepPlan(("vae",), "images", "pictures", preset="smoke", factors="table.csv", bins=4)
    (plan,) = sweep.runs().values()
    assert (plan.factors, plan.bins) == (str(labelled / "table.csv"), 4)
    (tmp_path / "sweep").mkdir()
    Manifest(tmp_path / "sweep", sweep, sweep.runs()).write()
    Manifest(tmp_path / "sweep", sweep, sweep.runs())  # continues
    other = replace(sweep, bins=None)
    with pytest.raises(ValueError, match="holds a sweep with bins 4, not None"):
        Manifest(tmp_path / "sweep", other, other.runs())


def test_a_wrong_table_is_refused_before_any_work(labelled, tmp_path, capsys):
    table = tmp_path / "table.csv"
    lines = (labelled / "table.csv").read_text().splitlines()
    lines[4] = "3.png,7,0,0.9"
    table.write_text("\n".join(lines))
    options = ["--data", "images", "--data-path", str(labelled / "pictures")]
    options += ["--factors", str(table), "--out", str(tmp_path / "run")]
    assert train_smoke(*options, system="vae") == 2
    assert "table.csv' line 2, column 'x', must be a number, as in line 5" in error_line(capsys)
    assert not (tmp_path / "run").exists()
