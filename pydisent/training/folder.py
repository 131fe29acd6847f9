"""The layout of a run folder."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydisent.training._files import read_json, write_atomic, write_json


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, by name."""

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
        """Return the path of the log, one JSON object a line."""
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
        """Return the path of what the run's processes printed, if a sweep started them."""
        return self.path / "output.log"

    def is_run(self) -> bool:
        """Return whether a run lives here."""
        return self.config.is_file()

    def is_free(self) -> bool:
        """Return whether a run may start here: nothing is there but temporaries and output."""
        if not self.path.exists():
            return True
        return self.path.is_dir() and all(
            p.name.startswith(".") or p == self.output for p in self.path.iterdir()
        )

    def require_run(self) -> None:
        """Raise FileNotFoundError unless a run lives here."""
        if not self.path.is_dir():
            raise FileNotFoundError(f"there is no run folder {self.path}")
        if not self.is_run():
            raise FileNotFoundError(f"{self.path} is not a run folder: it has no config.json")

    def clear(self) -> None:
        """Delete the run if there is one, at once: it is renamed first."""
        if not self.is_run():
            return
        doomed = self.path.with_name(f".{self.path.name}.deleted")
        shutil.rmtree(doomed, ignore_errors=True)
        self.path.rename(doomed)
        shutil.rmtree(doomed)

    def read_config(self) -> dict[str, Any]:
        """Return the plan's values, a system that was called otherwise under its present name."""
        return _renamed(read_json(self.config))

    def read_environment(self) -> dict[str, Any]:
        """Return the record of versions and machine."""
        return read_json(self.environment)

    def read_precision(self) -> str | None:
        """Return what the run trains in, "fp32" or "bf16"; None if nothing was begun or recorded.

        Runs from before it was recorded trained in just what they were asked to.
        """
        found = None
        if self.environment.is_file():
            asked = self.read_config()["config"].get("precision") if self.is_run() else None
            found = self.read_environment().get("precision", asked)
        return found if found in ("fp32", "bf16") else None

    def read_log(self) -> list[dict[str, Any]]:
        """Return the log's objects; an unfinished last line is left out."""
        if not self.log.is_file():
            return []
        return [json.loads(line) for line in _whole_lines(self.log)]

    def truncate_log(self, step: int) -> None:
        """Drop the log's lines after `step`, which a resumed run writes again."""
        if self.log.is_file():
            kept = [line for line in _whole_lines(self.log) if json.loads(line)["step"] <= step]
            write_atomic(self.log, "".join(kept))

    def read_scores(self) -> dict[str, Any] | None:
        """Return the scores, or None if there are none."""
        return read_json(self.scores) if self.scores.is_file() else None

    def add_scores(self, scores: dict[str, Any]) -> None:
        """Write `scores` beside those already there."""
        write_json(self.scores, (self.read_scores() or {}) | scores)


# By a former name and a setting that only they had under it: what these systems are called now.
_FORMERLY = {("gan", "penalty_weight"): "spectral-gan", ("infogan", "ps_weight"): "ps-sc"}


def _renamed(config: Any) -> Any:
    if isinstance(config, dict) and isinstance(config.get("config"), dict):
        for (name, setting), now in _FORMERLY.items():
            if config.get("system") == name and setting in config["config"]:
                return config | {"system": now}
    return config


def _whole_lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
