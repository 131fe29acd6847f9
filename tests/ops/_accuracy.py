"""The one rule of accuracy, and the ways to call any op of the registry that it needs."""

import torch

from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import tuple_of


def samples(name, dtype, device="cpu"):
    return list(REGISTRY[name].spec.samples(dtype, device))


def run(name, args, impl=None):
    """Run an op out of place: an op that mutates gets copies, and its result is what it wrote."""
    op = REGISTRY[name]
    if not op.spec.written:
        return tuple_of(op.every(*args, impl=impl))
    copies = {
        n: torch.empty_like(x).copy_(x) if n in op.spec.written else x
        for n, x in zip(op.spec.inputs, args)
    }
    op(*copies.values(), impl=impl)
    return tuple(copies[n] for n in op.spec.written)


def convert(args, dtype):
    return tuple(x.to(dtype) if is_floating(x) else x for x in args)


def is_floating(x):
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def breaches(name, dtype, device="cpu", impl=None, places=None):
    """Results of an op's samples that break the rule of :func:`breaches_of`."""
    chosen = samples(name, dtype, device)
    chosen = chosen if places is None else [chosen[place] for place in places]
    found = [list(breaches_of(name, args, dtype, impl)) for args in chosen]
    assert any(found), (name, dtype)
    return [breach for x in found for breach in x if breach]


def breaches_of(name, args, dtype, impl=None):
    """Results that break the rule: err(op) <= 2 err(reference in that dtype) + tiny; else None.

    Errors are against float64: in half precision the reference may be the less exact of the two.
    """
    compute = torch.promote_types(dtype, torch.float32)
    oracle = run(name, convert(args, torch.float64), impl="reference")
    reference = run(name, args, impl="reference")
    for got, ref, exact in zip(run(name, args, impl), reference, oracle):
        assert got.dtype == ref.dtype
        assert got.shape == exact.shape
        if exact.numel() == 0:
            continue
        tiny = 16 * torch.finfo(compute).eps * max(1.0, exact.abs().max().item())
        error = (got.double() - exact).abs().max().item()
        bound = 2 * (ref.double() - exact).abs().max().item() + tiny
        shapes = [str(getattr(x, "shape", x)) for x in args]
        yield None if error <= bound else (name, str(dtype), shapes, error, bound)
