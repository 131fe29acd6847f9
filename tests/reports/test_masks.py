import numpy as np
import pytest
import torch
from _fake_runs import fake_run, tpl_scores
from PIL import Image

from pydisent.evaluation.masks import has_masks
from pydisent.reports import write_masks
from pydisent.reports.masks import draw_masks, overlay


@pytest.mark.parametrize("channels", [1, 3])
def test_an_overlay_is_the_image_where_the_mask_is_largest(channels):
    images = torch.rand(2, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 4, 4)
    masks[:, :2, :2] = 1 / 16
    masks[:, 2, 2] = 1 / 32
    shown = overlay(images, masks)
    assert shown.shape == (2, 3, 4, 4)
    torch.testing.assert_close(shown[:, :, :2, :2], images.expand(2, 3, 4, 4)[:, :, :2, :2])
    dim = overlay(images, torch.zeros(2, 4, 4))
    torch.testing.assert_close(shown[:, :, 3], dim[:, :, 3])
    middle = (images[:, :, 2, 2] + dim[:, :, 2, 2]) / 2  # half the maximum
    torch.testing.assert_close(shown[:, :, 2, 2], middle)
    assert (dim >= 0).all()
    assert (dim <= 1).all()


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_mask_is_seen_on_every_ground(level):
    masks = torch.zeros(1, 8, 8)
    masks[:, :4] = 0.1
    shown = overlay(torch.full((1, 1, 8, 8), level), masks)
    assert (shown[0, :, 0, 0] - shown[0, :, 7, 0]).norm() > 0.3


def test_picture_of_masks(tmp_path):
    run = fake_run(tmp_path, image_shape=(1, 8, 12), masks=True)
    path = write_masks(run, bases=3)
    assert path == tmp_path / "figures" / "masks.png"
    with Image.open(path) as image:
        height = image.height
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert 4 * 56 < height < 4 * 56 + 300  # four codes of 8 x 12 pixels, 7 times enlarged
    for end in ((0, 34, 78), (254, 232, 56)):  # cividis: 0 and the largest
        assert (pixels == end).all(1).any(), end
    assert draw_masks(run, bases=3) == draw_masks(run, bases=3)


def test_rows_of_masks_are_sorted_by_length(tmp_path):
    run = fake_run(tmp_path, masks=True)
    by_code = draw_masks(run)
    run.scores = tpl_scores(0.1, 0.2, 0.3, 0.4)
    assert draw_masks(run) != by_code


def test_a_system_without_masks(tmp_path):
    run = fake_run(tmp_path)
    assert not has_masks(run)
    assert has_masks(fake_run(tmp_path, masks=True))
    with pytest.raises(ValueError, match="spectral-gan has no masks"):
        write_masks(run)
    assert not (tmp_path / "figures").exists()
