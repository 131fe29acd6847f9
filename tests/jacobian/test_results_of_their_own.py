"""Results are the caller's own: in one dtype whatever their size, and safe to write into."""

import pytest
import torch
from _functions import draw_codes
from torch.autograd import Function

from pydisent.jacobian import (
    DerivativeError,
    directional_derivative,
    linearize,
    second_directional_derivative,
)

Z = draw_codes(2, 3)
IDENTITIES = {
    "identity": lambda z: z,
    "view": lambda z: z.unsqueeze(1),
    "transpose": lambda z: z.unsqueeze(2).mT,
    "part": lambda z: z[:, :2],
    "list": lambda z: [z, z.view(2, 1, 3)],
    "constant beside": lambda z: [z, torch.ones(2, 4)],
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.int64])
@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("compute_dtype", [None, torch.float32])
def test_products_have_one_dtype_for_any_number_of_tangents(dtype, count, compute_dtype):
    linear = linearize(torch.sin, Z, compute_dtype=compute_dtype)
    tangents = torch.ones(count, 2, 3, dtype=dtype)
    for product in (linear.jvp, linear.vjp, linear.gram_product):
        found = product(tangents)
        assert found.dtype == (compute_dtype or torch.float64)
        assert found.shape == (count, 2, 3)


@pytest.mark.parametrize("name", IDENTITIES)
def test_writing_into_results_changes_no_argument(name):
    def tensors(value):
        return value if isinstance(value, list) else [value]

    fn, tangents = IDENTITIES[name], draw_codes(3, 2, 3)
    before, z = tangents.clone(), Z.clone()
    linear = linearize(fn, z)
    given = linear.jvp(tangents)
    cotangents = given if name == "list" else linear.jvp(tangents)
    kept = [part.clone() for part in tensors(cotangents)]
    results = [*tensors(linear.jvp(tangents)), linear.gram_product(tangents)]
    results.append(linear.vjp(cotangents))
    _, first, second = second_directional_derivative(fn, z, tangents)
    results += tensors(first)[:1] + tensors(second)
    if not isinstance(linear.value, list):
        results += directional_derivative(fn, z, tangents[0])
    for result in results:
        result.detach().add_(1.0)
    assert torch.equal(tangents, before)
    assert torch.equal(z, Z)
    assert all(map(torch.equal, tensors(cotangents), kept))


@pytest.mark.parametrize("wrong", [None, [None, None], [None, torch.ones(1, 2, 3)], 3])
def test_cotangents_of_another_structure_are_refused(wrong):
    for fn in (torch.sin, lambda z: [z.sin(), None]):
        linear = linearize(fn, Z)
        with pytest.raises(ValueError, match="cotangents must have shapes"):
            linear.vjp(wrong)
    linear = linearize(lambda z: [z.sin(), None], Z)
    assert linear.vjp([torch.ones(1, 2, 3), None]).shape == (1, 2, 3)


class _Settings:
    clipped = False


class _Clip(Function):
    limit = None

    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, g):
        return g if _Clip.limit is None else (g / g.norm()).detach() * _Clip.limit


class _ClipBySettings(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, g):
        return g.detach() if _Settings.clipped else g


@pytest.mark.parametrize(("function", "owner", "name", "value"), [
    (_Clip, _Clip, "limit", 0.5),
    (_ClipBySettings, _Settings, "clipped", True),
])  # fmt: skip
def test_a_backward_that_changes_is_tested_again(monkeypatch, function, owner, name, value):
    """What it reads from around it decides whether it is differentiable in its cotangent."""
    torch.testing.assert_close(linearize(function.apply, Z).gram_matrix()[0], torch.eye(3).double())
    monkeypatch.setattr(owner, name, value)
    with pytest.raises(DerivativeError, match=function.__name__):
        linearize(function.apply, Z)


def test_a_backward_that_changes_with_a_closure_is_tested_again():
    def function(detached):
        class Changing(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1

            @staticmethod
            def backward(ctx, g):
                return g.detach() if detached else g

        def switch():
            nonlocal detached
            detached = not detached

        return Changing.apply, switch

    apply, switch = function(False)
    linearize(apply, Z)
    switch()
    with pytest.raises(DerivativeError, match="Changing"):
        linearize(apply, Z)


def test_lazily_conjugated_tangents_are_read_as_pairs():
    weight = draw_codes(3, 4).to(torch.complex128)

    def fn(z):
        a = (z.to(weight.dtype) @ weight).view(2, 2, 2) + 3 * torch.eye(2)
        return torch.view_as_real(torch.linalg.cholesky(a @ a.mH, upper=True))

    def with_copies(z):
        a = (z.to(weight.dtype) @ weight).view(2, 2, 2) + 3 * torch.eye(2)
        upper = torch.linalg.cholesky(a @ a.mH).mH.resolve_conj()
        return torch.stack([upper.real, upper.imag], -1)

    found, expected = linearize(fn, Z).jacobian(), linearize(with_copies, Z).jacobian()
    torch.testing.assert_close(found, expected)
