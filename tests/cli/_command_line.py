"""The command line, called in this process."""

from pydisent.cli import main


def train_smoke(*options, system="spectral-gan"):
    return main(["train", system, "--preset", "smoke", "--accelerator", "cpu", *options])


def error_line(capsys):
    errors = capsys.readouterr().err.strip()
    assert errors.startswith("pydisent: "), errors
    assert "\n" not in errors, errors
    return errors
