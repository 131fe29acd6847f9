import numpy as np
import pytest
import torch

from pydisent.metrics import dci, infomec, irs, mcc, mig, modularity, sap

METRICS = [mig, modularity, sap, dci, irs, mcc, infomec]
CODES = np.random.default_rng(0).normal(size=(60, 3))
FACTORS = np.random.default_rng(1).integers(0, 3, size=(60, 2))


def changed(array, row, column, value):
    array = np.array(array, float if isinstance(value, float) else None)
    array[row, column] = value
    return array


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("codes", "factors", "error", "words"),
    [
        (
            changed(CODES, 7, 2, np.nan),
            FACTORS,
            ValueError,
            "codes must be finite, got nan in row 7",
        ),
        (changed(CODES, 8, 1, np.inf), FACTORS, ValueError, "got inf in row 8, column 1"),
        (
            changed(CODES, 8, 1, -1e39),
            FACTORS,
            ValueError,
            r"within ±3.4e\+38, float32's range, got -1e\+39 in row 8, column 1",
        ),
        (changed(CODES, 3, 0, 1.7e308), FACTORS, ValueError, "float32's range"),
        (CODES + 1j, FACTORS, TypeError, "codes must be real numbers, got complex128"),
        (torch.tensor(CODES + 1j), FACTORS, TypeError, "codes must be real numbers, got torch.c"),
        (CODES[:, 0], FACTORS, ValueError, r"codes must be \(N, d\).*got \(60,\)"),
        (CODES[:0], FACTORS[:0], ValueError, r"codes must be \(N, d\).*got \(0, 3\)"),
        (CODES.astype(str), FACTORS, TypeError, "codes must be real numbers"),
        (CODES, FACTORS[:59], ValueError, "factors must have one row per code, 60, got 59"),
        (CODES, FACTORS[:, 0], ValueError, r"factors must be \(N, f\).*got \(60,\)"),
        (CODES, FACTORS / 1.0, TypeError, r"factors must be integers, got float64; .astype"),
        (CODES, FACTORS * [1, 0], ValueError, "column 1 is 0 in all 60 rows"),
    ],
)
def test_malformed_tables(metric, codes, factors, error, words):
    with pytest.raises(error, match=words):
        metric(codes, factors)


@pytest.mark.parametrize("metric", METRICS)
def test_codes_of_the_whole_range_keep_their_score(metric):
    """A power of two changes no digit; only SAP's two limits on variances are absolute."""
    scaled = metric(CODES * 2.0**125, FACTORS)
    assert scaled.score == pytest.approx(metric(CODES, FACTORS).score, abs=1e-9)


@pytest.mark.parametrize("metric", [sap, dci])
@pytest.mark.parametrize(
    ("test_codes", "test_factors", "words"),
    [
        (CODES, None, "test_factors must be given with test_codes, got None"),
        (None, FACTORS, "test_codes must be given with test_factors, got None"),
        (CODES[:, :2], FACTORS, "test_codes must have 3 columns, as in training, got 2"),
        (CODES, FACTORS[:, :1], "test_factors must have 2 columns, as in training, got 1"),
        (CODES, FACTORS[:9], "test_factors must have one row per code, 60, got 9"),
        (changed(CODES, 0, 0, -np.inf), FACTORS, "test_codes must be finite, got -inf in row 0"),
    ],
)
def test_malformed_test_tables(metric, test_codes, test_factors, words):
    with pytest.raises(ValueError, match=words):
        metric(CODES, FACTORS, test_codes, test_factors)


@pytest.mark.parametrize("metric", [mig, modularity, irs])
def test_fewer_samples_than_bins(metric):
    with pytest.raises(ValueError, match="at least as many rows as bins, 20, got 19"):
        metric(CODES[:19], FACTORS[:19])


@pytest.mark.parametrize("metric", [mig, modularity, irs])
def test_tensors_of_any_precision_and_lists(metric):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        codes = torch.from_numpy(CODES).to(dtype)
        result = metric(codes.requires_grad_(), torch.from_numpy(FACTORS))
        assert result == metric(codes.detach().double().numpy().tolist(), FACTORS.tolist())


@pytest.mark.parametrize("metric", METRICS)
def test_details_are_ready_for_json(metric):
    import json

    result = metric(CODES, FACTORS)
    assert json.loads(json.dumps(result.details)) == result.details
    assert isinstance(result.score, float)


@pytest.mark.parametrize("metric", METRICS)
def test_booleans_are_zeros_and_ones(metric):
    """As attributes are; the factors of arrays, tensors, lists, and of a test table."""
    truths = FACTORS > 0
    expected = metric(CODES, truths.astype(np.int64))
    for given in (truths, torch.from_numpy(truths), truths.tolist(), np.asfortranarray(truths)):
        assert metric(CODES, given).score == expected.score
    if metric in (sap, dci):
        held_out = {"test_codes": CODES[::-1].copy()}
        by_bools = metric(CODES, truths, **held_out, test_factors=truths)
        by_numbers = metric(CODES, truths * 1, **held_out, test_factors=truths * 1)
        assert by_bools.score == by_numbers.score
    with pytest.raises(ValueError, match="column 0 is 1 in all 60 rows"):
        metric(CODES, truths | True)
