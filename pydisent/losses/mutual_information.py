"""Bounds on the mutual information between codes and the images generated from them."""

from __future__ import annotations

from torch import Tensor

from pydisent._checks import check_floating, check_matching, shape_error
from pydisent.reference.dtypes import promote


def information_lower_bound(code: Tensor, recovered: Tensor) -> Tensor:
    """Compute I^L = E[log q(z|x)] + H(z), a lower bound on the mutual information of z and x.

    In nats; for z ~ N(0, I) and q(z|x) = N(ẑ(x), I) it is E[‖z‖² − ‖z − ẑ‖²] / 2 (Jeon et al. 2021,
    Eqs. 6 and 7), at most d / 2. The :func:`gaussian_kl` of an encoder between z and x is an upper
    bound (Eq. 10).

    Parameters
    ----------
    code
        (B, d), codes z from N(0, I).
    recovered
        (B, d), ẑ: the codes recovered from the generated x.

    Returns
    -------
    Tensor
        Scalar, 0 for an empty batch; in float32 for inputs in half precision.

    Raises
    ------
    ValueError, TypeError
        If shapes or devices differ, or a dtype is not floating.
    """
    check_floating("code", code)
    check_matching("recovered", recovered, "code", code)
    if code.dim() != 2:
        raise shape_error("code", "(B, d)", code)
    z, found = promote(code, recovered)
    if z.dtype.itemsize < 4:
        z, found = z.float(), found.float()
    # z² − (z − ẑ)² = ẑ (2z − ẑ), without cancellation.
    return (found * (2 * z - found)).sum() / (2 * max(len(z), 1))
