"""Bad arguments of ``analyse`` are refused by name."""

import math

import pytest
import torch
from _squaring import M, codes, matrix, squaring

from pydisent.jacobian.explanation import analyse


@pytest.mark.parametrize(("arguments", "error", "says"), [
    ({"k": 11}, ValueError, "k must be at most m = 10, got 11"),
    ({"k": 0}, ValueError, "k must be an integer >= 1, got 0"),
    ({"k": 2.0}, TypeError, "k must be an integer"),
    ({"points": 0}, ValueError, "points must be"),
    ({"paths": -1}, ValueError, "paths must be"),
    ({"length": 0.0}, ValueError, "length must be"),
    ({"length": math.inf}, ValueError, "length must be"),
    ({"value_range": (1, 0)}, ValueError, "value_range must be"),
    ({"value_range": 1.0}, TypeError, "value_range must be two numbers"),
    ({"picture_size": 1}, ValueError, "picture_size must be"),
    ({"method": "quick"}, ValueError, "method must be one of 'auto', 'exact', 'subspace'"),
    ({"tolerance": 1.0}, ValueError, "tolerance must be"),
    ({"time_limit": 0}, ValueError, "time_limit must be"),
    ({"memory_limit": 0}, ValueError, "memory_limit must be"),
    ({"region_nullspace": 8, "regions": {"a": (0, 0, 1, 1)}}, ValueError, "region_nullspace must"),
    ({"region_nullspace": 2}, ValueError, "region_nullspace must be 0 without regions, got 2"),
    ({"regions": [1]}, TypeError, "regions must map names"),
    ({"regions": {"a": (0, 0, 9, 2)}}, ValueError, r"regions\['a'\] must be a box"),
    ({"regions": {"a": (2, 0, 2, 2)}}, ValueError, r"regions\['a'\] must be a box"),
    ({"regions": {"a": "eyes"}}, TypeError, r"regions\['a'\] must be a mask \(8, 8\) or a box"),
    ({"regions": {"a": torch.ones(8, 9)}}, ValueError, r"regions\['a'\] must be \(8, 8\), got"),
    ({"regions": {"a": torch.zeros(8, 8)}}, ValueError, r"not 0 everywhere"),
    ({"regions": {"a": 2 * torch.ones(8, 8)}}, ValueError, r"in \[0, 1\]"),
    ({"decode": 3}, TypeError, "decode must be callable"),
    ({"fn_kwargs": 3}, TypeError, "fn_kwargs must map names"),
    ({"names": ["a"]}, ValueError, "names must be 10 names, one per coordinate, got 1"),
    ({"seed": -1}, ValueError, "seed must be an integer >= 0, got -1"),
    ({"seed": "a"}, TypeError, "seed must be an integer"),
    ({"coupled": "no"}, ValueError, "coupled must be one of"),
    ({"z": torch.zeros(2, 3, dtype=torch.long)}, TypeError, "z must be a floating-point"),
    ({"z": torch.zeros(5)}, ValueError, r"z must have shape \(B, \*latent\)"),
    ({"z": torch.full((2, M), math.nan)}, ValueError, "z must be finite"),
    ({"z": "codes"}, TypeError, "z must be"),
])  # fmt: skip
def test_bad_arguments_are_refused(arguments, error, says):
    asked = {"z": codes(), **arguments}
    with pytest.raises(error, match=says):
        analyse(squaring(matrix()), asked.pop("z"), **asked)
