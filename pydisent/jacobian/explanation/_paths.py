"""Eigenpaths, even where J'J is too large to compute: Algorithm 1 of Ramesh et al. (2018)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pydisent.jacobian.eigen import path_along
from pydisent.jacobian.explanation._leading import leading_of_matrix, signed
from pydisent.jacobian.explanation._work import PATHS, OutOfTime, Work

_STEPS = 24
_FEWEST = 4
_SHOWN = 7
_BESIDE = 2  # vectors to follow beyond those wanted


@dataclass(frozen=True)
class Eigenpaths:
    """Paths that follow the leading eigenvectors of M from the first code.

    Attributes
    ----------
    codes : Tensor
        (paths, N + 1, *latent); path i follows the eigenvector of ordinal i + 1.
    step_size : float
        The length of a step.
    images : Tensor or None
        At ``shown`` of the N + 1 codes, (paths, S, C, h, w).
    shown : list of int
        The indices of these codes.
    """

    codes: Tensor
    step_size: float
    images: Tensor | None
    shown: list[int]


def eigenpaths(work: Work, z: Tensor, start: Tensor, paths: int, total: float) -> Eigenpaths | None:
    """Follow the first eigenvectors from a code, as far as time allows.

    Parameters
    ----------
    work
        The explanation in progress.
    z
        (1, *latent).
    start
        The leading vectors there, (m, r).
    paths
        How many eigenvectors to follow.
    total
        The length of a path.
    """
    shown = min(_SHOWN, _STEPS + 1)
    image_seconds = shown * work.image_seconds if work.generator.image is not None else 0.0
    for count in range(paths, 0, -1):
        left = work.clock.left(PATHS) - count * image_seconds
        each = _seconds(work, z, start, count)  # per step of all paths
        steps = _STEPS if each <= 0 else int(max(0.0, min(_STEPS, left / each)))
        if steps >= _FEWEST:
            break
    else:
        work.leave_out(f"{paths} of {paths} eigenpaths")
        return None
    size, found = total / steps, []
    for ordinal in range(count):
        follow = _vectors_at(work, start[:, : ordinal + 1 + _BESIDE].to(work.memory.device))
        try:
            with work.within(PATHS):
                found.append(path_along(follow, z, ordinal, size, 0.0, steps)[0])
        except OutOfTime:
            break
        work.report("eigenpaths", ordinal + 1, count)
    if len(found) < paths:
        work.leave_out(f"{paths - len(found)} of {paths} eigenpaths")
    if not found:
        return None
    codes = torch.stack(found)
    places = torch.linspace(0, steps, min(shown, steps + 1)).round().long().tolist()
    images = None
    if work.generator.image is not None:
        images = work.images(codes[:, places])
    return Eigenpaths(codes.cpu(), size, images, places)


def _seconds(work: Work, z: Tensor, start: Tensor, count: int) -> float:
    """Estimated seconds of one step of the first ``count`` paths."""
    if work.exact:
        begin = work.clock.elapsed
        _vectors_at(work, start)(z)
        return count * (work.clock.elapsed - begin)
    columns = sum(ordinal + 1 + _BESIDE for ordinal in range(count))
    return count * work.linear_seconds + columns * work.column_seconds


def _vectors_at(work: Work, start: Tensor) -> Callable[[Tensor], Tensor]:
    """A function that returns leading vectors (1, m, r) at codes near one where they are ``start``.

    Each call takes one product with the vectors of the previous call: Rayleigh-Ritz on these, then
    a power step.
    """
    columns = start[None].double()

    def vectors_at(z: Tensor) -> Tensor:
        nonlocal columns
        linear = work.linear(z)
        if work.exact:
            return leading_of_matrix(work.gram(linear)).vectors
        moved = work.product(linear)(columns)
        small = columns.mT @ moved
        _, mixed = torch.linalg.eigh((small + small.mT) / 2)
        columns = torch.linalg.qr(moved @ mixed.flip(-1)).Q
        return signed(columns)

    return vectors_at
