"""A fixed number of directions: how much of the gradient it leaves out, and what it refuses."""

import math

import pytest
import torch
from _oracle import power_iterations, random_signs
from _small_generator import (
    ROUTES,
    assert_near,
    by_unrolling,
    draw_codes,
    draw_signs,
    gradients_of,
    small_generator,
)
from torch import Tensor

from pydisent import AlignmentPenalty, alignment_penalty
from pydisent.jacobian import _budget
from pydisent.jacobian._subspace import leading_subspace
from pydisent.jacobian.alignment import routes
from pydisent.nn import DCGANGenerator

M = 64
PLACES = torch.arange(M, dtype=torch.float64)
SPECTRA = {
    "flat": torch.ones(M, dtype=torch.float64),
    "slow": 0.95**PLACES,
    "fast": 0.5**PLACES,
    "power": (1 + PLACES) ** -2,
    "steep": (1 + PLACES) ** -8,
    "step": torch.where(PLACES < 20, 1.0, 1e-3).double(),
    "low": (PLACES < 10).double(),
}


def _bases() -> Tensor:
    """Eigenvectors without a pattern, along the axes, of a cosine and of a Hadamard transform."""
    drawn = torch.randn(3, M, M, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axes = torch.eye(M, dtype=torch.float64)
    cosines = torch.cos(math.pi * (PLACES[:, None] + 0.5) * PLACES / M)
    signs = [[(-1.0) ** (i & j).bit_count() for j in range(M)] for i in range(M)]
    patterned = [
        axes,
        axes.flip(0),
        cosines / cosines.norm(dim=0),
        torch.tensor(signs).double() / 8,
    ]
    return torch.cat([torch.linalg.qr(drawn)[0], torch.stack(patterned)])


def _is_near_the_best(matrix: Tensor, basis: Tensor) -> bool:
    """Whether ‖F (I − QQ')‖ is at most 1.1 times the least, or 1e-5 of ‖F‖, for F'F = matrix."""
    rest = torch.eye(matrix.shape[-1]).double() - basis @ basis.mT
    squares = torch.linalg.eigvalsh(matrix).clamp_min(0).cumsum(-1)
    least, whole = squares[:, -basis.shape[-1] - 1].sqrt(), squares[:, -1].sqrt()
    left = (rest @ matrix @ rest).diagonal(dim1=1, dim2=2).sum(-1).clamp_min(0).sqrt()
    return bool((left <= 1.1 * least + 1e-5 * whole).all())


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_block_steps_leave_out_little_more_than_eigenvectors(spectrum):
    bases = _bases()
    matrix = bases * SPECTRA[spectrum] @ bases.mT
    for rank in (1, 2, 4, 8, 16, 32):
        assert _is_near_the_best(1e3 * matrix, leading_subspace(matrix, rank))


def test_what_annihilates_everything_has_no_directions():
    assert not leading_subspace(torch.zeros(2, 5, 5), 3).any()


@pytest.fixture
def kept(monkeypatch):
    """The directions (B, m, r) of each penalty."""
    found, real = [], routes.with_gradient

    def noted(value, z, linear, directions):
        found.append(directions.tangents.permute(1, 2, 0).double())
        return real(value, z, linear, directions)

    monkeypatch.setattr(routes, "with_gradient", noted)
    return found


@pytest.mark.parametrize("rank", [8, 32])
def test_a_generator_keeps_the_directions_that_matter(rank, kept):
    """J by reverse mode and C = dR/dM by autograd through the algorithm, both in double."""
    torch.manual_seed(0)
    generator, z, k, steps = DCGANGenerator(M, 1, 4, 16).double(), torch.randn(2, M), 8, 8
    z = z.double()
    probe = random_signs(z, k)
    images = lambda z: generator(z).flatten(1).sum(0)
    rows = torch.autograd.functional.jacobian(images, z)  # (n, B, m)
    jacobian = rows.transpose(0, 1)
    gram = (jacobian.mT @ jacobian).requires_grad_()
    (slope,) = torch.autograd.grad(power_iterations(lambda v: gram @ v, probe, steps, True), gram)
    slope = (slope + slope.mT) / 2
    for method in ROUTES:
        alignment_penalty(
            generator, z, k=k, iterations=steps, probe=probe, method=method, rank=rank
        )
    by_gram, matrix_free = kept
    assert by_gram.shape == matrix_free.shape == (2, M, rank)
    assert _is_near_the_best(slope @ gram.detach() @ slope, by_gram)
    assert _is_near_the_best(slope @ slope, matrix_free)


@pytest.mark.parametrize("method", ROUTES)
@pytest.mark.parametrize("keeps_jacobian", [True, False])
@pytest.mark.parametrize(("k", "iterations", "rank"), [(2, 2, 5), (1, 1, 2), (1, 2, 4), (1, 1, 4)])
def test_the_gradient_is_exact_where_c_has_no_more_directions(
    method, keeps_jacobian, k, iterations, rank, monkeypatch
):
    """C has rank 2 k T at most."""
    if not keeps_jacobian:
        monkeypatch.setattr(_budget.Budget, "jacobian", 0)
    net, z = small_generator(), draw_codes()
    expected = by_unrolling(net, z, k, iterations)
    value = alignment_penalty(
        net, z, k=k, iterations=iterations, probe=draw_signs(z, k), method=method, rank=rank
    )
    assert abs(value.item() - expected.value) <= 1e-12
    assert_near(gradients_of(value, net.parameters()), expected.parameters, 1e-7)


@pytest.mark.parametrize(
    ("size", "fits", "way"),
    # 3 k (2 T - 1) + r = 11 rows of the matrix-free route
    [(11, True, "gram_route"), (12, True, "matrix_free_route"), (4, False, "matrix_free_route")],
)
def test_auto_pushes_the_fewer_rows(size, fits, way, monkeypatch):
    if not fits:
        monkeypatch.setattr(_budget.Budget, "jacobian", 0)
    gone, real = [], getattr(routes, way)
    monkeypatch.setattr(routes, way, lambda *args: (gone.append(way), real(*args))[1])
    net = small_generator(m=size)
    alignment_penalty(net, draw_codes(2, size), k=1, iterations=2, rank=2).backward()
    assert gone == [way]


def test_what_contradicts_a_rank_is_refused():
    net, z = small_generator(), draw_codes()
    with pytest.raises(ValueError, match=r"tolerance must be None where rank is given, got 0\.1"):
        alignment_penalty(net, z, k=2, iterations=2, rank=3, tolerance=0.1)
    with pytest.raises(ValueError, match=r"rank must be None with method='autograd', .* got 3"):
        AlignmentPenalty(2, 2, rank=3, method="autograd")
    with pytest.raises(ValueError, match="rank must be at most m = 5, got 6"):
        alignment_penalty(net, z, k=2, iterations=2, rank=6)
    with pytest.raises(ValueError, match="rank must be an integer >= 1, got 0"):
        AlignmentPenalty(2, 2, rank=0)
