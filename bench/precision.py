"""Does training in bf16 degrade scores? Scores in both precisions, over seeds.

First ``pydisent sweep beta-vae --data sprites --grid precision=fp32,bf16 --seeds 0,1,2 --metrics
factor-vae mig sap reconstruction --out runs/precision`` on a machine with native bf16, then
``python bench/precision.py [runs/precision]``, which saves the figures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from _harness import environment, write_result
from _tables import grouped, machine, markdown, minutes, spread

from pydisent.training import RunFolder

QUESTION = "precision"
SHARED = ("data", "image_size", "preset", "steps")
# score: its title, digits
SCORES = {
    "factor-vae": ("FactorVAE ↑", 3),
    "mig": ("MIG ↑", 3),
    "sap": ("SAP ↑", 3),
    "reconstruction": ("squared error ↓", 5),
}


def figures(folder: RunFolder) -> dict[str, Any]:
    """The saved figures of a run; ValueError if bf16 was computed in fp32."""
    config, about = folder.read_config(), folder.read_environment()
    asked = config["config"]["precision"]
    if asked == "bf16" and about["precision"] != "bf16":
        raise ValueError(f"{folder.path} must be trained with native bf16")
    return {
        **{name: config[name] for name in ("system", "seed", *SHARED)},
        "precision": asked,
        "scores": {name: entry["score"] for name, entry in (folder.read_scores() or {}).items()},
        "seconds": max(line["seconds"] for line in folder.read_log()),
        "threads": about["threads"],
    }


def table(result: dict) -> list[str]:
    seeds = sorted({run["seed"] for run in result["runs"]})
    lines = [
        f"Scores after training in either precision, preset `{result['preset']}` "
        f"({result['data']} at {result['image_size']} px, {result['steps']:,} updates, seeds "
        f"{', '.join(map(str, seeds))}; {machine(result['environment'])}): mean ± standard "
        "deviation over seeds.",
        "",
    ]
    rows = [
        [
            *key,
            *(spread([run["scores"][name] for run in found], digits)
              for name, (_, digits) in SCORES.items()),
            minutes(found),
        ]
        for key, found in grouped(result["runs"], "system", "precision").items()
    ]  # fmt: skip
    titles = [title for title, _ in SCORES.values()]
    return [*lines, *markdown(["system", "precision", *titles, "minutes"], rows, 2)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path, nargs="?", default=Path("runs/precision"))
    root = parser.parse_args().sweep
    folders = [RunFolder(path) for path in sorted(root.glob("*")) if path.is_dir()]
    runs = [figures(folder) for folder in folders if folder.is_run()]
    if len({tuple(run[name] for name in SHARED) for run in runs}) != 1:
        print(f"{root} must hold runs that share {', '.join(SHARED)}", file=sys.stderr)
        return 1
    shared = {name: runs[0][name] for name in SHARED}
    kept = [{k: v for k, v in run.items() if k not in SHARED} for run in runs]
    print(write_result(QUESTION, {**shared, "runs": kept}, environment()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
