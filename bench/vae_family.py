"""Which regularizer disentangles, and what does it cost in reconstruction? The VAE family, scored.

First ``pydisent sweep vae,beta-vae,annealed-vae,dip-vae-1,dip-vae-2,factor-vae,beta-tcvae
--preset quick --out runs/vae-family``, which trains and scores them on rendered sprites, then
``python bench/vae_family.py [runs/vae-family]``, which keeps the figures and the picture.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from _harness import environment, write_result

from pydisent import systems
from pydisent.reports import compare, write_comparison
from pydisent.training import RunFolder

SHARED = ("data", "image_size", "preset", "steps")


def figures(folder: RunFolder) -> dict[str, Any]:
    """The scores of one run, without their details, and the settings that made them."""
    config, log = folder.read_config(), folder.read_log()
    found = folder.read_scores() or {}
    preset = systems.preset("vae", config["preset"], config["data"]).config
    common = {name: value for name, _, value in systems.describe(preset)}
    return {
        **{name: config[name] for name in ("system", "seed", *SHARED)},
        "settings": {k: v for k, v in config["config"].items() if common.get(k, v is None) != v},
        "scores": {name: entry["score"] for name, entry in found.items()},
        "seconds": max(line["seconds"] for line in log),
        "threads": folder.read_environment()["threads"],
    }


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/vae-family")
    folders = [RunFolder(path) for path in sorted(root.iterdir()) if path.is_dir()]
    runs = [figures(folder) for folder in folders if folder.is_run()]
    if not runs:
        print(f"{root} holds no runs", file=sys.stderr)
        return 1
    for name in SHARED:
        if len({run[name] for run in runs}) > 1:
            print(f"the runs of {root} differ in {name}", file=sys.stderr)
            return 1
    shared = {name: runs[0][name] for name in SHARED}
    kept = [{k: v for k, v in run.items() if k not in SHARED} for run in runs]
    written = write_result("vae_family", {**shared, "runs": kept}, environment())
    with tempfile.TemporaryDirectory() as scratch:
        write_comparison(compare([root]), Path(scratch))
        shutil.copy(Path(scratch) / "tradeoff.png", written.with_suffix(".png"))
    print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
