"""What random programs (``_programs.py``) are made of: a catalogue of steps."""

from __future__ import annotations

import random
import re
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass

import _steps_by_keyword
import _steps_in_place
import _steps_of_python
import _steps_of_values
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "BiasAct", "HalvedInPlace", "NumpySine", "SineAndCosine", "Swish", "SwishWithJvp", "built",
    "latents", "weight",
]  # fmt: skip

BATCH, SIZE = 3, 4

# A step is one line, or an indented block; "!" marks what is done once, before the function.
#   {x} {w}  real (3, 6)       {v}  any real tensor, the batch in front    {k}  real (3, 2, 3)
#   {c} {d}  complex (3, 6)    {u}  any complex tensor                     {y} {t}  new names
# W (4, 6), V (6, 6) and the complex C (6, 6) are learnable. G is a torch.Generator.


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return gradient * s * (1 + x * (1 - s))


class SwishWithJvp(torch.autograd.Function):
    """In the style that ``torch.func`` asks for, with a derivative in forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x * torch.sigmoid(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * SwishWithJvp._slope(*ctx.saved_tensors)

    @staticmethod
    def jvp(ctx, tangent):
        return tangent * SwishWithJvp._slope(*ctx.saved_tensors)

    @staticmethod
    def _slope(x):
        s = torch.sigmoid(x)
        return s * (1 + x * (1 - s))


class BiasAct(torch.autograd.Function):
    """StyleGAN2's fused bias and leaky ReLU, whose backward is a second function."""

    @staticmethod
    def forward(ctx, x, bias, slope, scale):
        output = F.leaky_relu(x + bias, slope) * scale
        ctx.save_for_backward(output)
        ctx.options = slope, scale
        return output

    @staticmethod
    def backward(ctx, gradient):
        moved = BiasActBackward.apply(gradient, *ctx.saved_tensors, *ctx.options)
        return *moved, None, None


class BiasActBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gradient, output, slope, scale):
        gate = torch.full_like(output, scale).where(output > 0, slope * scale)
        ctx.save_for_backward(gate)
        moved = gradient * gate
        return moved, moved.sum(0)

    @staticmethod
    def backward(ctx, of_input, of_bias):
        (gate,) = ctx.saved_tensors
        return (of_input + of_bias) * gate, None, None, None


class SineAndCosine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin(), x.cos()

    @staticmethod
    def backward(ctx, of_sine, of_cosine):
        (x,) = ctx.saved_tensors
        return of_sine * x.cos() - of_cosine * x.sin()


class NumpySine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(np.sin(x.numpy(force=True)))

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0].cos()


class HalvedInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(0.5)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 0.5


def _drawn(shape, seed, dtype=torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def latents(seed: int) -> Tensor:
    return _drawn((BATCH, SIZE), 100 + seed)


def weight(*shape: int, seed: int, dtype=torch.float64) -> Tensor:
    """A learnable matrix that about keeps its input's size."""
    return (_drawn(shape, 200 + seed, dtype) / shape[0] ** 0.5).requires_grad_()


def built(kind, *args, **options) -> nn.Module:
    """A module in training mode, none of its parameters at 0 or 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(300)
        module = kind(*args, **options).double()
        for parameter in module.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return module


@contextmanager
def random_states_kept():
    """Whatever is drawn inside, the global generators are afterwards as they were."""
    numpy, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(numpy)  # noqa: NPY002
        random.setstate(python)


def restart(names: dict) -> None:
    """Seed every generator that the program may draw from."""
    torch.default_generator.manual_seed(5)  # torch.manual_seed takes longer than most programs
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    for value in names.values():
        if isinstance(value, torch.Generator):
            value.manual_seed(5)
        if isinstance(value, np.random.Generator):
            value.bit_generator.state = np.random.default_rng(5).bit_generator.state


@dataclass(frozen=True)
class Step:
    """An entry of the catalogue."""

    name: str
    theme: str
    setup: tuple[str, ...]
    body: tuple[str, ...]

    @property
    def writes(self) -> bool:
        return self.theme in ("writes", "stale") or self.name.endswith("_")


def _parsed() -> dict[str, Step]:
    texts = {
        theme: text
        for part in (_steps_of_values, _steps_in_place, _steps_by_keyword, _steps_of_python)
        for theme, text in part.TEXT.items()
    }
    steps: dict[str, Step] = {}
    for theme, text in texts.items():
        for entry in re.split(r"\n(?=\S)", text.strip()):
            if entry.startswith("#"):
                continue
            name, _, code = entry.partition(":")
            lines = textwrap.dedent(code).strip().splitlines()
            assert name not in steps, name
            steps[name] = Step(
                name,
                theme,
                tuple(line[2:] for line in lines if line.startswith("! ")),
                tuple(line for line in lines if not line.startswith("! ")),
            )
    return steps


CATALOGUE = _parsed()
