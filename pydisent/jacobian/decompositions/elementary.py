"""Elementary functions, random draws and writing a slice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pydisent.jacobian._call import DerivativeError
from pydisent.jacobian._views import overlaps_itself, view_places
from pydisent.jacobian.decompositions._registry import decomposes


@decomposes(torch.logcumsumexp, Tensor.logcumsumexp)
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """Log of the running sum of exponentials along ``dim``, in memory quadratic in its length."""
    if input.dim() == 0:
        return input.clone()
    x = input.movedim(dim, -1)
    later = torch.ones(2 * (x.shape[-1],), dtype=torch.bool, device=x.device).triu(1)
    if not x.is_complex():
        sums = x.unsqueeze(-2).masked_fill(later, -torch.inf).logsumexp(-1)
        return sums.movedim(-1, dim)
    top = x.detach().real.cummax(-1).values
    terms = torch.exp(x.unsqueeze(-2) - top.unsqueeze(-1)).masked_fill(later, 0)
    sums = (terms.sum(-1).log() + top).movedim(-1, dim)
    return _on_branch(sums, lambda: torch.logcumsumexp(input, dim))


@decomposes(torch.logaddexp, Tensor.logaddexp)
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """Log of the sum of two exponentials, with zero derivatives where both are zero."""
    a, b = torch.broadcast_tensors(input, other)
    closed = (a.detach() == -torch.inf) & (b.detach() == -torch.inf)
    both = torch.stack([a.masked_fill(closed, 0.0), b.masked_fill(closed, 0.0)])
    if not both.is_complex():
        return both.logsumexp(0).masked_fill(closed, -torch.inf)
    top = both.detach().real.amax(0)
    sums = torch.exp(both - top).sum(0).log() + top
    return _on_branch(sums, lambda: torch.logaddexp(input, other))


@decomposes(torch.abs, torch.absolute, Tensor.abs, Tensor.absolute, Tensor.__abs__)
def absolute(input: Tensor) -> Tensor:
    """Absolute values, whose higher derivatives are zero at zero: PyTorch divides by zero there."""
    if not input.is_complex():
        return torch.abs(input)
    closed = input.detach() == 0
    return torch.abs(input.masked_fill(closed, 1.0)).masked_fill(closed, 0.0)


def _on_branch(logs: Tensor, native: Callable[[], Tensor]) -> Tensor:
    """Complex logarithms on the same branch as those of a native kernel."""
    with torch.no_grad():
        turns = ((native() - logs).imag / (2 * math.pi)).round().nan_to_num()
    return logs + torch.complex(torch.zeros_like(turns), 2 * math.pi * turns)


@decomposes(torch.sinc, torch.special.sinc, Tensor.sinc)
def sinc(input: Tensor) -> Tensor:
    """Return sin(πx) / (πx), near zero by its series: PyTorch divides by zero there."""
    x = math.pi * (input if input.is_floating_point() or input.is_complex() else input.float())
    near = x.detach().abs() < 0.5
    square = x.masked_fill(~near, 0.0).square()
    series = torch.ones_like(square)
    for i in range(14, 0, -2):
        series = 1 - square / (i * (i + 1)) * series
    far = x.masked_fill(near, 1.0)
    return torch.where(near, series, torch.sin(far) / far)


@decomposes(torch.polar)
def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """Return the complex number abs exp(i angle); ``abs`` may be negative."""
    return torch.complex(abs * torch.cos(angle), abs * torch.sin(angle))


@decomposes(torch.linspace)
def linspace(
    start: Tensor | float, end: Tensor | float, steps: int, *, dtype: Any = None, **kwargs: Any
) -> Tensor:
    """``steps`` evenly spaced numbers from ``start`` to ``end``."""
    with torch.no_grad():
        numbers = torch.linspace(start, end, steps, dtype=dtype, **kwargs)
    share = torch.linspace(0, 1, steps, dtype=numbers.dtype, device=numbers.device)
    ends = [t.to(numbers.dtype) if isinstance(t, Tensor) else t for t in (start, end)]
    return ends[0] * (1 - share) + ends[1] * share


@decomposes(torch.normal)
def normal(
    mean: Tensor | float,
    std: Tensor | float = 1.0,
    size: Sequence[int] | None = None,
    *,
    generator: torch.Generator | None = None,
    **kwargs: Any,
) -> Tensor:
    """Draw from N(mean, std²) as mean + std ε: PyTorch treats the draw as a constant."""
    if not (isinstance(mean, Tensor) or isinstance(std, Tensor)):
        return torch.normal(mean, std, size, generator=generator, **kwargs)  # type: ignore[arg-type]
    like = mean if isinstance(mean, Tensor) else std
    assert isinstance(like, Tensor)
    shape = torch.broadcast_shapes(*(t.shape for t in (mean, std) if isinstance(t, Tensor)))
    noise = like.detach().new_empty(shape).normal_(generator=generator)
    return mean + std * noise


@decomposes(torch.select_scatter, Tensor.select_scatter)
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """``input`` with ``src`` at ``index`` of ``dim``; PyTorch's vmap of it loses gradients."""
    index = index % input.shape[dim]
    return torch.slice_scatter(input, src.unsqueeze(dim), dim, index, index + 1)


@decomposes(torch.as_strided_scatter, Tensor.as_strided_scatter)
def as_strided_scatter(
    input: Tensor,
    src: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    storage_offset: int | None = None,
) -> Tensor:
    """``input`` with ``src`` in a strided view of it; PyTorch's first derivative is wrong."""
    view = input.detach().as_strided(size, stride, storage_offset)
    places = view_places(view, input.detach())
    if places is None or overlaps_itself(view):
        raise DerivativeError("'as_strided_scatter' writes where it reads no element, or twice")
    flat = input.reshape(-1).index_copy(0, places.flatten(), src.to(input.dtype).reshape(-1))
    return flat.reshape(input.shape)


@decomposes(torch.floor_divide, Tensor.floor_divide, Tensor.__floordiv__)
def floor_divide(input: Tensor, other: Tensor | float) -> Tensor:
    """⌊input / other⌋, with the derivative of zero that PyTorch has for the same division."""
    return torch.div(input, other, rounding_mode="floor")


@decomposes(Tensor.__rfloordiv__)
def _floor_divides(input: Tensor, other: Tensor | float) -> Tensor:
    return torch.div(torch.as_tensor(other, device=input.device), input, rounding_mode="floor")


@decomposes(torch.heaviside, Tensor.heaviside)
def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0, ``values`` or 1 where ``input`` is negative, zero or positive: a step."""
    return torch.where(input == 0, values, (input > 0).to(input.dtype))
