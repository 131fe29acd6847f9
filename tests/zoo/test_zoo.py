"""The models that come with the package: they load, and score as their cards say."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch

import pydisent
from pydisent import data, systems, zoo
from pydisent.cli import main
from pydisent.systems import LeftOutError
from pydisent.training import open_run
from pydisent.training.pretrained import read_description

FOLDER = Path(zoo.__file__).parent


def described(name):
    return read_description(FOLDER / name)


@cache
def parts_of(name, image_size, share):
    return data.hold_out(data.load(name, image_size=image_size), share)


def test_every_system_has_a_model_and_they_are_small():
    there = {name.partition("/")[0] for name in zoo.names()}
    assert there == set(systems.names())
    assert sum(file.stat().st_size for file in FOLDER.glob("*/*/*")) <= 8e6


@pytest.mark.parametrize("name", zoo.names())
def test_a_model_scores_as_its_card_says(name, bench):
    system, said = pydisent.load(name), described(name)
    assert not system.training
    assert {tensor.dtype for tensor in system.parameters()} == {torch.float32}
    assert f'pydisent.load("{name}")' in zoo.card(name)
    plan = said["plan"]
    assert f"| seed | {plan['seed']} |" in zoo.card(name)
    assert said["seconds"] > 0
    parts = parts_of(plan["data"], plan["image_size"], plan["held_out"])
    found = bench("zoo").cheap_scores(system, *parts)
    assert len(found) == 2
    for key, score in found.items():
        assert score == pytest.approx(said["scores"][key], abs=1e-3), key
    with torch.no_grad():
        pictures = system.decode(system.sample_code(2))
    assert pictures.shape[1:] == tuple(said["image_shape"])
    assert 0 <= pictures.min() <= pictures.max() <= 1


@pytest.mark.in_turn
@pytest.mark.parametrize("name", zoo.names())
def test_weights_that_do_not_fit_the_card_are_noticed(name, bench):
    """The cheap scores are of these weights: of others they differ by more than the tolerance."""
    said = described(name)
    plan = said["plan"]
    torch.manual_seed(0)
    other = systems.build(plan["system"], pydisent.load(name).config, tuple(said["image_shape"]))
    for phase, _ in other.phases(1):
        other.start_phase(phase)
    parts = parts_of(plan["data"], plan["image_size"], plan["held_out"])
    found = bench("zoo").cheap_scores(other.eval(), *parts)
    assert any(abs(found[key] - said["scores"][key]) > 1e-2 for key in found)


@pytest.mark.parametrize("name", zoo.names())
def test_what_only_training_uses_is_left_out(name):
    system = pydisent.load(name)
    assert set(system.left_out) == set(described(name)["left_out"]) == set(system.training_parts)
    batch = torch.rand(system.images_per_step, *system.image_shape)
    if system.left_out:
        with pytest.raises(LeftOutError, match=r"was saved without its .*, which only training"):
            system.step(batch)
        assert "cannot be trained on" in zoo.card(name)


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
