"""The rebuilt functions return the native functions' values, in every combination of arguments."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from _probe import central_difference
from torch import nn
from torch.utils import _pytree as pytree

from pydisent.jacobian import decompositions, linearize
from pydisent.jacobian.decompositions import DECOMPOSITIONS, DecomposedFunctions

DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def _randn(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def _same(function, *args, dtype=torch.float64, **kwargs):
    expected = function(*args, **kwargs)
    with DecomposedFunctions():
        got = function(*args, **kwargs)
    assert function in DECOMPOSITIONS
    if dtype.itemsize == 2:  # both against float64, as neither is exact
        exact = function(*_to_double(args), **_to_double(kwargs))
        error, native = ((y - exact).abs().max() for y in (got, expected))
        assert got.dtype == expected.dtype
        assert error <= 2 * native + 1e-6 * exact.abs().max()
        return
    # Rounding of sums over a few dozen terms, each of order one.
    tolerance = 200 * torch.finfo(dtype).eps
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def _to_double(arguments):
    def convert(x):
        return x.double() if isinstance(x, torch.Tensor) else x

    return pytree.tree_map(convert, arguments)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("affine", [(), (0,), (0, 1)])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_norms(dtype, affine, eps):
    x = _randn(3, 4, 2, 6, dtype=dtype) * 2 + 1
    tail = [_randn(2, 6, dtype=dtype, seed=1 + i) for i in affine]
    channels = dict(zip(["weight", "bias"], [_randn(4, dtype=dtype, seed=1 + i) for i in affine]))
    _same(F.layer_norm, x, (2, 6), *tail, eps=eps, dtype=dtype)
    _same(torch.layer_norm, x, (2, 6), *tail, eps=eps, dtype=dtype)
    _same(F.group_norm, x, 2, **channels, eps=eps, dtype=dtype)
    _same(torch.group_norm, x, 2, **channels, eps=eps, dtype=dtype)
    _same(F.instance_norm, x, **channels, eps=eps, dtype=dtype)
    _same(F.rms_norm, x, (2, 6), *tail[:1], eps=eps, dtype=dtype)
    _same(torch.rms_norm, x, (2, 6), *tail[:1], dtype=dtype)
    _same(F.batch_norm, x, None, None, **channels, training=True, eps=eps, dtype=dtype)
    if dtype == torch.bfloat16:  # running statistics, and what goes with them, stay in float32
        channels = {name: t.float() for name, t in channels.items()}
    wide = torch.promote_types(dtype, torch.float32)
    statistics = _randn(4, dtype=wide), _randn(4, dtype=wide, seed=5).abs() + 0.5
    _same(F.batch_norm, x, *statistics, **channels, eps=eps, dtype=dtype)
    _same(F.instance_norm, x, *statistics, **channels, use_input_stats=False, dtype=dtype)


def test_torch_level_norms_take_their_own_argument_order():
    x, weight, bias = _randn(3, 4, 5), _randn(4, seed=1), _randn(4, seed=2)
    mean, variance = _randn(4, seed=3), _randn(4, seed=4).abs() + 0.5
    _same(torch.batch_norm, x, weight, bias, mean, variance, False, 0.1, 1e-5, False)
    _same(torch.instance_norm, x, weight, bias, mean, variance, False, 0.1, 1e-5, False)
    _same(torch.instance_norm, x, weight, bias, None, None, True, 0.1, 1e-5, False)


MASKS = ["none", "bool", "float", "causal", "closed row", "per head"]


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("gqa", [False, True])
def test_scaled_dot_product_attention(dtype, mask, scale, gqa):
    query = _randn(2, 4, 5, 3, dtype=dtype)
    key, value = (_randn(2, 2 if gqa else 4, 6, 3, dtype=dtype, seed=s) for s in (1, 2))
    keep = _randn(5, 6, seed=3) > -0.5
    keep[:, 0] = True
    closed = keep.clone()
    closed[2] = False
    given = {
        "none": {},
        "bool": {"attn_mask": keep},
        "float": {"attn_mask": _randn(5, 6, dtype=dtype, seed=4)},
        "causal": {"is_causal": True},
        "closed row": {"attn_mask": closed},
        "per head": {"attn_mask": _randn(2, 4, 5, 6, dtype=dtype, seed=4)},
    }[mask]
    _same(F.scaled_dot_product_attention, query, key, value, **given, scale=scale,
          enable_gqa=gqa, dtype=dtype)  # fmt: skip


def test_attention_dropout_keeps_the_expectation():
    q, k, v = (_randn(64, 2, 8, 4, seed=s) for s in range(3))
    torch.manual_seed(0)
    attention = DECOMPOSITIONS[F.scaled_dot_product_attention]
    dropped, whole = attention(q, k, v, dropout_p=0.5), attention(q, k, v)
    assert not torch.equal(dropped, whole)
    # The mean of 64 · 2 · 8 draws of each feature; its standard error is below 0.03.
    torch.testing.assert_close(dropped.mean((0, 1, 2)), whole.mean((0, 1, 2)), atol=0.1, rtol=0)


@pytest.mark.parametrize("bias_kv", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("need", ["none", "mean", "heads"])
@pytest.mark.parametrize("batched", [False, True])
def test_multi_head_attention(bias_kv, zero, separate, need, batched):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(
        6, 2, bias=not zero, add_bias_kv=bias_kv, add_zero_attn=zero, batch_first=True,
        kdim=5 if separate else None, vdim=7 if separate else None,
    ).double()  # fmt: skip
    nn.init.normal_(attention.in_proj_bias) if not zero else None
    query, key, value = _randn(2, 4, 6), _randn(2, 3, 5 if separate else 6, seed=1), None
    value = _randn(2, 3, 7, seed=2) if separate else key
    masks = [None, _randn(4, 3, seed=3) > 1, _randn(4, 3, seed=3)]
    if batched:
        masks.append(_randn(4, 4, 3, seed=4))
    paddings = [None, torch.tensor([[False, False, True], [False, True, False]])]
    if not batched:
        query, key, value = query[0], key[0], value[0]
        paddings[1] = paddings[1][0]
    for mask, padding in itertools.product(masks, paddings):
        if mask is not None and mask.dtype == torch.bool:
            mask[:, 0] = False
        if padding is not None and mask is not None and mask.dtype != torch.bool:
            padding = torch.zeros_like(padding, dtype=mask.dtype).masked_fill_(padding, -math.inf)
        options = {
            "key_padding_mask": padding,
            "attn_mask": mask,
            "need_weights": need != "none",
            "average_attn_weights": need == "mean",
        }
        expected = attention(query, key, value, **options)
        with DecomposedFunctions():
            got = attention(query, key, value, **options)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_causal_hint_of_multi_head_attention():
    torch.manual_seed(0)
    attention, x = nn.MultiheadAttention(6, 2, batch_first=True).double(), _randn(2, 4, 6)
    mask = nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    for need in (False, True):
        expected = attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=need)
        with DecomposedFunctions():
            got = attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=need)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("grad", [True, False])
def test_transformer_layers_leave_their_fast_paths(mode, grad):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True).double()
    stack = nn.TransformerEncoder(layer, 2)
    stack.train(mode == "train")
    x = _randn(2, 4, 6)
    used = []
    kept = DECOMPOSITIONS[F.multi_head_attention_forward]

    def spy(*args, **kwargs):
        used.append(1)
        return kept(*args, **kwargs)

    DECOMPOSITIONS[F.multi_head_attention_forward] = spy
    try:
        with torch.set_grad_enabled(grad):
            expected = stack(x)
            with DecomposedFunctions():
                got = stack(x)
    finally:
        DECOMPOSITIONS[F.multi_head_attention_forward] = kept
    assert len(used) == 2
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_are_written_only_when_asked(write, momentum):
    norms = nn.Sequential(
        nn.BatchNorm1d(4, momentum=momentum), nn.InstanceNorm1d(4, track_running_stats=True)
    )
    before, native = copy.deepcopy(norms), copy.deepcopy(norms)
    x = _randn(3, 4, 5, dtype=torch.float32) * 2 + 1
    native(x)
    with DecomposedFunctions(write_statistics=write):
        norms(x)
    expected = native if write else before
    for name in ("0.running_mean", "0.running_var", "1.running_mean", "1.running_var"):
        torch.testing.assert_close(norms.get_buffer(name), expected.get_buffer(name))


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_elementwise_and_distances(dtype):
    x = _randn(4, 6, dtype=dtype) * 3
    for dim in (0, 1, -1):
        _same(F.glu, x, dim, dtype=dtype)
        _same(torch.logcumsumexp, x * 100, dim, dtype=dtype)
    _same(F.hardsigmoid, x, dtype=dtype)
    _same(F.rrelu, x, 0.1, 0.4, dtype=dtype)
    for p in (0.0, 0.5, 1.0, 2.0, 3.0, math.inf):
        _same(torch.cdist, x, x[1:] + 1, p, dtype=dtype)
        _same(torch.pdist, x, p, dtype=dtype)
    for dim in (0, 1, 2, -1):
        v = _randn(3, 2, 4, dtype=dtype)
        shape = [v.shape[d] if d == dim else 1 for d in range(3)]
        g = _randn(*(shape if dim >= 0 else []), dtype=dtype, seed=1)
        _same(torch._weight_norm, v, g, dim, dtype=dtype)


def test_in_place_variants_write_their_argument():
    for function in (F.hardsigmoid, F.rrelu):
        x = _randn(4, 6)
        expected = function(x)
        with DecomposedFunctions():
            assert function(x, inplace=True) is x
        torch.testing.assert_close(x, expected)


def test_random_leaky_relu_in_training_mode():
    x = _randn(1000)
    with DecomposedFunctions():
        y = F.rrelu(x, 0.2, 0.3, training=True)
    assert torch.equal(y[x > 0], x[x > 0])
    slopes = (y / x)[x < 0]
    assert slopes.min() >= 0.2
    assert slopes.max() <= 0.3
    assert slopes.std() > 0.02


def test_distances_between_equal_points_have_a_zero_derivative():
    x = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    with DecomposedFunctions():
        torch.cdist(x, x).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


DIFFERENTIATE = {"forward": torch.func.jacfwd, "reverse": torch.func.grad}


def _derivatives_are_right(function, direction):
    """Three derivatives at 0 of a scalar function of a scalar, each by differences of the last."""
    zero = torch.zeros((), dtype=torch.float64)
    for _ in range(3):
        expected = central_difference(lambda h: function(zero + h).detach(), 1e-3)  # noqa: B023
        function = DIFFERENTIATE[direction](function)
        torch.testing.assert_close(function(zero), expected, rtol=1e-7, atol=1e-7)


def _weighted(y):
    """A real number in which every element of ``y`` counts."""
    y = torch.view_as_real(y) if y.is_complex() else y
    return (y * torch.arange(1.0, y.numel() + 1).double().sin().reshape(y.shape)).sum()


GRID_MODES = [
    (mode, d) for mode in ("bilinear", "nearest", "bicubic") for d in (2, 3)
    if (mode, d) != ("bicubic", 3)
]  # fmt: skip
on_grids = pytest.mark.parametrize(("mode", "d"), GRID_MODES)
padded = pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])


@on_grids
@padded
@pytest.mark.parametrize("corners", [False, True, None])
@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.filterwarnings("ignore:Default grid_sample")
def test_grid_sample(mode, d, padding, corners, dtype):
    # Kinks, ties and the borders themselves are among the multiples of 1/8.
    axis = torch.arange(-24, 25, 8 if d == 3 else 2, dtype=dtype) / 8
    lattice = torch.cartesian_prod(*[axis] * d).reshape(1, *(len(axis),) * d, d)
    scattered = [_randn(2, *(6, 5, 2)[:d], d, dtype=dtype, seed=i) * s for i, s in
                 enumerate((0.5, 2, 40, 1e4))]  # fmt: skip
    for sizes in [(5, 4, 3), (4, 8, 2), (1, 6, 1)]:
        for grid in [lattice, *scattered]:
            x = _randn(len(grid), 3, *sizes[:d], dtype=dtype, seed=7)
            _same(F.grid_sample, x, grid, mode, padding, corners, dtype=dtype)
            operands = [t.clone().requires_grad_() for t in (x, grid)]
            gradients = []
            for sample in (F.grid_sample, decompositions.grid_sample):
                y = sample(*operands, mode, padding, corners)
                weight = _randn(*y.shape, dtype=dtype, seed=8)
                gradients.append(torch.autograd.grad(y, operands, weight))
            for native, ours in zip(*gradients):
                # Hundreds of points may fall on one pixel, the sums of large terms cancel.
                atol = 500 * torch.finfo(dtype).eps * native.abs().max().clamp(min=1).item()
                torch.testing.assert_close(ours, native, rtol=0, atol=atol)


@on_grids
@padded
@pytest.mark.parametrize("direction", DIFFERENTIATE)
def test_derivatives_of_grid_sample(mode, d, padding, direction):
    corners = (direction == "forward") == (padding == "border")  # each with each padding
    sizes = (5, 4, 3)[:d]
    x, x_tangent = _randn(2, 2, 2, *sizes)
    counts = torch.tensor(sizes[::-1], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    # Inside and outside, at most 0.2 pixels from a centre or from the middle of two.
    pixels = torch.randint(-4, 9, (2, *(4, 3, 2)[:d], d), generator=generator)
    place = pixels + 0.4 * (torch.rand(pixels.shape, generator=generator) - 0.5).double()
    place = place + (0.5 if mode != "nearest" else 0.0)
    grid = 2 * place / (counts - 1) - 1 if corners else (2 * place + 1) / counts - 1
    grid_tangent = _randn(*grid.shape, seed=2)

    def moved(t):
        operands = x + t * x_tangent, grid + t * grid_tangent
        return _weighted(decompositions.grid_sample(*operands, mode, padding, corners))

    _derivatives_are_right(moved, direction)


@on_grids
@pytest.mark.filterwarnings("error:pydisent")
def test_grid_sample_can_be_traced(mode, d):
    z, tangent = _randn(2, 2, d)
    image, grid = _randn(2, 2, *(5, 4, 3)[:d], seed=1), _randn(2, *(3,) * d, d, seed=2)

    def fn(z):
        shift = z.reshape(2, *(1,) * d, d)
        return F.grid_sample(image * shift.sum(-1, keepdim=True), grid + shift.sin(), mode,
                             "reflection", align_corners=False)  # fmt: skip

    expected = central_difference(lambda h: fn(z + h * tangent), 1e-5)
    torch.testing.assert_close(linearize(fn, z).jvp(tangent[None])[0], expected)


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
    x, grid = _randn(2, 3, *(5, 4, 3)[:d], dtype=dtype), _randn(2, *(4,) * d, d, dtype=dtype)
    _same(F.grid_sample, x, grid, mode, align_corners=False, dtype=dtype)


def test_grid_sample_by_its_other_names():
    x, grid = _randn(2, 3, 5, 4), _randn(2, 3, 4, 2)
    volume, places = _randn(2, 3, 5, 4, 3), _randn(2, 3, 4, 2, 3)
    for padding in range(3):
        for mode in range(3):
            _same(torch.grid_sampler, x, grid, mode, padding, True)
            _same(torch.grid_sampler_2d, x, grid, mode, padding, False)
        for mode in range(2):
            _same(torch.grid_sampler, volume, places, mode, padding, False)
            _same(torch.grid_sampler_3d, volume, places, mode, padding, True)
    with torch.autocast("cpu", torch.bfloat16):  # two dtypes are an error elsewhere
        _same(F.grid_sample, x.bfloat16(), grid.float(), align_corners=False, dtype=torch.float32)
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
    x, grid = _randn(*x), _randn(*grid)
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


def _complex(*shape, seed=0):
    return torch.complex(_randn(*shape, seed=seed), _randn(*shape, seed=seed + 100))


DRAWS = pytest.mark.parametrize("draw", [_randn, _complex])
DETERMINANTS = (torch.linalg.det, torch.det, torch.Tensor.det, torch.linalg.slogdet, torch.slogdet,
                torch.Tensor.slogdet, torch.logdet, torch.Tensor.logdet)  # fmt: skip


@DRAWS
@pytest.mark.parametrize("function", DETERMINANTS)
def test_determinants(function, draw):
    for n in (0, 1, 2, 3, 8, 9, 20):
        a = draw(2, n, n, seed=n)
        if "logdet" in function.__name__ and draw is _randn:
            a[0] = a[0] @ a[0].mT  # one that has a logarithm, one that may have none
        _same(function, a)
        _same(function, a[0])
        _same(function, a.expand(3, 2, n, n))
    for rows in itertools.permutations(range(3)):
        _same(function, draw(2, 3, 3)[:, list(rows)])
    if draw is _randn:  # PyTorch's complex logarithm of 0 is NaN in part
        _same(function, torch.zeros(2, 3, 3, dtype=torch.float64))


@DRAWS
@pytest.mark.parametrize("direction", DIFFERENTIATE)
@pytest.mark.parametrize("n", [1, 3, 6, 10])
def test_derivatives_of_determinants(n, draw, direction):
    a = draw(2, n, n) / math.sqrt(n) + 2 * torch.eye(n)
    tangent = draw(2, n, n, seed=1) / n
    if draw is _randn:
        assert (torch.det(a) > 0).all()
    for function in (
        decompositions.det,
        decompositions.logdet,
        lambda x: decompositions.slogdet(x)[1],
        lambda x: decompositions.slogdet(x)[0],
    ):
        _derivatives_are_right(lambda t, f=function: _weighted(f(a + t * tangent)), direction)


def _singular(kind, n, draw):
    a = draw(2, n, n) / math.sqrt(n)
    if kind == "first row and column are zero":
        a[:, 0] = a[:, :, 0] = 0
    elif kind == "equal columns":
        a[..., :2] = a[..., 2:3]
    elif kind == "equal rows":
        a[:, :3] = a[:, 3:4]
    elif kind == "one of the batch":
        a[0, 0] = 0
    else:
        a = draw(2, n, n - kind) @ draw(2, n - kind, n, seed=1) / n
    return a


@DRAWS
@pytest.mark.parametrize("direction", DIFFERENTIATE)
@pytest.mark.parametrize("n", [4, 10])
@pytest.mark.parametrize("kind", [1, 2, 3, "first row and column are zero", "equal columns",
                                  "equal rows", "one of the batch"])  # fmt: skip
def test_derivatives_of_det_at_singular_matrices(kind, n, draw, direction):
    n = 6 if direction == "forward" and n > 6 else n  # eight passes nested in each other
    a, tangent = _singular(kind, n, draw), draw(2, n, n, seed=2) / math.sqrt(n)
    torch.testing.assert_close(decompositions.det(a), torch.det(a), rtol=1e-12, atol=1e-12)
    _derivatives_are_right(lambda t: _weighted(decompositions.det(a + t * tangent)), direction)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_det_of_zero_is_a_polynomial(n):
    zero, tangent = torch.zeros(n, n, dtype=torch.float64), _randn(n, n)
    _derivatives_are_right(lambda t: decompositions.det(zero + t * tangent), "reverse")


def test_det_of_a_large_matrix_of_low_rank():
    """The derivatives up to the order of what the rank lacks are zero, or an error."""
    a = (_randn(20, 3) @ _randn(3, 20, seed=1)).requires_grad_()
    (slope,) = torch.autograd.grad(decompositions.det(a), a, create_graph=True)
    (bend,) = torch.autograd.grad((slope * _randn(20, 20, seed=2)).sum(), a)
    torch.testing.assert_close(slope, torch.zeros_like(a), rtol=0, atol=1e-12)
    torch.testing.assert_close(bend, torch.zeros_like(a), rtol=0, atol=1e-12)
    with pytest.raises(RuntimeError, match="singular"):
        decompositions.det(torch.zeros(20, 20))


@pytest.mark.parametrize("n", [4, 8, 12])
@pytest.mark.parametrize("kind", ["correlated", "graded rows", "graded columns"])
def test_det_keeps_the_digits_of_a_product_of_pivots(n, kind):
    scale = 10.0 ** -torch.arange(n)
    a = {
        "correlated": torch.full((n, n), 0.99) + 0.01 * torch.eye(n),
        "graded rows": _randn(n, n, dtype=torch.float32) * scale[:, None].clamp(min=1e-3),
        "graded columns": _randn(n, n, dtype=torch.float32) * scale.clamp(min=1e-3),
    }[kind]
    exact = torch.det(a.double())
    assert (decompositions.det(a) - exact).abs() <= 1e-4 * exact.abs()


@pytest.mark.parametrize("function", [decompositions.det, decompositions.slogdet,
                                      decompositions.logdet])  # fmt: skip
def test_determinants_refuse_what_is_not_square(function):
    for shape in ((2, 3), (3,), (4, 2, 3)):
        with pytest.raises(ValueError, match="A must have shape"):
            function(_randn(*shape))


@pytest.mark.parametrize("function", [torch.det, torch.logdet, lambda x: torch.slogdet(x)[1]])
@pytest.mark.filterwarnings("error:pydisent")
def test_determinants_can_be_traced(function):
    z, v = _randn(3, 4), _randn(2, 3, 4, seed=1)
    fixed = 3 * torch.eye(4, dtype=torch.float64)

    def fn(z):
        return function(z.unsqueeze(-1) * z.unsqueeze(-2) + fixed + z.diag_embed().tanh())

    got = linearize(fn, z).jvp(v)
    for tangent, row in zip(v, got):
        expected = central_difference(lambda h, e=tangent: fn(z + h * e), 1e-3)
        torch.testing.assert_close(row, expected, rtol=1e-8, atol=1e-8)


def test_linear_algebra():
    a = _randn(2, 3, 3) + 2 * torch.eye(3)
    for b, left in [(_randn(2, 3, 4), True), (_randn(2, 4, 3), False), (_randn(2, 3), True)]:
        _same(torch.linalg.solve, a, b, left=left)
    _same(torch.linalg.solve, a[0], _randn(3))
    _same(torch.conv_tbc, _randn(5, 2, 3), _randn(2, 3, 4), _randn(4), 1)


def test_bad_arguments_are_named():
    x = _randn(2, 4, 3)
    with DecomposedFunctions():
        with pytest.raises(ValueError, match="normalized_shape"):
            F.layer_norm(x, (4,))
        with pytest.raises(ValueError, match="num_groups"):
            F.group_norm(x, 3)
        with pytest.raises(ValueError, match="running_mean"):
            F.batch_norm(x, None, None)
        with pytest.raises(ValueError, match="attn_mask"):
            F.scaled_dot_product_attention(x, x, x, attn_mask=x @ x.mT, is_causal=True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_recurrent_cells(batch, bias):
    for native, gates in ((torch.lstm_cell, 4), (torch.gru_cell, 3)):
        x, h, c = _randn(batch, 4), _randn(batch, 5, seed=1), _randn(batch, 5, seed=2)
        weights = _randn(5 * gates, 4, seed=3), _randn(5 * gates, 5, seed=4)
        biases = (_randn(5 * gates, seed=5), _randn(5 * gates, seed=6)) if bias else ()
        _same(native, x, (h, c) if gates == 4 else h, *weights, *biases)
