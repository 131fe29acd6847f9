"""The files of a comparison of runs."""

import json
from pathlib import Path

from pydisent.evaluation.comparison import Comparison, Estimate, Group, compare
from pydisent.evaluation.scored_run import ScoredRun
from pydisent.reports.files import write_files

__all__ = ["Comparison", "Estimate", "Group", "ScoredRun", "compare", "write_comparison"]


def write_comparison(comparison: Comparison, out: str | Path) -> list[Path]:
    """Write comparison.json, .csv and .md, and tradeoff.png if there is anything to draw.

    Parameters
    ----------
    comparison : Comparison
        What `compare` returned.
    out : path
        The folder, created if missing.
    """
    from pydisent.reports.tradeoff import draw_tradeoff  # needs matplotlib, unlike `compare`

    files = {
        "comparison.json": (json.dumps(comparison.to_json(), indent=2) + "\n").encode(),
        "comparison.csv": comparison.to_csv().encode(),
        "comparison.md": comparison.to_markdown().encode(),
    }
    picture = draw_tradeoff(comparison)
    return write_files(Path(out), files | ({"tradeoff.png": picture} if picture else {}))
