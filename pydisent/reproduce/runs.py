"""The runs of an entry: their plans at a scale, and access to trained runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydisent._checks import check, check_one_of
from pydisent.data import names
from pydisent.evaluation.devices import device_of
from pydisent.evaluation.scoring import fitting_to
from pydisent.reproduce.entry import STAND_INS, Case, Row
from pydisent.reproduce.records import read_record, record_of
from pydisent.sweeps import slug
from pydisent.training import Plan, Run, RunFolder, open_run
from pydisent.training.run import updates

PRESETS = {"smoke": "smoke", "small": "quick", "paper": "paper"}
_SMOKE_ROWS, _SMOKE_STEPS = 2, 5
_REMARKS = ("command", "note")
PERCEIVED = ("tpl", "ppl", "fid")  # scores that depend on the net that judges images


@dataclass(frozen=True)
class Scale:
    """Model sizes, data and seeds.

    Attributes
    ----------
    name : {"smoke", "small", "paper"}
        "paper" trains the papers' models on the official data; "small" trains models in minutes on
        the built-in stand-ins; "smoke" checks in seconds that everything runs.
    seeds : tuple of int
        Seeds; each row has one run per seed.
    data_paths : mapping of str to path
        Official data by name, to replace its stand-in.
    """

    name: str
    seeds: tuple[int, ...] = (0,)
    data_paths: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_one_of("scale", self.name, tuple(PRESETS))
        different = bool(self.seeds) and len(set(self.seeds)) == len(self.seeds)
        check(different, "seeds", "different integers, at least 1", list(self.seeds))
        for name in self.data_paths:
            check_one_of("official", name, names())

    def data(self, case: Case) -> tuple[str, Path | None] | None:
        """Return a case's data set and its path; None if there is none at this scale."""
        if case.data in self.data_paths:
            return case.data, self.data_paths[case.data]
        stand_in = STAND_INS.get(case.data)
        return None if self.name == "paper" or stand_in is None else (stand_in, None)

    def rows(self, case: Case) -> Sequence[Row]:
        """Return a case's rows that are trained at this scale."""
        if self.name == "smoke":
            drawn = {row for figure in case.figures for row in figure.rows}
            return [
                row
                for number, row in enumerate(case.rows)
                if number < (1 if drawn else _SMOKE_ROWS) or row.name in drawn
            ]
        if self.name == "small" and case.small_rows:
            return [row for row in case.rows if row.name in case.small_rows]
        return case.rows

    def plan(self, case: Case, row: Row, seed: int) -> Plan:
        """Return the plan of a row; `data(case)` must not be None."""
        found = self.data(case)
        assert found is not None
        settings = {**case.settings, **row.settings}
        if self.name == "small":
            settings |= {**row.small, **case.small}
        elif self.name == "smoke":
            settings |= {**row.small, **case.small, **case.smoke}
        data, path = found
        is_paper = self.name == "paper"
        if is_paper:
            settings |= row.paper
        plan = Plan.from_preset(
            row.system,
            data,
            PRESETS[self.name],
            data_path=path,
            image_size=case.small_size if self.name == "small" else None,
            seed=seed,
            steps=self._steps(row),
            settings=settings,
        )
        return replace(plan, **case.paper) if is_paper else plan

    def _steps(self, row: Row) -> int | None:
        """Return the number of updates of a row's first phase; None for the preset's."""
        own = {"small": row.small_steps, "paper": row.paper_steps}.get(self.name)
        if own:
            return own
        return _SMOKE_STEPS if self.name == "smoke" and row.steps is None else row.steps


@dataclass(frozen=True)
class Runs:
    """The runs of a case.

    Attributes
    ----------
    case : Case
        The case.
    plans : mapping of (str, int) to Plan
        Plans by row and seed.
    folder : Path
        Folder of all runs of the scale, including other entries'.
    measured : dict or None
        The result of the case's `measure`.
    accelerator : str
        Device on which runs are opened; see `pydisent.evaluation.devices`.
    records : Path or None
        The folder of records of runs finished here or elsewhere.
    """

    case: Case
    plans: Mapping[tuple[str, int], Plan]
    folder: Path
    measured: dict[str, Any] | None = None
    accelerator: str = "cpu"
    records: Path | None = None

    @classmethod
    def of(
        cls,
        case: Case,
        scale: Scale,
        folder: Path,
        accelerator: str = "cpu",
        records: Path | None = None,
    ) -> Runs:
        """Return the runs of a case at a scale."""
        rows = scale.rows(case)
        keys = [(row, seed) for row in rows for seed in scale.seeds]
        plans = {(row.name, seed): scale.plan(case, row, seed) for row, seed in keys}
        return cls(case, plans, folder, accelerator=accelerator, records=records)

    def path(self, row: str, seed: int) -> Path:
        """Return the folder of a run, which entries with the same plan share."""
        return self.folder / folder_name(self.plans[row, seed])

    def rows(self) -> list[str]:
        """Return the names of the rows."""
        return list(dict.fromkeys(row for row, _ in self.plans))

    def title(self, row: str) -> str:
        """Return the title of a row."""
        return next(each.title for each in self.case.rows if each.name == row)

    def open(self, rows: Sequence[str]) -> Run:
        """Open the run of the first of these rows, with the first seed; it must be trained."""
        key = next(key for key in self.plans if key[0] == rows[0])
        if not self.is_trained(*key):
            raise FileNotFoundError(f"{self.title(key[0])}, seed {key[1]}, is not trained here")
        return open_run(self.path(*key), device_of(self.accelerator))

    def opened(self, rows: Sequence[str]) -> Iterator[tuple[str, Run]]:
        """Yield the titles of these rows, and their runs with the first seed."""
        for row in rows:
            yield self.title(row), self.open([row])

    def is_done(self, row: str, seed: int) -> bool:
        """Return whether a run is trained and has all applicable scores."""
        return self.record(row, seed) is not None

    def is_trained(self, row: str, seed: int) -> bool:
        """Return whether the run's folder exists and has its last checkpoint."""
        path = self.path(row, seed)
        done = updates(path) if RunFolder(path).is_run() else None
        return done is not None and done[0] == done[1]

    def record(self, row: str, seed: int) -> dict[str, Any] | None:
        """Return the record of a finished run, from its folder or from `records`."""
        folder, kept = RunFolder(self.path(row, seed)), self.record_path(row, seed)
        if self.is_trained(row, seed) and not self._missing(folder.read_scores() or {}, row, seed):
            return record_of(folder)
        found = None if kept is None else read_record(kept)
        return None if found is None or self._missing(found["scores"], row, seed) else found

    def record_path(self, row: str, seed: int) -> Path | None:
        """Return the path of a run's record, if runs are recorded."""
        if self.records is None:
            return None
        return self.records / f"{folder_name(self.plans[row, seed])}.json"

    def _missing(self, scored: Collection[str], row: str, seed: int) -> set[str]:
        # Finding the applicable metrics loads the data, so it is done only if some are missing.
        missing = set(self.case.metrics) - set(scored)
        return missing and missing & set(self.metrics(self.plans[row, seed]))

    def metrics(self, plan: Plan) -> tuple[str, ...]:
        """Return the metrics of the case that apply to a plan."""
        fitting = fitting_to(plan)
        return tuple(name for name in self.case.metrics if name in fitting)


def folder_name(plan: Plan) -> str:
    """Return a descriptive folder name, different for different plans.

    Shared settings at their defaults do not count, so that adding one keeps the names of older
    runs.
    """
    values = {k: v for k, v in plan.to_json().items() if k not in _REMARKS}
    for each in dataclasses.fields(plan.config):
        if each.kw_only and values["config"][each.name] == each.default:
            del values["config"][each.name]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
    return f"{slug(plan.system, plan, {})}-{plan.data}-{digest}"
