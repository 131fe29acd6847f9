"""A small smooth network, codes for it, and gradients to both."""

import torch
from torch import nn

D = torch.float64
M = 5


def smooth_net(m=M, out=7, dtype=D):
    torch.manual_seed(0)
    layers = [nn.Linear(m, 12), nn.Tanh(), nn.Linear(12, 12), nn.SiLU(), nn.Linear(12, out)]
    return nn.Sequential(*layers).to(dtype)


def draw_codes(batch=3, m=M, dtype=D):
    return torch.randn(batch, m, generator=torch.Generator().manual_seed(1), dtype=D).to(dtype)


def gradients(value, net, z):
    return torch.autograd.grad(value, [z, *net.parameters()], materialize_grads=True)
