"""Spatial constriction against loops over pixels, and against what it must be in special cases."""

import importlib.util
import math
import os
import subprocess
import sys

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from pydisent import _backends
from pydisent.ops import spatial_constriction

IMPLS = ["auto", "reference"]
FORMATS = [torch.contiguous_format, torch.channels_last]
needs_native = pytest.mark.skipif(
    _backends.native_reason("cpu") != "", reason=_backends.native_reason("cpu") or "built"
)
#: Tiles, blocks of channels and chunks of codes, each with a rest; odd planes; many groups.
SIZES = [
    (2, 37, 41, 53, 2),
    (1, 70, 33, 7, 11),
    (3, 5, 64, 64, 5),
    (40, 3, 1, 17, 1),
    (2, 33, 8, 8, 8),
]


def normal(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def problem(batch, channels, height, width, codes, dtype=torch.float64):
    """Masks are soft, with zeros and ones."""
    masks = (1.4 * normal(batch, codes, height, width, seed=1).sigmoid() - 0.2).clamp(0, 1)
    x = normal(batch, channels, height, width) + normal(1, channels, 1, 1, seed=2)
    styles = (normal(batch, codes, channels, seed=s) for s in (3, 4))
    return [t.to(dtype) for t in (x, masks, *styles)]


def require_gradients(inputs):
    return [t.detach().requires_grad_() for t in inputs]


def by_loops(x, masks, scales, shifts, eps):
    """Eqs. 6-7 pixel by pixel, on Python's floats."""
    out = x.clone()
    for b in range(x.shape[0]):
        for c in range(x.shape[1]):
            values = x[b, c].flatten().tolist()
            mean = math.fsum(values) / len(values)
            variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
            for i, value in enumerate(values):
                normalized, state = (value - mean) / math.sqrt(variance + eps), value
                for n in range(masks.shape[1]):
                    m = masks[b, n].flatten()[i].item()
                    styled = scales[b, n, c].item() * normalized + shifts[b, n, c].item()
                    state = (1 - m) * state + m * styled
                out[b, c].view(-1)[i] = state
    return out


def plain(x, masks, scales, shifts, eps=1e-8):
    """As one would write it; autograd does the rest."""
    mean = x.mean((2, 3), keepdim=True)
    centred = x - mean
    normalized = centred / (centred.square().mean((2, 3), keepdim=True) + eps).sqrt()
    for n in range(masks.shape[1]):
        styled = scales[:, n, :, None, None] * normalized + shifts[:, n, :, None, None]
        x = torch.lerp(x, styled, masks[:, n, None])
    return x


def normalized(x, eps=1e-8):
    return torch.stack(
        [(p - p.mean()) / (p.var(correction=0) + eps).sqrt() for p in x.flatten(0, 1)]
    )


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    "size", [(2, 3, 4, 5, 3), (1, 2, 1, 6, 9), (2, 2, 1, 1, 2), (1, 17, 3, 1, 1)]
)
def test_equals_loops_over_pixels(size, impl):
    inputs = problem(*size)
    got = spatial_constriction(*inputs, 0.01, impl=impl)
    torch.testing.assert_close(got, by_loops(*inputs, 0.01), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients_equal_plain_autograd(size, layout, impl):
    inputs = require_gradients(problem(*size))
    cotangent = normal(*inputs[0].shape, seed=9)
    given = [inputs[0].detach().to(memory_format=layout).requires_grad_(), *inputs[1:]]
    got, want = spatial_constriction(*given, impl=impl), plain(*inputs)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)
    got, want = grad(got, given, cotangent), grad(want, inputs, cotangent)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@needs_native
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", SIZES)
def test_lower_precisions(size, dtype, layout):
    """Results are those of float64 on the same numbers, rounded; sums are in single precision."""
    inputs = problem(*size, dtype)
    exact = require_gradients(t.double() for t in inputs)
    inputs = require_gradients([inputs[0].to(memory_format=layout), *inputs[1:]])
    cotangent = normal(*inputs[0].shape, seed=9).to(dtype)
    got, want = spatial_constriction(*inputs, impl="native"), plain(*exact)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(got.double(), want, rtol=eps, atol=1e-5)
    for a, b in zip(grad(got, inputs, cotangent), grad(want, exact, cotangent.double())):
        scale = b.abs().max().item()
        torch.testing.assert_close(a.double(), b, rtol=eps, atol=1e-5 * max(scale, 1))


@pytest.mark.parametrize("impl", IMPLS)
def test_a_mask_of_zero_is_the_identity(impl):
    x, masks, scales, shifts = require_gradients(problem(2, 3, 5, 4, 2, torch.float32))
    out = spatial_constriction(x, 0 * masks, scales, shifts, impl=impl)
    assert torch.equal(out, x)
    cotangent = normal(*x.shape, seed=9, dtype=torch.float32)
    to_x, to_scales, to_shifts = grad(out, (x, scales, shifts), cotangent)
    assert torch.equal(to_x, cotangent)
    assert not to_scales.any()
    assert not to_shifts.any()


@pytest.mark.parametrize("impl", IMPLS)
def test_a_mask_of_one_is_adaptive_instance_normalisation(impl):
    """And nothing of what was before it is left, nor gets a gradient."""
    x, masks, scales, shifts = problem(2, 3, 5, 4, 3)
    masks[:, 1] = 1
    masks[:, 2] = 0
    inputs = require_gradients([x, masks, scales, shifts])
    out = spatial_constriction(*inputs, impl=impl)
    want = normalized(x).view_as(x) * scales[:, 1, :, None, None] + shifts[:, 1, :, None, None]
    torch.testing.assert_close(out, want)
    _, to_masks, to_scales, to_shifts = grad(out.pow(3).sum(), inputs)
    for gradient in (to_masks, to_scales, to_shifts):
        assert not gradient[:, 0].any()
        assert gradient.isfinite().all()
    # The mean over pixels is the shift, and the deviation the scale.
    torch.testing.assert_close(out.mean((2, 3)), shifts[:, 1])
    torch.testing.assert_close(out.std((2, 3), correction=0), scales[:, 1].abs())


@pytest.mark.parametrize("impl", IMPLS)
def test_disjoint_masks_act_apart(impl):
    x, _, scales, shifts = problem(2, 4, 6, 8, 3)
    owner = torch.arange(8).expand(2, 6, 8) % 4
    masks = torch.stack([(owner == n).double() for n in range(3)], dim=1)
    together = spatial_constriction(x, masks, scales, shifts, impl=impl)
    for n in range(3):
        one = slice(n, n + 1)
        alone = spatial_constriction(x, masks[:, one], scales[:, one], shifts[:, one], impl=impl)
        inside = masks[:, one].bool().expand_as(x)
        torch.testing.assert_close(together[inside], alone[inside])
    untouched = (owner == 3)[:, None].expand_as(x)
    assert torch.equal(together[untouched], x[untouched])


@pytest.mark.parametrize("impl", IMPLS)
def test_codes_follow_each_other(impl):
    """The last of two full masks wins; the order of two half masks shows."""
    x, _, scales, shifts = problem(1, 2, 3, 4, 2)
    half = torch.full((1, 2, 3, 4), 0.5, dtype=x.dtype)
    styled = (
        normalized(x).view(1, 1, *x.shape[1:]) * scales[..., None, None] + shifts[..., None, None]
    )
    out = spatial_constriction(x, half, scales, shifts, impl=impl)
    torch.testing.assert_close(out, x / 4 + styled[:, 0] / 4 + styled[:, 1] / 2)
    out = spatial_constriction(x, torch.ones_like(half), scales, shifts, impl=impl)
    torch.testing.assert_close(out, styled[:, 1])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("value", [0.1, -3.3, 12345.678])
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (64, 64)])
def test_a_constant_plane_becomes_the_shift(size, value, impl):
    x = torch.full((2, 3, *size), value)
    masks, (scales, shifts) = (
        torch.ones(2, 1, *size),
        (normal(2, 1, 3, seed=s).float() for s in (0, 1)),
    )
    out = spatial_constriction(x, masks, scales, shifts, impl=impl)
    assert torch.equal(out, shifts[:, 0, :, None, None].expand_as(x))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("layout", FORMATS)
def test_a_mean_of_ten_thousand_does_not_hurt(layout, impl):
    x, masks, scales, shifts = problem(2, 5, 48, 40, 1, torch.float32)
    x, masks = (x + 1e4).to(memory_format=layout).requires_grad_(), torch.ones_like(masks)
    exact = x.detach().double().requires_grad_()
    out = spatial_constriction(x, masks, scales, shifts, impl=impl)
    want = plain(exact, masks.double(), scales.double(), shifts.double())
    torch.testing.assert_close(out.double(), want, rtol=1e-6, atol=2e-6)
    cotangent = normal(*x.shape, seed=9).float()
    (got,), (want,) = grad(out, x, cotangent), grad(want, exact, cotangent.double())
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)
    single = plain(x.detach(), masks, scales, shifts)  # what is to be avoided
    assert (single - want.detach()).abs().max() > 1e-4


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    "shape", [(0, 3, 4, 4, 2), (2, 0, 4, 4, 2), (2, 3, 4, 4, 0), (2, 3, 0, 4, 2)]
)
def test_nothing_to_do(shape, impl):
    batch, channels, height, width, codes = shape
    x = normal(batch, channels, height, width).requires_grad_()
    masks = torch.rand(batch, codes, height, width).double().requires_grad_()
    styles = [normal(batch, codes, channels, seed=s).requires_grad_() for s in (1, 2)]
    out = spatial_constriction(x, masks, *styles, impl=impl)
    assert out.data_ptr() != x.data_ptr() or out.numel() == 0
    if codes == 0:
        assert torch.equal(out, x)
    grads = grad(out, (x, masks, *styles), torch.ones_like(out), allow_unused=True)
    for t, g in zip((x, masks, *styles), grads):
        assert g is None or (g.shape == t.shape and g.isfinite().all())


@pytest.mark.parametrize("impl", IMPLS)
def test_each_gradient_alone(impl):
    inputs = problem(2, 3, 5, 4, 2)
    whole = require_gradients(inputs)
    want = grad(plain(*whole).pow(2).sum(), whole)
    for i in range(4):
        some = [t.requires_grad_() if j == i else t for j, t in enumerate(problem(2, 3, 5, 4, 2))]
        (got,) = grad(spatial_constriction(*some, impl=impl).pow(2).sum(), some[i])
        torch.testing.assert_close(got, want[i])


def test_second_derivatives():
    inputs = require_gradients(problem(2, 2, 3, 3, 2))
    assert gradcheck(spatial_constriction, (*inputs, 1e-3))
    assert gradgradcheck(spatial_constriction, (*inputs, 1e-3))


def test_a_gradient_penalty_equals_plain_autograd():
    """Squared norm of the gradient to x, and its gradients: R1's way through a layer."""

    def penalty(function):
        inputs = require_gradients(problem(2, 4, 6, 5, 3))
        (slope,) = grad(function(*inputs).pow(3).sum(), inputs[0], create_graph=True)
        return grad(slope.pow(2).sum(), inputs)

    torch.testing.assert_close(penalty(spatial_constriction), penalty(plain))


@pytest.mark.parametrize("layout", FORMATS)
def test_memory_format_is_that_of_x(layout):
    x, *rest = problem(2, 6, 4, 5, 2)
    x = x.to(memory_format=layout).requires_grad_()
    out = spatial_constriction(x, *rest)
    assert out.is_contiguous(memory_format=layout)
    transposed = normal(*x.shape[:2], 5, 4, seed=5).transpose(2, 3)
    (got,) = grad(out, x, transposed, retain_graph=True)
    assert got.is_contiguous(memory_format=layout)
    torch.testing.assert_close(got, grad(out, x, transposed.contiguous())[0])


@pytest.mark.parametrize("layout", FORMATS)
def test_the_op_keeps_its_contract(layout):
    x, *rest = problem(2, 18, 4, 5, 2, torch.float32)
    inputs = require_gradients([x.to(memory_format=layout), *rest])
    torch.library.opcheck(torch.ops.pydisent.spatial_constriction.default, (*inputs, 1e-8))


def test_strided_and_expanded_operands():
    x, masks, scales, shifts = problem(2, 3, 4, 6, 2)
    want = spatial_constriction(x, masks[:1].expand_as(masks), scales, shifts[:1].expand_as(shifts))
    wide = torch.full((2, 4, 3, 12), math.nan, dtype=x.dtype)
    wide[..., ::2] = x.transpose(1, 2)
    moved = wide[..., ::2].transpose(1, 2)
    nhwc = masks.contiguous(memory_format=torch.channels_last)
    got = spatial_constriction(
        moved, nhwc[:1].expand_as(masks), scales.mT.contiguous().mT, shifts[:1].expand_as(shifts)
    )
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("impl", IMPLS)
def test_dtypes_may_differ_and_x_gives_that_of_the_result(impl):
    """As autocast leaves them: a bfloat16 map, and masks from a float32 softmax."""
    x, masks, scales, shifts = problem(2, 5, 6, 7, 2)
    given = require_gradients([x.bfloat16(), masks.float(), scales.half(), shifts])
    exact = require_gradients(t.double() for t in given)
    out, want = spatial_constriction(*given, impl=impl), plain(*exact)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), want, rtol=2**-8, atol=1e-5)
    cotangent = normal(*x.shape, seed=9).bfloat16()
    for a, b, t in zip(grad(out, given, cotangent), grad(want, exact, cotangent.double()), given):
        assert a.dtype == t.dtype
        torch.testing.assert_close(a.double(), b, rtol=2 * torch.finfo(t.dtype).eps, atol=2e-5)


@pytest.mark.parametrize("impl", IMPLS)
def test_autocast_changes_nothing(impl):
    inputs = require_gradients(problem(2, 5, 6, 7, 2, torch.float32))

    def both():
        out = spatial_constriction(*inputs, impl=impl)
        return out, *grad(out.pow(2).sum(), inputs)

    want = both()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = both()
    for a, b in zip(got, want):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


@pytest.mark.parametrize("layout", FORMATS)
def test_compiles_whole_within_a_stranger_s_loss(layout):
    def loss(x, logits, scales, shifts):
        masks = torch.cumsum(torch.softmax(logits, -1), -1)
        return torch.relu(spatial_constriction(2 * x, masks, scales + 1, shifts)).pow(2).mean()

    x, *rest = problem(2, 18, 6, 7, 2)
    inputs = require_gradients([x.to(memory_format=layout), *rest])
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(grad(compiled(*inputs), inputs), grad(loss(*inputs), inputs))


@needs_native
@pytest.mark.parametrize("size", [(1, 70, 40, 40, 3), (5, 40, 16, 16, 9), (3, 20, 5, 5, 2)])
def test_neither_threads_nor_the_layout_change_a_bit(size):
    x, *rest = problem(*size, torch.float32)
    cotangent = normal(*x.shape, seed=9).float()

    def both(layout):
        inputs = require_gradients([x.to(memory_format=layout), *rest])
        out = spatial_constriction(*inputs, impl="native")
        return out, *grad(out, inputs, cotangent)

    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results += [both(layout) for layout in FORMATS]
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


AGAINST_THE_REFERENCE = """
import sys, torch
from torch.autograd import grad
from pydisent.ops import spatial_constriction

impl, tolerance = sys.argv[1], 1e-10
for size in ((1, 40, 23, 30, 3), (2, 3, 5, 7, 9), (2, 18, 8, 8, 1)):
    for layout in (torch.contiguous_format, torch.channels_last):
        batch, channels, height, width, codes = size
        x = torch.randn(size[:4], dtype=torch.float64).to(memory_format=layout)
        masks = torch.rand(batch, codes, height, width, dtype=torch.float64)
        styles = [torch.randn(batch, codes, channels, dtype=torch.float64) for _ in "ab"]
        inputs = [t.requires_grad_() for t in (x, masks, *styles)]
        cotangent = torch.randn_like(x)
        results = []
        for name in (impl, "reference"):
            out = spatial_constriction(*inputs, impl=name)
            results.append((out, *grad(out, inputs, cotangent)))
        torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)
        assert results[0][0].stride() == results[0][1].stride() == x.stride()
"""


def run_apart(*arguments, code=AGAINST_THE_REFERENCE, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_native
@pytest.mark.parametrize("limit", ["baseline", "avx2"])
def test_other_instruction_sets(limit):
    run_apart("native", PYDISENT_INSTRUCTION_SET=limit)


UNEVEN_PLANES = """
import torch
from pydisent.ops.registry import REGISTRY

op = REGISTRY["spatial_constriction"]
torch.manual_seed(0)
for shape in ((1, 2, 96, 97), (1, 3, 128, 72), (1, 2, 3, 2731)):  # around what stays on chip
    for layout in (torch.contiguous_format, torch.channels_last):
        x = 1e4 + torch.randn(shape, dtype=torch.float64)
        x[..., :2, :] -= 3e4  # the first tile is far from the others
        x = x.float().to(memory_format=layout)
        rest = torch.rand(1, 1, *shape[2:]), torch.ones(1, 1, shape[1]), torch.ones(1, 1, shape[1])
        (out, found), (ref, known) = (op(x, *rest, 1e-8, impl=i) for i in ("triton", "reference"))
        exact, statistics = op(x.double(), *(t.double() for t in rest), 1e-8, impl="reference")
        results = (out, ref, exact), (found[:, 2], known[:, 2], statistics[:, 2])
        for got, reference, want in results:
            error, bound = ((t.double() - want).abs().max() for t in (got, reference))
            assert error <= 2 * bound + 16 * 2**-23 * want.abs().max(), (shape, error, bound)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_triton_on_planes_of_many_tiles_and_those_that_do_not_stay_on_chip():
    run_apart("triton", code=AGAINST_THE_REFERENCE + UNEVEN_PLANES, TRITON_INTERPRET="1")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.ones(4, 3, 5)}, ValueError, r"x must have shape .*got \(4, 3, 5\)"),
        ({"x": torch.ones(4, 3, 5, 6).long()}, TypeError, "x must .*got torch.int64"),
        ({"masks": torch.ones(4, 5, 6)}, ValueError, r"masks must .*\(4, N, 5, 6\)"),
        (
            {"masks": torch.ones(4, 2, 6, 5)},
            ValueError,
            r"masks must have shape .*got \(4, 2, 6, 5\)",
        ),
        ({"masks": torch.ones(4, 2, 5, 6) > 0}, TypeError, "masks must .*got torch.bool"),
        ({"scales": torch.ones(4, 3)}, ValueError, r"scales must .*\(4, 2, 3\)"),
        ({"shifts": torch.ones(4, 1, 3)}, ValueError, r"shifts must have shape .*got \(4, 1, 3\)"),
        ({"shifts": [1.0]}, TypeError, "shifts must .*got list"),
        ({"eps": 0.0}, ValueError, "eps must .*got 0.0"),
        ({"eps": "1e-8"}, TypeError, "eps must .*got '1e-8'"),
        ({"eps": torch.ones((), requires_grad=True)}, TypeError, "eps must .*got Tensor"),
        ({"scales": torch.ones(4, 2, 3, device="meta")}, ValueError, "scales must .*got meta"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    arguments = {"x": torch.ones(4, 3, 5, 6), "masks": torch.ones(4, 2, 5, 6)}
    arguments |= {name: torch.ones(4, 2, 3) for name in ("scales", "shifts")}
    with pytest.raises(error, match=message):
        spatial_constriction(**(arguments | change))
