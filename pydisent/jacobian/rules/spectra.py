"""Rules for eigenvectors and singular vectors, whose phases are arbitrary.

The tangents are composed of the computed vectors, so that the phases cancel in their gradient as
they do in the function's; PyTorch refuses to differentiate each part alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pydisent.jacobian._call import Call, NoRuleError
from pydisent.jacobian._step import Step
from pydisent.jacobian.rules._base import COVERED, rule


def _rotations(projected: Tensor, values: Tensor) -> Tensor:
    """P_ij / (λ_j − λ_i), and zero on the diagonal."""
    gaps = values.unsqueeze(-2) - values.unsqueeze(-1)
    eye = torch.eye(values.shape[-1], dtype=torch.bool, device=values.device)
    return (projected / gaps.masked_fill(eye, 1)).masked_fill(eye, 0)


COVERED["linalg_eigh"] = lambda call: False  # only as part of its decomposition


@rule("linalg_eigh")
def _eigh(call: Call) -> Step:
    values, vectors = call.out

    def push(captured, tangents):
        found, basis = captured
        projected = basis.mH @ tangents[0] @ basis
        moved = projected.diagonal(dim1=-2, dim2=-1).real
        return moved, basis @ _rotations(projected, found)

    return Step([call.args[0]], [values, vectors], push, outputs=[values, vectors])


@rule("linalg_eig")
def _eig(call: Call) -> Step:
    values, vectors = call.out

    def push(captured, tangents):
        found, basis = captured
        projected = torch.linalg.inv(basis) @ tangents[0].to(basis.dtype) @ basis
        turned = basis @ _rotations(projected, found)
        # Eigenvectors keep their length.
        along = (basis.conj() * turned).sum(-2, keepdim=True).real
        return projected.diagonal(dim1=-2, dim2=-1), turned - basis * along

    return Step([call.args[0]], [values, vectors], push, outputs=[values, vectors])


@rule("linalg_svd", "svd")
def _svd(call: Call) -> Step:
    """A = U S V', reduced: the additional vectors of full bases are not unique."""
    left, values, right = call.out
    rows, columns = call.args[0].shape[-2:]
    if (
        max(left.shape[-1], right.shape[-2 if call.name == "linalg_svd" else -1])
        > min(rows, columns)
        or left.numel() == 0
    ):
        raise NoRuleError
    adjoint = call.name == "linalg_svd"  # torch.svd returns V itself

    def push(captured, tangents):
        u, s, v = captured
        v = v.mH if adjoint else v
        tangent = tangents[0]
        projected = u.mH @ tangent @ v
        diagonal = projected.diagonal(dim1=-2, dim2=-1)
        moved = diagonal.real if diagonal.is_complex() else diagonal
        scaled, mirrored = projected * s.unsqueeze(-2), projected * s.unsqueeze(-1)
        of_u = _rotations(scaled + scaled.mH, s * s)
        of_v = _rotations(mirrored + mirrored.mH, s * s)
        if diagonal.is_complex():
            phase = torch.diag_embed(1j * diagonal.imag / (2 * s))
            of_u, of_v = of_u + phase, of_v - phase
        du, dv = u @ of_u, v @ of_v
        if rows > columns:
            outside = tangent @ v
            du = du + (outside - u @ (u.mH @ outside)) / s.unsqueeze(-2)
        if columns > rows:
            outside = tangent.mH @ u
            dv = dv + (outside - v @ (v.mH @ outside)) / s.unsqueeze(-2)
        return du, moved, dv.mH if adjoint else dv

    outputs = [left, values, right]
    return Step([call.args[0]], outputs, push, outputs=outputs)
