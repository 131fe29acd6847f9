"""Modules that have moved, under their former names."""

import importlib

import pytest

import pydisent.reports
import pydisent.training  # noqa: F401  (they make the aliases)


@pytest.mark.parametrize(
    ("former", "name", "present"),
    [
        ("pydisent.training.engine", "LocalEngine", "pydisent.sweeps.engine"),
        ("pydisent.training.environment", "environment", "pydisent._environment"),
        ("pydisent.training.perception", "Perception", "pydisent.evaluation.perception"),
        ("pydisent.training.ray_engine", "joined", "pydisent.sweeps.ray_engine"),
        ("pydisent.training.scoring", "score", "pydisent.evaluation.scoring"),
        ("pydisent.training.sweep", "run_sweep", "pydisent.sweeps"),
        ("pydisent.reports.alignment", "alignment_summary", "pydisent.evaluation.alignment"),
        ("pydisent.reports.comparison", "compare", "pydisent.evaluation.comparison"),
        ("pydisent.reports.ranking", "with_udr", "pydisent.evaluation.ranking"),
        ("pydisent.reports.selection", "select", "pydisent.evaluation.selection"),
    ],
)
def test_a_former_name_gives_the_same(former, name, present):
    found = getattr(importlib.import_module(former), name)
    assert found is getattr(importlib.import_module(present), name)
    with pytest.raises(AttributeError):
        _ = importlib.import_module(former).nothing_of_this_name
