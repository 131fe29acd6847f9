"""Functions of symmetric matrices, of which native kernels read one triangle alone."""

import pytest
import torch
from _functions import assert_right, by_differences, draw_codes

from pydisent import correct_derivatives, doctor
from pydisent.jacobian import gram_penalty, linearize, second_directional_derivative

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.cholesky is deprecated.*")

SHIFT = torch.diag(torch.tensor([2.0, 3.0, 4.5], dtype=torch.float64))
FUNCTIONS = {
    "cholesky": torch.linalg.cholesky,
    "cholesky, upper": lambda a: torch.linalg.cholesky(a, upper=True),
    "torch.cholesky": torch.cholesky,
    "torch.cholesky, upper": lambda a: a.cholesky(upper=True),
    "cholesky_ex": lambda a: torch.linalg.cholesky_ex(a).L,
    "eigvalsh": torch.linalg.eigvalsh,
    "eigvalsh, upper": lambda a: torch.linalg.eigvalsh(a, "U"),
    "eigh": lambda a: torch.linalg.eigh(a).eigenvectors.square(),
    "eigh, upper": lambda a: torch.linalg.eigh(a, UPLO="U")[0],
    "pinv": lambda a: torch.linalg.pinv(a, hermitian=True),
}
EACH = pytest.mark.parametrize("name", FUNCTIONS)
COMPLEX = pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])


def matrices(z, weight, is_complex=False):
    """Matrices (B, 3, 3) that are not symmetric."""
    a = (z @ weight).reshape(-1, 3, 3)
    return (torch.complex(a, a.mT.sin()) if is_complex else a) + SHIFT


def real(x):
    return torch.view_as_real(x).square() if x.is_complex() else x


@pytest.fixture
def weight():
    generator = torch.Generator().manual_seed(1)
    return (0.3 * torch.randn(2, 9, generator=generator, dtype=torch.float64)).requires_grad_()


@EACH
@COMPLEX
def test_jacobians_and_gradients_are_of_the_triangle_that_is_read(name, is_complex, weight):
    function, z = FUNCTIONS[name], draw_codes(2, 2)
    if is_complex and name == "eigh":
        pytest.skip("eigenvectors of complex matrices have arbitrary phases")

    def fn(z):
        return real(function(matrices(z, weight, is_complex)))

    expected = by_differences(fn, z)
    torch.testing.assert_close(linearize(fn, z).jacobian(), expected, atol=1e-7, rtol=1e-6)

    def squares(gram):
        return gram.square().sum((-2, -1))

    penalty = gram_penalty(fn, z, squares, tolerance=0)
    (slope,) = torch.autograd.grad(penalty, weight)
    step = torch.randn(2, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moved = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * 1e-5 * step
            moved.append(gram_penalty(fn, z, squares))
            weight -= sign * 1e-5 * step
    difference = (moved[0] - moved[1]) / 2e-5
    torch.testing.assert_close((slope * step).sum(), difference, atol=1e-8, rtol=1e-5)


@EACH
def test_second_derivatives_are_of_the_triangle_that_is_read(name, weight):
    function, z = FUNCTIONS[name], draw_codes(2, 2)
    v = torch.ones(1, 2, 2, dtype=torch.float64)

    def fn(z):
        return function(matrices(z, weight.detach()))

    _, _, second = second_directional_derivative(fn, z, v)
    step = 1e-4
    differences = (fn(z + step * v[0]) - 2 * fn(z) + fn(z - step * v[0])) / step**2
    torch.testing.assert_close(second[0], differences, atol=1e-5, rtol=1e-5)


@EACH
def test_corrected_derivatives_are_of_the_triangle_that_is_read(name, weight):
    function, z = FUNCTIONS[name], draw_codes(2, 2)[:1]

    def fn(z):
        return function(matrices(z, weight.detach()))

    with correct_derivatives():
        found = torch.func.jacrev(fn)(z)
    expected = by_differences(fn, z)
    torch.testing.assert_close(found.reshape(expected.shape), expected, atol=1e-7, rtol=1e-6)


def test_doctor_varies_symmetric_matrices_along_symmetric_directions():
    weight = draw_codes(2, 9)
    found = doctor(lambda z: torch.linalg.cholesky(_symmetric(z, weight)), draw_codes(2, 2))
    assert not found.wrong, str(found)
    found = doctor(lambda z: torch.linalg.eigvalsh(_symmetric(z, weight)), draw_codes(2, 2))
    (row,) = (row for row in found.rows if row.operation == "linalg_eigvalsh")
    assert row.native["reverse"].outcome == row.engine.outcome == "right"
    found = doctor(lambda z: torch.linalg.cholesky(matrices(z, 0.3 * weight)), draw_codes(2, 2))
    (row,) = (row for row in found.rows if row.operation == "linalg_cholesky")
    assert row.native["reverse"].outcome == "wrong"
    assert row.engine.outcome == "right"


def _symmetric(z, weight):
    a = matrices(z, weight)
    return a @ a.mT


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 1, 4), (2, 4, 1), (2, 3, 0)])
@pytest.mark.parametrize("hermitian", [False, True])
def test_complex_pseudo_inverses_are_right_under_dispatch_modes(shape, hermitian):
    """PyTorch's are conjugated there, where ``method="autograd"`` and corrections evaluate."""
    a = torch.complex(draw_codes(*shape), draw_codes(*shape).sin())
    a = a @ a.mH if hermitian else a
    for options in ({}, {"rtol": 1e-3}, {"atol": 0.1}, {"atol": 0.1, "rtol": 0.5}):
        expected = torch.linalg.pinv(a, hermitian=hermitian, **options)
        with correct_derivatives():
            found = torch.linalg.pinv(a, hermitian=hermitian, **options)
        torch.testing.assert_close(found, expected)
    with correct_derivatives():
        found = torch.linalg.pinv(a, 0.5, hermitian), torch.pinverse(a), a.pinverse(rcond=0.5)
    expected = torch.linalg.pinv(a, 0.5, hermitian), torch.pinverse(a), a.pinverse(rcond=0.5)
    torch.testing.assert_close(found, expected)


def test_complex_pseudo_inverses_by_every_method():
    weight = draw_codes(4, 8)

    def fn(z):
        a = torch.view_as_complex((z @ weight).view(-1, 2, 2, 2))
        return torch.view_as_real(torch.linalg.pinv(0.2 * a + 2 * torch.eye(2)))

    assert_right(fn, draw_codes())
