"""Reproduce an entry: train, score, collect, and write its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydisent.reproduce.entry import Entry
from pydisent.reproduce.page import write_page
from pydisent.reproduce.results import read_result, result_of
from pydisent.reproduce.runs import Runs, Scale
from pydisent.reproduce.training import Training, finish
from pydisent.sweeps import SweepInterrupted
from pydisent.training.files import write_json

RESULT = "result.json"


@dataclass(frozen=True)
class Reproduction:
    """The folder of an entry at a scale: its page and its result.

    Attributes
    ----------
    entry : Entry
        The entry.
    scale : Scale
        The scale.
    out : Path
        The folder of all entries and scales.
    records : Path or None
        The folder of records of finished runs.
    """

    entry: Entry
    scale: Scale
    out: Path
    records: Path | None = None

    @property
    def folder(self) -> Path:
        """Return the folder of the page."""
        return self.out / self.scale.name / self.entry.name.replace("/", "-")

    @property
    def runs(self) -> Path:
        """Return the folder of the runs, which the entries of a scale share."""
        return self.out / self.scale.name / "runs"

    def result(self) -> dict[str, Any] | None:
        """Return the written result, if any."""
        file = self.folder / RESULT
        return read_result(file) if file.is_file() else None

    def cases(self) -> list[Runs]:
        """Return the runs of each case that has data at this scale."""
        return [
            Runs.of(case, self.scale, self.runs, records=self.records)
            for case in self.entry.cases
            if self.scale.data(case) is not None
        ]

    def state(self) -> str:
        """Return the progress as text."""
        runs = {each.path(*key): each.is_done(*key) for each in self.cases() for key in each.plans}
        if runs and not all(runs.values()):
            return f"{sum(runs.values())} of {len(runs)} runs" if any(runs.values()) else "not run"
        return "done" if (self.folder / RESULT).is_file() else "not run"


def reproduce(
    chosen: Sequence[Entry],
    scale: Scale,
    out: Path,
    training: Training,
    command: str = "",
    records: Path | None = None,
) -> list[Path]:
    """Train and score the unfinished runs of entries, and write their pages.

    Runs shared by several entries are made once.

    Parameters
    ----------
    chosen : sequence of Entry
        The entries.
    scale : Scale
        Model sizes, data and seeds.
    out : Path
        The folder of all entries and scales.
    training : Training
        How runs are trained and scored.
    command : str
        The command line, for the pages.
    records : Path or None
        A folder in which each run is recorded as it ends; recorded runs are not trained again,
        whichever machine they ran on. Figures that need a run itself are drawn only if it is in
        `out`.

    Returns
    -------
    list of Path
        Each entry's index.html.

    Raises
    ------
    ValueError
        If an entry has no data at this scale; before any work.
    RunsFailedError
        If runs failed; the others are finished, and no page is written.
    SweepInterrupted
        On SIGINT, SIGTERM or SIGHUP, once all runs have saved.
    """
    planned = [Reproduction(entry, scale, out, records) for entry in chosen]
    for each in planned:
        if not each.cases():
            data = ", ".join(f"{case.data}=PATH" for case in each.entry.cases)
            raise ValueError(
                f"official must give the data of {each.entry.name} at scale "
                f"{scale.name!r}: {data}; got none"
            )
    if signum := finish([runs for each in planned for runs in each.cases()], training):
        raise SweepInterrupted(signum, out)
    pages = []
    for each in planned:
        where = training.accelerator
        result = result_of(each.entry, scale, each.runs, where, records)
        each.folder.mkdir(parents=True, exist_ok=True)
        write_json(each.folder / RESULT, result)
        files = write_page(
            each.entry, scale, result, each.runs, each.folder, command, where, records
        )
        pages.append(files[-1])
        training.say(f"wrote {pages[-1]}")
    return pages
