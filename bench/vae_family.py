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

from _harness import environment, write_result
from _runs import figures, together
from _tables import markdown

from pydisent.reports import compare, write_comparison
from pydisent.training import RunFolder

CAPTIONS = {"vae_family.png": "Scores of the VAE family against the reconstruction error"}
# score: its title, digits
SCORES = {
    "reconstruction": ("squared error a pixel", 4),
    "mig": ("MIG", 2),
    "sap": ("SAP", 2),
    "dci": ("DCI", 2),
    "factor-vae": ("FactorVAE", 2),
    "z-diff": ("z-diff", 2),
    "modularity": ("modularity", 2),
}


def table(result: dict) -> list[str]:
    lines = [
        f"The VAE family, preset `{result['preset']}` ({result['data']} at "
        f"{result['image_size']} px, {result['steps']:,} updates):",
        "",
    ]
    rows = [
        [
            run["system"],
            str(run["seed"]),
            *(f"{run['scores'][name]:.{digits}f}" for name, (_, digits) in SCORES.items()),
        ]
        for run in result["runs"]
    ]
    return [*lines, *markdown(["system", "seed", *(title for title, _ in SCORES.values())], rows)]


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/vae-family")
    folders = [RunFolder(path) for path in sorted(root.iterdir()) if path.is_dir()]
    runs = [figures(folder, "vae") for folder in folders if folder.is_run()]
    if not runs:
        print(f"{root} holds no runs", file=sys.stderr)
        return 1
    written = write_result("vae_family", together(runs), environment())
    with tempfile.TemporaryDirectory() as scratch:
        write_comparison(compare([root]), Path(scratch))
        shutil.copy(Path(scratch) / "tradeoff.png", written.with_suffix(".png"))
    print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
