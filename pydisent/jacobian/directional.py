"""``directional_derivative``: J v with a graph, for losses on a function's Jacobian."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from pydisent.jacobian._arguments import Coupled, checked_keywords
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian.linearization import linearize_with_graph


@run_eagerly
def directional_derivative(
    fn: Callable[..., Tensor],
    z: Tensor,
    tangents: Tensor,
    *args: Any,
    coupled: Coupled = "error",
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Return fn(z) and J v, one direction v per sample; both can be differentiated once more.

    Gradients flow to ``z``, to ``tangents`` and to whatever ``fn`` closes over, even through the
    norms that PyTorch's forward mode gets wrong (see :func:`pydisent.linearize`).

    Parameters
    ----------
    fn
        Any callable of a (B, *latent) tensor that returns a tensor (B, ...), each sample's output
        depending on its own code alone. It is called once.
    z
        Latent codes, (B, m) or (B, *latent), floating point.
    tangents
        Directions, in the shape of ``z``.
    args, kwargs
        Passed to ``fn`` after ``z`` and not differentiated.
    coupled, fn_kwargs
        As in :func:`pydisent.linearize`.

    Returns
    -------
    value, derivative : Tensor
        (B, ...) each.

    Raises
    ------
    TypeError, ValueError
        If ``z`` or ``tangents`` is not a floating (B, m) tensor with B, m >= 1, or the output of
        ``fn`` is not one tensor, not finite, does not depend on ``z`` or mixes samples.
    DerivativeError
        If PyTorch's derivative of an operation in ``fn`` is missing or wrong; the message names it.

    Examples
    --------
    >>> z, tangents = torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 0.0]])
    >>> value, derivative = directional_derivative(torch.square, z, tangents)
    >>> derivative.tolist()
    [[2.0, 0.0]]
    """
    kwargs = checked_keywords(directional_derivative, fn, z, kwargs, fn_kwargs, coupled=coupled)
    if not isinstance(tangents, Tensor) or tangents.shape != z.shape:
        got = tuple(getattr(tangents, "shape", ())) or type(tangents).__name__
        raise ValueError(f"tangents must have the shape of z, {tuple(z.shape)}, got {got}")
    value, derivative = linearize_with_graph(fn, z, args, kwargs, coupled)
    if not isinstance(value, Tensor):
        raise TypeError(f"fn must return a tensor, got {type(value).__name__}")
    # A copy, as J v may be a view of it: that of the identity is v itself.
    own = tangents.to(z.dtype, copy=True)[None]
    return value, derivative.push(own, derivative.captured)[0][0]
