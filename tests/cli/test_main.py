import pytest
from _command_line import error_line

from pydisent.cli import main
from pydisent.cli._main import _gathered


def test_missing_runs_are_named(tmp_path, capsys):
    drawing = ("traverse", "transfer", "rotate", "trace", "explain", "report", "explore")
    for command in ("evaluate", *drawing):
        assert main([command, str(tmp_path / "nowhere")]) == 2
        assert "there is no run folder" in error_line(capsys)


@pytest.mark.parametrize(
    ("words", "gathered"),
    [
        ("train vae --set a=1 --set b=2", "train vae --set a=1 b=2"),
        ("train vae --set a=1 b=2 --seed 3 --set=c=4", "train vae --set a=1 b=2 c=4 --seed 3"),
        ("sweep vae --grid a=1,2 --seeds 0,1 --grid b=3", "sweep vae --grid a=1,2 b=3 --seeds 0,1"),
        ("list vae", "list vae"),
    ],
)
def test_a_repeated_option_keeps_all_its_values(words, gathered):
    assert _gathered(words.split()) == gathered.split()
