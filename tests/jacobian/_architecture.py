"""A small generator for the tests, and the table of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

B, M = 3, 5


@dataclass
class Sample:
    """A function of z (B, m), and the parameters that it closes over."""

    fn: Callable[[Tensor], Tensor | list[Tensor]]
    modules: list[nn.Module]
    z: Tensor
    loose: list[Tensor] = field(default_factory=list)

    @property
    def parameters(self) -> list[Tensor]:
        own = {id(p): p for module in self.modules for p in module.parameters()}
        return [*own.values(), *self.loose]


ARCHITECTURES: dict[str, Callable[[torch.dtype, int], Sample]] = {}


def architecture(build):
    """Register ``build``; its weights are drawn in float32, so that every dtype has the same."""

    def make(dtype: torch.dtype, seed: int = 0) -> Sample:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sample = build()
        if isinstance(sample, nn.Module):
            sample = Sample(sample, [sample], torch.empty(0))
        if sample.z.numel() == 0:
            generator = torch.Generator().manual_seed(1000 + seed)
            sample.z = torch.randn(B, M, generator=generator)
        for module in sample.modules:
            module.to(dtype)
        for tensor in sample.loose:
            tensor.data = tensor.data.to(dtype)
        sample.z = sample.z.to(dtype)
        return sample

    name = build.__name__.lstrip("_")
    assert name not in ARCHITECTURES
    ARCHITECTURES[name] = make
    return build


def sample_of(fn, *modules, loose=(), z=None) -> Sample:
    return Sample(fn, list(modules), torch.empty(0) if z is None else z, list(loose))


class Calls(nn.Module):
    """A module whose forward is the given function of itself and its input."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args, **kwargs):
        return self.run(self, *args, **kwargs)


def perturb(module: nn.Module) -> nn.Module:
    """Move gains, shifts and running statistics off their initial ones and zeros."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return module
