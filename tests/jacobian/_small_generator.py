"""A small generator, its codes and probe, and how gradients are compared."""

import torch
from _oracle import unrolled
from torch import nn

METHODS = ["gram", "matrix_free", "autograd"]
ROUTES = ["gram", "matrix_free"]


def small_generator(dtype=torch.float64, m=5):
    torch.manual_seed(0)
    layers = [nn.Linear(m, 12), nn.SiLU(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 9)]
    return nn.Sequential(*layers).to(dtype)


def draw_codes(batch=3, m=5, dtype=torch.float64):
    return torch.randn(batch, m, generator=torch.Generator().manual_seed(1)).to(dtype)


def draw_signs(z, k):
    drawn = torch.randint(0, 2, (*z.shape, k), generator=torch.Generator().manual_seed(2))
    return (drawn * 2 - 1).to(z.dtype)


def gradients_of(value, parameters):
    return torch.autograd.grad(value, list(parameters), materialize_grads=True)


def assert_near(got, expected, bound):
    for a, b in zip(got, expected, strict=True):
        assert (a.double() - b.double()).norm() <= bound * b.double().norm().clamp_min(1e-3)


def by_unrolling(net, z, k=2, iterations=2):
    return unrolled(net, net.parameters(), z, iterations=iterations, probe=draw_signs(z, k))
