"""``grid_sample`` and its derivatives."""

import math

import pytest
import torch
import torch.nn.functional as F
from _exact import DIFFERENTIATE, DTYPES, assert_derivatives, assert_same, draw_real, weighted
from _functions import exact_penalty
from _probe import central_difference

from pydisent.jacobian import decompositions, linearize
from pydisent.jacobian.decompositions import DecomposedFunctions

GRID_MODES = [
    (mode, d) for mode in ("bilinear", "nearest", "bicubic") for d in (2, 3)
    if (mode, d) != ("bicubic", 3)
]  # fmt: skip
on_grids = pytest.mark.parametrize(("mode", "d"), GRID_MODES)
padded = pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])


@pytest.mark.in_turn
@on_grids
@padded
@pytest.mark.parametrize("corners", [False, True, None])
@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.filterwarnings("ignore:Default grid_sample")
def test_grid_sample(mode, d, padding, corners, dtype):
    # Kinks, ties and the borders themselves are among the multiples of 1/8.
    axis = torch.arange(-24, 25, 8 if d == 3 else 2, dtype=dtype) / 8
    lattice = torch.cartesian_prod(*[axis] * d).reshape(1, *(len(axis),) * d, d)
    scattered = [draw_real(2, *(6, 5, 2)[:d], d, dtype=dtype, seed=i) * s for i, s in
                 enumerate((0.5, 2, 40, 1e4))]  # fmt: skip
    for sizes in [(5, 4, 3), (4, 8, 2), (1, 6, 1)]:
        for grid in [lattice, *scattered]:
            x = draw_real(len(grid), 3, *sizes[:d], dtype=dtype, seed=7)
            assert_same(F.grid_sample, x, grid, mode, padding, corners, dtype=dtype)
            operands = [t.clone().requires_grad_() for t in (x, grid)]
            gradients = []
            for sample in (F.grid_sample, decompositions.grid_sample):
                y = sample(*operands, mode, padding, corners)
                weight = draw_real(*y.shape, dtype=dtype, seed=8)
                gradients.append(torch.autograd.grad(y, operands, weight))
            for native, ours in zip(*gradients):
                # Hundreds of points may fall on one pixel, the sums of large terms cancel.
                atol = 500 * torch.finfo(dtype).eps * native.abs().max().clamp(min=1).item()
                torch.testing.assert_close(ours, native, rtol=0, atol=atol)


@pytest.mark.in_turn
@on_grids
@padded
@pytest.mark.parametrize("direction", DIFFERENTIATE)
def test_derivatives_of_grid_sample(mode, d, padding, direction):
    corners = (direction == "forward") == (padding == "border")  # each with each padding
    sizes = (5, 4, 3)[:d]
    x, x_tangent = draw_real(2, 2, 2, *sizes)
    counts = torch.tensor(sizes[::-1], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    # Inside and outside, at most 0.2 pixels from a centre or from the middle of two.
    pixels = torch.randint(-4, 9, (2, *(4, 3, 2)[:d], d), generator=generator)
    place = pixels + 0.4 * (torch.rand(pixels.shape, generator=generator) - 0.5).double()
    place = place + (0.5 if mode != "nearest" else 0.0)
    grid = 2 * place / (counts - 1) - 1 if corners else (2 * place + 1) / counts - 1
    grid_tangent = draw_real(*grid.shape, seed=2)

    def moved(t):
        operands = x + t * x_tangent, grid + t * grid_tangent
        return weighted(decompositions.grid_sample(*operands, mode, padding, corners))

    assert_derivatives(moved, direction)


@on_grids
@pytest.mark.filterwarnings("error:pydisent")
def test_grid_sample_can_be_traced(mode, d):
    z, tangent = draw_real(2, 2, d)
    image, grid = draw_real(2, 2, *(5, 4, 3)[:d], seed=1), draw_real(2, *(3,) * d, d, seed=2)

    def fn(z):
        shift = z.reshape(2, *(1,) * d, d)
        return F.grid_sample(image * shift.sum(-1, keepdim=True), grid + shift.sin(), mode,
                             "reflection", align_corners=False)  # fmt: skip

    expected = central_difference(lambda h: fn(z + h * tangent), 1e-5)
    torch.testing.assert_close(linearize(fn, z).jvp(tangent[None])[0], expected)


@on_grids
@padded
def test_a_grid_that_does_not_depend_on_z_is_one_step(mode, d, padding):
    """Its gradient, and the images', are those of elementary operations."""
    z, tangent = draw_real(2, 3), draw_real(2, 3, seed=3)
    weight = draw_real(3, 2 * math.prod((5, 4, 3)[:d]), seed=1).requires_grad_()
    grid = (1.5 * draw_real(2, *(3,) * d, d, seed=2)).requires_grad_()

    def fn(z):
        images = (z @ weight).sin().reshape(2, 2, *(5, 4, 3)[:d])
        return F.grid_sample(images, grid, mode, padding, align_corners=False)

    linear = linearize(fn, z)
    assert "grid_sample" in [step.name for step in linear.program.steps]
    assert linear.samples_are_apart
    with torch.no_grad():
        expected = central_difference(lambda h: fn(z + h * tangent), 1e-5)
    torch.testing.assert_close(linear.jvp(tangent[None])[0], expected)
    gradients = [
        torch.autograd.grad(exact_penalty(fn, z, method), (weight, grid))
        for method in ("gram", "autograd")
    ]
    torch.testing.assert_close(*gradients)


@on_grids
@padded
def test_grid_sample_at_places_that_are_not_finite(mode, d, padding):
    """Outside of the image or in its first pixel, but for the weights of bicubic, which are NaN."""
    grid = torch.zeros(1, *(1,) * (d - 1), 3, d)
    grid[..., 0] = torch.tensor([math.nan, math.inf, -math.inf])
    x = torch.arange(1.0, 4.0).expand(1, 1, *(3,) * d)
    expected = {"zeros": [0, 0, 0], "border": [1, 3, 1], "reflection": [1, 1, 1]}[padding]
    got = decompositions.grid_sample(x, grid, mode, padding, True).flatten()
    if mode == "bicubic" and padding != "zeros":
        assert got.isnan().all()
    else:
        assert got.tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@on_grids
def test_grid_sample_in_half_precision(mode, d, dtype):
    x, grid = draw_real(2, 3, *(5, 4, 3)[:d], dtype=dtype), draw_real(2, *(4,) * d, d, dtype=dtype)
    assert_same(F.grid_sample, x, grid, mode, align_corners=False, dtype=dtype)


def test_grid_sample_by_its_other_names():
    x, grid = draw_real(2, 3, 5, 4), draw_real(2, 3, 4, 2)
    volume, places = draw_real(2, 3, 5, 4, 3), draw_real(2, 3, 4, 2, 3)
    for padding in range(3):
        for mode in range(3):
            assert_same(torch.grid_sampler, x, grid, mode, padding, True)
            assert_same(torch.grid_sampler_2d, x, grid, mode, padding, False)
        for mode in range(2):
            assert_same(torch.grid_sampler, volume, places, mode, padding, False)
            assert_same(torch.grid_sampler_3d, volume, places, mode, padding, True)
    with torch.autocast("cpu", torch.bfloat16):  # two dtypes are an error elsewhere
        assert_same(
            F.grid_sample, x.bfloat16(), grid.float(), align_corners=False, dtype=torch.float32
        )
    empty = F.grid_sample(x, grid[:, :0], align_corners=False)
    assert decompositions.grid_sample(x, grid[:, :0]).shape == empty.shape


@pytest.mark.parametrize(
    ("x", "grid", "options", "named"),
    [
        ((2, 3, 4), (2, 3, 2), {}, "input must have shape"),
        ((2, 3, 4, 0), (2, 3, 3, 2), {}, "input must have shape"),
        ((2, 3, 4, 5), (2, 3, 3, 3), {}, "grid must have"),
        ((2, 3, 4, 5), (1, 3, 3, 2), {}, "grid must have"),
        ((2, 3, 4, 5), (2, 3, 2), {}, "grid must have"),
        ((2, 3, 4, 5), (2, 3, 3, 2), {"mode": "trilinear"}, "mode must be"),
        ((2, 3, 4, 5, 2), (2, 3, 3, 3, 3), {"mode": "bicubic"}, "mode must be"),
        ((2, 3, 4, 5), (2, 3, 3, 2), {"padding_mode": "circular"}, "padding_mode must be"),
    ],
)
def test_what_grid_sample_refuses(x, grid, options, named):
    x, grid = draw_real(*x), draw_real(*grid)
    with pytest.raises((ValueError, RuntimeError)):
        F.grid_sample(x, grid, align_corners=False, **options)
    with DecomposedFunctions(), pytest.raises(ValueError, match=named):
        F.grid_sample(x, grid, align_corners=False, **options)


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.int64, torch.int64)])
def test_grid_sample_refuses_dtypes(dtypes):
    x, grid = torch.ones(1, 1, 2, 2, dtype=dtypes[0]), torch.zeros(1, 1, 1, 2, dtype=dtypes[1])
    with pytest.raises(RuntimeError):
        F.grid_sample(x, grid, align_corners=False)
    with pytest.raises(ValueError, match="dtype of input"):
        decompositions.grid_sample(x, grid)
