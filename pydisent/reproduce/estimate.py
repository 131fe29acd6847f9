"""Rough, unmeasured estimates of an entry's training time at the scale of the paper."""

from pathlib import Path

from pydisent.reproduce.entry import Case, Entry, Row
from pydisent.reproduce.runs import Scale
from pydisent.training import Plan

# Milliseconds per update on a current data-centre GPU, by order of magnitude for networks of this
# size; for ps-sc, per megapixel of a batch.
_UPDATE = {
    "spectral-gan": 60.0,
    "gan": 10.0,
    "infogan": 12.0,
    "ib-gan": 15.0,
    "attribute-ae": 80.0,
    "jacobian-ae": 3.0,
}
_PS_SC = 1000.0
_VAE = 6.0


def gpu_hours(entry: Entry) -> float:
    """Return the estimated hours of all runs and seeds of an entry on one GPU."""
    hours = 0.0
    for case in entry.cases:
        by_row = {row.name: _hours(case, row) for row in case.rows}
        hours += sum(own - by_row.get(row.begins_as or "", 0) for own, row in
                     zip(by_row.values(), case.rows))  # fmt: skip
    return entry.seeds * hours


def _hours(case: Case, row: Row) -> float:
    plan = Scale("paper", data_paths={case.data: Path()}).plan(case, row, 0)
    return _updates(plan) * _milliseconds(plan) / 3.6e6


def _updates(plan: Plan) -> int:
    c = plan.config
    if plan.system == "jacobian-ae":
        return plan.steps * (1 + c.nuisance)
    if plan.system == "attribute-ae":
        return plan.steps + c.cycle_steps + c.students * c.student_steps
    return plan.steps


def _milliseconds(plan: Plan) -> float:
    if plan.system == "ps-sc":
        return _PS_SC * plan.config.batch_size * (plan.image_size or 64) ** 2 / 1e6
    return _UPDATE.get(plan.system, _VAE)
