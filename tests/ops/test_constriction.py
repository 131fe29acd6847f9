"""Spatial constriction against loops over pixels, and against what it must be in special cases."""

import math

import pytest
import torch
from _constriction import FORMATS, IMPLS, normal, plain, problem, require_gradients
from _native import needs_native
from torch.autograd import grad, gradcheck, gradgradcheck

from pydisent.ops import spatial_constriction

#: Tiles, blocks of channels and chunks of codes, each with a rest; odd planes; many groups.
SIZES = [
    (2, 37, 41, 53, 2),
    (1, 70, 33, 7, 11),
    (3, 5, 64, 64, 5),
    (40, 3, 1, 17, 1),
    (2, 33, 8, 8, 8),
]


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
