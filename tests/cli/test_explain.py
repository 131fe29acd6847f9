import numpy as np
import pytest
import torch
from _command_line import error_line

from pydisent.cli import main
from pydisent.jacobian import eigenvectors
from pydisent.training import open_run


def test_explain(digits_run, tmp_path, capsys):
    out = tmp_path / "page"
    command = ["explain", str(digits_run), "--out", str(out)]
    options = "--codes 5 --k 2 --points 1 --paths 1 --region a=0,0,4,4 --region b=2,2,6,8 --seed 7"
    assert main([*command, *options.split()]) == 0
    assert capsys.readouterr().out.split("\n")[-2] == f"wrote {out / 'index.html'}"
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "spectral-gan on digits" in page
    system = open_run(digits_run).system
    with np.load(out / "arrays.npz") as arrays:
        codes = system.sample_code(5, torch.Generator().manual_seed(7))
        np.testing.assert_array_equal(arrays["codes"], codes.numpy())
        values, _ = eigenvectors(system.decode, codes)
        np.testing.assert_allclose(arrays["eigenvalues"], values.numpy(), rtol=1e-3, atol=1e-6)
        assert arrays["regions.a.mask"].sum() == 16
        assert arrays["regions.b.mask"].sum() == 24
        assert arrays["average.vectors"].shape == (2, codes.shape[1])


@pytest.mark.parametrize(("options", "says"), [
    ("--region a=1,2", "region must be NAME=TOP,LEFT,BOTTOM,RIGHT, got a=1,2"),
    ("--region a=0,0,4,400", "regions['a'] must be a box"),
    ("--region a=x,2,3,4", "region must be NAME=TOP,LEFT,BOTTOM,RIGHT, got a=x,2,3,4"),
    ("--region a", "region must be KEY=VALUE"),
    ("--k 1000", "k must be at most m ="),
    ("--time-limit 0", "time_limit must be"),
    ("--codes 0", "codes must be an integer >= 1, got 0"),
    ("--memory-limit -1", "memory_limit must be a finite number > 0, got -1.0"),
    ("--region-nullspace 2", "region_nullspace must be 0 without regions, got 2"),
])  # fmt: skip
def test_bad_options_are_refused(digits_run, capsys, options, says):
    assert main(["explain", str(digits_run), *options.split()]) == 2
    assert says in error_line(capsys)


def test_what_is_left_out_is_said(digits_run, tmp_path, capsys):
    command = ["explain", str(digits_run), "--out", str(tmp_path), "--codes", "600"]
    assert main([*command, "--time-limit", "1e-9"]) == 0
    assert "left out for lack of time: " in capsys.readouterr().out
