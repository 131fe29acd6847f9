"""``gram_penalty``: any function of the Gram matrix of a function's Jacobian, with its gradient.

With M = J'J and C = dR/dM, small matrices per sample, dR = Σ <C, dM> = 2 Σ <J C, dJ>: after one
pass for J the gradient takes a few Jacobian-vector products along the leading directions of J C,
and one reverse pass through them, whatever R is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pydisent import parallel
from pydisent._checks import check, check_integer
from pydisent._precision import affordable_dtype
from pydisent.jacobian._arguments import Coupled, checked_keywords
from pydisent.jacobian._coupling import keep_samples_apart
from pydisent.jacobian._directions import Keep
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian._finite import is_finite
from pydisent.jacobian._gradient import with_gradient
from pydisent.jacobian._gram import Objective, fits_one_graph, gram_form, gram_in_one_graph
from pydisent.jacobian._modes import is_capturing
from pydisent.jacobian.alignment import random_signs
from pydisent.jacobian.linearization import linearize_unchecked


@run_eagerly
def gram_penalty(
    fn: Callable[..., Any],
    z: Tensor,
    objective: Objective,
    *args: Any,
    directions: int | Tensor | None = None,
    each: bool = False,
    tolerance: float | None = None,
    rank: int | None = None,
    compute_dtype: torch.dtype | None = None,
    chunk: int | None = None,
    coupled: Coupled = "error",
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Penalise any differentiable function of the Gram matrices M = J'J of ``fn``'s Jacobian.

    Parameters
    ----------
    fn, z, args, kwargs, compute_dtype, chunk, coupled, fn_kwargs
        As in :func:`pydisent.alignment_penalty`.
    objective
        A differentiable function that maps M (B, m, m), in float32 or wider, to (B,), whose mean is
        the penalty, or to a scalar, such as those in :mod:`pydisent.jacobian.objectives`. Gradients
        also flow to anything else that it reads.
    directions
        V, (K, B, *latent), or a number K of random sign vectors (Rademacher) from PyTorch's global
        generator: ``objective`` then gets V'M V (B, K, K), which takes K Jacobian-vector products
        instead of m.
    each
        Whether to sum the penalties of the individual outputs of ``fn``, if it returns a list.
    tolerance
        The relative Frobenius norm of the part of J C that the gradient may leave out, in [0, 1),
        by default 1e-3; 0 is exact.
    rank
        A number of directions to keep instead, as in :func:`pydisent.alignment_penalty`.

    Returns
    -------
    Tensor
        The penalty, a scalar, in float32 or wider.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; for what :func:`pydisent.linearize` refuses; if the
        Jacobian, the value of ``objective`` or its derivative is not finite.
    DerivativeError
        If PyTorch's derivative of an operation in ``fn`` is missing or wrong; the message names it.

    Notes
    -----
    The gradient is computed in backward and cannot be differentiated again.

    Examples
    --------
    >>> from pydisent.jacobian import objectives
    >>> generator = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.SiLU())
    >>> z = torch.randn(4, 8)
    >>> gram_penalty(generator, z, objectives.orthogonal_jacobian).backward()

    The published estimator with two directions, and a custom objective.

    >>> estimate = objectives.orthogonal_jacobian_estimate
    >>> gram_penalty(generator, z, estimate, directions=2).backward()
    >>> value = gram_penalty(lambda z: 2 * z, z, lambda gram: gram.diagonal(dim1=1, dim2=2).sum(1))
    >>> value.item()
    32.0
    """
    kwargs = checked_keywords(
        gram_penalty, fn, z, kwargs, fn_kwargs,
        compute_dtype=compute_dtype, chunk=chunk, coupled=coupled,
    )  # fmt: skip
    if not callable(objective):
        raise TypeError(f"objective must be callable, got {type(objective).__name__}")
    keep = Keep.of(tolerance, rank)
    size = z.shape[1:].numel()
    if rank is not None and directions is None:
        check(rank <= size, "rank", f"at most m = {size}", rank)
    wants_gradient = torch.is_grad_enabled()
    with torch.inference_mode(False):
        z = z.clone() if z.is_inference() else z
        tangents = _tangents(directions, z)
        affordable = affordable_dtype(compute_dtype, z.device)
        linear = linearize_unchecked(fn, z, args, kwargs, affordable, chunk)
        keep_samples_apart(linear, coupled)
        checked = _Checked(objective)
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            if wants_gradient and fits_one_graph(linear, keep, tangents):
                return gram_in_one_graph(linear, checked, z, basis=tangents, each=each)
            value, found = gram_form(
                linear, checked, keep, wants_gradient=wants_gradient, basis=tangents, each=each
            )
        return value if found is None else with_gradient(value, z, linear, found)


def _tangents(directions: int | Tensor | None, z: Tensor) -> Tensor | None:
    """The directions (K, B, *latent), or None for all axes."""
    if directions is None:
        return None
    if not isinstance(directions, Tensor):
        check_integer("directions", directions, at_least=1)
        shape = (int(directions), *z.shape[1:])
        signs = parallel.draw(lambda n: random_signs((n, *shape), z.device), len(z))
        return signs.transpose(0, 1).to(z.dtype)
    check(
        directions.shape[1:] == z.shape and len(directions) >= 1,
        "directions", f"(K, {', '.join(map(str, z.shape))}), K >= 1", tuple(directions.shape),
    )  # fmt: skip
    return directions.detach().to(z)


class _Checked:
    """The mean of an objective over the whole batch, of all processes, with checks."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def __call__(self, gram: Tensor) -> Tensor:
        whole = parallel.gather(gram).clone()  # an objective may write into it
        found = self.objective(whole)
        if not isinstance(found, Tensor) or found.shape not in ((), whole.shape[:1]):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"objective must return (B,) = ({len(whole)},) or a scalar, got {got}")
        if not found.is_floating_point() or (gram.requires_grad and not found.requires_grad):
            raise ValueError(
                "objective must return floating-point numbers with a derivative with respect to "
                f"M = J'J, got {found.dtype} without one"
            )
        value = found.mean()
        if not is_capturing():
            check(is_finite(value), "objective", "finite at M = J'J", value.item())
            if gram.requires_grad:
                gram.register_hook(_refuse_infinite_slope)
        return value


def _refuse_infinite_slope(slope: Tensor) -> None:
    if not is_finite(slope):
        raise ValueError(
            "objective must be differentiable at M = J'J, got a derivative with NaN or infinity"
        )
