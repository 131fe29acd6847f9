"""The directions that ``analyse`` finds, against dense linear algebra in float64."""

import pytest
import torch
from _squaring import SIDE, M, aligned, codes, matrix, squaring

from pydisent.jacobian.explanation import analyse


@pytest.mark.parametrize("method", ["exact", "subspace"])
def test_directions_are_those_of_dense_jacobians(method):
    a, z = matrix(40), codes(3, 40)
    found = analyse(squaring(a), z, k=4, method=method, tolerance=1e-9, paths=0)
    jacobians = a * z[:, None]
    _, sizes, right = torch.linalg.svd(jacobians, full_matrices=False)
    assert found.method == method
    torch.testing.assert_close(found.eigenvalues[:, :4], sizes[:, :4].square())
    assert found.eigenvalues.shape == (3, 40 if method == "exact" else 4)
    assert aligned(found.eigenvectors, right[:, :4].mT)
    assert found.residuals.max() < 1e-8
    traces = jacobians.square().sum((1, 2))
    assert ((found.traces - traces).abs() <= 6 * found.trace_errors + 1e-9 * traces).all()
    heatmap = right.square().mean(0).T[:, : found.heatmap.shape[1]]
    torch.testing.assert_close(found.heatmap, heatmap, atol=1e-7, rtol=0)

    stacked = torch.cat(list(jacobians))
    _, sizes, right = torch.linalg.svd(stacked, full_matrices=False)
    torch.testing.assert_close(found.average.values, sizes[:4].square() / 3)
    assert aligned(found.average.vectors, right[:4].T)
    shares = sizes[:4].square() / sizes.square().sum()
    torch.testing.assert_close(found.average.shares, shares, rtol=1e-2, atol=0)

    leading = torch.linalg.svd(jacobians).Vh[:, :4]
    _, sizes, right = torch.linalg.svd(leading.flatten(0, 1), full_matrices=False)
    torch.testing.assert_close(found.common.values, sizes[:4].square() / 3, atol=1e-7, rtol=0)
    assert aligned(found.common.vectors, right[:4].T, atol=1e-6)


def test_fewer_products_leave_a_residual_that_bounds_the_error():
    a, z = matrix(180, decay=0.97), codes(1, 180)
    found = analyse(squaring(a), z, k=4, method="subspace", tolerance=0.2, paths=0)
    expected = torch.linalg.svdvals(a * z)[:4].square()
    assert 4 <= found.products < 64
    assert 1e-6 < found.residuals.max() <= 0.2
    assert ((found.eigenvalues[0] - expected).abs() <= found.residuals[0] * expected * 1.001).all()


@pytest.mark.parametrize("rank", [1, 3, None])
def test_degenerate_and_multiple_eigenvalues(rank):
    """Of rank below k, and of a multiple of the identity, whose Krylov spaces are exhausted."""
    a = torch.eye(3 * SIDE * SIDE, 100, dtype=torch.float64)[:, torch.randperm(100)] * 2
    if rank is not None:
        a[:, rank:] = 0
    found = analyse(lambda z: z @ a.T, codes(2, 100), k=6, method="subspace", paths=0)
    expected = torch.tensor([4.0 if rank is None or i < rank else 0.0 for i in range(6)])
    torch.testing.assert_close(found.eigenvalues, expected.double().expand(2, -1))
    gram = found.eigenvectors @ found.eigenvectors.mT
    torch.testing.assert_close(gram, torch.eye(6).double().expand(2, -1, -1))
    assert found.pictures is None  # vectors are no images


def test_an_automatic_method_is_exact_only_where_that_is_cheap():
    small = analyse(squaring(matrix()), codes(), k=2, paths=0)
    large = analyse(
        lambda z: (z * z)[:, :12], codes(1, 2049), k=2, paths=0, time_limit=None, tolerance=0.5
    )
    assert (small.method, large.method) == ("exact", "subspace")


@pytest.mark.parametrize("shape", [(M, 1, 1), (2, 5)])
def test_any_shape_of_codes(shape):
    a, z = matrix(), codes(3, *shape)
    found = analyse(squaring(a), z, k=3)
    plain = analyse(squaring(a), z.flatten(1), k=3)
    assert found.eigenvectors.shape == (3, 3, *shape)
    assert found.average.vectors.shape == found.common.vectors.shape == (3, *shape)
    assert found.paths.codes.shape[2:] == shape
    torch.testing.assert_close(found.eigenvectors.flatten(2), plain.eigenvectors)
    torch.testing.assert_close(found.paths.codes.flatten(2), plain.paths.codes)
