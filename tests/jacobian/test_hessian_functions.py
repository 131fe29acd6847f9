"""The Hessian penalty of functions of many kinds: coupled, random, custom, not finite."""

import pytest
import torch
from _smooth_net import M, draw_codes, gradients, smooth_net
from torch import nn

from pydisent import hessian_penalty


def by_hand(x):
    return (x - x.mean(0)) * torch.rsqrt(x.var(0, correction=0) + 1e-5)


def test_coupled_samples_are_refused_or_held():
    first, last, norm = nn.Linear(M, 8), nn.Linear(8, 5), nn.BatchNorm1d(8, affine=False)
    first, last, norm = first.double(), last.double(), norm.double()
    values = []
    for normalize in (norm, by_hand):
        z = draw_codes().requires_grad_()
        value = hessian_penalty(lambda z, n=normalize: last(n(first(z)).tanh()), z, coupled="hold")
        wanted = [first.weight, last.weight, z]
        values.append([value, *torch.autograd.grad(value, wanted, materialize_grads=True)])
    torch.testing.assert_close(*values)
    with pytest.raises(ValueError, match="mixes the samples"):
        hessian_penalty(lambda z: by_hand(first(z)).tanh(), draw_codes())


@pytest.mark.parametrize("options", [{}, {"directions": 2}, {"directions": 2, "chunk": 1}])
def test_the_function_is_called_once_and_draws_once(options):
    net, calls = smooth_net(), []

    def fn(z, shift, *, scale):
        calls.append(1)
        return nn.functional.dropout(net(z), 0.5).tanh() * scale + shift

    z = draw_codes().requires_grad_()
    value = hessian_penalty(fn, z, 1.0, scale=2.0, **options)
    value.backward()
    assert calls == [1]
    assert z.grad.any()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_it_has_no_graph(mode):
    net, z = smooth_net(), draw_codes()
    expected = hessian_penalty(net, z)
    with mode():
        value = hessian_penalty(net, z)
        assert not value.requires_grad
        torch.testing.assert_close(value, expected.detach())


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, cotangent):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * cotangent


@pytest.mark.parametrize("chunk", [None, 1])
def test_a_custom_function_is_differentiated_by_its_backward(chunk):
    net, values = smooth_net(), []
    for cube in (Cube.apply, lambda x: x**3):
        z = draw_codes().requires_grad_()
        value = hessian_penalty(lambda z, c=cube: c(net(z)).tanh(), z, chunk=chunk)
        values.append([value, *gradients(value, net, z)])
    torch.testing.assert_close(*values)


def test_a_second_derivative_that_is_not_finite_is_an_error():
    z = torch.tensor([[0.0, 1.0]])
    with pytest.raises(ValueError, match="second derivatives of fn are not finite, from 'pow'"):
        hessian_penalty(lambda z: z**1.5 * z.flip(1), z)
    with pytest.raises(ValueError, match="Jacobian of fn has NaN or infinity in it, from 'sqrt'"):
        hessian_penalty(lambda z: z.sqrt(), z)


def test_recomputed_gradients_are_not_differentiated_again():
    net, z = smooth_net(), draw_codes().requires_grad_()
    value = hessian_penalty(net, z, chunk=1)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(value, z, create_graph=True)
