"""How well does a few minutes' training on two cores align? The scores of ``make demo``, kept.

Run ``python bench/demo.py [runs/demo]`` after ``make demo``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from _harness import environment, write_result

from pydisent.training import open_run


def scores(path: Path) -> dict:
    """The figures of one run, without their details."""
    run = open_run(path)
    config = run.config["config"]
    return {
        "data": run.config["data"],
        "image_size": run.config["image_size"],
        "updates": run.config["steps"],
        "seed": run.config["seed"],
        "k": config["k"],
        "penalty_weight": config["penalty_weight"],
        "scores": {name: found["score"] for name, found in (run.scores or {}).items()},
        "seconds": max(record["seconds"] for record in run.log),
        "threads": run.environment["threads"],
    }


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    found = {name: scores(folder / name) for name in ("spectral-gan", "plain-gan")}
    print(write_result("demo", {"systems": found}, environment()))


if __name__ == "__main__":
    main()
