"""Regularizers of a generator's Jacobian, by their authors, with torch.func and by pydisent.

Each way is ``way(generator, z, given)``, a scalar with its graph, at random directions and images
shared by all ways. The authors' ways are rewritten in plain PyTorch from their published code or
algorithm: OroJaR (Wei et al. 2021) and the Hessian penalty (Peebles et al. 2020) take forward and
second differences of step 0.1 along k = 2 vectors of random signs, and their variance; Jacobian
clamping (Odena et al. 2018) a forward difference of step 1 along a unit vector; StyleGAN2 the
gradient of <G(z), y> with its graph. For both variances the maximum, over the batch and over all
pixels, is replaced by the mean, which costs the same and has a gradient through all samples;
clamping's bounds are chosen such that all lengths are outside.

The function of M = J'J is the same in all ways, from ``pydisent.jacobian.objectives``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

import pydisent
from pydisent.jacobian import objectives, path_length_penalty

EPSILON, CLAMPING_EPSILON = 0.1, 1.0
LOW, HIGH, TARGET = 0.1, 0.2, 0.0


@dataclass(frozen=True)
class Given:
    """Random draws: signs (2, B, m), unit vectors (1, B, m), images (B, C, H, W)."""

    signs: Tensor
    unit: Tensor
    images: Tensor

    @classmethod
    def drawn(cls, batch: int, m: int, image: tuple[int, ...]) -> Given:
        """Draw in float32 from PyTorch's global generator."""
        signs = torch.randint(0, 2, (2, batch, m)) * 2.0 - 1.0
        unit = torch.nn.functional.normalize(torch.randn(1, batch, m), dim=-1)
        y = torch.randn(batch, *image) / (image[1] * image[2]) ** 0.5
        return cls(signs, unit, y)

    def to(self, device: str, dtype: torch.dtype) -> Given:
        return Given(*(getattr(self, f.name).to(device, dtype) for f in fields(self)))


Way = Callable[[Callable[..., Tensor], Tensor, Given], Tensor]


# -- along a few directions -----------------------------------------------------------------------


def forward_differences(generator, z, directions, epsilon=EPSILON):
    """(G(z + εv) − G(z))/ε for each v, (K, B, ...)."""
    base = generator(z)
    return torch.stack([(generator(z + epsilon * v) - base) / epsilon for v in directions])


def second_differences(generator, z, directions, epsilon=EPSILON):
    """(G(z + εv) − 2 G(z) + G(z − εv))/ε² for each v, (K, B, ...)."""
    base, found = generator(z), []
    for v in directions:
        ends = generator(z + epsilon * v), generator(z - epsilon * v)
        found.append((ends[0] - 2 * base + ends[1]) / epsilon**2)
    return torch.stack(found)


def first_by_func(generator, z, directions):
    """J v for each v, by ``torch.func.jvp``."""
    return torch.stack([torch.func.jvp(generator, (z,), (v,))[1] for v in directions])


def second_by_func(generator, z, directions):
    """The derivatives v'H v, by nested ``torch.func.jvp``."""

    def slope(v):
        return lambda x: torch.func.jvp(generator, (x,), (v,))[1]

    return torch.stack([torch.func.jvp(slope(v), (z,), (v,))[1] for v in directions])


def first_by_pydisent(generator, z, directions):
    """J v for each v, by ``pydisent.linearize``."""
    return pydisent.linearize(generator, z).jvp(directions)


def second_by_pydisent(generator, z, directions):
    """The derivatives v'H v, by Taylor mode."""
    return pydisent.second_directional_derivative(generator, z, directions)[-1]


def _squares(moved: Tensor) -> Tensor:
    return moved.flatten(2).square().sum(-1)


def orthogonal(first) -> Way:
    """Var ‖J v‖² over the signs, averaged over the batch."""
    return lambda generator, z, given: _squares(first(generator, z, given.signs)).var(0).mean()


def clamping(first) -> Way:
    """Squared distance of ‖J u‖ outside the bounds, along the unit vectors."""

    def way(generator, z, given):
        lengths = _squares(first(generator, z, given.unit)).sqrt()
        return (lengths - lengths.clamp(LOW, HIGH)).square().mean()

    return way


def hessian(second) -> Way:
    """Var v'H v over the signs, averaged over all elements."""
    return lambda generator, z, given: second(generator, z, given.signs).var(0).mean()


def path_length(generator, z, given):
    """StyleGAN2's (‖J'y‖ − a)², by ``autograd.grad(create_graph=True)``."""
    codes = z.detach().requires_grad_()
    inner = (generator(codes) * given.images).sum()
    (gradient,) = torch.autograd.grad(inner, codes, create_graph=True)
    return (gradient.square().sum(1).sqrt() - TARGET).square().mean()


def path_length_by_pydisent(generator, z, given):
    return path_length_penalty(generator, z, TARGET, cotangents=[given.images])


def orthogonal_by_pydisent(generator, z, given):
    estimate = objectives.orthogonal_jacobian_estimate
    return pydisent.gram_penalty(generator, z, estimate, directions=given.signs)


def clamping_by_pydisent(generator, z, given):
    estimate = partial(objectives.jacobian_clamping_estimate, low=LOW, high=HIGH)
    return pydisent.gram_penalty(generator, z, estimate, directions=given.unit)


def hessian_by_pydisent(generator, z, given):
    return pydisent.hessian_penalty(generator, z, directions=given.signs, reduction="mean")


# -- exact ----------------------------------------------------------------------------------------


def columns_at_once(generator, z):
    """J's columns (m, B, ...) by one ``torch.func.jvp`` under ``vmap``, as in jacfwd."""
    axes = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)

    def column(axis):
        return torch.func.jvp(generator, (z,), (axis.expand_as(z),))[1]

    return torch.func.vmap(column)(axes)


def columns_in_turn(generator, z):
    """J's columns (m, B, ...) by one ``torch.func.jvp`` each."""
    axes = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return torch.stack([torch.func.jvp(generator, (z,), (axis.expand_as(z),))[1] for axis in axes])


def exact(columns, objective) -> Way:
    """A function of M, with the whole of J in the graph."""

    def way(generator, z, given):
        jacobian = columns(generator, z).flatten(2).permute(1, 2, 0)
        return objective(jacobian.mT @ jacobian).mean()

    return way


def exact_by_pydisent(objective) -> Way:
    return lambda generator, z, given: pydisent.gram_penalty(generator, z, objective)


# -- the tables -----------------------------------------------------------------------------------

OURS, PUBLISHED, FUNC, IN_TURN = "pydisent", "published", "torch.func", "torch.func, a column each"


@dataclass(frozen=True)
class Regularizer:
    """A regularizer and its ways; the first is the baseline for the others.

    ``reference`` is accurate in float64. Where the published way takes differences, ``small`` is
    the same with a step that is small in float64, and ``directional`` gives each way's derivatives
    along the directions. ``smooth`` requires a generator with curvature.
    """

    ways: dict[str, Way]
    reference: Way
    small: Way | None = None
    directional: dict[str, Callable[..., Tensor]] | None = None
    smooth: bool = False


_FIRST = {PUBLISHED: forward_differences, FUNC: first_by_func, OURS: first_by_pydisent}
_SECOND = {PUBLISHED: second_differences, FUNC: second_by_func, OURS: second_by_pydisent}
_FAR = partial(forward_differences, epsilon=CLAMPING_EPSILON)

ESTIMATES: dict[str, Regularizer] = {
    "orthogonal Jacobian, 2 directions": Regularizer(
        {
            PUBLISHED: orthogonal(forward_differences),
            FUNC: orthogonal(first_by_func),
            OURS: orthogonal_by_pydisent,
        },
        orthogonal(first_by_func),
        orthogonal(partial(forward_differences, epsilon=1e-8)),
        _FIRST,
    ),
    "Jacobian clamping, 1 direction": Regularizer(
        {PUBLISHED: clamping(_FAR), FUNC: clamping(first_by_func), OURS: clamping_by_pydisent},
        clamping(first_by_func),
        clamping(partial(forward_differences, epsilon=1e-8)),
        _FIRST | {PUBLISHED: _FAR},
    ),
    "path length": Regularizer(
        {PUBLISHED: path_length, OURS: path_length_by_pydisent}, path_length
    ),
}
if hasattr(pydisent, "hessian_penalty"):
    ESTIMATES["Hessian penalty, 2 directions"] = Regularizer(
        {
            PUBLISHED: hessian(second_differences),
            FUNC: hessian(second_by_func),
            OURS: hessian_by_pydisent,
        },
        hessian(second_by_func),
        hessian(partial(second_differences, epsilon=1e-3)),
        _SECOND,
        smooth=True,
    )


def _exact(objective: Callable[[Tensor], Tensor]) -> Regularizer:
    ways = {
        FUNC: exact(columns_at_once, objective),
        IN_TURN: exact(columns_in_turn, objective),
        OURS: exact_by_pydisent(objective),
    }
    return Regularizer(ways, exact(columns_at_once, objective))


ORTHOGONAL = "orthogonal Jacobian, exact"
EXACT: dict[str, Regularizer] = {
    ORTHOGONAL: _exact(objectives.orthogonal_jacobian),
    "isometry, exact": _exact(objectives.isometry),
    "scaled isometry": _exact(objectives.scaled_isometry),
    "Jacobian clamping, exact": _exact(partial(objectives.jacobian_clamping, low=LOW, high=HIGH)),
    "log-determinant": _exact(objectives.log_determinant),
    "spectral norm": _exact(objectives.spectral_norm),
    "nuclear norm": _exact(objectives.nuclear_norm),
    "condition number": _exact(objectives.condition_number),
}
REGULARIZERS = ESTIMATES | EXACT
