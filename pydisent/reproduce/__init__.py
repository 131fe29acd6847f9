"""The papers' tables and figures, reproduced, with the published figures beside ours."""

from __future__ import annotations

from pydisent._checks import check_one_of
from pydisent.reproduce import jeon, kumar, lezama, locatello, ramesh, zhu
from pydisent.reproduce.entry import Case, Column, Entry, Figure, Row, Unavailable
from pydisent.reproduce.reproduction import Reproduction, reproduce
from pydisent.reproduce.runs import Runs, Scale
from pydisent.reproduce.training import Training

__all__ = [
    "PAPERS",
    "Case",
    "Column",
    "Entry",
    "Figure",
    "Reproduction",
    "Row",
    "Runs",
    "Scale",
    "Training",
    "Unavailable",
    "entries",
    "find",
    "reproduce",
    "unavailable",
]

PAPERS = {
    "ramesh": ramesh,
    "kumar": kumar,
    "lezama": lezama,
    "zhu": zhu,
    "jeon": jeon,
    "locatello": locatello,
}


def entries() -> tuple[Entry, ...]:
    """Return all tables and figures that can be reproduced."""
    return tuple(entry for paper in PAPERS.values() for entry in paper.ENTRIES)


def unavailable() -> tuple[Unavailable, ...]:
    """Return all tables and figures, or parts of them, that cannot be reproduced."""
    return tuple(part for paper in PAPERS.values() for part in paper.UNAVAILABLE)


def find(name: str) -> tuple[Entry, ...]:
    """Return the entry of a name such as "kumar/table1", or all entries of a paper.

    Raises
    ------
    ValueError
        If there is no such entry or paper.
    """
    known = {entry.name: (entry,) for entry in entries()}
    known |= {paper: found.ENTRIES for paper, found in PAPERS.items()}
    check_one_of("entry", name, tuple(known))
    return known[name]
