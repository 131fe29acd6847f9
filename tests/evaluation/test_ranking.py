import json

import numpy as np
import pytest
import torch

import pydisent.metrics
from pydisent.evaluation import compare, ranking
from pydisent.evaluation.ranking import with_udr

pytestmark = pytest.mark.skipif(not hasattr(pydisent.metrics, "udr"), reason="needs metrics.udr")


class Encoder:
    """Codes are four pixels, mixed by a matrix; one of them is not informative if asked for."""

    def __init__(self, matrix, dead=False):
        self.matrix, self.dead, self.device = matrix, dead, torch.device("cpu")

    def posterior(self, x):
        mu = (x.flatten(1)[:, [100, 400, 500, 900]] - 0.5) @ self.matrix.T
        logvar = torch.full_like(mu, -4.0)
        if self.dead:
            mu[:, 0], logvar[:, 0] = 1e-3 * mu[:, 0], 0.0
        return mu, logvar


class Noise:
    def __len__(self):
        return 5000

    def images(self, indices):
        draw = np.random.default_rng(0).random((5000, 1, 32, 32), np.float32)
        return torch.from_numpy(draw[np.asarray(indices)])


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Write runs of one group with these encoders, as `open_run` would open them."""
    from dataclasses import dataclass

    @dataclass
    class Opened:
        system: object
        dataset: object

    def write(*encoders):
        for seed, _ in enumerate(encoders):
            folder = tmp_path / str(seed)
            folder.mkdir()
            plan = {"system": "vae", "data": "noise", "seed": seed, "config": {}}
            plan |= {"image_size": 32, "steps": 1}
            (folder / "config.json").write_text(json.dumps(plan))
        noise = Noise()
        by_path = {tmp_path / str(seed): Opened(e, noise) for seed, e in enumerate(encoders)}
        monkeypatch.setattr(ranking, "open_run", lambda path, device: by_path[path])
        return compare(sorted(by_path))

    return write


def rotation(seed):
    return torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed)))[0]


def test_equal_codes_agree_and_rotated_ones_do_not(opened):
    permuted = torch.eye(4)[[2, 0, 3, 1]] * torch.tensor([[1.0], [-2.0], [3.0], [0.5]])
    comparison = with_udr(
        opened(
            Encoder(torch.eye(4)), Encoder(permuted), Encoder(torch.eye(4)), Encoder(rotation(1))
        )
    )
    aligned, flipped, same, turned = (run.scores["udr"] for run in comparison.groups[0].runs)
    # The lasso takes 0.1 off a weight of 1, and (0.9)^2 / 0.9 = 0.9 is left of a perfect match.
    assert min(aligned, flipped, same) > 0.85
    assert turned < 0.7
    assert comparison.metrics == ("udr",)
    assert comparison.groups[0].estimate("udr").n == 4
    assert not [remark for remark in comparison.remarks() if "udr" in remark]


def test_codes_at_the_prior_do_not_count(opened):
    comparison = with_udr(
        opened(Encoder(torch.eye(4), dead=True), Encoder(torch.eye(4), dead=True))
    )
    assert min(run.scores["udr"] for run in comparison.groups[0].runs) > 0.85


def test_one_run_or_no_posterior_gives_no_score(opened, tmp_path):
    plain = Encoder(torch.eye(4))
    single = compare([opened(plain, object()).groups[0].runs[0].path])
    for comparison in (single, compare(sorted(tmp_path.iterdir()))):
        assert "udr" not in with_udr(comparison).metrics
    with pytest.raises(ValueError, match="images must be an integer >= 2, got 1"):
        with_udr(single, 1)
