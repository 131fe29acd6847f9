"""Covariance ops: penalties on the covariance, cross-covariance and third moments of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..reference import covariance as reference
from ..reference._dtypes import compute_dtype
from ._check import promote, require_floating, require_matching, require_weight
from ._registry import Grads, Implementation, Op, OpSpec, reference_backward, register


def covariance_penalty(
    mu: Tensor,
    logvar: Tensor | None = None,
    *,
    lambda_od: float,
    lambda_d: float,
    impl: Implementation | None = None,
) -> Tensor:
    """Penalise the distance of a covariance to the identity (Kumar et al. 2018, Eqs. 6 and 7).

    lambda_od Σ_{i≠j} C_ij² + lambda_d Σ_i (C_ii − 1)², where C is the biased covariance of ``mu``
    over the batch (Eq. 6) plus, with ``logvar``, the batch mean of exp(logvar) on the diagonal
    alone: by Eq. 5 that is the covariance of the aggregate posterior (Eq. 7).

    Parameters
    ----------
    mu
        (B, d), the means of the posteriors. An empty batch has the covariance zero.
    logvar
        (B, d), the logarithms of their variances. Floating dtypes that differ are promoted to one.
    lambda_od, lambda_d
        Weights of the entries off and on the diagonal: numbers >= 0, not tensors, for they get no
        gradient.
    impl
        "auto", "reference", "native" or "triton"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    Tensor
        A scalar, in float32 for inputs in half precision.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or ranges are not as above.
    RuntimeError
        If the implementation asked for is not there.
    """
    _check_batch("mu", mu)
    if logvar is not None:
        require_matching("logvar", logvar, "mu", mu)
        mu, logvar = promote(mu, logvar)
    require_weight("lambda_od", lambda_od)
    require_weight("lambda_d", lambda_d)
    return _covariance(mu, logvar, lambda_od, lambda_d, impl=impl)[0]


def cross_covariance_penalty(y: Tensor, z: Tensor, *, impl: Implementation | None = None) -> Tensor:
    """Penalise the cross-covariance of two codes (Lezama et al. 2019, Eq. 10).

    Σ_ij (1/B Σ_b (y_bi − ȳ_i)(z_bj − z̄_j))², the squared Frobenius norm; memory grows with
    k d, not with B k d.

    Parameters
    ----------
    y, z
        (B, k) and (B, d); floating dtypes that differ are promoted to one. An empty batch has the
        covariance zero.
    impl
        "auto", "reference", "native" or "triton"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    Tensor
        A scalar, in float32 for inputs in half precision.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes are not as above.
    RuntimeError
        If the implementation asked for is not there.
    """
    _check_batch("y", y)
    _check_batch("z", z)
    if z.shape[0] != y.shape[0]:
        raise ValueError(
            f"z: got shape {tuple(z.shape)}, accepted is ({y.shape[0]}, d), the batch of y"
        )
    require_matching("z", z, "y", y, shape=False)
    return _cross_covariance(*promote(y, z), impl=impl)[0]


def third_central_moment_penalty(
    z: Tensor, logvar: Tensor | None = None, *, impl: Implementation | None = None
) -> Tensor:
    """Penalise third central moments, which are 0 for a Gaussian (Kumar et al. 2018, sec. 2.2).

    Σ_i M_i², where M_i = 1/B Σ_b (z_bi − z̄_i)³ is the third central moment of dimension i. With
    ``logvar``, z holds the means of posteriors, and M_i = 1/B Σ_b (c³ + 3 c e^logvar), c = z − z̄,
    is that of their mixture, in closed form. The paper leaves open which moments are meant: here
    they are those of each dimension, d of them, and not the d³ mixed ones.

    Parameters
    ----------
    z
        (B, d), samples, or means with ``logvar``. An empty batch has the moments zero.
    logvar
        (B, d). Floating dtypes that differ are promoted to one.
    impl
        "auto", "reference", "native" or "triton"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    Tensor
        A scalar, in float32 for inputs in half precision.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes are not as above.
    RuntimeError
        If the implementation asked for is not there.
    """
    _check_batch("z", z)
    if logvar is not None:
        require_matching("logvar", logvar, "z", z)
        z, logvar = promote(z, logvar)
    return _third_moment(z, logvar, impl=impl)[0]


def _check_batch(name: str, x: Tensor) -> None:
    require_floating(name, x)
    if x.dim() != 2 or x.shape[1] == 0:
        raise ValueError(f"{name}: got shape {tuple(x.shape)}, accepted is (B, d), d >= 1")


def _scalar(x: Tensor) -> Tensor:
    return x.new_empty((), dtype=compute_dtype(x))


def _fake_covariance(mu: Tensor, *_: Any) -> tuple[Tensor, ...]:
    d, dtype = mu.shape[1], compute_dtype(mu)
    return _scalar(mu), mu.new_empty((2, d), dtype=dtype), mu.new_empty((d, d), dtype=dtype)


def _fake_covariance_backward(
    grad: Tensor, mu: Tensor, logvar: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor]:
    return mu.new_empty(mu.shape), mu.new_empty(0 if logvar is None else mu.shape)


def _fake_cross_covariance(y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    k, d, dtype = y.shape[1], z.shape[1], compute_dtype(y)
    shapes = (2, k), (2, d), (k, d)
    return _scalar(y), *(y.new_empty(shape, dtype=dtype) for shape in shapes)


def _fake_cross_covariance_backward(
    grad: Tensor, y: Tensor, z: Tensor, *_: Any
) -> tuple[Tensor, Tensor]:
    return y.new_empty(y.shape), z.new_empty(z.shape)


def _fake_third_moment(z: Tensor, logvar: Tensor | None) -> tuple[Tensor, Tensor]:
    return _scalar(z), z.new_empty((4, z.shape[1]), dtype=compute_dtype(z))


def _with_saved(
    op: Op, inputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...], found: Grads
) -> Grads:
    """Add what the saved outputs contribute, which have cotangents in a second derivative only."""
    if all(grad is None for grad in grads[1:]):
        return found
    more = reference_backward(op.spec)(inputs, (), (None, *grads[1:]), needs)
    return tuple(y if x is None else x if y is None else x + y for x, y in zip(found, more))


def _backward_covariance(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    mu, logvar, lambda_od, lambda_d = inputs
    found: Grads = (None,) * 4
    if grads[0] is not None:
        _, means, covariance = outputs
        grad_mu, grad_logvar = _covariance_adjoint(
            grads[0], mu, logvar, means, covariance, lambda_od, lambda_d
        )
        found = grad_mu, None if logvar is None else grad_logvar, None, None
    return _with_saved(_covariance, inputs, grads, needs, found)


def _backward_cross_covariance(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    found: Grads = None, None
    if grads[0] is not None:
        found = _cross_covariance_adjoint(grads[0], *inputs, *outputs[1:])
    return _with_saved(_cross_covariance, inputs, grads, needs, found)


def _backward_third_moment(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    found: Grads = None, None
    if grads[0] is not None:
        grad_z, grad_logvar = _third_moment_adjoint(grads[0], *inputs, outputs[1])
        found = grad_z, None if inputs[1] is None else grad_logvar
    return _with_saved(_third_moment, inputs, grads, needs, found)


class _Draw:
    """Seeded normal values, with a mean for the centring to have something to do."""

    def __init__(self, seed: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype, self.device = dtype, device

    def __call__(self, *shape: int, mean: float = 0.0) -> Tensor:
        x = torch.randn(*shape, generator=self.generator, dtype=torch.float64)
        return (x + mean).to(self.device, self.dtype)

    def cotangent(self) -> Tensor:
        """Draw the cotangent of a penalty, in the dtype of the arithmetic."""
        x = torch.randn((), generator=self.generator, dtype=torch.float64)
        return x.to(self.device, compute_dtype(torch.empty(0, dtype=self.dtype)))


_SIZES = ((5, 3), (1, 4), (7, 1), (9, 17), (2, 2), (0, 3), (33, 70))


def _samples_covariance(
    dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[Any, ...]]:
    draw = _Draw(0, dtype, device)
    for index, size in enumerate(_SIZES):
        mu = draw(*size, mean=1.0)
        yield mu, None if index % 3 == 2 else draw(*size, mean=-1.0), 2.0, 0.5 * (index % 4)


def _samples_cross_covariance(
    dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[Any, ...]]:
    draw = _Draw(1, dtype, device)
    for (batch, d), k in zip(_SIZES, (2, 1, 3, 19, 1, 2, 5)):
        yield draw(batch, k, mean=-1.0), draw(batch, d, mean=1.0)


def _samples_third_moment(
    dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[Any, ...]]:
    draw = _Draw(2, dtype, device)
    for index, size in enumerate(_SIZES):
        z = draw(*size, mean=0.5)
        yield z, None if index % 3 == 1 else draw(*size, mean=-1.0)


def _samples_covariance_backward(
    dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[Any, ...]]:
    draw = _Draw(3, dtype, device)
    for mu, logvar, *weights in _samples_covariance(dtype, device):
        _, *saved = reference.covariance_penalty(mu, logvar, *weights)
        yield draw.cotangent(), mu, logvar, *saved, *weights


def _samples_cross_covariance_backward(
    dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[Any, ...]]:
    draw = _Draw(4, dtype, device)
    for y, z in _samples_cross_covariance(dtype, device):
        yield draw.cotangent(), y, z, *reference.cross_covariance_penalty(y, z)[1:]


def _samples_third_moment_backward(
    dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[Any, ...]]:
    draw = _Draw(5, dtype, device)
    for z, logvar in _samples_third_moment(dtype, device):
        yield draw.cotangent(), z, logvar, reference.third_central_moment_penalty(z, logvar)[1]


def _bytes(*args: Any) -> int:
    return sum(x.nbytes for x in args if isinstance(x, Tensor))


def _bytes_adjoint(grad: Tensor, x: Tensor, other: Tensor | None, *saved: Any) -> int:
    return 2 * _bytes(x, other) + _bytes(*saved)


def _flops_covariance(mu: Tensor, *_: Any) -> int:
    return 2 * mu.numel() * mu.shape[1]


def _flops_covariance_adjoint(grad: Tensor, mu: Tensor, *_: Any) -> int:
    return 2 * mu.numel() * mu.shape[1]


def _flops_cross_covariance(y: Tensor, z: Tensor) -> int:
    return 2 * y.numel() * z.shape[1]


def _flops_cross_covariance_adjoint(grad: Tensor, y: Tensor, z: Tensor, *_: Any) -> int:
    return 4 * y.numel() * z.shape[1]


def _flops_third_moment(z: Tensor, logvar: Tensor | None) -> int:
    return 6 * z.numel()


def _flops_third_moment_adjoint(grad: Tensor, z: Tensor, *_: Any) -> int:
    return 5 * z.numel()


_covariance = register(
    OpSpec(
        name="covariance_penalty",
        schema="(Tensor mu, Tensor? logvar, float lambda_od, float lambda_d)"
        " -> (Tensor penalty, Tensor means, Tensor covariance)",
        reference=reference.covariance_penalty,
        fake=_fake_covariance,
        backward=_backward_covariance,
        saves=(1, 2),
        samples=_samples_covariance,
        bytes=_bytes,
        flops=_flops_covariance,
        triton="covariance_penalty",
    )
)
_covariance_adjoint = register(
    OpSpec(
        name="covariance_penalty_backward",
        schema="(Tensor grad, Tensor mu, Tensor? logvar, Tensor means, Tensor covariance,"
        " float lambda_od, float lambda_d) -> (Tensor grad_mu, Tensor grad_logvar)",
        reference=reference.covariance_penalty_backward,
        fake=_fake_covariance_backward,
        samples=_samples_covariance_backward,
        bytes=_bytes_adjoint,
        flops=_flops_covariance_adjoint,
        triton="covariance_penalty_backward",
    )
)
_cross_covariance = register(
    OpSpec(
        name="cross_covariance_penalty",
        schema="(Tensor y, Tensor z)"
        " -> (Tensor penalty, Tensor y_means, Tensor z_means, Tensor covariance)",
        reference=reference.cross_covariance_penalty,
        fake=_fake_cross_covariance,
        backward=_backward_cross_covariance,
        saves=(1, 2, 3),
        samples=_samples_cross_covariance,
        bytes=_bytes,
        flops=_flops_cross_covariance,
        triton="cross_covariance_penalty",
    )
)
_cross_covariance_adjoint = register(
    OpSpec(
        name="cross_covariance_penalty_backward",
        schema="(Tensor grad, Tensor y, Tensor z, Tensor y_means, Tensor z_means,"
        " Tensor covariance) -> (Tensor grad_y, Tensor grad_z)",
        reference=reference.cross_covariance_penalty_backward,
        fake=_fake_cross_covariance_backward,
        samples=_samples_cross_covariance_backward,
        bytes=_bytes_adjoint,
        flops=_flops_cross_covariance_adjoint,
        triton="cross_covariance_penalty_backward",
    )
)
_third_moment = register(
    OpSpec(
        name="third_central_moment_penalty",
        schema="(Tensor z, Tensor? logvar) -> (Tensor penalty, Tensor moments)",
        reference=reference.third_central_moment_penalty,
        fake=_fake_third_moment,
        backward=_backward_third_moment,
        saves=(1,),
        samples=_samples_third_moment,
        bytes=_bytes,
        flops=_flops_third_moment,
        triton="third_central_moment_penalty",
    )
)
_third_moment_adjoint = register(
    OpSpec(
        name="third_central_moment_penalty_backward",
        schema="(Tensor grad, Tensor z, Tensor? logvar, Tensor moments)"
        " -> (Tensor grad_z, Tensor grad_logvar)",
        reference=reference.third_central_moment_penalty_backward,
        fake=_fake_covariance_backward,
        samples=_samples_third_moment_backward,
        bytes=_bytes_adjoint,
        flops=_flops_third_moment_adjoint,
        triton="third_central_moment_penalty_backward",
    )
)
