"""Arguments of many kinds that are accepted."""

import numpy as np
import pytest
import torch
from _functions import METHODS, D, by_differences, draw_codes, exact_penalty
from torch import nn

import pydisent


def test_a_functions_own_keywords():
    def fn(z, k=1.0, chunk=0.0, *, probe=0.0, method="cos"):
        return getattr(torch, method)(z * k + chunk + probe)

    own = {"k": 2.0, "chunk": 0.1, "probe": 0.2, "method": "sin"}
    expected = exact_penalty(lambda z: (z * 2 + 0.3).sin(), draw_codes())
    torch.testing.assert_close(exact_penalty(fn, draw_codes(), fn_kwargs=own), expected)
    module = pydisent.AlignmentPenalty(2, 2, tolerance=0)
    probe = torch.ones(3, 4, 2, dtype=D)
    torch.testing.assert_close(module(fn, draw_codes(), probe=probe, fn_kwargs=own), expected)
    path = pydisent.trace_eigenpath(fn, draw_codes(), steps=1, fn_kwargs=own)
    assert path.shape == (1, 3, 2, 4)
    with pytest.raises(TypeError, match="fn_kwargs"):
        pydisent.linearize(fn, draw_codes(), fn_kwargs=["k"])
    with pytest.raises(TypeError, match="fn_kwargs"):
        pydisent.linearize(fn, draw_codes(), scale=1, fn_kwargs={"scale": 2})


def test_numpys_integers_are_accepted():
    value = pydisent.alignment_penalty(
        torch.sin, draw_codes(), k=np.int64(2), iterations=np.int32(2), chunk=np.int16(1),
        tolerance=np.float32(0.5),
    )  # fmt: skip
    assert value.isfinite()
    assert pydisent.trace_eigenpath(
        torch.sin, draw_codes(), ordinals=np.array([2, 1]), steps=np.int64(1)
    ).shape == (2, 3, 2, 4)
    with pytest.raises(TypeError, match="k must be an integer"):
        pydisent.alignment_penalty(torch.sin, draw_codes(), k=np.float64(2), iterations=1)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_among_the_outputs(method):
    layer = nn.Linear(4, 6).double()
    value = exact_penalty(lambda z: (layer(z), None, {"extra": None}), draw_codes(), method)
    torch.testing.assert_close(value, exact_penalty(layer, draw_codes(), method))
    if method != "autograd":
        linear = pydisent.linearize(lambda z: (layer(z), None), draw_codes())
        moved = linear.jvp(draw_codes()[None])
        assert moved[1] is None
        torch.testing.assert_close(
            linear.vjp((moved[0], None)), linear.gram_product(draw_codes()[None])
        )


@pytest.mark.parametrize("method", METHODS)
def test_latent_codes_of_any_shape(method):
    """DCGAN's (B, m, 1, 1), and w+ codes (B, L, 512): as the same codes, flat."""
    deconvolution = nn.Sequential(nn.ConvTranspose2d(4, 3, 4), nn.Tanh()).double()
    mixing = lambda w: (w[:, 0] * w[:, 1].sin())[:, None] + w.cos()
    for fn, shape in ((deconvolution, (3, 4, 1, 1)), (mixing, (3, 2, 4))):
        flat = draw_codes(*shape).flatten(1).requires_grad_()
        shaped = draw_codes(*shape).requires_grad_()
        wide = exact_penalty(lambda z, fn=fn, s=shape: fn(z.reshape(s)), flat, method, k=3)
        value = exact_penalty(fn, shaped, method, k=3)
        torch.testing.assert_close(value, wide)
        expected = torch.autograd.grad(wide, flat)[0].reshape(shape)
        torch.testing.assert_close(torch.autograd.grad(value, shaped)[0], expected)


def test_products_of_codes_of_any_shape():
    z = draw_codes(3, 2, 4)
    fn = lambda w: (w[:, 0] * w[:, 1].sin()).tanh()
    linear = pydisent.linearize(fn, z)
    jacobian = linear.jacobian()
    torch.testing.assert_close(jacobian, by_differences(fn, z))
    tangents = draw_codes(5, 3, 2, 4)
    moved = torch.einsum("bnm,kbm->kbn", jacobian, tangents.flatten(2))
    torch.testing.assert_close(linear.jvp(tangents), moved)
    pulled = torch.einsum("bnm,kbn->kbm", jacobian, moved).reshape(tangents.shape)
    torch.testing.assert_close(linear.vjp(moved), pulled)
    torch.testing.assert_close(linear.gram_product(tangents), pulled)
    torch.testing.assert_close(linear.gram_matrix(), jacobian.mT @ jacobian)
    assert pydisent.trace_eigenpath(fn, z, ordinals=(1, 3), steps=2).shape == (2, 3, 3, 2, 4)
    _, moved = pydisent.directional_derivative(fn, z, tangents[0])
    torch.testing.assert_close(moved, linear.jvp(tangents[:1])[0])
    with pytest.raises(ValueError, match=r"\(K, 3, 2, 4\)"):
        linear.jvp(tangents.flatten(2))


def test_an_eigenpath_leaves_arguments_as_they_are():
    """A matrix whose first size is the batch's is not a sample's."""
    weight = draw_codes(3, 3)
    fn = lambda z, w: (z @ w).sin()
    for batch in (3, 4):
        both = pydisent.trace_eigenpath(fn, draw_codes(batch, 3), weight, ordinals=(1, 2), steps=2)
        for i, ordinal in enumerate((1, 2)):
            one = pydisent.trace_eigenpath(
                fn, draw_codes(batch, 3), weight, ordinals=ordinal, steps=2
            )
            assert torch.equal(both[i], one[0])
