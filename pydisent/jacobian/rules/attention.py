"""A rule for attention in blocks, with memory linear in the numbers of queries and keys.

With P = softmax(S) and S = s Q K', a tangent of the result is dO = P dV + (P ∘ (dS − a)) V, where
a = Σ_j P dS of each row. Like P itself (Dao et al. 2022) it is computed block by block, from the
logsumexp of each row; so is its adjoint, which recomputes the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pydisent.jacobian._call import Call
from pydisent.jacobian._step import Step
from pydisent.jacobian.decompositions import widen
from pydisent.jacobian.rules._base import COVERED, rule

#: Number of scores up to which the decomposition, unblocked and with fewer calls, is used.
SMALL = 256 * 256
_SIDE = 256  # queries and keys of a block
_ELEMENTS = 1 << 21  # of all tangents of a block


def _is_covered(call: Call) -> bool:
    if len(call.args) < 3 or not all(isinstance(x, Tensor) for x in call.args[:3]):
        return False
    query, key, value = call.args[:3]
    grouped = call.argument(7, "enable_gqa", False) and query.dim() > 2
    shapes = {x.shape[: -3 if grouped else -2] for x in (query, key, value)}
    return (
        query.shape[-2] * key.shape[-2] > SMALL
        and call.argument(4, "dropout_p", 0.0) == 0
        and not call.is_traced(call.argument(3, "attn_mask"))
        and len(shapes) == 1
        and not query.is_complex()
    )


COVERED["scaled_dot_product_attention"] = _is_covered


@rule("scaled_dot_product_attention")
def _attention(call: Call) -> Step:
    query, key, value = call.args[:3]
    mask, scale = call.argument(3, "attn_mask"), call.argument(6, "scale")
    causal, grouped = call.argument(5, "is_causal", False), call.argument(7, "enable_gqa", False)
    values = [query, key, value]
    places = [place for place in range(3) if call.is_traced(values[place])]
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    closed = mask if mask is not None and mask.dtype == torch.bool else None
    added = mask if mask is not None and closed is None else None
    held = call.hold([closed])
    heads = [1, *(query.shape[-3] // x.shape[-3] for x in values[1:])] if grouped else [1, 1, 1]

    def push(captured: Sequence[Tensor], tangents: Sequence[Tensor]) -> Tensor:
        moving: list[Tensor | None] = [None, None, None]
        for place, tangent in zip(places, tangents):
            moving[place] = tangent
        grown = [_repeated(x, n) for x, n in zip((*captured[:3], *moving), heads * 2)]
        bias = captured[3] if added is not None else None
        return _Tangents.apply(held[0], bool(causal), factor, *grown, bias)

    captured = values if added is None else [*values, added]
    traced = [values[place] for place in places]
    return Step(traced, captured, push, by_rows=query.dim() > 2)


def _repeated(x: Tensor | None, times: int) -> Tensor | None:
    return x if x is None or times == 1 else x.repeat_interleave(times, -3)


class _Block(NamedTuple):
    """A block of scores: of some matrices of the batch, queries and keys."""

    matrices: slice
    queries: slice
    keys: slice


class _Scores:
    """The matrices and mask of one attention, with a single batch axis, one block at a time."""

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        closed: Tensor | None,
        bias: Tensor | None,
        causal: bool,
        scale: float,
        tangents: int,
    ) -> None:
        lead = query.shape[:-2]
        self.query, self.key, self.value = (_merged(widen(x), lead) for x in (query, key, value))
        shape = *lead, query.shape[-2], key.shape[-2]
        self.closed = None if closed is None else closed.expand(shape).reshape(-1, *shape[-2:])
        self.bias = None if bias is None else widen(bias).expand(shape).reshape(-1, *shape[-2:])
        self.causal, self.scale, self.tangents = causal, scale, tangents

    def blocks(self) -> Iterator[_Block]:
        """All blocks with a score that is not masked; those of the same queries are consecutive."""
        count, queries, keys = *self.query.shape[:2], self.key.shape[1]
        group = max(1, _ELEMENTS // (self.tangents * _SIDE * _SIDE))
        for first in range(0, count, group):
            for row in range(0, queries, _SIDE):
                for column in range(0, keys, _SIDE):
                    if not self.causal or column < row + _SIDE:
                        yield _Block(
                            slice(first, first + group),
                            slice(row, row + _SIDE),
                            slice(column, column + _SIDE),
                        )

    def scores(self, block: _Block) -> Tensor:
        """S of a block, −∞ where it is masked."""
        matrices, queries, keys = block
        scores = self.scale * self.query[matrices, queries] @ self.key[matrices, keys].mT
        if self.bias is not None:
            scores += self.bias[matrices, queries, keys]
        if self.closed is not None:
            scores.masked_fill_(~self.closed[matrices, queries, keys], -torch.inf)
        if self.causal:
            rows = torch.arange(scores.shape[-2], device=scores.device)[:, None] + queries.start
            columns = torch.arange(scores.shape[-1], device=scores.device) + keys.start
            scores.masked_fill_(columns > rows, -torch.inf)
        return scores

    def log_sums(self) -> Tensor:
        """The logsumexp of each row; ∞ if the row is all masked, so that its weights are zero."""
        sums = self.query.new_full(self.query.shape[:2], -torch.inf)
        for block in self.blocks():
            part = sums[block.matrices, block.queries]
            part.copy_(torch.logaddexp(part, self.scores(block).logsumexp(-1)))
        return sums.masked_fill_(sums == -torch.inf, torch.inf)

    def weights(self, block: _Block, log_sums: Tensor) -> Tensor:
        """P of a block."""
        return (self.scores(block) - log_sums[block.matrices, block.queries, None]).exp_()

    def moved(self, block: _Block, query: Tensor | None, key: Tensor | None) -> Tensor | float:
        """The dS of a block for each tangent."""
        matrices, queries, keys = block
        parts = []
        if query is not None:
            parts.append(query[:, matrices, queries] @ self.key[matrices, keys].mT)
        if key is not None:
            parts.append(self.query[matrices, queries] @ key[:, matrices, keys].mT)
        if not parts:
            return 0.0
        return (parts[0] if len(parts) == 1 else parts[0].add_(parts[1])).mul_(self.scale)


class _Tangents(torch.autograd.Function):
    """dO (K, ..., L, Ev) of tangents of the query, key and value, each of which may be None."""

    @staticmethod
    def forward(
        ctx: Any, closed, causal, scale, query, key, value, d_query, d_key, d_value, bias
    ) -> Tensor:
        moving = [x for x in (d_query, d_key, d_value) if x is not None]
        count, lead = len(moving[0]), query.shape[:-2]
        scores = _Scores(query, key, value, closed, bias, causal, scale, count)
        tangents = [
            None if x is None else _merged(widen(x), lead) for x in (d_query, d_key, d_value)
        ]
        log_sums = scores.log_sums()
        out = scores.value.new_zeros(count, *scores.query.shape[:2], scores.value.shape[-1])
        sums = scores.value.new_zeros(count, *scores.query.shape[:2])
        result = scores.value.new_zeros(out.shape[1:])
        for block in scores.blocks():
            matrices, queries, keys = block
            weights, inside = scores.weights(block, log_sums), scores.value[matrices, keys]
            part = out[:, matrices, queries]
            if tangents[2] is not None:
                part += weights @ tangents[2][:, matrices, keys]
            moved = scores.moved(block, *tangents[:2])
            if isinstance(moved, Tensor):
                moved *= weights
                sums[:, matrices, queries] += moved.sum(-1)
                part += moved @ inside
            result[matrices, queries] += weights @ inside
        out -= sums.unsqueeze(-1) * result
        ctx.options = closed, causal, scale
        ctx.places = tuple(x is not None for x in (d_query, d_key, d_value))
        ctx.save_for_backward(
            query, key, value, d_query, d_key, d_value, bias, log_sums, sums, result, out
        )
        return out.reshape(count, *lead, *out.shape[2:]).to(moving[0].dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, log_sums, sums, result, out = ctx.saved_tensors
        found = _adjoint(inputs, ctx.options, cotangent, log_sums, sums, result, out)
        shaped = [
            None if x is None or g is None else g.reshape(x.shape).to(x.dtype)
            for x, g in zip(inputs[:6], found)
        ]
        bias = None
        if inputs[6] is not None and ctx.needs_input_grad[9]:
            full = found[6].reshape(*inputs[0].shape[:-2], *found[6].shape[1:])
            bias = full.sum_to_size(inputs[6].shape).to(inputs[6].dtype)
        return None, None, None, *shaped, bias


def _adjoint(
    inputs: Sequence[Any],
    options: tuple[Tensor | None, bool, float],
    cotangent: Tensor,
    log_sums: Tensor,
    sums: Tensor,
    result: Tensor,
    out: Tensor,
) -> list[Any]:
    """Gradients of the query, key, value, their tangents and the bias.

    dO also depends on a row's scores through its a and its logsumexp, whose cotangents are
    ā = −O · G and −Σ (dO · G + a ā), with G the cotangent of dO.
    """
    query, key, value, *moving, bias = inputs
    lead, (closed, causal, scale) = query.shape[:-2], options
    scores = _Scores(query, key, value, closed, bias, causal, scale, len(cotangent))
    d_query, d_key, d_value = (None if x is None else _merged(widen(x), lead) for x in moving)
    grad = _merged(widen(cotangent), lead)
    of_sums = -(grad * result).sum(-1)
    of_logs = -((grad * out).sum(-1) + of_sums * sums).sum(0)
    found: list[Any] = [torch.zeros_like(x) for x in (scores.query, scores.key, scores.value)]
    found += [None if x is None else torch.zeros_like(x) for x in (d_query, d_key, d_value)]
    to_query, to_key, to_value, to_d_query, to_d_key, to_d_value = found
    to_bias = None if scores.bias is None else torch.zeros_like(scores.bias)
    for block in scores.blocks():
        m, i, j = block
        weights, g = scores.weights(block, log_sums), grad[:, m, i]
        along = g @ scores.value[m, j].mT
        of_weights = of_logs[m, i, None].clone().expand_as(weights).contiguous()
        if d_value is not None:
            of_weights += (g @ d_value[:, m, j].mT).sum(0)
            to_d_value[:, m, j] += weights.mT @ g
        moved = scores.moved(block, d_query, d_key)
        if isinstance(moved, Tensor):
            along_sums = along + of_sums[:, m, i, None]
            of_weights += (moved * along_sums - sums[:, m, i, None] * along).sum(0)
            of_moved = along_sums.mul_(weights * scale)
            to_value[m, j] += ((moved - sums[:, m, i, None]).mul_(weights).mT @ g).sum(0)
            if d_query is not None:
                to_d_query[:, m, i] += of_moved @ scores.key[m, j]
                to_key[m, j] += (of_moved.mT @ d_query[:, m, i]).sum(0)
            if d_key is not None:
                to_d_key[:, m, j] += of_moved.mT @ scores.query[m, i]
                to_query[m, i] += (of_moved @ d_key[:, m, j]).sum(0)
        of_scores = of_weights.mul_(weights)
        to_query[m, i] += scale * of_scores @ scores.key[m, j]
        to_key[m, j] += scale * of_scores.mT @ scores.query[m, i]
        if to_bias is not None:
            to_bias[m, i, j] += of_scores
    return [*found, to_bias]


def _merged(x: Tensor, lead: torch.Size) -> Tensor:
    """Matrices (..., *lead, L, E) with the axes of ``lead`` merged into one."""
    before = x.shape[: x.dim() - len(lead) - 2]
    return x.reshape(*before, lead.numel(), *x.shape[-2:])
