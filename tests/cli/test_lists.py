from pydisent import systems
from pydisent.cli import main


def test_list(capsys):
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    for name in (*systems.names(), "sprites", "mnist", "z-diff"):
        assert name in output
    assert main(["list", "spectral-gan"]) == 0
    assert "instance_noise" in capsys.readouterr().out
    assert main(["list", "gun"]) == 2


def test_info(capsys):
    assert main(["info"]) == 0
    output = capsys.readouterr().out
    assert "torch" in output
    assert "reference" in output
