"""StyleGAN2's path length regularization, with J'y and its gradient exact through any function."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pydisent import parallel
from pydisent._checks import check, check_number
from pydisent.jacobian._arguments import Coupled, checked_keywords
from pydisent.jacobian._coupling import keep_samples_apart
from pydisent.jacobian._directions import Directions
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian._finite import refuse_infinite
from pydisent.jacobian._gradient import with_gradient
from pydisent.jacobian._gram import reads_more
from pydisent.jacobian._modes import is_capturing
from pydisent.jacobian.linearization import Linearization, linearize_unchecked


@run_eagerly
def path_length_penalty(
    fn: Callable[..., Any],
    z: Tensor,
    target: float | Tensor | Callable[[Tensor], Tensor],
    *args: Any,
    cotangents: Sequence[Tensor] | None = None,
    chunk: int | None = None,
    coupled: Coupled = "error",
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Penalise (‖J'y‖ − a)², the mean over the batch, at random y (Karras et al. 2020, Eq. 4).

    One reverse pass for the value; one tangent pass and one reverse pass for its gradient.

    Parameters
    ----------
    fn, z, args, kwargs, chunk, coupled, fn_kwargs
        As in :func:`pydisent.alignment_penalty`; ``z`` are the codes with respect to which lengths
        are measured, w in StyleGAN2.
    target
        a: a number, a scalar tensor, or a function of the lengths ‖J'y‖ (B,) that returns one, such
        as a running mean; gradients flow through such a function.
    cotangents
        y for each output of ``fn``, in its shape; by default normal numbers from PyTorch's global
        generator, divided by √(H W) for images (B, C, H, W), as in the authors' code.

    Returns
    -------
    Tensor
        The penalty, a scalar.

    Raises
    ------
    TypeError, ValueError, DerivativeError
        As in :func:`pydisent.gram_penalty`.

    Examples
    --------
    >>> y = [torch.tensor([[3.0, 4.0]])]
    >>> path_length_penalty(lambda z: 2 * z, torch.zeros(1, 2), 9.0, cotangents=y).item()
    1.0
    """
    kwargs = checked_keywords(
        path_length_penalty, fn, z, kwargs, fn_kwargs, chunk=chunk, coupled=coupled
    )
    if not callable(target):
        _check_target(target)
    wants_gradient = torch.is_grad_enabled()
    with torch.inference_mode(False):
        z = z.clone() if z.is_inference() else z
        linear = linearize_unchecked(fn, z, args, kwargs, None, chunk)
        keep_samples_apart(linear, coupled)
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            drawn = _cotangents(linear, cotangents)
            (pulled,) = linear.vjp(linear.structured([y[None] for y in drawn]))
        refuse_infinite(pulled, linear)
        with torch.enable_grad():
            source = pulled.detach().requires_grad_()
            lengths = source.flatten(1).norm(dim=1)
            a = target(lengths) if callable(target) else target
            _check_target(a)
            value = (lengths - a).square().mean()
            (slope,) = torch.autograd.grad(value, source, retain_graph=True)
        value = value if reads_more(value, [source]) else value.detach()
        if not wants_gradient:
            return value.detach()
        directions = Directions(slope[None], [y.unsqueeze(1) for y in drawn], None)
        return with_gradient(value, z, linear, directions)


def _check_target(a: Any) -> None:
    """Raise unless a is a number or a scalar tensor that is finite and not negative."""
    if not isinstance(a, Tensor):
        check_number("target", a, at_least=0)
    else:
        check(a.dim() == 0, "target", "a number or a scalar tensor", tuple(a.shape))
        fits = is_capturing() or bool((a >= 0) & torch.isfinite(a))
        check(fits, "target", "finite and >= 0", a)


def _cotangents(linear: Linearization, given: Sequence[Tensor] | None) -> list[Tensor]:
    shapes, dtype, device = linear.program.output_shapes, linear.dtype, linear.device
    if given is not None:
        found = [tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__ for y in given]
        check(found == [tuple(s) for s in shapes], "cotangents",
              f"a sequence of tensors of shapes {[tuple(s) for s in shapes]}", found)  # fmt: skip
        return [y.detach().to(device, dtype) for y in given]
    drawn = [parallel.randn_like(torch.empty(s, dtype=dtype, device=device)) for s in shapes]
    return [y / math.sqrt(y[0, 0].numel()) if y.dim() == 4 else y for y in drawn]


class PathLengthPenalty(nn.Module):
    """StyleGAN2's path length regularization, with a running mean of the lengths as its target.

    Parameters
    ----------
    decay
        The weight of the batch's mean length in the running mean, in (0, 1]; StyleGAN2's is 0.01.
        In evaluation mode the running mean does not change.
    chunk, coupled
        As in :func:`path_length_penalty`.

    Attributes
    ----------
    mean : Tensor
        The running mean, a buffer.

    Examples
    --------
    >>> penalty = PathLengthPenalty()
    >>> generator = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 32))
    >>> penalty(generator, torch.randn(4, 8)).backward()
    """

    mean: Tensor

    def __init__(
        self, decay: float = 0.01, *, chunk: int | None = None, coupled: Coupled = "error"
    ) -> None:
        super().__init__()
        check_number("decay", decay, above=0, at_most=1)
        self.decay = decay
        self.options: dict[str, Any] = {"chunk": chunk, "coupled": coupled}
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, fn: Callable[..., Any], z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The penalty of ``fn`` at latent codes z (B, *latent): a scalar."""
        return path_length_penalty(fn, z, self._target, *args, **self.options, fn_kwargs=kwargs)

    def _target(self, lengths: Tensor) -> Tensor:
        """The updated running mean, with the gradient of this batch's mean, as in StyleGAN2."""
        if not self.training:
            return self.mean.to(lengths)
        mean = torch.lerp(self.mean.to(lengths), parallel.average(lengths.mean()), self.decay)
        self.mean.copy_(mean.detach())
        return mean
