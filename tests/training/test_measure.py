"""Figures that are measured while a system is trained."""

import random
import signal

import numpy as np
import pytest
import torch

from pydisent.evaluation.during_training import figures_of
from pydisent.evaluation.scoring import score
from pydisent.systems import BetaVAE
from pydisent.training import Interrupted, NonFiniteError, Plan, RunFolder, open_run, train


def _train(path, system="beta-vae", **options):
    plan = Plan.from_preset(system, preset="smoke", steps=6)
    train(plan, path, accelerator="cpu", progress=False, threads=1, **options)
    return plan


def _weights(path):
    return open_run(path).system.state_dict()


def _measured(path):
    return [line for line in RunFolder(path).read_log() if "score/figure" in line]


def test_a_run_is_the_same_with_and_without_figures(tmp_path):
    def draws_everything(system, step):
        assert not system.training
        torch.rand(3), np.random.random(3), random.random()  # noqa: NPY002
        return {"figure": float(step)}

    _train(tmp_path / "plain")
    _train(tmp_path / "measured", measure=draws_everything, measure_every=2)
    plain, measured = _weights(tmp_path / "plain"), _weights(tmp_path / "measured")
    assert all(torch.equal(plain[name], measured[name]) for name in plain)
    assert [(line["step"], line["score/figure"]) for line in _measured(tmp_path / "measured")] == [
        (2, 2.0), (4, 4.0), (6, 6.0),
    ]  # fmt: skip
    assert not _measured(tmp_path / "plain")


def test_a_run_that_ends_while_it_measures_measures_again(tmp_path):
    def ends(system, step):
        if step == 5:  # also a step at which a checkpoint is due
            raise MemoryError
        return {"figure": float(step)}

    with pytest.raises(MemoryError):
        _train(tmp_path / "run", measure=ends, measure_every=1)
    figure = {"measure": lambda system, step: {"figure": float(step)}, "measure_every": 1}
    _train(tmp_path / "run", resume=True, **figure)
    assert [line["step"] for line in _measured(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def test_weights_that_diverged_are_not_measured(tmp_path, monkeypatch):
    original = BetaVAE.step

    def step(self, *batch):
        logs = original(self, *batch)
        next(self.decoder.parameters()).data.fill_(float("nan"))
        return logs

    monkeypatch.setattr(BetaVAE, "step", step)
    with pytest.raises(NonFiniteError, match=r"weight 'decoder.* is not finite after step 1"):
        _train(tmp_path / "run", measure=lambda system, step: 1 / 0, measure_every=1)


def test_parts_in_eval_mode_stay_in_it(tmp_path, monkeypatch):
    modes = []
    original = BetaVAE.step

    def step(self, *batch):
        modes.append(self.encoder.training)
        self.encoder.eval()  # as for a part that is not trained
        return original(self, *batch)

    monkeypatch.setattr(BetaVAE, "step", step)
    _train(tmp_path / "run", measure=lambda system, step: {}, measure_every=1)
    assert modes == [True] + 5 * [False]


def test_a_figure_is_the_score_of_the_checkpoint(tmp_path):
    plan = Plan.from_preset("beta-vae", preset="smoke", steps=6)
    keys = ("factor-vae", "factor-vae/jeon")
    measure = figures_of(plan, RunFolder(tmp_path / "run"), keys)
    _train(tmp_path / "run", measure=measure, measure_every=6)
    expected = score(open_run(tmp_path / "run"), ["factor-vae"])["factor-vae"]
    (line,) = [
        line for line in RunFolder(tmp_path / "run").read_log() if "score/factor-vae" in line
    ]
    assert line["score/factor-vae"] == expected["score"]
    assert line["score/factor-vae/jeon"] == expected["details"]["jeon"]


def test_what_cannot_encode_yet_has_no_figures(tmp_path):
    plan = Plan.from_preset("spectral-gan", preset="smoke", steps=4)
    measure = figures_of(plan, RunFolder(tmp_path), ["mig"])
    train(
        plan, tmp_path / "run", accelerator="cpu", progress=False, measure=measure, measure_every=4
    )
    found = [line for line in RunFolder(tmp_path / "run").read_log() if "score/mig" in line]
    assert {line["phase"] for line in found} == {"encoder"}


@pytest.mark.parametrize(
    "options",
    [
        {"measure_every": 3},
        {"measure": lambda system, step: {}},
        {"measure": lambda system, step: {}, "measure_every": 0},
    ],
)
def test_one_without_the_other_is_refused(tmp_path, options):
    with pytest.raises(ValueError, match="measure_every must be an integer >= 1, with measure"):
        _train(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("keys", "words"), [((), "metrics must be"), (("mgi",), "got 'mgi'")])
def test_wrong_metrics_are_refused(tmp_path, keys, words):
    with pytest.raises(ValueError, match=words):
        figures_of(Plan.from_preset("beta-vae", preset="smoke"), RunFolder(tmp_path), keys)


def test_a_signal_in_the_last_update_is_not_lost(tmp_path):
    def interrupts(system, step):
        signal.raise_signal(signal.SIGTERM)
        return {}

    with pytest.raises(Interrupted, match="stopped by SIGTERM at step 6; saved"):
        _train(tmp_path / "run", measure=interrupts, measure_every=6)
    assert open_run(tmp_path / "run").step == 6
    _train(tmp_path / "run", resume=True)
