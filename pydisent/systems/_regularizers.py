"""Regularizers of a generator's Jacobian J at its codes, by name: one table for all GANs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pydisent import parallel
from pydisent._checks import check, check_one_of
from pydisent._notice import warn_once
from pydisent.jacobian import HessianPenalty, PathLengthPenalty, gram_penalty, objectives
from pydisent.nn.whole_batch_norm import statistics_held
from pydisent.systems._base import System
from pydisent.systems._config import check_integers, check_numbers, check_types
from pydisent.systems._modes import untracked
from pydisent.systems._ranges import stage

Generator = Callable[[Tensor], Tensor]
Objective = Callable[..., Tensor]
NONE = "none"


@dataclass(frozen=True, kw_only=True)
class RegularizerConfig:
    """Settings of a regularizer of the generator's Jacobian J at the batch's codes.

    Attributes
    ----------
    regularizer : str
        "none", or a function of M = J'J in `pydisent.jacobian.objectives`: "orthogonal-jacobian"
        (Wei et al. 2021), "isometry", "scaled-isometry" (Lee et al. 2022), "jacobian-clamping"
        (Odena et al. 2018), "spectral-norm", "nuclear-norm", "condition-number", or
        "log-determinant", with negative sign: log-determinant plus H(z) is the images' entropy,
        which should be large. "path-length" is StyleGAN2's, with a running mean of lengths;
        "hessian" that of Peebles et al. (2020), as the mean over pixels, where their code takes the
        maximum.
    regularizer_weight : float or None
        Its weight in the generator's loss; 0 turns it off. None uses our default for each
        regularizer, as a starting point; 2 for path lengths is StyleGAN2's.
    regularizer_interval : int
        Updates between penalties, which are weighted by the interval.
    regularizer_directions : int or None
        Estimate the orthogonal Jacobian, isometries, clamping or the Hessian along this many random
        directions per code, as published, instead of exactly: cheaper, but noisy. The Hessian uses
        2 directions if None.
    regularizer_rank : int or None
        Directions that the gradient of a function of M keeps; by default, enough to drop at most
        1e-3 of it, see `pydisent.gram_penalty`. CUDA graphs can capture functions of M with a rank,
        those along random directions, and path lengths, but none that needs singular values.
    regularizer_decay : float
        Weight of a batch in the running mean of path lengths.
    regularizer_low, regularizer_high : float
        The range of singular values of J that clamping leaves unchanged.
    """

    own_regularizers: ClassVar[tuple[str, ...]] = ()

    regularizer: str = NONE
    regularizer_weight: float | None = None
    regularizer_interval: int = 1
    regularizer_directions: int | None = None
    regularizer_rank: int | None = None
    regularizer_decay: float = 0.01
    regularizer_low: float = 1.0
    regularizer_high: float = 20.0

    def __post_init__(self) -> None:
        check_types(self)
        name = self.regularizer
        check_one_of("regularizer", name, (NONE, *self.own_regularizers, *REGULARIZERS))
        check_integers(self, "regularizer_interval", "regularizer_directions", "regularizer_rank")
        check_numbers(self, "regularizer_weight", "regularizer_low", at_least=0)
        check_numbers(self, "regularizer_high", at_least=self.regularizer_low)
        check_numbers(self, "regularizer_decay", above=0, at_most=1)
        if name not in REGULARIZERS:
            return
        kind = REGULARIZERS[name]
        directions, rank = self.regularizer_directions, self.regularizer_rank
        if directions is not None:
            rule = f"none with {name}" if not kind.directions else f"at least {kind.directions}"
            accepted = bool(kind.directions) and directions >= kind.directions
            check(accepted, "regularizer_directions", rule, directions)
        if rank is not None:
            check(kind.of_gram, "regularizer_rank", f"none with {name}", rank)
            rule = "none with regularizer_directions"
            check(directions is None, "regularizer_rank", rule, rank)


class Regularized(System):
    """A system with an optional generator regularizer, which has no learned weights."""

    config: Any
    regularizer: nn.Module | None

    def __init__(self, config: Any, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        kind = REGULARIZERS.get(config.regularizer)
        # Its state is in buffers, and so in checkpoints.
        self.regularizer = None if kind is None else kind.make(config)

    @property
    def regularizer_weight(self) -> float:
        """Return the weight of the regularizer of `RegularizerConfig`, 0 without one."""
        weight = self.config.regularizer_weight
        kind = REGULARIZERS.get(self.config.regularizer)
        if kind is None:
            return 0.0
        return kind.weight if weight is None else float(weight)

    def is_regularized(self) -> bool:
        """Return whether this update includes the regularizer."""
        is_due = self.phase_step % self.config.regularizer_interval == 0
        return is_due and self.regularizer_weight > 0

    def regularizes_in_a_graph(self) -> bool:
        """Return whether the regularizer permits capturing this update as a CUDA graph."""
        c = self.config
        kind = REGULARIZERS.get(c.regularizer)
        if not self.is_regularized() or kind is None:
            return True
        ranked = c.regularizer_rank is not None and kind.captured
        if not kind.of_gram:
            return kind.captured
        if c.regularizer_directions is not None or ranked:
            return True
        warn_once(
            f"CUDA graphs can capture updates with the regularizer {c.regularizer} only if its "
            "directions are known in advance and it needs no singular values: set "
            "regularizer_directions or regularizer_rank, where it accepts them"
        )
        return False

    @stage("regularizer")
    def regularized(
        self, loss: Tensor, generator: Generator, codes: Tensor, logs: dict[str, Tensor]
    ) -> Tensor:
        """Return the generator's loss plus its regularizer at `codes` (B, m), and log the latter.

        The regularizer trains the generator, not the network that made its codes.
        """
        if self.regularizer is None or not self.is_regularized():
            return loss
        # The losses' own pass through the generator has updated the batch norms with these codes.
        with statistics_held(), untracked(self):
            penalty = self.regularizer(generator, codes.detach())
        logs[self.config.regularizer.replace("-", "_")] = penalty.detach()
        return loss + self.regularizer_weight * self.config.regularizer_interval * penalty


class _OfGram(nn.Module):
    """Batch mean of a function of M = J'J, or of an estimate of it."""

    def __init__(
        self, exact: Objective, estimate: Objective | None, unit: bool, c: RegularizerConfig
    ) -> None:
        super().__init__()
        self.exact, self.estimate, self.unit = exact, estimate, unit
        self.directions, self.rank = c.regularizer_directions, c.regularizer_rank

    def forward(self, generator: Generator, codes: Tensor) -> Tensor:
        if self.directions is None or self.estimate is None:
            return gram_penalty(generator, codes, self.exact, rank=self.rank)
        along = _unit_directions(self.directions, codes) if self.unit else self.directions
        return gram_penalty(generator, codes, self.estimate, directions=along, tolerance=0.0)


def _unit_directions(count: int, codes: Tensor) -> Tensor:
    """Random unit directions (K, B, m) at codes (B, m), uniform on the sphere."""
    size, device = codes.shape[1], codes.device
    normal = parallel.draw(lambda n: torch.randn(n, count, size, device=device), len(codes))
    return nn.functional.normalize(normal, dim=-1).transpose(0, 1)


@dataclass(frozen=True)
class Kind:
    """A regularizer in the table.

    Attributes
    ----------
    make : callable
        Makes, from the settings, a module that takes the generator and codes (B, m).
    weight : float
        Its default weight.
    directions : int
        Minimum number of random directions for an estimate, 0 if it has none.
    of_gram : bool
        Whether it is a function of M.
    captured : bool
        Whether CUDA graphs can capture it.
    """

    make: Callable[[RegularizerConfig], nn.Module]
    weight: float
    directions: int = 0
    of_gram: bool = True
    captured: bool = True


def _gram(
    exact: Objective,
    estimate: Objective | None = None,
    *,
    unit: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Callable[[RegularizerConfig], nn.Module]:
    """Return a factory of an objective's module; `settings` maps its arguments to settings."""

    def make(c: RegularizerConfig) -> nn.Module:
        given = {key: getattr(c, name) for key, name in (settings or {}).items()}
        by = None if estimate is None else partial(estimate, **given)
        return _OfGram(partial(exact, **given), by, unit, c)

    return make


def _volume(gram: Tensor) -> Tensor:
    """−½ log det M."""
    return -objectives.log_determinant(gram)


_BOUNDS = {"low": "regularizer_low", "high": "regularizer_high"}
REGULARIZERS: Mapping[str, Kind] = {
    "orthogonal-jacobian": Kind(
        _gram(objectives.orthogonal_jacobian, objectives.orthogonal_jacobian_estimate),
        weight=1e-5,
        directions=2,
    ),
    "isometry": Kind(
        _gram(objectives.isometry, objectives.isometry_estimate, unit=True),
        weight=1e-4,
        directions=1,
    ),
    "scaled-isometry": Kind(_gram(objectives.scaled_isometry), weight=1.0),
    "jacobian-clamping": Kind(
        _gram(
            objectives.jacobian_clamping,
            objectives.jacobian_clamping_estimate,
            unit=True,
            settings=_BOUNDS,
        ),
        weight=1.0,
        directions=1,
        captured=False,
    ),
    "path-length": Kind(
        lambda c: PathLengthPenalty(c.regularizer_decay), weight=2.0, of_gram=False
    ),
    "hessian": Kind(
        lambda c: HessianPenalty(directions=c.regularizer_directions or 2, reduction="mean"),
        weight=1.0,
        directions=2,
        of_gram=False,
        captured=False,
    ),
    "log-determinant": Kind(_gram(_volume), weight=0.1),
    "spectral-norm": Kind(_gram(objectives.spectral_norm), weight=0.1, captured=False),
    "nuclear-norm": Kind(_gram(objectives.nuclear_norm), weight=0.01, captured=False),
    "condition-number": Kind(_gram(objectives.condition_number), weight=0.01, captured=False),
}
