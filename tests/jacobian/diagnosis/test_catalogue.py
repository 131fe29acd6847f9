"""PyTorch's operators, one by one, are diagnosed as the committed results have it."""

import os

import pytest
import torch

from pydisent.jacobian.diagnosis import catalogue


def test_the_catalogue_is_as_committed(bench):
    """Of what is not right all; of what is, each tenth, and all with PYDISENT_WHOLE=1."""
    derivatives = bench("derivatives")
    committed = {r["torch"].partition("+")[0]: r for r in derivatives.committed()}
    version = torch.__version__.partition("+")[0]
    if version not in committed:
        pytest.skip(f"python bench/derivatives.py was not run on torch {version}")
    rows = committed[version]["operations"]
    assert not derivatives.failures(rows)
    off = [name for name, row in rows.items() if set(row["native"].values()) != {"right"}]
    share = 1 if os.environ.get("PYDISENT_WHOLE") == "1" else 10
    chosen = {*off, *list(rows)[::share]}
    found = derivatives.measured(catalogue([name for name in rows if name in chosen]))

    def outcomes(row):
        return {
            part: {
                k: "wrong" if derivatives.is_wrong(told) else told for k, told in row[part].items()
            }
            for part in ("native", "left")
        } | {"engine": row["engine"], "means": row["means"], "reports": row["reports"]}

    for name, row in found.items():
        assert outcomes(row) == outcomes(rows[name]), (
            f"{name}: PyTorch has changed, or pydisent; run python bench/derivatives.py"
        )


def test_failures_are_told(bench):
    derivatives = bench("derivatives")
    good = {"left": {}, "engine": "right"}
    assert derivatives.failures({"sin": good}) == []
    assert len(derivatives.failures({"sin": good | {"left": {"forward": 0.1}}})) == 1
    assert len(derivatives.failures({"sin": good | {"engine": "wrong"}})) == 1
