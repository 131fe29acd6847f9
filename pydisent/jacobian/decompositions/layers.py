"""Activations, recurrent cells and a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pydisent.jacobian.decompositions._registry import decomposes


@decomposes(F.glu, torch._C._nn.glu)
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """Gated linear unit: the first half of ``input`` times the sigmoid of the second."""
    value, gate = input.chunk(2, dim)
    return value * torch.sigmoid(gate)


@decomposes(F.hardsigmoid, torch._C._nn.hardsigmoid)
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
    out = torch.clamp(input + 3.0, 0.0, 6.0) / 6.0
    return input.copy_(out) if inplace else out


@decomposes(F.rrelu, torch.rrelu)
def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Randomized leaky ReLU: slopes are uniform in [lower, upper], or their mean in evaluation."""
    if training:  # with PyTorch's own draws, which are for negative inputs only
        fixed = input.detach()
        slope: Any = torch.where(fixed < 0, torch.rrelu(fixed, lower, upper, True) / fixed, 1.0)
    else:
        slope = (lower + upper) / 2
    out = torch.where(input > 0, input, input * slope)
    return input.copy_(out) if inplace else out


@decomposes(torch.lstm_cell)
def lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Hidden and cell state of a long short-term memory after one more input."""
    hidden, cell = hx
    gates = F.linear(input, w_ih, b_ih) + F.linear(hidden, w_hh, b_hh)
    entry, forget, new, exit_ = gates.chunk(4, -1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(new)
    return torch.sigmoid(exit_) * torch.tanh(cell), cell


@decomposes(torch.gru_cell)
def gru_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """Hidden state of a gated recurrent unit after one more input."""
    inputs = F.linear(input, w_ih, b_ih).chunk(3, -1)
    hidden = F.linear(hx, w_hh, b_hh).chunk(3, -1)
    reset, update = (torch.sigmoid(inputs[i] + hidden[i]) for i in (0, 1))
    new = torch.tanh(inputs[2] + reset * hidden[2])
    return new + update * (hx - new)


@decomposes(torch.conv_tbc)
def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """Convolution of ``input`` (T, B, C) with ``weight`` (K, C, D) along time."""
    out = F.conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad)
    return out.permute(2, 0, 1)
