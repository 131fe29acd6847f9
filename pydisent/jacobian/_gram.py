"""A function R of a Jacobian's Gram matrices, and the directions along which dR needs dJ.

With C = dR/dM, a small matrix per sample, dR = Σ <C, dM> = 2 Σ <J C, dJ>.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pydisent.jacobian._budget import budget_of
from pydisent.jacobian._directions import (
    Directions,
    Keep,
    leading_directions,
    leading_eigenvectors,
    pushed_directions,
)
from pydisent.jacobian._finite import refuse_infinite
from pydisent.jacobian._gradient import once_differentiable
from pydisent.jacobian._kept import recombined, slots_to_keep
from pydisent.jacobian._layout import gram_of_columns
from pydisent.jacobian.linearization import Linearization

Objective = Callable[[Tensor], Tensor]


def gram_form(
    linear: Linearization,
    objective: Objective,
    keep: Keep,
    *,
    wants_gradient: bool,
    basis: Tensor | None = None,
    each: bool = False,
) -> tuple[Tensor, Directions | None]:
    """R, with a graph to anything else ``objective`` reads, and the directions of its gradient.

    ``objective`` maps M (B, m, m), or V'M V (B, K, K) for a ``basis`` V (K, B, *latent), to a
    scalar; with ``each``, R is the sum over the outputs. With neither, J need not fit into memory.
    """
    tangents = linear.basis() if basis is None else basis.to(linear.dtype)
    columns: list[Tensor] | None = None
    kept: dict[int, list[Tensor]] = {}
    if each or basis is not None or linear.jacobian_fits:
        if wants_gradient:
            elements = budget_of(linear.device).tangents // linear.dtype.itemsize
            kept = slots_to_keep(linear.program, len(tangents), elements, linear.dtype)
        columns = linear.columns(tangents, kept)
        grams = [gram_of_columns(part) for part in ([[c] for c in columns] if each else [columns])]
    else:
        grams = [linear.gram_matrix()]
    if not wants_gradient:
        for gram in grams:
            refuse_infinite(gram, linear)
        return _total(objective, grams), None
    value, found = _with_slopes(linear, objective, grams)
    slopes = [slope + slope.mT for slope in found]  # twice C
    if columns is None:
        if keep.rank is not None:
            return value, pushed_directions(linear, grams[0], slopes[0] / 2, keep.rank)
        return value, leading_eigenvectors(slopes[0] / 2, keep.tolerance)
    rows, seeds = leading_directions(columns, grams, slopes, keep)
    known = recombined(kept, rows)
    along = rows.transpose(0, 1).contiguous()
    if basis is not None:
        along = torch.einsum("rbk,kbm->rbm", along, tangents.flatten(2).to(along.dtype))
    return value, Directions(along, seeds, None, known)


def fits_one_graph(linear: Linearization, keep: Keep, basis: Tensor | None) -> bool:
    """Whether ``gram_in_one_graph`` takes less time and memory than ``gram_form``.

    It does if no direction would be dropped, for example with a few random directions.
    """
    program = linear.program
    whole = basis is not None or (keep.tolerance == 0 and linear.jacobian_fits)
    if not whole or keep.rank is not None or linear.dtype.itemsize < 4:
        return False
    if program.live or program.general:
        return False
    count = linear.latent_shape[1:].numel() if basis is None else len(basis)
    return count <= linear.chunk_size(graph=True)


def gram_in_one_graph(
    linear: Linearization,
    objective: Objective,
    z: Tensor,
    *,
    basis: Tensor | None = None,
    each: bool = False,
) -> Tensor:
    """R as in ``gram_form``, with its gradient: that of Σ <C, M> in the graph of the function.

    The tangents are pushed once, with their graph.
    """
    program = linear.program
    tangents = linear.basis() if basis is None else basis.to(linear.dtype)
    with torch.enable_grad():
        moved = program.push(tangents, program.attached(linear.dtype))
        columns = [image.transpose(0, 1) for image in moved]
        grams = [gram_of_columns(part) for part in ([[c] for c in columns] if each else [columns])]
        still = len(linear.program.output_shapes) - len(moved) if each else 0
        zeros = [torch.zeros_like(grams[0])] * still  # for constant outputs
        value, slopes = _with_slopes(linear, objective, [g.detach() for g in (*grams, *zeros)])
        form = sum((slope * gram).sum() for slope, gram in zip(slopes, grams))
        assert isinstance(form, Tensor)
        return value + once_differentiable(form - form.detach(), z)


def _with_slopes(
    linear: Linearization, objective: Objective, grams: Sequence[Tensor]
) -> tuple[Tensor, Sequence[Tensor]]:
    """R, with a graph to anything else ``objective`` reads, and dR/dM for each M."""
    for gram in grams:
        refuse_infinite(gram, linear)
    with torch.enable_grad():
        sources = [gram.requires_grad_() for gram in grams]
        value = _total(objective, sources)
        slopes = torch.autograd.grad(value, sources, retain_graph=True, materialize_grads=True)
    return value if reads_more(value, sources) else value.detach(), slopes


def _total(objective: Objective, grams: Sequence[Tensor]) -> Tensor:
    parts = [objective(gram) for gram in grams]
    return sum(parts[1:], parts[0])


def reads_more(value: Tensor, sources: Sequence[Tensor]) -> bool:
    """Whether the gradient of the value flows to a leaf other than the sources."""
    queue, seen = [value.grad_fn], set()
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)  # of a leaf
        if variable is not None and not any(variable is source for source in sources):
            return True
        queue += [after for after, _ in node.next_functions]
    return False
