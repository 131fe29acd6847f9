import numpy as np
import pytest
import torch
from _pictures import chairs, noise, save

from pydisent.data import FactorDataset, ImageDataset, load


def test_the_grid_follows_the_file_names(tmp_path):
    dataset = load("chairs", chairs(tmp_path), image_size=8, split="all")
    assert isinstance(dataset, FactorDataset)
    assert dataset.name == "chairs"
    assert dataset.factor_names == ("model", "elevation", "azimuth")
    assert dataset.factor_sizes == (5, 2, 3)
    assert dataset.image_shape == (1, 8, 8)
    for number, image in enumerate(dataset.images(range(30))):
        model, elevation, azimuth = dataset.factors([number])[0].tolist()
        # Folders sort the models the other way round than they were made.
        expected = np.ones((8, 8))
        expected[elevation, azimuth] = 10 * (4 - model) / 255
        np.testing.assert_allclose(image[0], expected, atol=1e-6)


def test_four_fifths_of_the_models_are_for_training(tmp_path):
    chairs(tmp_path)
    parts = {s: load("chairs", tmp_path, image_size=8, split=s) for s in (None, "train", "test")}
    assert [p.factor_sizes[0] for p in parts.values()] == [4, 4, 1]
    models = {s: {file.parts[-3] for file in p.files} for s, p in parts.items()}
    assert models["train"] == models[None] == {"5abc", "6abc", "7abc", "8abc"}
    assert models["test"] == {"9abc"}
    with pytest.raises(ValueError, match="must be one of 'train', 'test', 'all' or None, got 'x'"):
        load("chairs", tmp_path, split="x")


def test_one_model_cannot_be_split(tmp_path):
    with pytest.raises(ValueError, match=r"split 'train' is empty: there are 1 models"):
        load("chairs", chairs(tmp_path, models=1))


def test_without_all_views_there_are_no_factors(tmp_path, caplog):
    chairs(tmp_path, models=2)
    next((tmp_path / "8abc" / "renders").glob("*_p030_t023_*")).unlink()
    dataset = load("chairs", tmp_path, split="all")
    assert isinstance(dataset, ImageDataset)
    assert not isinstance(dataset, FactorDataset)
    assert len(dataset) == 11
    assert "8abc" in caplog.text
    assert "has only 5" in caplog.text


def test_masks_are_black_and_white(tmp_path):
    pixels = np.full((64, 64, 3), 255, np.uint8)
    pixels[:, :8] = noise(64, 8)[:, :, :1] // 2  # whole cells
    pixels[:8, 16:20] = 254  # half a cell, nearly white
    pixels[8:16, 16:19] = 0  # less than half
    save(tmp_path / "a" / "renders" / "image_001_p020_t011_r096.png", pixels)
    dataset = load("chair-masks", tmp_path, image_size=8, split="all")
    assert dataset.name == "chair-masks"
    expected = torch.zeros(8, 8)
    expected[:, 0] = 1
    expected[0, 2] = 1
    assert torch.equal(dataset.images([0])[0, 0], expected)


def test_files_with_other_names_and_views_given_twice_are_named(tmp_path):
    chairs(tmp_path)
    renders = tmp_path / "7abc" / "renders"
    twice = save(renders / "image_063_p020_t011_r096.png", noise(8, 8))
    with pytest.raises(ValueError, match=r"image_063_.*has the view of 'image_001_p020_t011_"):
        load("chairs", tmp_path)
    twice.rename(renders / "render1.png")
    with pytest.raises(ValueError, match=r"render1\.png' must be named image_NNN_pPPP"):
        load("chairs", tmp_path)


def test_a_folder_without_renders(tmp_path):
    with pytest.raises(ValueError, match="has no renders; expected the folder rendered_chairs"):
        load("chairs", tmp_path)


def test_a_file_is_no_folder(tmp_path):
    chairs(tmp_path / "chairs")
    (tmp_path / "chairs" / "other").mkdir()
    file = tmp_path / "chairs" / "other" / "renders"
    file.touch()
    for path, words in ((file, "renders"), (tmp_path / "chairs", "other/renders")):
        with pytest.raises(ValueError, match=rf"{words}' is a file; expected the folder rendered"):
            load("chairs", path)
