"""The arguments of an explanation, checked before any work is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pydisent._checks import check, check_integer, check_number, check_one_of

Method = Literal["auto", "exact", "subspace"]


@dataclass(frozen=True)
class Options:
    """The arguments of `analyse` besides the generator and the codes; see there."""

    k: int | None
    regions: Any
    region_nullspace: int
    points: int
    paths: int
    length: float | None
    value_range: tuple[float, float] | None
    picture_size: int
    method: Method
    tolerance: float
    time_limit: float | None
    memory_limit: int | None

    def check(self) -> None:
        """Raise TypeError or ValueError if one is out of range."""
        if self.k is not None:
            check_integer("k", self.k, at_least=1)
        check_integer("region_nullspace", self.region_nullspace, at_least=0)
        alone = self.regions is None and self.region_nullspace > 0
        check(not alone, "region_nullspace", "0 without regions", self.region_nullspace)
        check_integer("points", self.points, at_least=1)
        check_integer("paths", self.paths, at_least=0)
        check_integer("picture_size", self.picture_size, at_least=8)
        if self.length is not None:
            check_number("length", self.length, above=0)
        if self.value_range is not None:
            _check_range(self.value_range)
        check_one_of("method", self.method, get_args(Method))
        check_number("tolerance", self.tolerance, above=0, below=1)
        if self.time_limit is not None:
            check_number("time_limit", self.time_limit, above=0)
        if self.memory_limit is not None:
            check_integer("memory_limit", self.memory_limit, at_least=1)

    def directions(self, m: int) -> int:
        """k, for codes of m numbers."""
        if self.k is None:
            return min(8, m)
        check(self.k <= m, "k", f"at most m = {m}", self.k)
        return int(self.k)


def _check_range(given: Any) -> None:
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise TypeError(f"value_range must be two numbers (low, high), got {given!r:.60}")
    for number in given:
        check_number("value_range", number)
    check(given[0] < given[1], "value_range", "(low, high) with low < high", tuple(given))


def check_latents(z: Any) -> None:
    """Raise TypeError or ValueError unless z is a finite floating tensor (B, *latent)."""
    if not isinstance(z, Tensor):
        raise TypeError(f"z must be a tensor of codes or a number of them, got {type(z).__name__}")
    if not z.is_floating_point():
        raise TypeError(f"z must be a floating-point tensor (B, *latent), got dtype {z.dtype}")
    if z.dim() < 2 or 0 in z.shape:
        raise ValueError(f"z must have shape (B, *latent) with B, m >= 1, got {tuple(z.shape)}")
    check(bool(torch.isfinite(z).all()), "z", "finite", "NaN or infinity")
