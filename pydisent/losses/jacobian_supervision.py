"""Jacobian supervision: a student decoder learns to vary with the factors as its teacher does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from pydisent import parallel
from pydisent._checks import (
    check_floating,
    check_matching,
    check_number,
    check_one_of,
    check_tensor,
    shape_error,
)
from pydisent.jacobian import directional_derivative

Decoder = Callable[[Tensor, Tensor], Tensor]

Variant = Literal["published", "exact"]
VARIANTS = get_args(Variant)


def jacobian_supervision(
    student: Decoder,
    teacher: Decoder,
    student_y: Tensor,
    student_z: Tensor,
    teacher_y: Tensor,
    teacher_z: Tensor | None = None,
    *,
    weight_y: float,
    weight_diff: float,
    variant: Variant = "published",
    permutation: Tensor | None = None,
    reconstruction: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Match a student's codes and decoder to a teacher's (Lezama 2019, Eqs. 7 and 9).

    weight_y ⟨(y_S − y_T)²⟩ + weight_diff ⟨(Δ_T − Δ_S)²⟩, where ⟨·⟩ is the mean over the batch and
    over all components of a sample. Each y is paired with that of another sample, y'. "published"
    takes the differences of Eq. 9, Δ = D(y', z) − D(y, z); "exact" what they approximate (Eq. 7),
    the directional derivatives Δ = J(y, z) (y'_T − y_T, 0), in one direction for both decoders.

    Parameters
    ----------
    student, teacher
        Decoders: callables of y (B, k) and z (B, ...) that return images (B, ...) of one shape.
        The teacher gets no gradient.
    student_y, teacher_y
        (B, k), the factor part of a batch's codes; gradients flow to the student's.
    student_z, teacher_z
        (B, ...), the rest of the codes, of any sizes; if ``teacher_z`` is None, the teacher's
        decoder gets (B, 0).
    weight_y, weight_diff
        Numbers >= 0; a term of weight zero is not computed.
    variant
        "published" or "exact".
    permutation
        (B,) integers, the sample that each one is paired with; a random permutation if None. If
        processes share a batch, indices are into the whole batch. Values out of range raise on the
        CPU.
    reconstruction
        D_S(y, z), if known from the reconstruction loss; it saves "published" a pass. A decoder
        with batch norm in training mode then normalises the two images of a difference with
        separate statistics; otherwise both come from one call.

    Returns
    -------
    loss : Tensor
        A scalar.
    terms : dict of str to Tensor
        "y_error" and "difference", the two unweighted means, where computed.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as above.
    """
    _check(student_y, student_z, teacher_y, teacher_z, variant, permutation)
    if reconstruction is not None:
        check_tensor("reconstruction", reconstruction)
    check_number("weight_y", weight_y, at_least=0)
    check_number("weight_diff", weight_diff, at_least=0)
    teacher_y = teacher_y.detach()
    teacher_z = teacher_y.new_empty(len(teacher_y), 0) if teacher_z is None else teacher_z.detach()
    loss, terms = student_y.new_zeros(()), {}
    if weight_y > 0:
        terms["y_error"] = F.mse_loss(student_y, teacher_y)
        loss = loss + weight_y * terms["y_error"]
    if weight_diff > 0:
        if permutation is None:
            device = teacher_y.device
            permutation = parallel.draw(lambda n: torch.randperm(n, device=device), len(teacher_y))
        whole = parallel.gather(teacher_y)
        _check_range(permutation, len(whole))
        teacher_pair = whole[permutation]
        if variant == "published":
            with torch.no_grad():
                wanted = _difference(teacher, teacher_pair, teacher_y, teacher_z, None)
            student_pair = parallel.gather(student_y)[permutation]
            found = _difference(student, student_pair, student_y, student_z, reconstruction)
        else:
            direction = teacher_pair - teacher_y
            wanted = _derivative(teacher, teacher_y, teacher_z, direction).detach()
            found = _derivative(student, student_y, student_z, direction)
        if found.shape != wanted.shape:
            raise ValueError(
                f"student and teacher must return images of one shape, got {tuple(found.shape)} "
                f"and {tuple(wanted.shape)}"
            )
        terms["difference"] = F.mse_loss(found, wanted)
        loss = loss + weight_diff * terms["difference"]
    return loss, terms


def _difference(
    decoder: Decoder, pair: Tensor, y: Tensor, z: Tensor, before: Tensor | None
) -> Tensor:
    """Return D(y', z) − D(y, z), both from one call unless the second is known."""
    if before is not None:
        after = decoder(pair, z)
        if before.shape != after.shape:  # else it would be broadcast
            raise shape_error("reconstruction", f"{tuple(after.shape)}, as decoded", before)
        return after - before
    after, before = decoder(torch.cat([pair, y]), torch.cat([z, z])).chunk(2)
    return after - before


def _derivative(decoder: Decoder, y: Tensor, z: Tensor, direction: Tensor) -> Tensor:
    """Return J (direction, 0) by one forward-mode pass, differentiable in z as well."""
    return directional_derivative(lambda y: decoder(y, z), y, direction)[1]


def _check_range(permutation: Tensor, batch: int) -> None:
    if permutation.device.type != "cpu" or torch.compiler.is_compiling():
        return  # reading the values would synchronise, or break the graph
    low, high = (int(x) for x in torch.aminmax(permutation))
    if low < 0 or high >= batch:
        raise ValueError(f"permutation must be in [0, {batch - 1}], got values in [{low}, {high}]")


def _check(
    student_y: Tensor,
    student_z: Tensor,
    teacher_y: Tensor,
    teacher_z: Tensor | None,
    variant: str,
    permutation: Tensor | None,
) -> None:
    check_floating("student_y", student_y)
    check_one_of("variant", variant, VARIANTS)
    shape = student_y.shape
    if len(shape) != 2 or 0 in shape:
        raise shape_error("student_y", "(B, k), B and k >= 1", student_y)
    check_matching("teacher_y", teacher_y, "student_y", student_y)
    rest = {"student_z": student_z} | ({} if teacher_z is None else {"teacher_z": teacher_z})
    for name, z in rest.items():
        check_matching(name, z, "student_y", student_y, shape=False)
        if z.dim() < 2 or len(z) != len(student_y):
            raise shape_error(name, f"({len(student_y)}, ...)", z)
    if permutation is None:
        return
    check_tensor("permutation", permutation)
    if permutation.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"permutation must be int64 or int32, got {permutation.dtype}")
    if permutation.shape != shape[:1]:
        raise shape_error("permutation", tuple(shape[:1]), permutation)
