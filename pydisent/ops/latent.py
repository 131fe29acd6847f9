"""Latent ops: Gaussian KL divergence, reparameterised samples, perceptual simplicity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..reference import latent as reference
from ..reference._dtypes import compute_dtype
from ._check import promote, require, require_floating, require_matching, require_tensor
from ._registry import Grads, Implementation, OpSpec, register

#: Accepted values of ``variant`` of the perceptual simplicity loss.
Variant = Literal["paper", "author_code"]
VARIANTS = get_args(Variant)


def gaussian_kl(mu: Tensor, logvar: Tensor, *, impl: Implementation | None = None) -> Tensor:
    """Compute KL(N(mu, e^logvar) || N(0, 1)) elementwise (Kumar et al. 2018, Eq. 9).

    (mu² + e^logvar − 1 − logvar) / 2, without cancellation around logvar = 0.

    Parameters
    ----------
    mu, logvar
        (B, d), or any one shape. Floating dtypes that differ are promoted to one.
    impl
        "auto", "reference", "native" or "triton"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    Tensor
        Shaped as ``mu``, in nats, >= 0; in float32 for inputs in half precision, whose range
        e^logvar leaves from logvar = 12 on.

    Raises
    ------
    ValueError, TypeError
        If shapes or devices differ, or a dtype is not floating.
    RuntimeError
        If the implementation asked for is not there.
    """
    require_floating("mu", mu)
    require_matching("logvar", logvar, "mu", mu)
    return _kl(*promote(mu, logvar), impl=impl)


def reparameterized_sample(
    mu: Tensor, logvar: Tensor, noise: Tensor, *, impl: Implementation | None = None
) -> tuple[Tensor, Tensor]:
    """Sample N(mu, e^logvar) by noise, and compute its KL divergence to N(0, 1), in one pass.

    Parameters
    ----------
    mu, logvar
        (B, d), or any one shape. Floating dtypes that differ are promoted to one.
    noise
        Of that shape, drawn from N(0, 1) by the caller.
    impl
        "auto", "reference", "native" or "triton"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    z : Tensor
        mu + e^(logvar/2) noise, in the promoted dtype of the three.
    kl : Tensor
        What :func:`gaussian_kl` returns.

    Raises
    ------
    ValueError, TypeError
        If shapes or devices differ, or a dtype is not floating.
    RuntimeError
        If the implementation asked for is not there.
    """
    require_floating("mu", mu)
    require_matching("logvar", logvar, "mu", mu)
    require_matching("noise", noise, "mu", mu)
    return _sample(*promote(mu, logvar, noise), impl=impl)


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
    """Recognise one perturbed dimension, and the mean of the others (Zhu et al. 2021, Eqs. 8-9).

    Two images were generated from two codes that differ in one dimension a sample. On that
    dimension each prediction is compared with its own code; on the others, which the codes share,
    both predictions are replaced by their mean first. Squared errors are summed over the two
    images and averaged over the dimensions and the batch.

    Parameters
    ----------
    codes_a, codes_b
        (B, d), what the recogniser predicts for the two images.
    target_a, target_b
        (B, d), the codes that the images were generated from. Floating dtypes that differ are
        promoted to one.
    dimension
        (B,) int64, the perturbed dimension of each sample, in [0, d). Values out of range raise
        on the CPU, unless compiled; elsewhere they name no dimension.
    variant
        "paper", or "author_code": the sum over the dimensions, averaged over the two images,
        which is d/2 times as much.
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
        If the implementation asked for is not there.
    """
    require_floating("codes_a", codes_a)
    if codes_a.dim() != 2 or codes_a.shape[1] == 0:
        raise ValueError(f"codes_a: got shape {tuple(codes_a.shape)}, accepted is (B, d), d >= 1")
    for name, x in (("codes_b", codes_b), ("target_a", target_a), ("target_b", target_b)):
        require_matching(name, x, "codes_a", codes_a)
    _check_dimension(dimension, codes_a)
    require(variant in VARIANTS, "variant", repr(variant), " or ".join(map(repr, VARIANTS)))
    weight = 1.0 / codes_a.shape[1] if variant == "paper" else 0.5
    codes = promote(codes_a, codes_b, target_a, target_b)
    return _simplicity(*codes, dimension, weight, impl=impl)


def _check_dimension(dimension: Tensor, codes: Tensor) -> None:
    batch, d = codes.shape
    require_tensor("dimension", dimension)
    if dimension.dtype != torch.int64:
        raise TypeError(f"dimension: got {dimension.dtype}, accepted is a torch.int64 tensor")
    if dimension.shape != (batch,):
        raise ValueError(f"dimension: got shape {tuple(dimension.shape)}, accepted is ({batch},)")
    device = codes.device
    require(dimension.device == device, "dimension", f"on {dimension.device}", f"on {device}")
    if device.type != "cpu" or torch.compiler.is_compiling() or batch == 0:
        return  # to look at the values would wait for the device, or break the graph
    if torch._C._are_functorch_transforms_active():
        return
    low, high = (int(x) for x in torch.aminmax(dimension))
    require(low >= 0 and high < d, "dimension", f"values in [{low}, {high}]", f"in [0, {d - 1}]")


def _fake_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu.new_empty(mu.shape, dtype=compute_dtype(mu))


def _fake_kl_backward(grad: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    return mu.new_empty(mu.shape), mu.new_empty(mu.shape)


def _fake_sample(mu: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    return mu.new_empty(mu.shape), _fake_kl(mu, logvar)


def _fake_sample_backward(grad_z: Tensor, grad_kl: Tensor, mu: Tensor, *_: Any) -> Any:
    return tuple(mu.new_empty(mu.shape) for _ in range(3))


def _fake_simplicity(codes_a: Tensor, *_: Any) -> Tensor:
    return codes_a.new_empty((), dtype=compute_dtype(codes_a))


def _fake_simplicity_backward(grad: Tensor, codes_a: Tensor, *_: Any) -> Any:
    return tuple(codes_a.new_empty(codes_a.shape) for _ in range(4))


def _backward_kl(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    return _kl_adjoint(grads[0], *inputs)


def _backward_sample(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    mu = inputs[0]
    grad_z, grad_kl = grads
    if grad_z is None:
        grad_mu, grad_logvar = _kl_adjoint(grad_kl, mu, inputs[1])
        return grad_mu, grad_logvar, None
    if grad_kl is None:
        grad_kl = torch.zeros(mu.shape, dtype=compute_dtype(mu), device=mu.device)
    return _sample_adjoint(grad_z, grad_kl, *inputs)


def _backward_simplicity(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    return *_simplicity_adjoint(grads[0], *inputs), None, None


_SHAPES = ((5, 3), (1, 1), (3, 17), (2, 1), (0, 4), (33, 70), (4,), (2, 3, 2))


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _samples_sample(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(0)
    for shape in _SHAPES:
        yield tuple(_normal(generator, *shape).to(device, dtype) for _ in range(3))


def _samples_kl(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    for mu, logvar, _ in _samples_sample(dtype, device):
        yield mu, logvar


def _samples_kl_backward(
    dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(1)
    for mu, logvar in _samples_kl(dtype, device):
        yield _normal(generator, *mu.shape).to(device, compute_dtype(mu)), mu, logvar


def _samples_sample_backward(
    dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(2)
    for sample in _samples_sample(dtype, device):
        grad_z = _normal(generator, *sample[0].shape).to(device, dtype)
        grad_kl = _normal(generator, *sample[0].shape).to(device, compute_dtype(grad_z))
        yield grad_z, grad_kl, *sample


def _samples_simplicity(
    dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(3)
    for shape in _SHAPES[:6]:
        tensors = [_normal(generator, *shape).to(device, dtype) for _ in range(4)]
        dimension = torch.randint(shape[1], shape[:1], generator=generator)
        yield *tensors, dimension.to(device), 0.7


def _samples_simplicity_backward(
    dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(4)
    for sample in _samples_simplicity(dtype, device):
        yield _normal(generator).to(device, compute_dtype(sample[0])), *sample


def _bytes_kl(mu: Tensor, logvar: Tensor) -> int:
    return 2 * mu.nbytes + mu.numel() * compute_dtype(mu).itemsize


def _bytes_kl_backward(grad: Tensor, mu: Tensor, logvar: Tensor) -> int:
    return grad.nbytes + 4 * mu.nbytes


def _bytes_sample(mu: Tensor, logvar: Tensor, noise: Tensor) -> int:
    return 2 * mu.nbytes + _bytes_kl(mu, logvar)


def _bytes_sample_backward(grad_z: Tensor, grad_kl: Tensor, mu: Tensor, *_: Any) -> int:
    return grad_kl.nbytes + 7 * mu.nbytes


def _bytes_simplicity(codes_a: Tensor, *rest: Any) -> int:
    return 4 * codes_a.nbytes + rest[3].nbytes


def _bytes_simplicity_backward(grad: Tensor, codes_a: Tensor, *rest: Any) -> int:
    return 8 * codes_a.nbytes + rest[3].nbytes


def _flops_kl(mu: Tensor, logvar: Tensor) -> int:
    return 5 * mu.numel()


def _flops_kl_backward(grad: Tensor, *_: Any) -> int:
    return 4 * grad.numel()


def _flops_sample(mu: Tensor, *_: Any) -> int:
    return 9 * mu.numel()


def _flops_sample_backward(grad_z: Tensor, *_: Any) -> int:
    return 10 * grad_z.numel()


def _flops_simplicity(codes_a: Tensor, *_: Any) -> int:
    return 7 * codes_a.numel()


def _flops_simplicity_backward(grad: Tensor, codes_a: Tensor, *_: Any) -> int:
    return 10 * codes_a.numel()


_CODES = "Tensor codes_a, Tensor codes_b, Tensor target_a, Tensor target_b"

_kl = register(
    OpSpec(
        name="gaussian_kl",
        schema="(Tensor mu, Tensor logvar) -> Tensor",
        reference=reference.gaussian_kl,
        fake=_fake_kl,
        backward=_backward_kl,
        samples=_samples_kl,
        bytes=_bytes_kl,
        flops=_flops_kl,
        triton="gaussian_kl",
    )
)
_kl_adjoint = register(
    OpSpec(
        name="gaussian_kl_backward",
        schema="(Tensor grad_kl, Tensor mu, Tensor logvar) -> (Tensor grad_mu, Tensor grad_logvar)",
        reference=reference.gaussian_kl_backward,
        fake=_fake_kl_backward,
        samples=_samples_kl_backward,
        bytes=_bytes_kl_backward,
        flops=_flops_kl_backward,
        triton="gaussian_kl_backward",
    )
)
_sample = register(
    OpSpec(
        name="reparameterized_sample",
        schema="(Tensor mu, Tensor logvar, Tensor noise) -> (Tensor z, Tensor kl)",
        reference=reference.reparameterized_sample,
        fake=_fake_sample,
        backward=_backward_sample,
        samples=_samples_sample,
        bytes=_bytes_sample,
        flops=_flops_sample,
        triton="reparameterized_sample",
    )
)
_sample_adjoint = register(
    OpSpec(
        name="reparameterized_sample_backward",
        schema="(Tensor grad_z, Tensor grad_kl, Tensor mu, Tensor logvar, Tensor noise)"
        " -> (Tensor grad_mu, Tensor grad_logvar, Tensor grad_noise)",
        reference=reference.reparameterized_sample_backward,
        fake=_fake_sample_backward,
        samples=_samples_sample_backward,
        bytes=_bytes_sample_backward,
        flops=_flops_sample_backward,
        triton="reparameterized_sample_backward",
    )
)
_simplicity = register(
    OpSpec(
        name="perceptual_simplicity_loss",
        schema=f"({_CODES}, Tensor dimension, float weight) -> Tensor",
        reference=reference.perceptual_simplicity_loss,
        fake=_fake_simplicity,
        backward=_backward_simplicity,
        samples=_samples_simplicity,
        bytes=_bytes_simplicity,
        flops=_flops_simplicity,
        triton="perceptual_simplicity_loss",
    )
)
_simplicity_adjoint = register(
    OpSpec(
        name="perceptual_simplicity_loss_backward",
        schema=f"(Tensor grad, {_CODES}, Tensor dimension, float weight) -> (Tensor grad_codes_a,"
        " Tensor grad_codes_b, Tensor grad_target_a, Tensor grad_target_b)",
        reference=reference.perceptual_simplicity_loss_backward,
        fake=_fake_simplicity_backward,
        samples=_samples_simplicity_backward,
        bytes=_bytes_simplicity_backward,
        flops=_flops_simplicity_backward,
        triton="perceptual_simplicity_loss_backward",
    )
)
