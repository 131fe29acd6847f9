"""What the README and the pages of the docs tell people to run runs.

The docs' Python cells are run when the site is built.
"""

import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

import pydisent
from pydisent.cli import main

ROOT = Path(__file__).parents[1]
PAGES = ["docs/start/tour.md", "docs/howto/train.md", "docs/howto/report.md"]
#: Commands that take minutes, want files of the reader's or are run whole by other tests.
ELSEWHERE = re.compile(
    "--preset quick|runs/beta|MY_PICTURES|pydisent (sweep|compare|reproduce|demo|explore)|"
    "--devices|--resume"
)


def test_the_programs_of_the_readme_run():
    """With a small network for each name that the reader brings, and few images."""
    torch.manual_seed(0)
    text = (ROOT / "README.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(programs) == 3
    flat = nn.Flatten()
    known = {
        "torch": torch,
        "pydisent": pydisent,
        "gan_loss": lambda images: images.square().mean(),
        "reconstruction": nn.functional.mse_loss,
        "decoder": nn.Linear(10, 64),
        "encoder": nn.Sequential(flat, nn.Linear(64, 20)),
        "x": torch.rand(16, 64),
        "data": range(1000),
    }
    generator = nn.Sequential(nn.Linear(128, 16), nn.SiLU(), nn.Linear(16, 32))
    for program in programs:
        names = dict(known, generator=generator)
        if "encode_once" in program:
            names["encoder"] = nn.Sequential(nn.AvgPool2d(8), flat, nn.Linear(16, 4))
            program = program.replace('load("sprites")', 'load("sprites", image_size=32)')
            program = program.replace("(encoder, sprites)", "(encoder, sprites, max_images=2000)")
            program = program.replace(", codes)\n", ", codes, train=400, test=200)\n", 1)
        exec(re.sub(r"generator = \.\.\..*", "", program), names)
    assert all(p.grad is not None for p in generator.parameters())


def commands(page):
    text = (ROOT / page).read_text()
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    found = [line.split("#")[0].strip() for line in lines if line.startswith("pydisent")]
    return [line for line in found if not ELSEWHERE.search(line)]


@pytest.mark.in_turn
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in commands(page):
        assert main(shlex.split(command)[1:]) == 0, command
