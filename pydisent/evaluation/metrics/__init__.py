"""Scoring of runs: one registered function for each metric of `pydisent.metrics`."""

from importlib import import_module

# The order in which metrics are listed, scored and printed.
for _module in ("alignment", "factors", "reconstruction", "edits", "masks", "perception"):
    import_module(f"{__name__}.{_module}")
