"""What test_cuda_on_cpu.py runs in a process of its own, where CUDA's kernels are the CPU's."""

import ctypes
import itertools
import json
import os
import sys
import traceback

import torch
from _accuracy import breaches, breaches_of, is_floating, run, samples
from torch.autograd.profiler import profile

from pydisent.ops.registry import REGISTRY
from pydisent.reference.tangent import KINDS

torch.ops.load_library(sys.argv[1])
LIBRARY = ctypes.CDLL(sys.argv[1])
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
POWER, TANGENT = "masked_power_iteration", "activation_tangent"
#: Calls of torch that start no kernel themselves; what they call in turn is counted.
FREE = {
    "empty", "empty_like", "empty_strided", "new_empty", "as_strided", "view", "reshape", "expand",
    "transpose", "narrow", "slice", "permute", "_reshape_alias", "_unsafe_view", "contiguous",
    "resolve_conj", "resolve_neg", "result_type", "detach", "to", "_to_copy", "matmul",
}  # fmt: skip


def hold(name, args):
    """The rule of accuracy for a call with these arguments."""
    narrow = min((x.dtype for x in args if is_floating(x)), key=lambda dtype: dtype.itemsize)
    found = list(breaches_of(name, args, narrow, "native"))
    assert found
    assert not any(found), found


def draw(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=torch.float64).to(dtype)


def power_iteration(shared_memory=232448):
    os.environ["SHARED_MEMORY"] = str(shared_memory)
    for name, dtype in itertools.product((POWER, POWER + "_backward"), DTYPES):
        assert not breaches(name, dtype, impl="native")
    # More than a tile of rows and a group of columns; whole packs and not; parts of the sum.
    half = torch.bfloat16
    for m, k, steps, dtype in (
        (300, 3, 1, DTYPES[0]),
        (33, 9, 2, DTYPES[0]),
        (40, 35, 2, DTYPES[0]),
        (40, 2, 1, half),
    ):
        gram, probe, mask = draw(1, m, m), draw(1, m, k, dtype=dtype), draw(m, k) > 0
        gram, mask = (gram / m**0.5).to(dtype), mask.to(dtype)
        grads = draw(1, m, k, dtype=dtype), draw(1, k, dtype=dtype)
        for matrix in (gram, gram.mT):
            outputs = run(POWER, (matrix, probe, mask, steps, 1e-3), "reference")
            hold(POWER, (matrix, probe, mask, steps, 1e-3))
            hold(POWER + "_backward", (*grads, matrix, mask, *outputs[2:], 1e-3))


def tangent_calls():
    """Every kind, there and back, in shapes that take each way through the kernels."""
    torch.manual_seed(0)
    for place, kind in enumerate(KINDS):
        for count, shape in (
            (3, (2, 4, 4, 16)),
            (1, (2, 3, 7)),
            (5, (3, 3, 5)),
            (2, (3, 40, 9, 8)),
        ):
            leak = threshold = None
            if "prelu" in kind:
                leak = draw(shape[1] if place % 2 or count > 2 else 1)
                threshold = draw(shape[1]) if kind == "translated_prelu" else None
            h, moving = draw(*shape), draw(count, *shape)
            if shape[1] == 40:  # neighbours are of different channels
                last = torch.channels_last
                h, moving = h.to(memory_format=last), moving.flatten(0, 1).to(memory_format=last)
                moving = moving.unflatten(0, (count, -1))
            yield h, moving, kind, leak, threshold, 0.2, 1.5, 2.0, bool((place + count) % 2)


def tangents():
    for name, dtype in itertools.product((TANGENT, TANGENT + "_", TANGENT + "_backward"), DTYPES):
        assert not breaches(name, dtype, impl="native")
    for args in tangent_calls():
        grad = torch.randn_like(args[1])
        hold(TANGENT, args)
        hold(TANGENT + "_", args)
        hold(TANGENT + "_backward", (grad, *args))
    # Wide numbers among narrow ones, an address in between, and a leak with gaps.
    h, moving, grad = draw(2, 3, 40), draw(2, 2, 3, 40), draw(2, 2, 3, 40)
    leak = draw(6)[::2]
    rest = ("prelu", leak, None, 0.2, 1.5, 2.0, False)
    for dtype, wide in itertools.permutations(DTYPES, 2):
        hold(TANGENT, (h.to(dtype), moving.to(wide), *rest))
        hold(TANGENT + "_backward", (grad.to(wide), h.to(dtype), moving.to(wide), *rest))
    shifted = draw(moving.numel() + 1)[1:].view(moving.shape)
    hold(TANGENT, (h, shifted, *rest))
    hold(TANGENT + "_backward", (grad, h, shifted, *rest))
    # A sum for one leak in more than one part, in one order.
    h, moving, grad = draw(2, 1, 9000), draw(1, 2, 1, 9000), draw(1, 2, 1, 9000)
    args = grad, h, moving, "prelu", draw(1), None, 0.2, 1.5, 2.0, False
    hold(TANGENT + "_backward", args)
    assert torch.equal(*(run(TANGENT + "_backward", args, "native")[2] for _ in range(2)))


def launched(name, args):
    """Kernels of ours and of torch, and what torch's were."""
    before = LIBRARY.cuda_launches()
    with profile() as profiled:
        REGISTRY[name].overload(*args)
    names = [e.name.removeprefix("aten::") for e in profiled.function_events if "aten::" in e.name]
    torchs = [n for n in names if n not in FREE]
    return LIBRARY.cuda_launches() - before, torchs


def launches():
    assert launched(TANGENT, next(tangent_calls()))[0] == 1  # the counter counts
    with profile() as profiled:
        torch.zeros(3)
    assert {"aten::zero_"} <= {e.name for e in profiled.function_events}
    for name in (POWER, TANGENT, TANGENT + "_"):
        for dtype, args in itertools.product(DTYPES, range(len(samples(name, DTYPES[0])))):
            check(name, samples(name, dtype)[args], 2)
            if name + "_backward" in REGISTRY:
                check(name + "_backward", samples(name + "_backward", dtype)[args], 3)
    for args in tangent_calls():
        check(TANGENT, args, 2)
        check(TANGENT + "_backward", (torch.randn_like(args[1]), *args), 3)


def check(name, args, most):
    if any(isinstance(x, torch.Tensor) and x.numel() == 0 for x in args):
        return
    ours, torchs = launched(name, args)
    assert ours >= 1, name
    assert ours + len(torchs) <= most, (name, ours, torchs, *(str(x) for x in args))
    assert not {"zero_", "zeros", "fill_"} & {*torchs}, (name, torchs)


def told(function, *args):
    try:
        function(*args)
    except Exception:
        return traceback.format_exc()
    return ""


if __name__ == "__main__":
    report = {f.__name__: told(f) for f in (power_iteration, tangents, launches)}
    report["tiles"] = told(power_iteration, 0)
    print(json.dumps(report))
