"""Arguments of the Hessian penalty, and the penalty as a module."""

import pytest
import torch
from _smooth_net import D, M, draw_codes, smooth_net

import pydisent
from pydisent import hessian_penalty
from pydisent.jacobian import HessianPenalty

BAD = [
    ("directions", {"directions": 1}),
    ("directions", {"directions": 2.0}),
    ("directions", {"directions": "all"}),
    ("directions", {"directions": torch.ones(2, 3, M + 1)}),
    ("directions", {"directions": torch.ones(1, 3, M)}),
    ("directions", {"directions": torch.ones(2, 3, M), "normalized": True}),
    ("directions", {"directions": torch.ones(2, 3, M, dtype=torch.complex64)}),
    ("reduction", {"reduction": "median"}),
    ("normalized", {"normalized": 1}),
    ("latent_scale", {"latent_scale": torch.ones(M + 1)}),
    ("latent_scale", {"latent_scale": 2.0}),
    ("latent_scale", {"latent_scale": torch.ones(M, dtype=torch.long)}),
    ("chunk", {"chunk": 0}),
    ("compute_dtype", {"compute_dtype": torch.int8}),
    ("coupled", {"coupled": "ignore"}),
]


@pytest.mark.parametrize(("name", "given"), BAD, ids=[f"{n}-{i}" for i, (n, _) in enumerate(BAD)])
def test_bad_options_are_named(name, given):
    called = []

    def fn(z):
        called.append(1)
        return z.sin()

    with pytest.raises((ValueError, TypeError), match=name):
        hessian_penalty(fn, draw_codes(), **given)
    assert not called, "an error must come before any work"


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("directions", {"directions": torch.full((2, 3, M), torch.nan)}),
        ("latent_scale", {"latent_scale": torch.full((M,), torch.inf)}),
    ],
)
def test_what_is_not_finite_is_named(name, given):
    with pytest.raises(ValueError, match=f"^{name} must be finite, got NaN or infinity"):
        hessian_penalty(smooth_net(), draw_codes(), **given)


OF_A_MODULE = [
    (name, given) for name, given in BAD if not torch.is_tensor(next(iter(given.values())))
]


@pytest.mark.parametrize(("name", "given"), OF_A_MODULE, ids=[f"{g}" for _, g in OF_A_MODULE])
def test_a_module_names_bad_options_when_it_is_made(name, given):
    with pytest.raises((ValueError, TypeError), match=name):
        HessianPenalty(**given)


def test_directions_of_a_derivative_are_checked():
    z = draw_codes()
    for directions in (z, torch.ones(0, *z.shape), [1.0]):
        with pytest.raises(ValueError, match=r"directions must have shape \(K, 3, 5\)"):
            pydisent.second_directional_derivative(torch.sin, z, directions)
    with pytest.raises(TypeError, match=r"directions must be a real tensor, got dtype torch\.comp"):
        pydisent.second_directional_derivative(torch.sin, z, torch.ones(2, *z.shape) + 0j)


def test_as_a_module():
    net, z = smooth_net(), draw_codes()
    scale = torch.rand(M, dtype=D)
    penalty = HessianPenalty(normalized=True, latent_scale=scale)
    expected = hessian_penalty(net, z, normalized=True, latent_scale=scale)
    torch.testing.assert_close(penalty(net, z), expected)
    assert torch.equal(penalty.state_dict()["latent_scale"], scale)
    assert "normalized=True" in repr(penalty)
    assert penalty(lambda z, *, chunk: net(z) * chunk, z, chunk=1.0) == penalty(net, z)
    with pytest.raises(TypeError, match="directions"):
        HessianPenalty(directions=torch.ones(2, 3, M))
    with pytest.raises(ValueError, match="reduction"):
        HessianPenalty(reduction="median")
