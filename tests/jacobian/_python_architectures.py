"""Generators as people write them: Python of many kinds, and rare operations."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from _architecture import Calls, M, architecture, sample_of
from torch import Tensor, nn


@architecture
def in_place_operations():
    def forward(self, z):
        h = self.first(z)
        skip = h.clone()
        h = self.relu(h) * 2.0
        h += 0.5 * skip
        h[:, :2] = torch.sin(skip[:, 3:5])
        h = self.second(h)
        h.mul_(1.5).add_(skip.tanh())
        h[:, -1] *= skip[:, 0]
        return self.act(h)

    return Calls(
        forward, first=nn.Linear(M, 8), second=nn.Linear(8, 8), relu=nn.ReLU(inplace=True),
        act=nn.SiLU(inplace=True),
    )  # fmt: skip


@architecture
def views_and_indexing():
    def forward(self, z):
        h = self.first(z).reshape(z.shape[0], 2, 3, 4)
        left, right = h.chunk(2, dim=-1)
        one, rest = right.split([1, 2], dim=2)
        h = torch.cat([left.permute(0, 2, 1, 3).flatten(1), one.flatten(1), rest.flatten(1)], 1)
        picked = h.index_select(1, self.order)
        gathered = h.gather(1, self.order.expand(z.shape[0], -1).flip(1)).sin()
        rows = torch.stack([r.tanh() for r in picked.unbind(1)], -1)
        mixed = torch.einsum("bi,ij,bj->bj", rows, self.mixing, gathered)
        out = mixed[:, ::2] * self.scale + mixed[:, 1::2].roll(1, -1) ** 2
        return out[..., None].squeeze(-1).unsqueeze(1).repeat(1, 2, 1).movedim(1, -1).contiguous()

    module = Calls(
        forward, first=nn.Linear(M, 24), mixing=nn.Parameter(torch.randn(6, 6)),
        scale=nn.Parameter(torch.randn(3)),
    )  # fmt: skip
    module.register_buffer("order", torch.tensor([3, 0, 5, 9, 1, 7]))
    return module


@architecture
def data_dependent_control_flow():
    first, second = nn.Linear(M, 7), nn.Linear(7, 7)

    def fn(z):
        h = first(z).tanh()
        turns = 0
        while h.norm() < 20 and turns < 4:
            h = h + second(h).sin() if h.mean() > -0.01 else second(h) * 1.5
            turns += 1
        return h

    return sample_of(fn, first, second)


class Cube(torch.autograd.Function):
    """x³, whose backward can itself be differentiated; it knows no forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 3 * x * x * gradient


@architecture
def custom_autograd_function():
    first, second = nn.Linear(M, 7), nn.Linear(7, 6)
    return sample_of(lambda z: second(Cube.apply(first(z)).sin()), first, second)


@architecture
def custom_autograd_function_in_a_traced_module():
    class Cubic(nn.Module):
        def forward(self, x):
            return Cube.apply(x)

    return nn.Sequential(nn.Linear(M, 7), Cubic(), nn.Linear(7, 6), nn.Tanh())


@architecture
def scripted_function():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        @torch.jit.script
        def gate(x: Tensor, y: Tensor) -> Tensor:
            return torch.sigmoid(x) * torch.tanh(y)

    first, second = nn.Linear(M, 7), nn.Linear(M, 7)
    return sample_of(lambda z: gate(first(z), second(z)), first, second)


@architecture
def lambda_over_modules():
    nets = [nn.Linear(M, 6), nn.Linear(6, 6), nn.Linear(6, 4)]
    return sample_of(lambda z: nets[2](nets[1](nets[0](z).sigmoid()).cos() ** 2), *nets)


@architecture
def list_of_activations():
    def forward(self, z):
        first = F.silu(self.first(z))
        second = self.second(first).unflatten(1, (2, 3))
        return [first, second, second.square().sum(-1)]

    return Calls(forward, first=nn.Linear(M, 7), second=nn.Linear(7, 6))


@architecture
def label_embedding():
    table, net = nn.Embedding(4, 3), nn.Sequential(nn.Linear(M + 3, 9), nn.SiLU(), nn.Linear(9, 6))
    labels = torch.tensor([2, 0, 3])
    return sample_of(lambda z: net(torch.cat([z, table(labels)], 1)), table, net)


@architecture
def functional_weights():
    weights = [nn.Parameter(torch.randn(*s) / 2) for s in [(8, M), (8,), (6, 8), (6,)]]

    def fn(z):
        h = torch.addmm(weights[1], z, weights[0].t()).sin()
        return torch.nn.functional.linear(h, weights[2], weights[3]).expm1()

    return sample_of(fn, loose=weights)


@architecture
def fourier_transform():
    net, gain = nn.Linear(M, 10), nn.Parameter(torch.randn(6))

    def fn(z):
        spectrum = torch.complex(*net(z).sin().chunk(2, 1)) * gain[:5]
        return torch.fft.irfft(spectrum, n=8) * gain[5]

    return sample_of(fn, net, loose=[gain])


@architecture
def matrix_exponential():
    net = nn.Linear(M, 9)
    return sample_of(lambda z: torch.linalg.matrix_exp(0.3 * net(z).unflatten(1, (3, 3))), net)


@architecture
def energy_gradient():
    # A function that differentiates inside, as score and Hamiltonian networks do.
    energy = nn.Sequential(nn.Linear(M, 8), nn.Softplus(), nn.Linear(8, 1))
    return sample_of(torch.func.vmap(torch.func.grad(lambda s: energy(s).sum())), energy)


@architecture
def sorted_and_reduced():
    net = nn.Linear(M, 12)

    def fn(z):
        h = net(z).sin()
        whole = [h.logsumexp(1), h.std(1), h.norm(dim=1), h.prod(1)]
        return torch.cat([h.sort(1)[0].cumsum(1), h.topk(3, 1)[0], torch.stack(whole, 1)], 1)

    return sample_of(fn, net)


@architecture
def local_response_and_lp_pool():
    return nn.Sequential(
        nn.Linear(M, 32), nn.Unflatten(1, (2, 4, 4)), nn.Softplus(), nn.LocalResponseNorm(2),
        nn.LPPool2d(3, 2), nn.Softmax2d(), nn.Flatten(),
    )  # fmt: skip


@architecture
def batch_norm_of_vectors_without_affine():
    return nn.Sequential(
        nn.Linear(M, 8), nn.BatchNorm1d(8, affine=False).train(), nn.Tanh(), nn.Linear(8, 5),
        nn.LayerNorm(5, bias=False), nn.SiLU(),
    )  # fmt: skip
