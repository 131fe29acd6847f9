"""Float64 oracles of the alignment penalty (Ramesh et al., Algorithm 3) for any function.

The first unrolls the algorithm through autograd: Gram products by double backward, every norm and
attention decomposed. The second takes values of the function alone: the Jacobian by central
differences, the penalty from it in a few lines, and its derivatives by central differences again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from _probe import central_difference
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pydisent.jacobian.decompositions import DecomposedFunctions

EPS = 1e-8


def random_signs(z: Tensor, k: int = 3) -> Tensor:
    """A probe (B, m, k), the same at each call."""
    generator = torch.Generator().manual_seed(0)
    shape = (*z.shape, min(k, z.shape[1]))
    return (torch.randint(0, 2, shape, generator=generator) * 2 - 1).to(z.dtype)


def masks(m: int, k: int, reweight: bool, like: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 11's mask and Eq. 12's signs with the column weights of Eq. 13, entry by entry."""
    projection = [[0.0 if i < j else 1.0 for j in range(k)] for i in range(m)]
    alpha = 2 / (k * (k + 1))
    signs = [
        [(-1.0 if i == j else 1.0) * (alpha * (k - j) if reweight else 1.0) for j in range(k)]
        for i in range(m)
    ]
    return like.new_tensor(projection), like.new_tensor(signs)


def power_iterations(gram_product: Callable[[Tensor], Tensor], probe, iterations, reweight):
    """Algorithms 2 and 3 on (B, m, k) vectors, given V -> M V; returns the batch mean."""
    projection, signs = masks(*probe.shape[1:], reweight, probe)
    v = projection * probe
    for _ in range(iterations):
        w = projection * gram_product(v)
        # Where J is zero so is the gradient: this norm has the derivative 0 at 0, a root has none.
        v = w / (torch.linalg.vector_norm(w, dim=1, keepdim=True) + EPS)
    return (signs * v * v).sum((1, 2)).mean()


def _listed(outputs) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def gram_products(fn, z: Tensor) -> Callable[[Tensor], Tensor]:
    """V (B, m, k) -> J'J V with its graph, one column at a time, by reverse mode twice."""
    y = _listed(fn(z))
    zeros = [torch.zeros_like(o, requires_grad=True) for o in y]
    back = torch.autograd.grad(y, z, zeros, create_graph=True)[0]

    def product(v: Tensor) -> Tensor:
        columns = []
        for q in v.unbind(-1):
            tangents = torch.autograd.grad(back, zeros, q, create_graph=True)
            columns += torch.autograd.grad(y, z, tangents, create_graph=True)
        return torch.stack(columns, -1)

    return product


@dataclass
class Answer:
    value: float
    parameters: list[Tensor]
    z: Tensor


def unrolled(fn, parameters: Iterable[Tensor], z, *, iterations, probe, reweight=True) -> Answer:
    """Value and gradients by autograd through the unrolled algorithm."""
    parameters = list(parameters)
    z = z.detach().clone().requires_grad_()
    with DecomposedFunctions(), torch.enable_grad():
        value = power_iterations(gram_products(fn, z), probe, iterations, reweight)
    wanted = [*parameters, z]
    learnable = [p for p in wanted if p.requires_grad]
    found = dict(zip(map(id, learnable), torch.autograd.grad(
        value, learnable, materialize_grads=True)))  # fmt: skip
    gradients = [found.get(id(p), torch.zeros_like(p)) for p in wanted]
    return Answer(value.item(), gradients[:-1], gradients[-1])


class Repeatable:
    """A function whose every call starts from the same random state and the same buffers."""

    def __init__(self, fn, modules: Iterable[nn.Module] = ()):
        self.fn, self.rng = fn, torch.get_rng_state()
        self.buffers = [(b, b.clone()) for m in modules for b in m.buffers()]

    def __call__(self, z):
        torch.set_rng_state(self.rng)
        try:
            return self.fn(z)
        finally:
            with torch.no_grad():
                for buffer, kept in self.buffers:
                    if not torch.equal(buffer, kept):
                        buffer.copy_(kept)


class FixedBatchStatistics(TorchFunctionMode):
    """Batch norms in training mode take the statistics that they had in the first pass."""

    def __init__(self):
        super().__init__()
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.position: int | None = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is not F.batch_norm or not kwargs.get("training", False) or len(args[0]) == 1:
            return func(*args, **kwargs)
        if self.position is None:
            x = args[0].detach()
            dims = (0, *range(2, x.dim()))
            self.kept.append((x.mean(dims), x.var(dims, correction=0)))
            mean, variance = self.kept[-1]
        else:
            mean, variance = self.kept[self.position]
            self.position += 1
        affine = {name: kwargs.get(name) for name in ("weight", "bias")}
        return func(args[0], mean, variance, **affine, training=False, eps=kwargs["eps"])


class FiniteDifferences:
    """The penalty and its directional derivatives from values of the function alone."""

    def __init__(self, fn, z, *, iterations, probe, reweight=True, step=3e-4):
        self.fn, self.z, self.probe = fn, z.detach().clone(), probe
        self.iterations, self.reweight, self.step = iterations, reweight, step
        self.statistics = FixedBatchStatistics()
        self._flat(self.z)

    def _flat(self, z: Tensor) -> Tensor:
        if self.statistics.position is not None:
            self.statistics.position = 0
        with torch.no_grad(), self.statistics:
            outputs = _listed(self.fn(z))
        self.statistics.position = 0
        return torch.cat([o.flatten(1) for o in outputs], 1)

    def jacobian(self, z: Tensor) -> Tensor:
        """(B, n, m)."""
        columns = [
            central_difference(lambda h, e=e: self._flat(z + h * e), self.step)
            for e in torch.eye(z.shape[1], dtype=z.dtype)
        ]
        return torch.stack(columns, -1)

    def value(self, z: Tensor | None = None) -> float:
        jacobian = self.jacobian(self.z if z is None else z)
        gram = jacobian.mT @ jacobian
        return power_iterations(
            lambda v: gram @ v, self.probe, self.iterations, self.reweight
        ).item()

    def along_z(self, direction: Tensor) -> float:
        return central_difference(lambda h: self.value(self.z + h * direction), self.step)

    def along_parameters(self, parameters: list[Tensor], directions: list[Tensor]) -> float:
        kept = [p.detach().clone() for p in parameters]

        def moved(h):
            with torch.no_grad():
                for p, old, d in zip(parameters, kept, directions):
                    p.copy_(old + h * d)
            return self.value()

        try:
            return central_difference(moved, self.step)
        finally:
            moved(0.0)
