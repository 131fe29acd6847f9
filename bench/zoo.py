"""Which trained models come with the package? Those of runs that were chosen, put in its zoo.

``python bench/zoo.py runs/mine ...`` writes each run's weights, configuration and card into
``pydisent/zoo/SYSTEM/DATA``; all together may be 8 MB.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pydisent
from pydisent import metrics
from pydisent.systems.pretrained import CARD
from pydisent.training import Run, open_run
from pydisent.training.pretrained import save_pretrained

ZOO = Path(pydisent.__file__).parent / "zoo"
LIMIT = 8e6  # bytes
IMAGES = 2000
CHEAP = f"mig of {IMAGES} images"


def cheap_score(run: Run) -> float:
    """The MIG of few images, which a test can hold the weights to."""
    samples = metrics.sample_codes(run.system.encode, run.dataset, train=IMAGES, test=1)
    return float(metrics.mig(*samples[:2]).score)


def put(path: Path) -> str:
    """Put a run's model into the zoo; return its name."""
    run = open_run(path)
    name = f"{run.plan.system}/{run.plan.data}"
    run.scores = {**(run.scores or {}), CHEAP: {"score": cheap_score(run)}}
    save_pretrained(run, ZOO / name, license="apache-2.0", source=name)
    card = ZOO / name / CARD
    card.write_text(card.read_text().replace("pydisent.from_pretrained(", "pydisent.load("))
    return name


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="*")
    for path in parser.parse_args(argv).runs:
        print(f"{path} -> {put(path)}")
    size = sum(file.stat().st_size for file in ZOO.glob("*/*/*"))
    print(f"{size / 1e6:.1f} MB of {LIMIT / 1e6:.0f}")
    return int(size > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
