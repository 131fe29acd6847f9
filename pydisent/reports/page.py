"""The report: one page about a run, or comparing several."""

from collections.abc import Sequence
from pathlib import Path

from pydisent.evaluation.codes import Split
from pydisent.evaluation.subject import Subject
from pydisent.reports import _tables
from pydisent.reports._labels import subjects_of
from pydisent.reports._sections import sections
from pydisent.reports.files import check_folder, write_files
from pydisent.reports.html import render
from pydisent.training.run import Run


def write_report(
    runs: Sequence[Run],
    out: Path | None = None,
    command: Sequence[str] = (),
    *,
    seed: int = 0,
    split: Split = "auto",
) -> Path:
    """Write a self-contained HTML page about runs, with its pictures beside it; return its path.

    The page says why parts are missing, such as reconstructions without an encoder.

    Parameters
    ----------
    runs : sequence of Run
        One, or several to compare.
    out : Path, optional
        Folder for the page; the folder "report" of the first run by default.
    command : sequence of str
        The command line, shown on the page.
    seed : int
        Seed of codes and images.
    split : str
        Images to reconstruct: "train" or "test"; "auto" for the latter if there are any.

    Raises
    ------
    ValueError
        If there is no run, or `out` is a file.
    """
    if not runs:
        raise ValueError("runs must be at least one run, got none")
    folder = out or runs[0].path / "report"
    check_folder(folder)  # drawing takes a minute
    subjects = subjects_of(runs, seed, split)
    parts = sections(subjects)
    files = {p.file: p.data for part in parts for p in part.pictures}
    page = render(
        "report.html",
        title=_title(subjects),
        labels=[s.label for s in subjects],
        sections=parts,
        summary=_tables.summary(subjects),
        scores=_tables.score_details(subjects),
        unscored=[(s.label, str(s.run.path)) for s in subjects if not s.run.scores],
        settings=_tables.settings(subjects),
        environment=_tables.environment(subjects),
        commands=_tables.commands(subjects, command),
    )
    return write_files(folder, files | {"index.html": page.encode()})[-1]


def _title(subjects: Sequence[Subject]) -> str:
    labels = [s.label for s in subjects]
    who = labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
    data = dict.fromkeys(s.run.plan.data for s in subjects)
    return f"{who} on {' and '.join(data)}"
