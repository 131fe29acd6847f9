"""Model selection by TPL, the length of traversals, without ground truth."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pydisent.evaluation.perception import TPL_SETTINGS, Perception
from pydisent.evaluation.scored_run import ScoredRun, check_same_data, read_run
from pydisent.evaluation.scoring import score
from pydisent.training.files import write_json
from pydisent.training.folder import RunFolder
from pydisent.training.run import open_run

METRIC = "tpl"


@dataclass(frozen=True)
class Ranked:
    """A finished run and its TPL.

    Attributes
    ----------
    run : ScoredRun
        The run.
    tpl : float
        The score; lower is better.
    active : int
        Number of active dimensions.
    details : dict
        The score's details.
    """

    run: ScoredRun
    tpl: float
    active: int
    details: dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Runs on one data set ranked by TPL.

    Attributes
    ----------
    folder : Path
        The folder of the runs.
    active : int
        Number of active dimensions that a run must have to be ranked.
    settings : dict
        The distance, threshold, segments, ... shared by all scores.
    ranked, apart : tuple of Ranked
        The runs with enough active dimensions, and the others, each with the lowest TPL first.
    unfinished : tuple of Path
        Unfinished runs, which are left out.
    notice : str or None
        A caveat about the scores.
    """

    folder: Path
    active: int
    settings: dict[str, Any]
    ranked: tuple[Ranked, ...]
    apart: tuple[Ranked, ...]
    unfinished: tuple[Path, ...]
    notice: str | None

    @property
    def header(self) -> tuple[str, ...]:
        """Return the titles of the table's columns."""
        return ("rank", "run", "system", "seed", "TPL", "active")

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of the table, runs without a rank last."""
        ranks = [*map(str, range(1, len(self.ranked) + 1)), *("–" for _ in self.apart)]
        return [
            (
                rank,
                str(one.run.path.relative_to(self.folder)),
                one.run.config["system"],
                str(one.run.config["seed"]),
                f"{one.tpl:.4f}",
                str(one.active),
            )
            for rank, one in zip(ranks, (*self.ranked, *self.apart))
        ]

    def remarks(self) -> list[str]:
        """Return remarks on settings, and on runs without a rank."""
        said = [
            "TPL by " + ", ".join(f"{k} {v}" for k, v in self.settings.items() if v is not None)
        ]
        if self.notice is not None:
            said.append(self.notice)
        if self.apart:
            said.append(f"without a rank: fewer than {self.active} active dimensions")
        said += [f"{path} is unfinished: left out" for path in self.unfinished]
        return said

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""

        def plain(one: Ranked) -> dict[str, Any]:
            return {
                "run": str(one.run.path.relative_to(self.folder)),
                "system": one.run.config["system"],
                "seed": one.run.config["seed"],
                "tpl": one.tpl,
                "active": one.active,
            }

        return {
            "settings": self.settings,
            "notice": self.notice,
            "active": self.active,
            "ranked": [plain(one) for one in self.ranked],
            "apart": [plain(one) for one in self.apart],
            "unfinished": [str(path.relative_to(self.folder)) for path in self.unfinished],
        }


def select(
    folder: str | Path,
    *,
    active: int = 1,
    perception: Perception | None = None,
    again: bool = False,
    device: str | torch.device = "cpu",
    say: Callable[[str], None] = lambda text: None,
) -> Selection:
    """Rank all finished runs below a folder by TPL, scoring those without a TPL.

    Parameters
    ----------
    folder : path
        Searched for runs at any depth; it may itself be a run.
    active : int
        Number of active dimensions that a run must have to be ranked: a run that encodes little
        has short traversals (Zhu et al., sec. 4.1, rank those above 4 on dSprites).
    perception : Perception, optional
        The nets that score runs; if given, existing scores must be by the same nets.
    again : bool
        Whether to score all runs again.
    device : device
        Device of the scored systems.
    say : callable
        Called with a line for each run scored.

    Raises
    ------
    ValueError, FileNotFoundError, TypeError
        If there is no finished run, a file is damaged, or the runs are on different data or scored
        with different settings; raised before anything is scored.
    """
    if isinstance(active, bool) or not isinstance(active, int):
        raise TypeError(f"active must be an integer, got {active!r}")
    if active < 0:
        raise ValueError(f"active must be an integer >= 0, got {active}")
    root, nets = Path(folder), perception or Perception()
    runs = [read_run(path) for path in _run_folders(root)]
    finished = [run for run in runs if run.is_finished]
    if not finished:
        raise ValueError(f"folder must contain a finished run, got {root}")
    check_same_data(finished, ("data", "data_path", "factors", "image_size"))
    known = {} if again else {run.path: found for run in finished if (found := _details(run.path))}
    missing = [run for run in finished if run.path not in known]
    if missing or nets != Perception():
        nets.check([METRIC])
    settings = _common_settings(known, missing, nets)
    for run in missing:
        say(f"scoring {run.path}: {METRIC}")
        _score(run.path, nets, device)
    placed = sorted((_ranked(run.path) for run in finished), key=lambda one: one.tpl)
    return Selection(
        root,
        active,
        settings,
        tuple(one for one in placed if one.active >= active),
        tuple(one for one in placed if one.active < active),
        tuple(run.path for run in runs if run not in finished),
        placed[0].details.get("notice"),
    )


def write_selection(selection: Selection) -> Path:
    """Write selection.json into the folder of the runs."""
    path = selection.folder / "selection.json"
    write_json(path, selection.to_json())
    return path


def _run_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    found = [file.parent for file in root.rglob("config.json")]
    hidden = (
        path for path in found if any(p.startswith(".") for p in path.relative_to(root).parts)
    )
    return sorted(set(found) - set(hidden))


def _details(path: Path) -> dict[str, Any] | None:
    """Return the details of a run's TPL, or None if it has none."""
    folder = RunFolder(path)
    entry = (folder.read_scores() or {}).get(METRIC)
    if entry is None:
        return None
    details = entry.get("details")
    needed = (*TPL_SETTINGS, "active")
    if not isinstance(details, dict) or (lacking := [n for n in needed if n not in details]):
        found = ", ".join(lacking) if isinstance(details, dict) else "details"
        raise ValueError(f"{folder.scores}: {METRIC} lacks {found}: evaluate the run again")
    if type(details["active"]) is not int:
        raise ValueError(f"{folder.scores}: active must be an integer, got {details['active']!r}")
    if not math.isfinite(entry["score"]):
        raise ValueError(
            f"{folder.scores}: {METRIC} must be finite, got {entry['score']}: evaluate again"
        )
    return details


def _common_settings(
    known: dict[Path, dict[str, Any]], missing: Sequence[ScoredRun], nets: Perception
) -> dict[str, Any]:
    """Return the settings of known and missing scores; ValueError unless they are the same."""
    named = (*TPL_SETTINGS, "counts")  # only published counts are recorded
    settings = {str(path): {k: d[k] for k in named if k in d} for path, d in known.items()}
    if missing:
        settings["the missing scores"] = nets.tpl_settings()
    elif nets != Perception():  # requested, though nothing is left to score
        settings["the requested settings"] = nets.tpl_settings()
    (first, common), *others = settings.items()
    for name, values in others:
        for key in named:
            if values.get(key) != common.get(key):
                raise ValueError(
                    f"TPL must be measured with the same settings, got {key} {common.get(key)} for "
                    f"{first} and {values.get(key)} for {name}: score all runs again"
                )
    return common


def _score(path: Path, nets: Perception, device: str | torch.device) -> None:
    run = open_run(path, device)
    keep = partial(RunFolder(path).add_scores, step=run.step)
    score(run, [METRIC], perception=nets, keep=keep)


def _ranked(path: Path) -> Ranked:
    """Read a run again, as its score may have been added since."""
    run, details = read_run(path), _details(path)
    assert details is not None
    return Ranked(run, run.scores[METRIC], int(details["active"]), details)
