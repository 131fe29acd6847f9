"""Whether each sample's output depends only on its own latent code, as its Jacobian requires.

Two tangents reveal it: v, and v with sample b scaled by s_b. If samples are independent, the image
of the second is that of the first scaled by s_b; an element that depends on several samples is a
sum that no single s_b explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from pydisent.jacobian._arguments import Coupled
from pydisent.jacobian._derivative import Derivative
from pydisent.jacobian._modes import is_capturing
from pydisent.jacobian._program import Program
from pydisent.jacobian._step import Step


def probing_tangents(
    shape: torch.Size, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The two tangents, (2, B, *latent), and the scales s (B,)."""
    generator = torch.Generator("cpu").manual_seed(0)
    v = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    scales = torch.linspace(0.5, 1.5, shape[0], dtype=torch.float64, device="cpu")
    tangents = torch.stack([v, _column(scales, len(shape)) * v]).to(device, dtype)
    return tangents, scales.to(device)


def keep_samples_apart(derivative: Derivative, coupled: Coupled) -> None:
    """Refuse any operations that couple samples, or hold them constant."""
    if not derivative.samples_are_apart and not is_capturing() and _is_coupled(derivative):
        derivative.decouple(coupled)


def _is_coupled(derivative: Derivative) -> bool:
    """Whether some output (B, ...) depends on another sample's code."""
    dtype = torch.promote_types(derivative.dtype, torch.float32)
    device = derivative.device.type
    tangents, scales = probing_tangents(derivative.latent_shape, dtype, derivative.device)
    for output in derivative.images(tangents):
        used = [dtype, output.dtype]
        if torch.is_autocast_enabled(device):
            used.append(torch.get_autocast_dtype(device))
        roundings = [derivative.rounding, *(torch.finfo(dtype).eps for dtype in used)]
        if not output.numel():
            continue
        plain, scaled = output.detach().double()
        expected = plain * _column(scales, plain.dim())
        error = (scaled - expected).abs().amax() - max(roundings) * tangents.abs().amax()
        bound = 10 * max(roundings) ** 0.75 * torch.maximum(plain, scaled).abs().amax()
        if bool(error > bound):  # false for NaN, for which there is another error
            return True
    return False


@torch.no_grad()
def mixes_columns(
    images: Sequence[Tensor], columns: Sequence[Tensor], w: Tensor, rounding: float
) -> bool:
    """Whether J w differs from the sum of w_i J e_i, to which it is equal for independent samples.

    ``w`` is (B, m), e_i is axis i in every sample, and ``columns`` is (B, m, *out) for each output.
    """
    rounding = max(rounding, torch.finfo(w.dtype).eps)
    found = []
    for image, parts in zip(images, columns, strict=True):
        if not image.numel():
            continue
        flat, row = parts.reshape(*w.shape, -1), w.unsqueeze(1)
        rest = torch.baddbmm(image.reshape(len(w), 1, -1), row, flat, alpha=-1)
        terms = torch.bmm(row.abs(), flat.abs())
        found.append(rest.abs().amax() > 10 * rounding**0.75 * terms.amax())
    return bool(torch.stack(found).any())


def refuse_coupled(operations: Sequence[str]) -> NoReturn:
    """Raise ValueError, naming the operations that mix samples if they are known."""
    names = ", ".join(dict.fromkeys(f"'{name}'" for name in operations)) or "a permutation"
    raise ValueError(
        f"fn must compute each sample from its own code, but {names} mixes the samples of the "
        'batch, so that a sample has no Jacobian of its own. coupled="hold" holds the mixed values '
        "(batch statistics) constant, as is done for nn.BatchNorm"
    )


def mixing_steps(
    program: Program, shape: torch.Size, device: torch.device
) -> tuple[list[Step[int]], bool]:
    """The steps whose results mix samples, each held constant before the next is tested.

    Also whether some output still depends on another sample's code when all of them are held.
    """
    tangents, scales = probing_tangents(shape, torch.float64, device)
    found: list[Step[int]] = []
    rounding = max(1e-7, 30 * program.rounding)
    largest = tangents.abs().amax()

    def watch(step: Step[int], results: list[Tensor]) -> list[Tensor]:
        nonlocal largest
        floor = 1e-6 * rounding * largest  # differences that cancel leave rounding errors
        largest = torch.stack([largest, *(r.abs().amax() for r in results if r.numel())]).amax()
        if not step.by_rows and any(_mixes(r, scales, rounding, floor) for r in results):
            found.append(step)
            return [torch.zeros_like(result) for result in results]
        return results

    with torch.no_grad():
        outputs = program.push(tangents, program.prepare(torch.float64), watch=watch)
    floor = 1e-6 * rounding * largest
    crossed = any(
        (scaled - plain * _column(scales, plain.dim())).abs().amax()
        > rounding * plain.abs().amax() + floor
        for plain, scaled in outputs
        if plain.numel()
    )
    return found, crossed


def _column(scales: Tensor, dim: int) -> Tensor:
    return scales.reshape(-1, *(1,) * (dim - 1))


def _mixes(result: Tensor, scales: Tensor, rounding: float, floor: Tensor) -> bool:
    plain, scaled = result
    if not plain.numel():
        return False
    best = torch.full_like(plain.abs(), torch.inf)
    for scale in scales.tolist():
        best = torch.minimum(best, (scaled - scale * plain).abs())
    return bool(best.amax() > rounding * plain.abs().amax() + floor)
