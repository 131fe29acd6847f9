"""Spatial constriction at extremes: constant planes, large means, empty operands."""

import pytest
import torch
from _constriction import FORMATS, IMPLS, normal, plain, problem
from torch.autograd import grad

from pydisent.ops import spatial_constriction


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
