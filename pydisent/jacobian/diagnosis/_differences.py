"""Directional derivatives from values alone, and the outputs at which they exist.

Along a direction v, f(x + t v) is evaluated at t = ±h, ..., ±4h. Stencils of nine and of seven
points give the first four derivatives twice: their difference estimates the error, and is large at
outputs whose derivatives do not exist (a kink within the stencil), which are left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Values = Callable[[Sequence[Tensor]], Tensor]
"""A function of several tensors that returns all its outputs as one vector of real numbers."""

STEPS = (2e-2, 2e-3, 1e-4)
"""Steps relative to the size of the operands; the first with enough smooth outputs is used."""

# Shares of smooth outputs that are enough, by order: rounding forbids small steps at the third.
_ENOUGH = (0.95, 0.9, 0.25)
_REACH = 4
# Differences of the two stencils, relative to a derivative and to those of most other outputs,
# above which an output is not smooth: a kink causes a difference of 3 per cent or more.
_KINK, _KINK_OF_OTHERS = 1e-4, 1e-5
# Sizes that errors are compared with if derivatives are zero, relative to the values, by order.
_FLOORS = (1e-7, 1e-4, 1e-3)
_EPSILON = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Differences:
    """D^k f [v, ..., v] and its error, for k = 1, ..., 4, at one step."""

    wide: list[Tensor]  # from nine points
    narrow: list[Tensor]  # from seven
    noise: list[float]  # rounding errors
    size: float  # root mean square of the values

    def smooth_to(self, order: int) -> Tensor:
        """Which outputs have derivatives up to ``order``, judged up to one order higher."""
        size, smooth = 0.0, torch.ones_like(self.wide[0], dtype=torch.bool)
        for k in range(order + 1):
            a, b, noise = self.wide[k], self.narrow[k], self.noise[k]
            # A median, as derivatives at a kink are large.
            usual = a.abs().nanmedian().item() if len(a) else 0.0
            size = max(size, usual)
            bound = _KINK * a.abs() + _KINK_OF_OTHERS * (usual + 1e-3 * size) + 10 * noise
            smooth &= (a - b).abs() <= bound  # false for NaN
        return smooth


def differences(f: Values, x: Sequence[Tensor], v: Sequence[Tensor], step: float) -> Differences:
    """All derivatives of ``f`` at ``x`` along ``v`` from nine values."""
    with torch.no_grad():
        values = torch.stack([
            f([a + i * step * b for a, b in zip(x, v)]) for i in range(-_REACH, _REACH + 1)
        ])  # fmt: skip
    size = _rms(values[_REACH])
    wide, narrow, noise = [], [], []
    for k in range(1, 5):
        nine, seven = _weights(k, _REACH).to(values), _weights(k, _REACH - 1).to(values)
        wide.append(torch.tensordot(nine, values, 1) / step**k)
        narrow.append(torch.tensordot(seven, values[1:-1], 1) / step**k)
        noise.append(8 * _EPSILON * size / step**k)
    return Differences(wide, narrow, noise, size)


@functools.cache
def _weights(order: int, reach: int) -> Tensor:
    """Weights of a central stencil of 2 reach + 1 points: exact on polynomials of as many terms."""
    points = torch.arange(-reach, reach + 1, dtype=torch.float64)
    powers = torch.stack([points**k for k in range(len(points))])
    wanted = torch.zeros(len(points), dtype=torch.float64)
    wanted[order] = torch.arange(1, order + 1).prod()
    return torch.linalg.solve(powers, wanted)


def _rms(values: Tensor) -> float:
    finite = values[values.isfinite()]
    return finite.square().mean().sqrt().item() if len(finite) else 0.0


@dataclass(frozen=True)
class Reference:
    """Derivatives along v and w up to one order, at the outputs where they exist.

    ``first`` holds D f[v] and D f[w], ``mixed`` D²f[v, w], and ``third`` 3 D³f[v, v, w] +
    D³f[w, w, w], all at the outputs in ``smooth`` alone. ``error`` is that of the highest order
    asked for; a derivative of that order counts as zero at the size ``floor``.
    """

    smooth: Tensor
    first: tuple[Tensor, Tensor]
    mixed: Tensor
    third: Tensor
    error: float
    floor: float

    @property
    def count(self) -> int:
        """The number of smooth outputs."""
        return int(self.smooth.sum())

    def scale(self, order: int) -> float:
        """The scale of errors of a derivative of ``order``."""
        first, mixed, third = (
            float(t.norm()) for t in (torch.cat(self.first), self.mixed, self.third)
        )
        scales = (first, mixed + 1e-3 * first, third + 1e-3 * mixed + 1e-6 * first)
        return max(scales[order - 1], self.floor)


def reference(
    f: Values, x: Sequence[Tensor], v: Sequence[Tensor], w: Sequence[Tensor], order: int
) -> Reference:
    """Derivatives up to ``order`` with the step at which most outputs are smooth.

    By polarization: along p = v + w and m = v − w.
    """
    best: Reference | None = None
    for step in STEPS:
        along = [differences(f, x, [a + sign * b for a, b in zip(v, w)], step) for sign in (1, -1)]
        smooth = along[0].smooth_to(order) & along[1].smooth_to(order)
        smooth &= _is_linear(along, differences(f, x, v, step))
        found = _polarized(along, smooth, order)
        if best is None or found.count > best.count:
            best = found
        if best.count >= _ENOUGH[order - 1] * smooth.numel():
            break
    assert best is not None
    return best


def _is_linear(along: Sequence[Differences], between: Differences) -> Tensor:
    """Where D f[p] + D f[m] = 2 D f[v], which fails for the median of three equal numbers."""
    sums, alone = along[0].wide[0] + along[1].wide[0], 2 * between.wide[0]
    parts = (along[0].wide[0], along[1].wide[0], alone)
    size = torch.stack([part.abs() for part in parts]).amax(0)
    noise = sum(d.noise[0] for d in (*along, between))
    return (sums - alone).abs() <= _KINK * size + 10 * noise


def _polarized(along: Sequence[Differences], smooth: Tensor, order: int) -> Reference:
    def both(k: int, sign: int) -> Tensor:
        p, m = (d.wide[k - 1][smooth] for d in along)
        return p + sign * m

    first = both(1, 1) / 2, both(1, -1) / 2
    mixed, third = both(2, -1) / 4, both(3, -1) / 2
    root = float(smooth.sum()) ** 0.5
    error = 0.0
    for d in along:
        missed = (d.wide[order - 1] - d.narrow[order - 1])[smooth].norm().item()
        error += missed + d.noise[order - 1] * root
    floor = _FLOORS[order - 1] * max(d.size for d in along) * root
    return Reference(smooth, first, mixed, third, error, max(floor, 1e-300))
