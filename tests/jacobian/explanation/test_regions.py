"""What changes most inside regions, against dense linear algebra in float64."""

import pytest
import torch
from _squaring import SIDE, M, aligned, codes, matrix, squaring

from pydisent.jacobian.explanation import analyse


@pytest.mark.parametrize("method", ["exact", "subspace"])
@pytest.mark.parametrize("nullspace", [0, 2])
def test_regions_hold_what_changes_most_inside_them(method, nullspace):
    a, z = matrix(), codes(2)
    soft = torch.zeros(SIDE, SIDE)
    soft[2:5, 1:7] = 0.5
    box = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    box[1:4, 2:8] = 1
    given = {"box": (1, 2, 4, 8), "soft": soft, "bool": box.bool()}
    found = analyse(
        squaring(a), z, k=3, regions=given, region_nullspace=nullspace, method=method,
        tolerance=1e-10, paths=0,
    )  # fmt: skip
    for name, w in (("box", box), ("soft", soft.double()), ("bool", box)):
        for b in range(2):
            jacobian = (a * z[b]).reshape(3, SIDE * SIDE, M)
            inside = (jacobian * w.reshape(1, -1, 1)).flatten(0, 1)
            outside = (jacobian * (1 - w).reshape(1, -1, 1)).flatten(0, 1)
            away = torch.linalg.svd(outside).Vh[:nullspace].T
            keep = torch.eye(M, dtype=torch.float64) - away @ away.T
            _, sizes, right = torch.linalg.svd(inside @ keep, full_matrices=False)
            region = found.regions[name]
            torch.testing.assert_close(region.eigenvalues[b], sizes[:3].square())
            assert aligned(region.eigenvectors[b], right[:3].T, atol=1e-6)
            changed = (inside @ right[:3].T).square().sum(0)
            share = changed / (jacobian.flatten(0, 1) @ right[:3].T).square().sum(0)
            torch.testing.assert_close(region.inside[b], share.float(), atol=1e-5, rtol=1e-5)
    assert found.pictures.regions["soft"].shape == (3, 5, 3, SIDE, SIDE)
