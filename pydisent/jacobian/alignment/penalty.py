"""The public function and module, and their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pydisent._checks import check, check_counts, check_number, check_one_of, shape_error
from pydisent._precision import affordable_dtype
from pydisent.jacobian._arguments import (
    Coupled,
    check_keywords,
    checked_keywords,
    merged_keywords,
)
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian.alignment import _double_backward, routes
from pydisent.jacobian.alignment._algorithm import Problem
from pydisent.jacobian.linearization import linearize_unchecked

Method = Literal["auto", "gram", "matrix_free", "autograd"]
METHODS = get_args(Method)


@run_eagerly
def alignment_penalty(
    fn: Callable[..., Any],
    z: Tensor,
    *args: Any,
    k: int,
    iterations: int,
    reweight: bool = True,
    probe: Tensor | None = None,
    method: Method = "auto",
    tolerance: float = 1e-3,
    compute_dtype: torch.dtype | None = None,
    chunk: int | None = None,
    coupled: Coupled = "error",
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Penalise how far the leading singular vectors of ``fn``'s Jacobian are from the first k axes.

    Ramesh et al. 2018, Algorithm 3: T masked power iterations estimate the k leading eigenvectors
    V of M = J'J at each latent code, and the penalty is the mean over the batch of
    sum(S ∘ V ∘ V), with S of Eq. 12 and its columns weighted by Eq. 13.

    Parameters
    ----------
    fn
        Any callable of a (B, *latent) tensor that returns a tensor (B, ...) or a list of such
        tensors (their squared norms add). It is called once. The gradient flows to whatever it
        reads.
    z
        Latent codes, (B, m), or (B, *latent) with m numbers a code, floating point; they get a
        gradient if they require one.
    args, kwargs
        Passed to ``fn`` after ``z``, not differentiated (labels, noise).
    k
        Eigenvectors to align, 1 <= k <= m.
    iterations
        Power iterations T >= 1.
    reweight
        Weight column i by 2(k − i + 1) / (k(k + 1)) (Eq. 13), or by 1.
    probe
        Start of the iterations, (B, m, k); by default random signs (Rademacher), drawn from
        PyTorch's global generator.
    method
        "gram": the Gram matrix from m Jacobian-vector products, best for a moderate m.
        "matrix_free": products with M only, for a large m. "autograd": plain double backward
        through the unrolled algorithm, slow, the only one whose own gradient can be taken.
        "auto": the cheapest of the first two and, for small problems, the algorithm unrolled on the
        Gram matrix in one graph, by the counted work of ``fn`` and this machine's constants, which
        are measured once and kept in the user's cache.
    tolerance
        How much of the gradient may be left out, in [0, 1); 0 is exact. On the Gram route it bounds
        the relative Frobenius norm of the rest of J C, on the matrix-free route the share of the
        sum of the magnitudes of C's eigenvalues. While a CUDA graph is captured it must be 0, and
        the method "gram" or "auto": the number of directions, and whether values are finite, would
        have to be read from the GPU.
    compute_dtype
        Dtype of the tangents, such as ``torch.bfloat16``; sums and small matrices stay in float32.
        On a CPU without native bfloat16 it is float32 all the same, and a warning says so once.
    chunk
        Tangents in memory at once; by default as many as a memory budget of 256 MiB allows.
    coupled
        "error" or "hold": as of :func:`linearize`.
    fn_kwargs
        More keyword arguments of ``fn``, whose names may be those of this function's own.

    Returns
    -------
    Tensor
        The penalty, a scalar, in float32 or wider.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; if ``fn`` returns values that are not finite, do not depend
        on ``z``, lack the batch dimension or mix samples; if its Jacobian is not finite.
    DerivativeError
        If PyTorch's derivative of an operation in ``fn`` is missing or wrong; it is named.

    Notes
    -----
    The gradient is that of the unrolled algorithm, computed in backward. It cannot be
    differentiated again, except with ``method="autograd"``.

    Examples
    --------
    >>> generator = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 32))
    >>> penalty = alignment_penalty(generator, torch.randn(4, 8), k=2, iterations=4)
    >>> penalty.backward()  # into the generator's parameters

    Where the leading eigenvector lies on the first axis the penalty is at its minimum.

    >>> stretch = torch.tensor([3.0, 1.0])
    >>> value = alignment_penalty(lambda z: z * stretch, torch.zeros(5, 2), k=1, iterations=9)
    >>> round(value.item(), 6)
    -1.0
    """
    kwargs = checked_keywords(
        alignment_penalty, fn, z, kwargs, fn_kwargs,
        compute_dtype=compute_dtype, chunk=chunk, coupled=coupled,
    )  # fmt: skip
    compute_dtype = affordable_dtype(compute_dtype, z.device)
    k, iterations = _check_arguments(z, k, iterations, probe, method, tolerance)
    wants_gradient = torch.is_grad_enabled()
    with torch.inference_mode(False):
        z = z.clone() if z.is_inference() else z
        if method == "autograd":
            if coupled == "hold":
                raise ValueError("coupled must be 'error' with method='autograd', got 'hold'")
            value = _double_backward.penalty(fn, z, args, kwargs, k, iterations, reweight, probe)
            return value if wants_gradient else value.detach()
        linear = linearize_unchecked(fn, z, args, kwargs, compute_dtype, chunk)
        problem = Problem.of(linear, k, iterations, reweight, probe)
        return routes.penalty(
            linear, problem, z,
            method=method, tolerance=tolerance, coupled=coupled, wants_gradient=wants_gradient,
        )  # fmt: skip


class AlignmentPenalty(nn.Module):
    """The alignment penalty as a module: ``AlignmentPenalty(k, iterations)(fn, z, *args)``.

    Parameters
    ----------
    k, iterations, reweight, method, tolerance, compute_dtype, chunk, coupled
        As of :func:`alignment_penalty`.

    Examples
    --------
    >>> penalty = AlignmentPenalty(k=2, iterations=4)
    >>> generator = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 32))
    >>> penalty(generator, torch.randn(4, 8)).shape
    torch.Size([])
    """

    def __init__(
        self,
        k: int,
        iterations: int,
        *,
        reweight: bool = True,
        method: Method = "auto",
        tolerance: float = 1e-3,
        compute_dtype: torch.dtype | None = None,
        chunk: int | None = None,
        coupled: Coupled = "error",
    ) -> None:
        super().__init__()
        k, iterations = _check_counts(k, iterations, method, tolerance)
        self.options: dict[str, Any] = {
            "k": k,
            "iterations": iterations,
            "reweight": reweight,
            "method": method,
            "tolerance": tolerance,
            "compute_dtype": compute_dtype,
            "chunk": chunk,
            "coupled": coupled,
        }

    def forward(
        self,
        fn: Callable[..., Any],
        z: Tensor,
        *args: Any,
        probe: Tensor | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The penalty of ``fn`` at latent codes z (B, *latent): a scalar."""
        more = merged_keywords(kwargs, fn_kwargs)
        check_keywords(fn, kwargs, self.forward, type(self))
        return alignment_penalty(fn, z, *args, probe=probe, fn_kwargs=more, **self.options)

    def extra_repr(self) -> str:
        """The options, as ``repr`` shows them."""
        return ", ".join(f"{name}={value}" for name, value in self.options.items())


def _check_counts(k: Any, iterations: Any, method: Any, tolerance: Any) -> tuple[int, int]:
    check_counts(k=k, iterations=iterations)
    check_one_of("method", method, METHODS)
    check_number("tolerance", tolerance, at_least=0, below=1)
    return int(k), int(iterations)


def _check_arguments(
    z: Tensor, k: Any, iterations: Any, probe: Any, method: Any, tolerance: Any
) -> tuple[int, int]:
    k, iterations = _check_counts(k, iterations, method, tolerance)
    size = z.shape[1:].numel()
    check(k <= size, "k", f"at most m = {size}", k)
    if probe is None:
        return k, iterations
    if not isinstance(probe, Tensor) or not probe.is_floating_point():
        got = probe.dtype if isinstance(probe, Tensor) else type(probe).__name__
        raise TypeError(f"probe must be a floating-point tensor (B, m, k), got {got}")
    if probe.shape != (len(z), size, k):
        raise shape_error("probe", f"(B, m, k) = {(len(z), size, k)}", probe)
    return k, iterations
