"""Covariance ops: penalties on the covariance, cross-covariance and third moments of a batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.compiler import is_compiling

from pydisent import _backends
from pydisent._checks import check_floating, check_matching, check_number, shape_error
from pydisent.ops.registry import Family, Implementation
from pydisent.ops.spec import Draw, Sizes, computed
from pydisent.reference.dtypes import promote

__all__ = ["covariance_penalty", "cross_covariance_penalty", "third_central_moment_penalty"]


def covariance_penalty(
    mu: Tensor,
    logvar: Tensor | None = None,
    *,
    lambda_od: float,
    lambda_d: float,
    impl: Implementation | None = None,
) -> Tensor:
    """Penalise the distance of a covariance from the identity (Kumar et al. 2018, Eqs. 6 and 7).

    lambda_od Σ_{i≠j} C_ij² + lambda_d Σ_i (C_ii − 1)², where C is the biased covariance of ``mu``
    over the batch (Eq. 6) plus, with ``logvar``, the batch mean of exp(logvar) on the diagonal
    alone: by Eq. 5 that is the covariance of the aggregate posterior (Eq. 7).

    Parameters
    ----------
    mu
        (B, d), means of the posteriors. The covariance of an empty batch is zero.
    logvar
        (B, d), log-variances of the posteriors. Mixed floating dtypes are promoted.
    lambda_od, lambda_d
        Weights of the entries off and on the diagonal: numbers >= 0, not tensors, as they get no
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
        If the requested implementation is not available.
    """
    mu, logvar = _check_batch("mu", mu, logvar)
    check_number("lambda_od", lambda_od, at_least=0)
    check_number("lambda_d", lambda_d, at_least=0)
    return _covariance(mu, logvar, lambda_od, lambda_d, impl=impl)


def cross_covariance_penalty(y: Tensor, z: Tensor, *, impl: Implementation | None = None) -> Tensor:
    """Penalise the cross-covariance of two codes (Lezama et al. 2019, Eq. 10).

    Σ_ij (1/B Σ_b (y_bi − ȳ_i)(z_bj − z̄_j))², the squared Frobenius norm; memory grows with
    k d, not with B k d.

    Parameters
    ----------
    y, z
        (B, k) and (B, d); mixed floating dtypes are promoted. The covariance of an empty batch is
        zero.
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
        If the requested implementation is not available.
    """
    if is_compiling() or not _backends.fits("bK bD", y, z):
        _check_batch("y", y)
        _check_batch("z", z)
        if z.shape[0] != y.shape[0]:
            raise shape_error("z", f"({y.shape[0]}, d), as y has that batch", z)
        check_matching("z", z, "y", y, shape=False)
        y, z = promote(y, z)
    return _cross_covariance(y, z, impl=impl)


def third_central_moment_penalty(
    z: Tensor, logvar: Tensor | None = None, *, impl: Implementation | None = None
) -> Tensor:
    """Penalise third central moments, which are 0 for a Gaussian (Kumar et al. 2018, sec. 2.2).

    Σ_i M_i², where M_i = 1/B Σ_b (z_bi − z̄_i)³ is the third central moment of dimension i. With
    ``logvar``, z holds the means of posteriors, and M_i = 1/B Σ_b (c³ + 3 c e^logvar), c = z − z̄,
    is that of their mixture, in closed form. The paper leaves open which moments it means: here,
    the d moments of single dimensions, not the d³ mixed ones.

    Parameters
    ----------
    z
        (B, d), samples, or means if ``logvar`` is given. The moments of an empty batch are zero.
    logvar
        (B, d). Mixed floating dtypes are promoted.
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
        If the requested implementation is not available.
    """
    z, logvar = _check_batch("z", z, logvar)
    return _third_moment(z, logvar, impl=impl)


def _check_batch(
    name: str, x: Tensor, logvar: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Check two batches, and return them in one dtype."""
    if not is_compiling() and (
        _backends.fits("bD", x) if logvar is None else _backends.fits("bD bD", x, logvar)
    ):
        return x, logvar
    check_floating(name, x)
    if x.dim() != 2 or x.shape[1] == 0:
        raise shape_error(name, "(B, d), d >= 1", x)
    if logvar is None:
        return x, None
    check_matching("logvar", logvar, name, x)
    x, logvar = promote(x, logvar)
    return x, logvar


_FAMILY = Family("covariance", triton=True)


def _codes(draw: Draw, batch: int, d: int, logvar: bool) -> tuple[Tensor, Tensor | None]:
    """Means away from zero, to exercise the centring, and log-variances."""
    return draw(batch, d, mean=1.0), draw(batch, d, mean=-1.0) if logvar else None


def _covariance_arguments(
    draw: Draw, batch: int, d: int, lambda_d: float = 10.0, logvar: bool = True
) -> tuple[Any, ...]:
    return *_codes(draw, batch, d, logvar), 5.0, lambda_d


def _cross_arguments(draw: Draw, batch: int, k: int, d: int) -> tuple[Any, ...]:
    return draw(batch, k, mean=-1.0), draw(batch, d, mean=1.0)


def _moment_arguments(draw: Draw, batch: int, d: int, logvar: bool = True) -> tuple[Any, ...]:
    return _codes(draw, batch, d, logvar)


_COVARIANCE_SIZES = (
    (5, 3, 0.0), (1, 4), (7, 1, 1.0, False), (9, 17), (2, 2, 0.0), (0, 3, 1.0, False), (33, 70),
)  # fmt: skip
_covariance = _FAMILY.op(
    "covariance_penalty",
    "(Tensor mu, Tensor? logvar, float lambda_od, float lambda_d)"
    " -> (Tensor penalty, Tensor means, Tensor covariance)",
    arguments=_covariance_arguments,
    sizes=Sizes(
        "B d",
        samples=_COVARIANCE_SIZES,
        tiny=(4, 3),
        small=(64, 10),
        medium=(1024, 256),
        large=(4096, 1024),
    ),
    fake=lambda mu, *_: (
        computed(mu),
        computed(mu, 2, mu.shape[1]),
        computed(mu, mu.shape[1], mu.shape[1]),
    ),
    flops=lambda mu, *_: 2 * mu.numel() * mu.shape[1],
    adjoint="(Tensor grad, Tensor mu, Tensor? logvar, Tensor means, Tensor covariance,"
    " float lambda_od, float lambda_d) -> (Tensor grad_mu, Tensor grad_logvar)",
    adjoint_flops=lambda grad, mu, *_: 2 * mu.numel() * mu.shape[1],
    is_product=True,
)

_CROSS_SIZES = (
    (5, 2, 3), (1, 1, 4), (7, 3, 1), (9, 19, 17), (2, 1, 2), (0, 2, 3), (33, 5, 70),
)  # fmt: skip
_cross_covariance = _FAMILY.op(
    "cross_covariance_penalty",
    "(Tensor y, Tensor z) -> (Tensor penalty, Tensor y_means, Tensor z_means, Tensor covariance)",
    arguments=_cross_arguments,
    sizes=Sizes(
        "B k d",
        samples=_CROSS_SIZES,
        tiny=(4, 2, 3),
        small=(64, 10, 512),
        medium=(64, 40, 8192),
        large=(1024, 40, 65536),
    ),
    fake=lambda y, z: (
        computed(y),
        computed(y, 2, y.shape[1]),
        computed(y, 2, z.shape[1]),
        computed(y, y.shape[1], z.shape[1]),
    ),
    flops=lambda y, z: 2 * y.numel() * z.shape[1],
    adjoint="(Tensor grad, Tensor y, Tensor z, Tensor y_means, Tensor z_means,"
    " Tensor covariance) -> (Tensor grad_y, Tensor grad_z)",
    adjoint_flops=lambda grad, y, z, *_: 4 * y.numel() * z.shape[1],
    is_product=True,
)

_third_moment = _FAMILY.op(
    "third_central_moment_penalty",
    "(Tensor z, Tensor? logvar) -> (Tensor penalty, Tensor moments)",
    arguments=_moment_arguments,
    sizes=Sizes(
        "B d",
        samples=((5, 3), (1, 4, False), (7, 1), (9, 17), (2, 2, False), (0, 3), (33, 70)),
        tiny=(4, 3),
        small=(64, 10),
        medium=(16384, 128),
        large=(65536, 1024),
    ),
    fake=lambda z, logvar: (computed(z), computed(z, 4, z.shape[1])),
    flops=lambda z, logvar: 6 * z.numel(),
    adjoint="(Tensor grad, Tensor z, Tensor? logvar, Tensor moments)"
    " -> (Tensor grad_z, Tensor grad_logvar)",
    adjoint_flops=lambda grad, z, *_: 5 * z.numel(),
)
