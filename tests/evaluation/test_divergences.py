import math

import pytest
import torch
from _fake_runs import fake_run

from pydisent.evaluation.divergences import divergences


def test_divergences_are_of_the_posterior_or_of_the_log(tmp_path):
    run = fake_run(tmp_path)
    mean, deviation = torch.tensor([0.0, 1.0, 2.0, 0.0]), torch.tensor([1.0, 1.0, 0.5, 0.1])
    run.system.posterior = lambda x: (
        mean.expand(len(x), 4), 2 * deviation.log().expand(len(x), 4),
    )  # fmt: skip
    closed = [
        0.5 * (m * m + s * s - 1) - math.log(s) for m, s in zip(mean.tolist(), deviation.tolist())
    ]
    assert divergences(run) == pytest.approx(closed, abs=1e-5)
    del run.system.posterior
    assert divergences(run) is None
    run.log = [{"step": s} | {f"kl/z{i}": s + i for i in range(1, 5)} for s in range(1, 101)]
    assert divergences(run) == [90.5 + i for i in range(1, 5)]  # the last twenty
