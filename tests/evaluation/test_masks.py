import pytest
import torch
from _fake_runs import fake_run

from pydisent.evaluation.masks import mask_summary
from pydisent.metrics import mask_overlap


def test_figures_of_masks(tmp_path):
    run = fake_run(tmp_path, image_shape=(1, 8, 12), masks=True)
    figures = mask_summary(run)
    assert figures.score == 0
    assert figures.details["centre"][1] == pytest.approx([1 / 4, 1 / 2])
    assert figures == mask_overlap(run.system.code_masks(torch.zeros(64, 4)))
