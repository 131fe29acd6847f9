"""Inputs of what is diagnosed, what was found of an operation, and the torch it is known of."""

import pytest
import torch

MEASURED_ON = "2.13"

as_measured = pytest.mark.skipif(
    not torch.__version__.startswith(MEASURED_ON),
    reason=f"what PyTorch has wrong was measured on torch {MEASURED_ON}",
)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def outcomes(diagnosis, operation):
    (row,) = (row for row in diagnosis.table() if row.operation == operation)
    return {verdict.outcome for verdict in row.native.values()}
