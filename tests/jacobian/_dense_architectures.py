"""Generators of vectors: perceptrons and their kin."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from _architecture import Calls, M, architecture, perturb, sample_of
from torch import nn


@architecture
def mlp_silu():
    return nn.Sequential(
        nn.Linear(M, 12), nn.SiLU(), nn.Linear(12, 12), nn.SiLU(), nn.Linear(12, 9)
    )


@architecture
def mlp_mixed_activations():
    layers: list[nn.Module] = []
    for activation in [nn.Tanh(), nn.GELU(), nn.ELU(), nn.GELU("tanh"), nn.Softplus(2.0), nn.Mish(),
                       nn.SELU(), nn.CELU(0.7), nn.LogSigmoid(), nn.Softsign()]:  # fmt: skip
        layers += [nn.Linear(M if not layers else 8, 8), activation]
    return perturb(nn.Sequential(*layers))


@architecture
def mlp_piecewise_activations():
    layers: list[nn.Module] = []
    for activation in [nn.LeakyReLU(0.2), nn.PReLU(), nn.Hardswish(), nn.PReLU(9), nn.Hardtanh(),
                       nn.Hardsigmoid(), nn.ReLU6(), nn.Softshrink(0.05)]:  # fmt: skip
        linear = nn.Linear(M if not layers else 9, 9)
        nn.init.orthogonal_(linear.weight, gain=2.5)
        layers += [linear, activation]
    return nn.Sequential(*layers, nn.Linear(9, 18), nn.GLU(), nn.Tanhshrink())


@architecture
def mlp_single_sample_single_latent():
    net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 4))
    return sample_of(net, net, z=torch.randn(1, 1))


@architecture
def mlp_one_sample():
    net = nn.Sequential(nn.Linear(M, 6), nn.Tanh(), nn.Linear(6, 4))
    return sample_of(net, net, z=torch.randn(1, M))


@architecture
def low_rank():
    # Two outputs for five latents: the Gram matrix is singular.
    return nn.Sequential(nn.Linear(M, 8), nn.Sigmoid(), nn.Linear(8, 2))


@architecture
def tied_weights():
    layer = nn.Linear(M, M)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), layer)


@architecture
def partly_frozen():
    net = nn.Sequential(nn.Linear(M, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 6))
    net[2].requires_grad_(False)
    net[0].bias.requires_grad_(False)
    return net


@architecture
def maxout_and_softmax_gates():
    return Calls(
        lambda s, z: torch.softmax(s.gate(z), -1) * s.body(z).unflatten(1, (6, 3)).amax(-1),
        gate=nn.Linear(M, 6),
        body=nn.Linear(M, 18),
    )


@architecture
def fourier_features():
    frequencies = nn.Parameter(torch.randn(M, 7))
    net = nn.Linear(14, 8)

    def fn(z):
        phase = 2 * math.pi * 0.2 * (z @ frequencies)
        return net(torch.cat([phase.sin(), phase.cos()], -1)).exp()

    return sample_of(fn, net, loose=[frequencies])


@architecture
def sphere_then_bilinear():
    return Calls(
        lambda s, z: s.pair(F.normalize(z, dim=-1), torch.tanh(s.side(z))),
        pair=nn.Bilinear(M, 4, 7),
        side=nn.Linear(M, 4),
    )


@architecture
def hypernetwork():
    def forward(self, z):
        weight = self.weights(z).unflatten(1, (6, 4)) / 2
        hidden = torch.tanh(torch.einsum("boi,bi->bo", weight, self.features(z)))
        return self.last(hidden)

    return Calls(forward, weights=nn.Linear(M, 24), features=nn.Linear(M, 4), last=nn.Linear(6, 8))


@architecture
def hypernetwork_shared_linear():
    # F.linear with a weight that depends on z, one sample at a time.
    weights, features = nn.Linear(M, 24), nn.Linear(M, 4)

    def fn(z):
        rows = [F.linear(features(s), weights(s).reshape(6, 4).tanh()).sin() for s in z.unbind(0)]
        return torch.stack(rows)

    return sample_of(fn, weights, features)


@architecture
def dropout_in_training_mode():
    return nn.Sequential(nn.Linear(M, 16), nn.SiLU(), nn.Dropout(0.4), nn.Linear(16, 9), nn.Tanh())
