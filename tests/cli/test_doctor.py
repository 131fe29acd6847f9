import json
import sys

import pytest
import torch
from _command_line import error_line

from pydisent.cli import main

MODEL = """
import torch

class Generator(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(4, 6), torch.nn.LayerNorm(6), torch.nn.Tanh())

def plain(z):
    return torch.sin(z)

class Sized(torch.nn.Linear):
    pass

number = 3
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    (tmp_path / "a_model_to_look_at.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    yield "a_model_to_look_at"
    sys.modules.pop("a_model_to_look_at", None)


def test_the_catalogue(capsys, monkeypatch):
    from pydisent.jacobian import diagnosis

    whole = diagnosis.catalogue
    monkeypatch.setattr(diagnosis, "catalogue", lambda: whole(["linear", "glu"]))
    assert main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert torch.__version__ in output
    assert "linear" in output
    assert "decomposed; corrected" in output
    assert "glu raises:" in output


def test_a_model_of_the_users(model, tmp_path, capsys):
    out = tmp_path / "found.json"
    before = list(sys.path)
    target = [f"{model}:Generator", "--latent", "3x4", "--accelerator", "cpu"]
    assert main(["doctor", *target, "--out", str(out)]) == 0
    assert sys.path == before
    output = capsys.readouterr().out
    assert "Generator as a whole" in output
    found = json.loads(out.read_text())
    assert [row["operation"] for row in found["rows"]] == ["linear", "layer_norm", "tanh"]
    assert found["rows"][0]["shapes"].startswith("3×4")
    assert main(["doctor", f"{model}:plain", "--latent", "2x3", "--accelerator", "cpu"]) == 0
    assert "nothing is silently wrong" in capsys.readouterr().out


def test_drawn_weights_follow_the_seed(model, tmp_path):
    found = []
    for seed in (0, 0, 1):
        out = tmp_path / "found.json"
        target = [f"{model}:Generator", "--latent", "3x4", "--accelerator", "cpu"]
        assert main(["doctor", *target, "--seed", str(seed), "--out", str(out)]) == 0
        found.append(out.read_text())
    assert found[0] == found[1] != found[2]


def test_the_decoder_of_a_run(digits_run, capsys):
    assert main(["doctor", str(digits_run), "--accelerator", "cpu"]) == 0
    output = capsys.readouterr().out
    assert "SpectralGAN.decode as a whole" in output
    assert "conv_transpose2d" in output


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["{}:Generator"], "latent must be the shape of the codes"),
        (["{}:Generator", "--latent", "4"], "such as 4x8 for four of eight, got 4"),
        (["{}:Generator", "--latent", "4xm"], "got 4xm"),
        (["{}:missing", "--latent", "3x4"], "cannot be imported: module"),
        (["no_such_module:f", "--latent", "3x4"], "No module named 'no_such_module'"),
        (["{}:number", "--latent", "3x4"], "must be callable with latent codes, got int"),
        (
            ["{}:Sized", "--latent", "3x4"],
            "must be a class that takes no arguments, or an instance",
        ),
        (["{}:", "--latent", "3x4"], "target must be a run folder or MODULE:NAME, got"),
        ([":f", "--latent", "3x4"], "target must be a run folder or MODULE:NAME, got :f"),
        (
            ["{}:plain", "--latent", "3x4", "--out", "no/where.json"],
            "out must be a file in an existing folder",
        ),
        (["{}:plain", "--latent", "3x4", "--out", "."], "out must be a file in an existing folder"),
        (["--latent", "3x4"], "latent must be left out without MODULE:NAME"),
        (["nowhere"], "there is no run folder"),
    ],
)
def test_bad_arguments(model, capsys, words, named):
    words = [word.format(model) for word in words]
    assert main(["doctor", *words, "--accelerator", "cpu"]) == 2
    assert named in error_line(capsys)
