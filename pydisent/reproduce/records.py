"""Records of finished runs: what tables and claims need from a run, in one small file.

They let a large study be made piece by piece, on several machines: recorded runs are not trained
again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydisent.evaluation.scoring import figure
from pydisent.training import RunFolder
from pydisent.training.files import write_json

FORMAT = 1
_PLACES = ("data_path", "command", "factors")  # fields that say where, not what


def record_of(folder: RunFolder) -> dict[str, Any]:
    """Return the record of a finished run: plan, scores, logged medians, time and machine."""
    log, environment = folder.read_log(), folder.read_environment()
    logged: dict[str, list[float]] = {}
    for line in log:
        for name, value in line.items():
            if isinstance(value, (int, float)) and name not in ("step", "seconds"):
                logged.setdefault(name, []).append(float(value))
    return {
        "format": FORMAT,
        "plan": {k: v for k, v in folder.read_config().items() if k not in _PLACES},
        "scores": folder.read_scores() or {},
        "log": {name: statistics.median(values) for name, values in logged.items()},
        "seconds": round(max((line["seconds"] for line in log), default=0.0), 1),
        "threads": environment["threads"],
        "machine": f"{environment['gpu'] or environment['cpu']}, torch {environment['torch']}",
    }


def read_record(path: Path) -> dict[str, Any] | None:
    """Return a record, or None if there is none; ValueError if its format is unknown."""
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path}: format must be {FORMAT}")
    return found


def write_record(folder: RunFolder, path: Path) -> None:
    """Write the record of a finished run, keeping further scores from an earlier record."""
    found, before = record_of(folder), read_record(path)
    if before is not None:
        found["scores"] = {**before["scores"], **found["scores"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)


def score(record: Mapping[str, Any], key: str) -> float | None:
    """Return the figure for a column's key, or None."""
    name, _, logged = key.partition("/")
    return record["log"].get(logged) if name == "log" else figure(record["scores"], key)
