"""Text for terminals: commands to copy, and replacements where Unicode is missing."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "pydisent.plain"  # the error handler registered with codecs
PLAIN = {
    "–": "-", "−": "-", "±": "+-", "×": "x", "…": "...", "→": "->", "≥": ">=", "≤": "<=", "•": "*",
}  # fmt: skip


def command(*words: str | os.PathLike[str]) -> str:
    """Return a pydisent command line, quoted for a shell."""
    # A path that begins with a dash would be taken for an option.
    plain = (str(w) if isinstance(w, str) or str(w)[:1] != "-" else f"./{w}" for w in words)
    return shlex.join(["pydisent", *plain])


def unfinished(path: Path, system: str, made: int, planned: int) -> str:
    """Return the remark that a run is unfinished, with the command that resumes it."""
    resume = command("train", system, "--out", path, "--resume")
    return f"{path} is unfinished, {made} of {planned} updates: {resume}"


@contextlib.contextmanager
def readable_output() -> Iterator[None]:
    """Print characters that a stream cannot encode as ASCII or escaped, instead of failing.

    This includes undecodable bytes in file names.
    """
    streams = [s for s in (sys.stdout, sys.stderr) if isinstance(s, io.TextIOWrapper)]
    kept = [(stream, stream.errors) for stream in streams]
    try:
        for stream in streams:
            stream.reconfigure(errors=NAME)
        yield
    finally:
        for stream, errors in kept:
            # The stream may be closed, or a broken pipe.
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors=errors)


@contextlib.contextmanager
def warnings_of_one_line() -> Iterator[None]:
    """Print pydisent's own warnings without their source line, which tells users nothing."""
    usual = warnings.formatwarning

    def formatted(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
        text = str(message)
        ours = text.startswith("pydisent: ")
        return f"{text}\n" if ours else usual(message, category, *place, **line)

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = "".join(PLAIN.get(char, char) for char in lacking)
    return plain.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error(NAME, _plain)
