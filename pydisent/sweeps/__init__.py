"""Sweeps: grids of runs, trained and scored in parallel by processes or on a Ray cluster."""

from pydisent.sweeps.manifest import FORMAT, MANIFEST
from pydisent.sweeps.plan import Grid, SweepPlan, common_data, slug
from pydisent.sweeps.sweep import SweepInterrupted, job, run_sweep

__all__ = [
    "FORMAT",
    "MANIFEST",
    "Grid",
    "SweepInterrupted",
    "SweepPlan",
    "common_data",
    "job",
    "run_sweep",
    "slug",
]
