"""The layout of a run folder."""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydisent._atomic import write_atomic
from pydisent._notice import warn_once
from pydisent.training._checkpoint_files import steps_kept
from pydisent.training.files import (
    NUMBER,
    Types,
    as_object,
    check_count,
    check_fields,
    check_value,
    file_lock,
    parse_json,
    read_object,
    read_text,
    write_json,
)
from pydisent.training.plan import Plan, completed

_ENVIRONMENT: Types = {"threads": (int,), "devices": (int,), "backends": (dict,)}
_LINE: Types = {"step": (int,), "seconds": NUMBER, "phase": (str,)}
_PLACES = ("data_path", "factors", "command")  # fields of a plan that may change with its location
_TEXTS = ("distance", "notice", "observed")  # text fields among the details of scores


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """Return the path of the plan."""
        return self.path / "config.json"

    @property
    def environment(self) -> Path:
        """Return the path of the record of versions and machine."""
        return self.path / "environment.json"

    @property
    def log(self) -> Path:
        """Return the path of the log, with one JSON object per line."""
        return self.path / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Return the folder of TensorBoard's events."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Return the folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def scores(self) -> Path:
        """Return the path of the metrics' scores."""
        return self.path / "scores.json"

    @property
    def output(self) -> Path:
        """Return the path of the processes' output, for runs started by a sweep."""
        return self.path / "output.log"

    @property
    def asked(self) -> Path:
        """Return the path of the plan that a sweep requests, before it becomes `config`."""
        return self.path / "plan.json"

    def is_run(self) -> bool:
        """Return whether there is a run."""
        return self.config.is_file()

    def is_free(self) -> bool:
        """Return whether a run may start here: there are only hidden files and a sweep's."""
        if not self.path.exists():
            return True
        return self.path.is_dir() and all(
            p.name.startswith(".") or p in (self.output, self.asked) for p in self.path.iterdir()
        )

    def require_run(self) -> None:
        """Raise FileNotFoundError unless there is a run."""
        if not self.path.is_dir():
            raise FileNotFoundError(f"there is no run folder {self.path}")
        if not self.is_run():
            raise FileNotFoundError(f"{self.path} is not a run folder: it has no config.json")

    def locked(self) -> AbstractContextManager[Callable[[], bool]]:
        """Lock an existing folder against other training processes; see `file_lock`."""
        return file_lock(self.path / ".lock", f"{self.path} is being trained by another process")

    def clear(self) -> None:
        """Delete the run, if there is one, after renaming it. A link to it is kept.

        Raises
        ------
        ValueError
            If the folder is or contains the working directory.
        """
        if not self.is_run():
            return
        path = self.path.resolve()
        if Path.cwd().is_relative_to(path):
            raise ValueError(
                f"{self.path} is or contains the working directory and cannot be replaced: choose "
                "another folder, or another working directory"
            )
        doomed = path.with_name(f".{path.name}.deleted")
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed)

    def read_config(self) -> dict[str, Any]:
        """Return the plan as plain values, as this version would have recorded it."""
        return completed(_renamed(read_object(self.config)))

    def plan_sum(self) -> str:
        """Return a checksum of the plan as written, without paths and command."""
        plan = {k: v for k, v in read_object(self.config).items() if k not in _PLACES}
        return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()

    def read_plan(self) -> Plan:
        """Return the plan.

        Raises
        ------
        OSError, ValueError
            If the file is missing or damaged, or its format unknown; the message names it.
        """
        return Plan.from_json(self.read_config(), str(self.config))

    def read_environment(self) -> dict[str, Any]:
        """Return the record of versions and machine."""
        found, source = read_object(self.environment), str(self.environment)
        check_fields(source, found, _ENVIRONMENT, optional=_ENVIRONMENT, others=True)
        for name in ("threads", "devices"):
            check_count(f"{source}: {name}", found.get(name, 1), 1, 2**16)
        return found

    def read_precision(self) -> str | None:
        """Return the precision of the run, "fp32" or "bf16"; None if it has not started.

        Older runs, which did not record it, used the precision of their plan.
        """
        found = None
        if self.environment.is_file():
            asked = self.read_config()["config"].get("precision") if self.is_run() else None
            found = self.read_environment().get("precision", asked)
        return found if found in ("fp32", "bf16") else None

    def read_log(self) -> list[dict[str, Any]]:
        """Return the lines of the log, except an unfinished last one."""
        return [found for _, found in self._lines()]

    def truncate_log(self, step: int) -> None:
        """Remove the log lines after `step`, which a resumed run writes again."""
        if self.log.exists():
            kept = [line for line, found in self._lines() if found["step"] <= step]
            write_atomic(self.log, "".join(kept))

    def _lines(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the complete lines of the log with their parsed values."""
        if not self.log.exists():
            return []
        lines = []
        for number, line in enumerate(read_text(self.log).split("\n")[:-1], 1):
            source = f"{self.log}, line {number}"
            found = as_object(parse_json(line, source), source)
            check_fields(source, found, _LINE, others=True)
            check_count(f"{source}: step", found["step"])
            for name in found.keys() - _LINE.keys():
                check_value(f"{source}: {name}", found[name], NUMBER)
            lines.append((line + "\n", found))
        return lines

    def read_scores(self, step: int | None = None) -> dict[str, Any] | None:
        """Return the scores of a checkpoint, or None if no scores are recorded.

        Scores of other checkpoints, such as those of a run that was resumed after it was scored,
        are left out. Those that do not record their checkpoint are kept.

        Parameters
        ----------
        step : int, optional
            The number of updates of the checkpoint; by default, the last one.

        Warns
        -----
        UserWarning
            If scores are left out.

        Raises
        ------
        OSError, ValueError
            If the file is damaged; the message names it.
        """
        scores = self._entries()
        if scores is None:
            return None
        made = max(steps_kept(self.checkpoints), default=None) if step is None else step
        other = {m: e["step"] for m, e in scores.items() if made not in (None, e.get("step", made))}
        if other:
            steps = ", ".join(f"{metric} of step {found}" for metric, found in other.items())
            warn_once(
                f"{self.scores} has scores of other weights than those of step {made}, which are "
                f"left out: {steps}"
            )
        return {metric: entry for metric, entry in scores.items() if metric not in other}

    def _entries(self) -> dict[str, Any] | None:
        """Return the scores of all checkpoints, checked, or None if there are none."""
        if not self.scores.exists():
            return None
        scores = read_object(self.scores)
        for metric, entry in scores.items():
            value = entry.get("score") if isinstance(entry, dict) else None
            if type(value) not in NUMBER:
                raise ValueError(
                    f"{self.scores}: the score of {metric} must be a number, got {entry!r:.80}"
                )
            if type(value) is int:
                check_value(f"{self.scores}: {metric}", value, NUMBER)
            details = entry.get("details", {})
            check_value(f"{self.scores}: details of {metric}", details, (dict,))
            for name in _TEXTS:
                if details.get(name) is not None:
                    check_value(f"{self.scores}: {name} of {metric}", details[name], (str,))
            if "step" in entry:
                check_value(f"{self.scores}: step of {metric}", entry["step"], (int,))
        return scores

    def add_scores(self, scores: dict[str, Any], step: int | None = None) -> None:
        """Add `scores` to the file, waiting for other writers.

        Parameters
        ----------
        scores : dict
            The scores by metric.
        step : int, optional
            The number of updates of the checkpoint that was scored, which is recorded with them.

        Raises
        ------
        FileNotFoundError
            If the run no longer exists.
        """
        self.require_run()
        with file_lock(self.path / ".scores.lock", str(self.scores), wait=True):
            known = self._entries() or {}
            made = {} if step is None else {"step": step}
            write_json(self.scores, known | {name: made | score for name, score in scores.items()})


# Current names of renamed systems, by former name and a distinguishing setting.
_FORMERLY = {("gan", "penalty_weight"): "spectral-gan", ("infogan", "ps_weight"): "ps-sc"}


def _renamed(config: Any) -> Any:
    if isinstance(config, dict) and isinstance(config.get("config"), dict):
        for (name, setting), now in _FORMERLY.items():
            if config.get("system") == name and setting in config["config"]:
                return config | {"system": now}
    return config
