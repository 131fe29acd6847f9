"""``hessian_penalty``: the off-diagonal second derivatives of any function, exact or estimated."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pydisent import parallel
from pydisent._checks import check, check_integer, check_one_of, shape_error
from pydisent.jacobian._arguments import Coupled, check_options, checked_keywords, merged_keywords
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian._finite import is_finite
from pydisent.jacobian._modes import is_capturing
from pydisent.jacobian._taylor import Pairs
from pydisent.jacobian.alignment import random_signs
from pydisent.jacobian.taylor import Curve, check_directions

Reduction = Literal["max", "mean", "sum"]
SMALL = 8  # largest m for which all pairs of axes are taken by default


@run_eagerly
def hessian_penalty(
    fn: Callable[..., Any],
    z: Tensor,
    *args: Any,
    directions: int | Tensor | Literal["axes"] | None = None,
    reduction: Reduction | None = None,
    normalized: bool = False,
    latent_scale: Tensor | None = None,
    compute_dtype: torch.dtype | None = None,
    chunk: int | None = None,
    coupled: Coupled = "error",
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Penalise the off-diagonal elements of the Hessian of each output (Peebles et al. 2020).

    For an output y the penalty is Var_v(v'H v) = 2 Σ_{i≠j} H_ij² over random signs v, where H is
    d²y/dz² (Eqs. 1 and 4). Second derivatives are exact, by Taylor mode; the paper's code takes
    finite differences of step 0.1. If ``fn`` returns a list (of activations), penalties add.

    Parameters
    ----------
    fn, z, args, kwargs, compute_dtype, coupled, fn_kwargs
        As in :func:`pydisent.linearize`.
    directions
        "axes" for the exact sum over all pairs of axes, m (m + 1) / 2 tangents; a number K >= 2 of
        random sign vectors, from PyTorch's global generator, for the published estimator, the
        unbiased variance along them (the paper's code uses 2), which takes 2 K tangents; or the
        directions themselves, (K, B, *latent). By default "axes" for m <= 8 and 2 above.
    reduction
        How to reduce an output (B, *out): "max" over all elements, as in the paper's code; "mean";
        or "sum", averaged over the batch. By default "max", or "mean" if ``normalized``.
    normalized
        Whether to use Σ_{i≠j} H_ij² / Σ_ij H_ij² instead, each summed over a sample's elements: the
        normalised penalty of Tripod (Hsu et al. 2024), which is invariant to the output's scale.
        Then "max" and "mean" are over samples. With K random sign vectors the denominator is
        estimated along K further normal directions, as in the authors' code.
    latent_scale
        σ, (*latent): H_ij becomes σ_i σ_j H_ij. Tripod uses the standard deviations of the codes.
    chunk
        Tangents pushed at once; by default as many as fit into 256 MiB, or 1/16 of a GPU's memory,
        but at least 4. If not all fit, their graph is built in backward, one chunk at a time.

    Returns
    -------
    Tensor
        The penalty, a scalar, in float32 or wider. Gradients flow to ``z`` and to whatever ``fn``
        closes over.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; for what :func:`pydisent.linearize` refuses; if a second
        derivative is not finite.
    DerivativeError
        If PyTorch's derivative of an operation in ``fn`` is missing or wrong; the message names it.

    Notes
    -----
    The Hessian of a piecewise linear network (ReLU) is zero where it exists: only other operations
    (tanh at the end, norms) give it a penalty. Finite differences also see the kinks.

    Examples
    --------
    >>> z = torch.tensor([[1.0, 2.0, 3.0]])
    >>> hessian_penalty(lambda z: z.prod(1, keepdim=True), z).item()  # H_12 = 3, H_13 = 2, H_23 = 1
    56.0
    >>> generator = nn.Sequential(nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 16))
    >>> hessian_penalty(generator, torch.randn(4, 64), directions=2).backward()
    """
    kwargs = checked_keywords(
        hessian_penalty, fn, z, kwargs, fn_kwargs,
        compute_dtype=compute_dtype, chunk=chunk, coupled=coupled,
    )  # fmt: skip
    directions = _checked(directions, reduction, normalized, latent_scale, z)
    reduction = reduction or ("mean" if normalized else "max")
    keeps_graph = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(keeps_graph):
        z = z.clone() if z.is_inference() else z
        # Drawn before fn is called, as fn may also draw.
        along = None if directions == "axes" else _drawn(directions, normalized, z)
        curve = Curve(fn, z, args, kwargs, compute_dtype, coupled)
        with torch.autocast(z.device.type, enabled=False):
            weights = torch.ones(z.shape[1:], dtype=curve.dtype, device=z.device)
            weights = weights if latent_scale is None else latent_scale.detach().to(weights)
            if along is None:
                energies = _exact(curve, weights, chunk, normalized)
            else:
                energies = _estimated(curve, [v.to(weights) * weights for v in along], chunk)
            value = sum(_reduced(parts, reduction) for parts in energies)
        assert isinstance(value, Tensor)  # at least one output moves
        if not is_capturing() and not is_finite(value):
            for name, given in (("directions", directions), ("latent_scale", latent_scale)):
                finite = not isinstance(given, Tensor) or is_finite(given)
                check(finite, name, "finite", "NaN or infinity")
            raise ValueError(curve.why_not_finite())
        return curve.attached(value, z)


def _checked(
    directions: Any, reduction: Any, normalized: Any, scale: Any, z: Tensor
) -> int | Tensor | Literal["axes"]:
    """The directions, with None replaced by a number or "axes"; raises on bad arguments."""
    if reduction is not None:
        check_one_of("reduction", reduction, get_args(Reduction))
    if not isinstance(normalized, bool):
        raise TypeError(f"normalized must be a bool, got {normalized!r}")
    if scale is not None and not (isinstance(scale, Tensor) and scale.is_floating_point()):
        got = scale.dtype if isinstance(scale, Tensor) else type(scale).__name__
        raise TypeError(f"latent_scale must be a floating-point tensor (*latent), got {got}")
    if scale is not None and scale.shape != z.shape[1:]:
        raise shape_error("latent_scale", f"{tuple(z.shape[1:])}, that of a code", scale)
    if directions is None:
        directions = "axes" if z.shape[1:].numel() <= SMALL else 2
    if isinstance(directions, Tensor):
        check(not normalized, "directions", "a number or 'axes' if normalized", "a tensor")
        check_directions(directions, z)
        check(len(directions) >= 2, "directions", "at least 2", len(directions))
    elif isinstance(directions, str):
        check(directions == "axes", "directions", "a number, a tensor or 'axes'", repr(directions))
    else:
        check_integer("directions", directions, at_least=2)
    return directions


def _drawn(directions: Any, normalized: bool, z: Tensor) -> list[Tensor]:
    """The directions (K, B, *latent), and normal ones if normalised."""
    if isinstance(directions, Tensor):
        return [directions.detach()]
    shape = (int(directions), *z.shape[1:])
    draws = [lambda n: random_signs((n, *shape), z.device)]
    if normalized:
        draws.append(lambda n: torch.randn((n, *shape), device=z.device))
    return [parallel.draw(draw, len(z)).transpose(0, 1) for draw in draws]


def _estimated(curve: Curve, along: Sequence[Tensor], chunk: int | None) -> list[list[Tensor]]:
    """Var_v(v'H v), (B, *out), for each set of directions; a list for each output that moves."""
    whole = torch.cat(list(along))
    size = max(1, curve.tangents_at_once(chunk) // 2)
    parts = whole.split(size)
    found = [
        curve.reduced(part, Pairs(), lambda seconds: seconds, recompute=len(parts) > 1)
        for part in parts
    ]
    seconds = [_wide(torch.cat(column)) for column in zip(*found)]
    return [[_variance(part) for part in second.chunk(len(along))] for second in seconds]


def _variance(x: Tensor) -> Tensor:
    """``x.var(0)``, which PyTorch computes slowly along the first axis."""
    return (x - x.mean(0)).square().sum(0) / (len(x) - 1)


def _exact(
    curve: Curve, weights: Tensor, chunk: int | None, normalized: bool
) -> list[list[Tensor]]:
    """2 Σ_{i≠j} H_ij², and if normalised 2 Σ_ij H_ij², in the form of ``_estimated``."""
    axes = curve.linear.basis() * weights
    blocks = list(_blocks(len(axes), curve.tangents_at_once(chunk), diagonal=normalized))
    if not blocks:  # m is 1
        shapes = [curve.program.output_shapes[i] for i in curve.program.moved]
        return [[curve.still(1, shape)[0]] for shape in shapes]
    totals: list[Tensor] = []
    for places, left, right in blocks:
        pairs = [torch.tensor(side, device=axes.device) for side in (left, right)]
        crossed = (pairs[0] != pairs[1]).to(axes.dtype)
        factors = [4 * crossed, 4 * crossed + 2 * (1 - crossed)][: 1 + normalized]

        def reduce(seconds: list[Tensor], factors: list[Tensor] = factors) -> list[Tensor]:
            squares = [_wide(second).square() for second in seconds]
            return [torch.tensordot(f.to(s), s, 1) for s in squares for f in factors]

        found = curve.reduced(axes[places], Pairs(*pairs), reduce, recompute=len(blocks) > 1)
        # Summed block by block: there may be thousands, each as large as the outputs.
        totals = [before + new for before, new in zip(totals, found)] if totals else found
    count = 1 + normalized
    return [totals[i : i + count] for i in range(0, len(totals), count)]


def _blocks(
    size: int, at_once: int, *, diagonal: bool
) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Pairs of axes i <= j in blocks: the axes of a block, and its pairs as positions in these.

    A square block of n x n pairs takes n² + 2 n tangents.
    """
    side = max(1, int((at_once + 1) ** 0.5) - 1)
    if size + size * (size + 1) // 2 <= at_once:
        side = size
    starts = range(0, size, side)
    for rows, columns in itertools.combinations_with_replacement(starts, 2):
        row = list(range(rows, min(rows + side, size)))
        column = list(range(columns, min(columns + side, size)))
        places = row if rows == columns else [*row, *column]
        index = {axis: place for place, axis in enumerate(places)}
        pairs = [(i, j) for i in row for j in column if i < j or (i == j and diagonal)]
        if pairs:
            yield places, [index[i] for i, _ in pairs], [index[j] for _, j in pairs]


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _reduced(energies: Sequence[Tensor], reduction: str) -> Tensor:
    """The penalty of one output, given its energies (B, *out)."""
    energy = energies[0]
    if len(energies) == 2:
        part, whole = (each.flatten(1).sum(1) for each in energies)
        energy = (part / whole.clamp_min(torch.finfo(whole.dtype).tiny))[:, None]
    if reduction == "max":
        return energy.max()
    if reduction == "mean":
        return energy.mean()
    return energy.flatten(1).sum(1).mean()


class HessianPenalty(nn.Module):
    """:func:`hessian_penalty` as a module that holds its options.

    Parameters
    ----------
    directions, reduction, normalized, latent_scale, compute_dtype, chunk, coupled
        As in :func:`hessian_penalty`, but ``directions`` cannot be a tensor; ``latent_scale`` is a
        buffer.

    Examples
    --------
    >>> penalty = HessianPenalty(directions=2)
    >>> generator = nn.Sequential(nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 16))
    >>> penalty(generator, torch.randn(4, 64)).backward()
    """

    latent_scale: Tensor | None

    def __init__(
        self,
        *,
        directions: int | Literal["axes"] | None = None,
        reduction: Reduction | None = None,
        normalized: bool = False,
        latent_scale: Tensor | None = None,
        compute_dtype: torch.dtype | None = None,
        chunk: int | None = None,
        coupled: Coupled = "error",
    ) -> None:
        super().__init__()
        check_options(compute_dtype, chunk, coupled)
        like = latent_scale[None] if isinstance(latent_scale, Tensor) else torch.empty(1, 1)
        if isinstance(directions, Tensor):
            raise TypeError("directions must be a number, 'axes' or None, got a tensor")
        _checked(directions, reduction, normalized, latent_scale, like)
        self.options: dict[str, Any] = {
            "directions": directions, "reduction": reduction, "normalized": normalized,
            "compute_dtype": compute_dtype, "chunk": chunk, "coupled": coupled,
        }  # fmt: skip
        self.register_buffer("latent_scale", latent_scale)

    def forward(
        self,
        fn: Callable[..., Any],
        z: Tensor,
        *args: Any,
        fn_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The penalty of ``fn`` at latent codes z (B, *latent): a scalar."""
        more = merged_keywords(kwargs, fn_kwargs)
        return hessian_penalty(
            fn, z, *args, latent_scale=self.latent_scale, fn_kwargs=more, **self.options
        )

    def extra_repr(self) -> str:
        """The options, as ``repr`` shows them."""
        return ", ".join(f"{name}={value}" for name, value in self.options.items())
