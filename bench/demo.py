"""How well does a few minutes' training on two cores align? The scores of ``make demo``, kept.

Run ``python bench/demo.py [runs/demo]`` after ``make demo``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from _harness import environment, write_result
from _tables import markdown

from pydisent.training import open_run

# "gan" as it was once called.
NAMES = dict.fromkeys(("plain-gan", "gan"), "the same without the penalty")


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


def table(result: dict) -> list[str]:
    systems = result["systems"]
    first = next(iter(systems.values()))
    lines = [
        f"`make demo` (preset `quick`: {first['data']} at {first['image_size']} px, "
        f"{first['updates']} updates, seed {first['seed']}, {first['threads']} thread):",
        "",
    ]
    entries = f"mean of the first {first['k']} diagonal entries of F"
    scores = {"f-diagonal": entries, "z-diff": "z-diff", "factor-vae": "FactorVAE score"}
    rows = [
        [
            NAMES.get(name, name),
            *(f"{row['scores'][score]:.2f}" for score in scores),
            f"{row['seconds'] / 60:.1f}",
        ]
        for name, row in systems.items()
    ]
    return [*lines, *markdown(["system", *scores.values(), "minutes"], rows)]


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    found = {name: scores(folder / name) for name in ("spectral-gan", "plain-gan")}
    print(write_result("demo", {"systems": found}, environment()))


if __name__ == "__main__":
    main()
