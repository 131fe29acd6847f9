import numpy as np
import pytest
import torch

from pydisent.metrics import (
    EncodedDataset,
    MetricResult,
    _encode,
    encode_dataset,
    factor_vae_score,
)
from pydisent.metrics._encode import CodeTable


@pytest.mark.parametrize("batch_size", [1, 7, 720, 5000])
def test_all_images_in_order(small_grid, encoders, batch_size):
    codes = encode_dataset(encoders.perfect, small_grid, batch_size=batch_size)
    sizes = torch.tensor(small_grid.factor_sizes)
    torch.testing.assert_close(codes, (small_grid.factors(range(720)) / (sizes - 1)).float())
    assert max(len(read) for read in small_grid.reads) <= batch_size


def test_chosen_images(small_grid, encoders):
    every = encode_dataset(encoders.perfect, small_grid)
    chosen = [5, 5, 719, 0]
    assert torch.equal(encode_dataset(encoders.perfect, small_grid, chosen), every[chosen])


def test_no_gradient_is_kept_and_precision_is(small_grid):
    layer = torch.nn.Linear(5, 3)
    codes = encode_dataset(lambda images: layer(images.flatten(1)), small_grid, [1])
    assert not codes.requires_grad
    for given, kept in ((torch.float64, torch.float64), (torch.float16, torch.float32)):
        codes = encode_dataset(lambda x, t=given: x.flatten(1).to(t), small_grid, [1])
        assert codes.dtype == kept


def test_images_are_put_on_the_device(small_grid):
    devices = []

    def encode(images):
        devices.append(images.device.type)
        return torch.ones(len(images), 2)

    assert encode_dataset(encode, small_grid, [1], device="meta").device.type == "cpu"
    assert devices == ["meta"]


@pytest.mark.parametrize(
    ("encode", "error", "words"),
    [
        (lambda x: x, ValueError, r"encode must return codes \(N, d\).*\(4, 1, 1, 5\)"),
        (lambda x: x.flatten(1)[:2], ValueError, r"for N = 4 images, got \(2, 5\)"),
        (lambda x: x.flatten(1)[:, :0], ValueError, r"got \(4, 0\)"),
        (lambda x: x.flatten(1) / 0, ValueError, "encode must return finite codes"),
        (lambda x: x.flatten(1).double() + 1e39, ValueError, r"within ±3.4e\+38, got ±1e\+39"),
        (lambda x: x.flatten(1) + 1j, TypeError, "encode must return real codes, got torch.compl"),
        (lambda x: x.numpy(), TypeError, "encode must return a Tensor, got ndarray"),
    ],
)
def test_bad_encoders(small_grid, encode, error, words):
    with pytest.raises(error, match=words):
        encode_dataset(encode, small_grid, [0, 1, 2, 3])


def test_bad_arguments(small_grid, encoders):
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got 0"):
        encode_dataset(encoders.perfect, small_grid, batch_size=0)
    with pytest.raises(ValueError, match="indices must name at least one image"):
        encode_dataset(encoders.perfect, small_grid, [])
    with pytest.raises(ValueError, match="indices must be in"):
        encode_dataset(encoders.perfect, small_grid, [720])


@pytest.mark.parametrize("dense", [720, 719])
def test_a_code_table_encodes_each_image_drawn_once(small_grid, encoders, dense, monkeypatch):
    monkeypatch.setattr(_encode, "DENSE", dense)  # the grid is just small enough, or too large
    draws = np.array([[3, 3, 700], [5, 3, 11]])
    table = CodeTable(
        encoders.perfect, small_grid, draws, np.array([700, 8]), batch_size=2, device=None
    )
    assert sorted(np.concatenate(small_grid.reads)) == [3, 5, 8, 11, 700]
    assert len(table) == 5
    every = encode_dataset(encoders.perfect, small_grid).numpy()
    np.testing.assert_array_equal(table[draws], every[draws])
    np.testing.assert_array_equal(table[np.array([8])], every[[8]])


def test_a_result_is_its_score():
    assert float(MetricResult(0.25, {"a": 1})) == 0.25


@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy])
def test_known_codes_are_looked_up_by_row(small_grid, of):
    factors = small_grid.factors(range(720)).numpy()
    codes = EncodedDataset(small_grid, of(factors / 1.0))
    assert torch.equal(codes.codes([3, 700]), torch.from_numpy(factors[[3, 700]] / 1.0))
    assert factor_vae_score(codes.encode, codes, train_votes=500, eval_votes=200).score == 1
    some = EncodedDataset(small_grid, of(factors[[2, 7]] / 1.0), np.array([2, 7]))
    assert torch.equal(some.codes([7]), torch.from_numpy(factors[[7]] / 1.0))


@pytest.mark.parametrize(
    ("codes", "error", "words"),
    [
        (np.zeros((5, 2)), ValueError, r"\(n, d\), n = 720 encoded images, got \(5, 2\)"),
        (np.zeros(720), ValueError, r"\(n, d\), n = 720 encoded images, got \(720,\)"),
        ([[0.0]] * 720, TypeError, r"a tensor or array \(n, d\), got list"),
    ],
)
def test_codes_that_do_not_fit_the_images_are_refused(small_grid, codes, error, words):
    with pytest.raises(error, match=f"codes must be {words}"):
        EncodedDataset(small_grid, codes)
