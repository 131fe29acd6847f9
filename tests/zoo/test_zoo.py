"""The models that come with the package: they load, and score as their cards say."""

import json
from pathlib import Path

import pytest
import torch

import pydisent
from pydisent import data, metrics, zoo
from pydisent.cli import main
from pydisent.training import open_run
from pydisent.training.pretrained import read_description

FOLDER = Path(zoo.__file__).parent


def described(name):
    return read_description(FOLDER / name)


def test_there_are_models_and_they_are_small():
    assert "spectral-gan/sprites" in zoo.names()
    assert sum(file.stat().st_size for file in FOLDER.glob("*/*/*")) <= 8e6


@pytest.mark.parametrize("name", zoo.names())
def test_a_model_scores_as_its_card_says(name):
    system, said = pydisent.load(name), described(name)
    assert not system.training
    assert f'pydisent.load("{name}")' in zoo.card(name)
    assert str(said["plan"]["seed"]) in zoo.card(name)
    plan = said["plan"]
    images = data.load(plan["data"], image_size=plan["image_size"])
    samples = metrics.sample_codes(system.encode, images, train=2000, test=1)
    assert metrics.mig(*samples[:2]).score == pytest.approx(
        said["scores"]["mig of 2000 images"], abs=1e-3
    )
    with torch.no_grad():
        pictures = system.decode(system.sample_code(2))
    assert pictures.shape[1:] == tuple(said["image_shape"])
    assert 0 <= pictures.min() <= pictures.max() <= 1


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match=r"name must be one of .*spectral-gan/sprites.*, got 'vae'"
    ):
        pydisent.load("vae")


def test_commands_take_a_models_name_for_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["traverse", "vae/sprites", "--sort", "code"]) == 0
    folder = tmp_path / "runs" / "zoo" / "vae" / "sprites"
    assert (folder / "figures" / "traversals.png").is_file()
    assert "comes with pydisent" in capsys.readouterr().out
    run = open_run(folder)
    assert run.step == described("vae/sprites")["step"]
    weights = pydisent.load("vae/sprites").state_dict()
    assert all(torch.equal(run.system.state_dict()[key], weights[key]) for key in weights)
    assert json.loads((folder / "config.json").read_text())["system"] == "vae"
    assert main(["traverse", "vae/sprites", "--sort", "code"]) == 0  # the same folder
    Path("vae/sprites").mkdir(parents=True)
    assert main(["traverse", "vae/sprites"]) == 2  # a path goes before a name


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="folder must be absent or a run folder"):
        zoo.unpack("vae/sprites", tmp_path)
