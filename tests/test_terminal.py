import io
import re
import shlex
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.table import Table

import pydisent
from pydisent._terminal import PLAIN, command, readable_output
from pydisent.cli import _main, main
from pydisent.cli._output import say

ENCODINGS = ("ascii", "latin-1", "cp1252", "utf-8")
SOURCE = Path(pydisent.__file__).parent


def special_characters():
    """All that the package's own texts have beyond ASCII."""
    texts = (file.read_text(encoding="utf-8") for file in SOURCE.rglob("*.py"))
    return sorted({char for text in texts for char in text if ord(char) > 127})


@contextmanager
def terminal(encoding):
    """A standard output of this encoding, as a function that returns what was written there."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield lambda: stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_all_characters_of_the_package_are_printed(encoding):
    with terminal(encoding) as output:
        with readable_output():
            for char in special_characters():
                table = Table("a", char, title=char)
                table.add_row(char, "\udce9")  # a byte of a file's name
                say(table)
                say(char)
        assert sys.stdout.errors == "strict"
    assert r"\udce9" in output()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_was_meant_can_still_be_read(encoding):
    with terminal(encoding) as output, readable_output():
        for char in PLAIN:
            print(char)
    expected = []
    for char, plain in PLAIN.items():
        lacking = char.encode(encoding, "ignore") == b""
        expected.append(plain if lacking else char)
    assert output().split() == expected


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        *([name, "--help"] for name in _main._COMMANDS),
        ["list"],
        ["list", "ps-sc"],
        ["list", "nöthing"],
        ["info"],
        ["evaluate", "/nowhere/é"],
    ],
    ids=" ".join,
)
def test_commands_speak_to_a_terminal_without_unicode(capfd, argv):
    wrong = argv[-1] in ("nöthing", "/nowhere/é")
    with terminal("ascii") as output:
        assert main(argv) == (2 if wrong else 0)
    assert bool(output()) != wrong
    assert "codec" not in output() + capfd.readouterr().err


def test_warnings_of_commands_have_one_line(monkeypatch):
    found = []

    def shown(argv):
        for text in ("pydisent: half of the pictures are missing", "not ours"):
            found.append(warnings.formatwarning(UserWarning(text), UserWarning, "a.py", 3, "x = 1"))
        return 0

    monkeypatch.setattr(_main, "_run", shown)
    usual = warnings.formatwarning
    assert main([]) == 0
    assert found == [
        "pydisent: half of the pictures are missing\n",
        "a.py:3: UserWarning: not ours\n  x = 1\n",
    ]
    assert warnings.formatwarning is usual


def test_a_reader_that_has_gone_is_told_once():
    class Gone(io.TextIOWrapper):
        def flush(self):
            raise BrokenPipeError

    stream = Gone(io.BytesIO(), encoding="ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with pytest.raises(BrokenPipeError), readable_output():
            print("x", flush=True)


WORDS = ("runs/a", "my runs/a b", "it's", "$HOME/*", "ä;é", "a\tb")


@pytest.mark.parametrize("word", WORDS)
def test_commands_can_be_copied(word):
    line = command("train", "vae", "--out", Path(word), "--resume")
    assert shlex.split(line) == ["pydisent", "train", "vae", "--out", word, "--resume"]


def test_paths_of_commands_are_no_options():
    assert command("evaluate", Path("-x")) == "pydisent evaluate ./-x"


def test_no_message_makes_commands_by_itself():
    """Commands in messages are quoted; those of help texts name no path."""
    commands = "|".join(_main._COMMANDS)
    for file in SOURCE.rglob("*.py"):
        found = re.findall(rf'f"[^"\n]*pydisent (?:{commands}) [^"\n]*\{{', file.read_text("utf-8"))
        assert not found, file
