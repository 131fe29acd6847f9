"""J v with a graph, against autograd's own double-backward trick and central differences."""

import pytest
import torch
from torch import nn
from torch.autograd import grad, gradcheck

from pydisent import directional_derivative


def by_double_backward(fn, z, v):
    """J v as the derivative of J'u by u: reverse mode alone."""
    value = fn(z)
    u = torch.zeros_like(value, requires_grad=True)
    (pulled,) = grad(value, z, u, create_graph=True)
    return grad(pulled, u, v, create_graph=True)[0]


NETWORKS = {
    "dense": lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 5), nn.Sigmoid()),
    "convolutions": lambda: nn.Sequential(
        nn.Linear(3, 8), nn.Unflatten(1, (2, 2, 2)), nn.ConvTranspose2d(2, 3, 4, 2, 1), nn.SiLU(),
        nn.Conv2d(3, 1, 3, padding=1),
    ),
    "group norm": lambda: nn.Sequential(
        nn.Linear(3, 8), nn.Unflatten(1, (8, 1)), nn.GroupNorm(2, 8), nn.Softplus()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_gradients_equal_double_backward(name):
    torch.manual_seed(0)
    net = NETWORKS[name]().double()
    z, v = (torch.randn(4, 3, dtype=torch.double, requires_grad=True) for _ in "ab")
    value, derivative = directional_derivative(net, z, v)
    wanted = by_double_backward(net, z, v)
    torch.testing.assert_close(value, net(z), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(derivative, wanted, rtol=1e-11, atol=1e-11)
    inputs = [z, v, *net.parameters()]
    got = grad((value + derivative.pow(3)).sum(), inputs, allow_unused=True)
    want = grad((net(z) + wanted.pow(3)).sum(), inputs, allow_unused=True)
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_gradients_through_a_layer_norm_are_those_of_differences():
    """Where PyTorch's own are wrong."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.Tanh()).double()
    z, v = (torch.randn(2, 3, dtype=torch.double, requires_grad=True) for _ in "ab")
    assert gradcheck(lambda z, v: directional_derivative(net, z, v)[1], (z, v))


def test_arguments_are_passed_through():
    z, v = torch.randn(2, 3), torch.randn(2, 3)
    value, derivative = directional_derivative(lambda z, a, *, b: a * z.pow(2) + b, z, v, 3.0, b=1)
    torch.testing.assert_close(value, 3 * z**2 + 1)
    torch.testing.assert_close(derivative, 6 * z * v)


def test_bad_arguments():
    z = torch.randn(2, 3)
    with pytest.raises(ValueError, match=r"shape of z, \(2, 3\), got \(3,\)"):
        directional_derivative(torch.sin, z, torch.randn(3))
    with pytest.raises(TypeError, match="fn must return a tensor, got list"):
        directional_derivative(lambda z: [z, z], z, z)
    with pytest.raises(ValueError, match="depend on z"):
        directional_derivative(lambda z: torch.ones(2, 4), z, z)


def test_samples_and_keywords_are_as_those_of_linearize():
    z, v = torch.randn(2, 3, 4, dtype=torch.double)

    def centred(z, coupled=1.0):
        return coupled * (z - z.mean(0)).sin()

    with pytest.raises(ValueError, match="'mean' mixes the samples"):
        directional_derivative(centred, z, v)
    options = {"coupled": "hold", "fn_kwargs": {"coupled": 3.0}}
    _, derivative = directional_derivative(centred, z, v, **options)
    torch.testing.assert_close(derivative, 3 * (z - z.mean(0)).cos() * v)
