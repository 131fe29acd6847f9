"""Latent ops: Gaussian KL divergence, reparameterised samples, perceptual simplicity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.compiler import is_compiling

from pydisent import _backends
from pydisent._checks import (
    check_device,
    check_floating,
    check_matching,
    check_one_of,
    check_tensor,
    shape_error,
)
from pydisent.ops.registry import Family, Implementation
from pydisent.ops.spec import Draw, Grads, Sizes, computed, like
from pydisent.reference.dtypes import promote

__all__ = ["gaussian_kl", "perceptual_simplicity_loss", "reparameterized_sample"]

#: Accepted values of ``variant`` in the perceptual simplicity loss.
Variant = Literal["paper", "author_code"]
VARIANTS = get_args(Variant)


def gaussian_kl(mu: Tensor, logvar: Tensor, *, impl: Implementation | None = None) -> Tensor:
    """Compute KL(N(mu, e^logvar) || N(0, 1)) elementwise (Kumar et al. 2018, Eq. 9).

    (mu² + e^logvar − 1 − logvar) / 2, without cancellation around logvar = 0.

    Parameters
    ----------
    mu, logvar
        (B, d), or any common shape. Mixed floating dtypes are promoted.
    impl
        "auto", "reference", "native" or "triton"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    Tensor
        Shaped as ``mu``, in nats, >= 0; in float32 for inputs in half precision, as e^logvar
        overflows float16 from logvar = 12 on.

    Raises
    ------
    ValueError, TypeError
        If shapes or devices differ, or a dtype is not floating.
    RuntimeError
        If the requested implementation is not available.
    """
    if is_compiling() or not _backends.fits(". .", mu, logvar):
        check_floating("mu", mu)
        check_matching("logvar", logvar, "mu", mu)
        mu, logvar = promote(mu, logvar)
    return _kl(mu, logvar, impl=impl)


def reparameterized_sample(
    mu: Tensor, logvar: Tensor, noise: Tensor, *, impl: Implementation | None = None
) -> tuple[Tensor, Tensor]:
    """Sample N(mu, e^logvar) from given noise, with its KL divergence from N(0, 1), in one pass.

    Parameters
    ----------
    mu, logvar
        (B, d), or any common shape. Mixed floating dtypes are promoted.
    noise
        Of that shape, drawn from N(0, 1) by the caller.
    impl
        "auto", "reference", "native" or "triton"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    z : Tensor
        mu + e^(logvar/2) noise, in the promoted dtype of the three.
    kl : Tensor
        As returned by :func:`gaussian_kl`.

    Raises
    ------
    ValueError, TypeError
        If shapes or devices differ, or a dtype is not floating.
    RuntimeError
        If the requested implementation is not available.
    """
    if is_compiling() or not _backends.fits(". . .", mu, logvar, noise):
        check_floating("mu", mu)
        check_matching("logvar", logvar, "mu", mu)
        check_matching("noise", noise, "mu", mu)
        mu, logvar, noise = promote(mu, logvar, noise)
    return _sample(mu, logvar, noise, impl=impl)


def perceptual_simplicity_loss(
    codes_a: Tensor,
    codes_b: Tensor,
    target_a: Tensor,
    target_b: Tensor,
    dimension: Tensor,
    *,
    variant: Variant = "paper",
    impl: Implementation | None = None,
) -> Tensor:
    """Score the recognition of one perturbed dimension and of the shared ones (Zhu 2021, Eqs. 8-9).

    The two images of each sample are generated from codes that differ in one dimension. On that
    dimension each prediction is compared with its own code; on the others, which the codes share,
    both predictions are first replaced by their mean. Squared errors are summed over the two images
    and averaged over the dimensions and the batch.

    Parameters
    ----------
    codes_a, codes_b
        (B, d), the recogniser's predictions for the two images.
    target_a, target_b
        (B, d), the codes that the images were generated from. Mixed floating dtypes are promoted.
    dimension
        (B,) int64, the perturbed dimension of each sample, in [0, d). Out-of-range values raise on
        the CPU, unless compiled; elsewhere they select no dimension.
    variant
        "paper", or "author_code": summed over the dimensions and averaged over the two images,
        which is d/2 times as large.
    impl
        "auto", "reference", "native" or "triton"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    Tensor
        A scalar, in float32 for inputs in half precision; 0 for an empty batch.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or names are not as above.
    RuntimeError
        If the requested implementation is not available.
    """
    codes: tuple[Tensor, ...] = codes_a, codes_b, target_a, target_b
    if is_compiling() or not _backends.fits("bD bD bD bD", *codes):
        check_floating("codes_a", codes_a)
        if codes_a.dim() != 2 or codes_a.shape[1] == 0:
            raise shape_error("codes_a", "(B, d), d >= 1", codes_a)
        for name, x in (("codes_b", codes_b), ("target_a", target_a), ("target_b", target_b)):
            check_matching(name, x, "codes_a", codes_a)
        codes = promote(*codes)
    _check_dimension(dimension, codes_a)
    check_one_of("variant", variant, VARIANTS)
    weight = 1.0 / codes_a.shape[1] if variant == "paper" else 0.5
    return _simplicity(*codes, dimension, weight, impl=impl)


def _check_dimension(dimension: Tensor, codes: Tensor) -> None:
    batch, d = codes.shape
    check_tensor("dimension", dimension)
    if dimension.dtype != torch.int64:
        raise TypeError(f"dimension must be int64, got {dimension.dtype}")
    if dimension.shape != (batch,):
        raise shape_error("dimension", (batch,), dimension)
    check_device("dimension", dimension, "codes_a", codes)
    if codes.device.type != "cpu" or torch.compiler.is_compiling() or batch == 0:
        return  # reading the values would synchronise, or break the graph
    if torch._C._are_functorch_transforms_active():
        return
    if batch <= 128:  # reading a list is faster than computing two scalars
        values = dimension.tolist()
        low, high = min(values), max(values)
    else:
        low, high = (int(x) for x in torch.aminmax(dimension))
    if low < 0 or high >= d:
        raise ValueError(f"dimension must be in [0, {d - 1}], got values in [{low}, {high}]")


_FAMILY = Family("latent", triton=True)
_SHAPES = ((5, 3), (1, 1), (3, 17), (2, 1), (0, 4), (33, 70))
_SIZES = Sizes(
    "B d",
    samples=(*_SHAPES, (4,), (2, 3, 2)),
    tiny=(4, 3),
    small=(64, 10),
    medium=(65536, 32),
    large=(524288, 128),
)

_kl = _FAMILY.op(
    "gaussian_kl",
    "(Tensor mu, Tensor logvar) -> Tensor",
    arguments=lambda draw, *shape: draw.normals(2, *shape),
    sizes=_SIZES,
    fake=lambda mu, logvar: computed(mu, *mu.shape),
    flops=lambda mu, logvar: 5 * mu.numel(),
    adjoint="(Tensor grad_kl, Tensor mu, Tensor logvar) -> (Tensor grad_mu, Tensor grad_logvar)",
    adjoint_flops=lambda grad_kl, *_: 4 * grad_kl.numel(),
)


def _sample_backward(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    if grads[0] is not None:
        return _sample.by_adjoint(inputs, outputs, grads, needs)
    # The divergence does not depend on the noise.
    return *_kl.by_adjoint(inputs[:2], (), grads[1:], needs[:2]), None


_sample = _FAMILY.op(
    "reparameterized_sample",
    "(Tensor mu, Tensor logvar, Tensor noise) -> (Tensor z, Tensor kl)",
    arguments=lambda draw, *shape: draw.normals(3, *shape),
    sizes=_SIZES,
    fake=lambda mu, logvar, noise: (like(mu), computed(mu, *mu.shape)),
    flops=lambda mu, *_: 9 * mu.numel(),
    adjoint="(Tensor grad_z, Tensor grad_kl, Tensor mu, Tensor logvar, Tensor noise)"
    " -> (Tensor grad_mu, Tensor grad_logvar, Tensor grad_noise)",
    adjoint_flops=lambda grad_z, *_: 10 * grad_z.numel(),
    backward=_sample_backward,
    outputs=2,
)


def _simplicity_arguments(draw: Draw, batch: int, d: int) -> tuple[Any, ...]:
    return *draw.normals(4, batch, d), draw.integers(d, batch), 0.7


_CODES = "Tensor codes_a, Tensor codes_b, Tensor target_a, Tensor target_b"
_simplicity = _FAMILY.op(
    "perceptual_simplicity_loss",
    f"({_CODES}, Tensor dimension, float weight) -> Tensor",
    arguments=_simplicity_arguments,
    sizes=replace(_SIZES, samples=_SHAPES),
    fake=lambda codes_a, *_: computed(codes_a),
    flops=lambda codes_a, *_: 7 * codes_a.numel(),
    adjoint=f"(Tensor grad, {_CODES}, Tensor dimension, float weight) -> (Tensor grad_codes_a,"
    " Tensor grad_codes_b, Tensor grad_target_a, Tensor grad_target_b)",
    adjoint_flops=lambda grad, codes_a, *_: 10 * codes_a.numel(),
)
