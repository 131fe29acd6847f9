"""A function R of the Gram matrices of a Jacobian, and where its gradient needs dJ.

With C = dR/dM, small matrices of a sample, dR = Σ <C, dM> = 2 Σ <J C, dJ>.
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
    """R, with a graph to what else ``objective`` reads, and the directions of its gradient.

    ``objective`` takes M (B, m, m), or V'M V (B, K, K) for a ``basis`` V (K, B, *latent), to a
    scalar; with ``each``, R is the sum over the outputs. With neither J need not fit into memory.
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
    for gram in grams:
        refuse_infinite(gram, linear)
    if not wants_gradient:
        return _total(objective, grams), None
    with torch.enable_grad():
        sources = [gram.requires_grad_() for gram in grams]
        value = _total(objective, sources)
        found = torch.autograd.grad(value, sources, retain_graph=True, materialize_grads=True)
    slopes = [slope + slope.mT for slope in found]  # twice C
    value = value if reads_more(value, sources) else value.detach()
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


def _total(objective: Objective, grams: Sequence[Tensor]) -> Tensor:
    parts = [objective(gram) for gram in grams]
    return sum(parts[1:], parts[0])


def reads_more(value: Tensor, sources: Sequence[Tensor]) -> bool:
    """Whether the gradient of the value flows to a leaf besides the sources."""
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
