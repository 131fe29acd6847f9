"""``alignment_penalty`` and its module, with checks of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pydisent._checks import (
    check,
    check_counts,
    check_one_of,
    shape_error,
)
from pydisent._precision import affordable_dtype
from pydisent.jacobian._arguments import (
    Coupled,
    check_keywords,
    check_options,
    checked_keywords,
    merged_keywords,
)
from pydisent.jacobian._directions import Keep
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian._modes import is_capturing
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
    tolerance: float | None = None,
    rank: int | None = None,
    compute_dtype: torch.dtype | None = None,
    chunk: int | None = None,
    coupled: Coupled = "error",
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Penalise how far the leading singular vectors of ``fn``'s Jacobian are from the first k axes.

    Ramesh et al. 2018, Algorithm 3: T masked power iterations estimate the k leading eigenvectors
    V of M = J'J at each latent code, and the penalty is the mean over the batch of
    sum(S ∘ V ∘ V), with S from Eq. 12 and its columns weighted by Eq. 13.

    Parameters
    ----------
    fn
        Any callable of a (B, *latent) tensor that returns a tensor (B, ...) or a list of such
        tensors (their squared norms add). It is called once. The gradient flows to whatever it
        reads.
    z
        Latent codes, (B, m), or (B, *latent) with m numbers per code, floating point; they get a
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
        through the unrolled algorithm; slow, but the only method that can be differentiated twice.
        "auto": the cheapest of the first two and, for small problems, the algorithm unrolled on the
        Gram matrix in one graph, estimated from the work counted in ``fn`` and this machine's
        constants, which are measured once and kept in the user's cache; with ``rank``, whichever of
        the first two pushes fewer rows, so that captured and eager steps use the same route.
    tolerance
        How much of the gradient may be dropped, in [0, 1); 0 is exact, 1e-3 the default. On the
        Gram route it bounds the relative Frobenius norm of the dropped part of J C, on the
        matrix-free route the dropped share of the sum of the magnitudes of C's eigenvalues. The
        number of directions is read from the GPU, so during CUDA graph capture it must be 0, and
        the method "gram" or "auto", unless ``rank`` is given. Values are not checked to be finite
        during capture.
    rank
        Keep this many directions, 1 <= rank <= m, instead of as many as ``tolerance`` requires,
        which must then be None; not with "autograd". They are found by block power steps, not as
        eigenvectors: nothing is read from the GPU, so a CUDA graph can capture the penalty on
        either route. As measured, the part of J C (of C, matrix-free) that they drop had at most
        1.1 times the Frobenius norm of the part that as many singular vectors drop, or 1e-5 of the
        whole, for ranks up to m / 2 and m >= 64; up to 1.7 times for m from 4 to 16. The dropped
        part depends on the spectrum: for a DCGAN with m = 128 and k = T = 8 it is about 3e-3 at
        rank 32.
    compute_dtype
        Dtype of the tangents, such as ``torch.bfloat16``; sums and small matrices stay in float32.
        On a CPU without native bfloat16 it is replaced by float32, with a one-time warning.
    chunk
        Tangents in memory at once; by default as in :func:`linearize`.
    coupled
        "error" or "hold": as in :func:`linearize`.
    fn_kwargs
        Further keyword arguments of ``fn``, which may share the names of this function's own.

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
        If PyTorch's derivative of an operation in ``fn`` is missing or wrong; the message names it.

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
    k, iterations = _check_arguments(z, k, iterations, probe, method, tolerance, rank)
    keep = Keep.of(tolerance, rank)
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
            method=method, keep=keep, coupled=coupled, wants_gradient=wants_gradient,
        )  # fmt: skip


class AlignmentPenalty(nn.Module):
    """The alignment penalty as a module: ``AlignmentPenalty(k, iterations)(fn, z, *args)``.

    On the Gram route the penalty and its gradient take about as much work as (m + 3r) / 3 updates
    of ``fn`` without them, for r directions: 75 for m = 128 and r = 32. ``interval`` divides this
    by n on average, and ``sub_batch`` reduces it to the share of the batch that is used, both at
    the cost of a noisier gradient.

    Parameters
    ----------
    k, iterations, reweight, method, tolerance, rank, compute_dtype, chunk, coupled
        As in :func:`alignment_penalty`.
    interval
        Compute the penalty only in every n-th call, n >= 1, starting with the first, and multiply
        it by n to keep the mean over calls; other calls return 0 without calling ``fn``, as in lazy
        R1 regularization (Karras et al. 2020). ``calls`` counts the calls in training mode and is
        part of ``state_dict``: a resumed run stays in step, and so do data-parallel processes,
        which make the same calls. Every call counts, whether several share one update or a gradient
        scaler skips the update. In eval mode each call returns the penalty itself.
    sub_batch
        Use only the first codes of ``z``, at most this many; ``args``, keywords and ``probe`` must
        be those of these codes.

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
        tolerance: float | None = None,
        rank: int | None = None,
        compute_dtype: torch.dtype | None = None,
        chunk: int | None = None,
        coupled: Coupled = "error",
        interval: int = 1,
        sub_batch: int | None = None,
    ) -> None:
        super().__init__()
        k, iterations = _check_counts(k, iterations, method, tolerance, rank)
        check_counts(interval=interval, sub_batch=1 if sub_batch is None else sub_batch)
        check_options(compute_dtype, chunk, coupled)
        self.interval, self.sub_batch, self.calls = int(interval), sub_batch, 0
        self.options: dict[str, Any] = {
            "k": k,
            "iterations": iterations,
            "reweight": reweight,
            "method": method,
            "tolerance": tolerance,
            "rank": rank,
            "compute_dtype": compute_dtype,
            "chunk": chunk,
            "coupled": coupled,
        }
        if interval > 1:
            self.register_state_dict_post_hook(_save_calls)
        self.register_load_state_dict_pre_hook(_load_calls)

    @run_eagerly
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
        if self.sub_batch is not None:
            z = z[: self.sub_batch]
        weight = self.interval if self.training else 1
        if weight > 1:
            if is_capturing():
                raise ValueError(
                    "interval must be 1 while a CUDA graph is captured, which replays one kind of "
                    f"call, got {self.interval}"
                )
            self.calls += 1
            if (self.calls - 1) % self.interval:
                zero = z.new_zeros((), dtype=torch.promote_types(z.dtype, torch.float32))
                return zero.requires_grad_(torch.is_grad_enabled())
        value = alignment_penalty(fn, z, *args, probe=probe, fn_kwargs=more, **self.options)
        return value if weight == 1 else weight * value

    def extra_repr(self) -> str:
        """The options, as ``repr`` shows them."""
        shown = {**self.options, "interval": self.interval, "sub_batch": self.sub_batch}
        return ", ".join(f"{name}={value}" for name, value in shown.items())


def _save_calls(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    state[prefix + "calls"] = torch.tensor(module.calls)


def _load_calls(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    module.calls = int(state.pop(prefix + "calls", module.calls))  # type: ignore[assignment]


def _check_counts(
    k: Any, iterations: Any, method: Any, tolerance: Any, rank: Any
) -> tuple[int, int]:
    check_counts(k=k, iterations=iterations)
    check_one_of("method", method, METHODS)
    Keep.of(tolerance, rank)
    if method == "autograd":
        check(rank is None, "rank", "None with method='autograd', which is exact", rank)
    return int(k), int(iterations)


def _check_arguments(
    z: Tensor, k: Any, iterations: Any, probe: Any, method: Any, tolerance: Any, rank: Any
) -> tuple[int, int]:
    k, iterations = _check_counts(k, iterations, method, tolerance, rank)
    size = z.shape[1:].numel()
    check(k <= size, "k", f"at most m = {size}", k)
    check(rank is None or rank <= size, "rank", f"at most m = {size}", rank)
    if probe is None:
        return k, iterations
    if not isinstance(probe, Tensor) or not probe.is_floating_point():
        got = probe.dtype if isinstance(probe, Tensor) else type(probe).__name__
        raise TypeError(f"probe must be a floating-point tensor (B, m, k), got {got}")
    if probe.shape != (len(z), size, k):
        raise shape_error("probe", f"(B, m, k) = {(len(z), size, k)}", probe)
    return k, iterations
