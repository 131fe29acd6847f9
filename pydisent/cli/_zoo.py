"""Pretrained models of the package, named in place of a run folder."""

from collections.abc import Sequence
from pathlib import Path

from pydisent.cli._output import say

#: Commands that read runs.
READERS = (
    "evaluate", "traverse", "transfer", "rotate", "trace", "report", "compare", "select",
    "explain", "explore", "doctor",
)  # fmt: skip
_RUNS = Path("runs/zoo")


def with_run_folders(argv: Sequence[str]) -> list[str]:
    """Return `argv` with a run folder, created if needed, in place of each model's name.

    An existing path takes precedence over a model of that name.
    """
    if not argv or argv[0] not in READERS or not any("/" in word for word in argv):
        return list(argv)
    from pydisent import zoo

    known = zoo.names()
    return [_unpacked(word) if word in known and not Path(word).exists() else word for word in argv]


def _unpacked(name: str) -> str:
    from pydisent import zoo

    folder = _RUNS / name
    if not folder.exists():
        say(f"{name} comes with pydisent: its run folder is {folder}")
    return str(zoo.unpack(name, folder))
