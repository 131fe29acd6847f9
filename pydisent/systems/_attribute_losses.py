"""Lezama's attribute losses (2019, Eqs. 10, 11 and 13), as published and as in the code."""

from torch import Tensor
from torch.nn import functional as F

from pydisent import parallel
from pydisent.ops import cross_covariance_penalty


def hinge_loss(y: Tensor, targets: Tensor, variant: str = "published") -> Tensor:
    """Return max(1 − y_i t_i, 0) (Eq. 11), averaged over batch and attributes, (B, k) each.

    With "author_code", summed over attributes and averaged over the batch.
    """
    losses = (1 - y * targets).clamp(min=0)
    return losses.mean() if variant == "published" else losses.sum(1).mean()


def cross_covariance(y: Tensor, z: Tensor, variant: str = "published") -> Tensor:
    """Return Σ_ij cov(y_i, z_j)² (Eq. 10) for y (B, k), z (B, ...); its root with "author_code"."""
    squares = cross_covariance_penalty(parallel.gather(y), parallel.gather(z.flatten(1)))
    # The root is not differentiable at zero.
    return squares if variant == "published" else (squares + 1e-12).sqrt()


def cycle_z_loss(z_again: Tensor, z: Tensor, variant: str = "published") -> Tensor:
    """Return ‖z − z'‖² (Eq. 13), averaged over all components of z and z' (B, ...).

    With "author_code", the norm of the whole batch's difference, divided by B.
    """
    if variant == "published":
        return F.mse_loss(z_again, z)
    squares = parallel.total((z - z_again).square().sum())
    return (squares + 1e-12).sqrt() / (len(z) * parallel.processes())
