"""KL divergence of Gaussian posteriors from the standard normal prior, with reductions."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from pydisent._checks import check_one_of, shape_error
from pydisent.ops import latent as ops

Reduction = Literal["mean", "sum", "none", "dimensions"]
REDUCTIONS = get_args(Reduction)


def gaussian_kl(mu: Tensor, logvar: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Compute KL(N(mu, e^logvar) || N(0, 1)) = (mu² + e^logvar − 1 − logvar) / 2, in nats.

    Parameters
    ----------
    mu, logvar
        (B, d); mixed floating dtypes are promoted.
    reduction
        "mean": summed over dimensions and averaged over the batch, as in the ELBO; "sum": summed
        over both; "none": (B, d); "dimensions": averaged over the batch, (d,). The averages of an
        empty batch are 0.

    Returns
    -------
    Tensor
        Shaped by ``reduction``, in float32 for inputs in half precision.
        :func:`pydisent.ops.gaussian_kl` is the elementwise op.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or names are not as above.

    Examples
    --------
    >>> gaussian_kl(torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2), reduction="dimensions").tolist()
    [2.0, 0.0]
    """
    check_one_of("reduction", reduction, REDUCTIONS)
    kl = ops.gaussian_kl(mu, logvar)
    if kl.dim() != 2:
        raise shape_error("mu", "(B, d)", mu)
    if reduction == "none":
        return kl
    if reduction == "sum":
        return kl.sum()
    total = kl.sum() if reduction == "mean" else kl.sum(dim=0)
    return total / max(kl.shape[0], 1)
