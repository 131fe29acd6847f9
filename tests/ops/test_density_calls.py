"""Aggregate posterior and total correlation: instruction sets, memory, bad arguments."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from _density import posteriors, tensors
from _native import needs_native

from pydisent.ops import aggregate_posterior, total_correlation


@pytest.mark.in_turn
@needs_native
@pytest.mark.parametrize("limit", ["baseline", "avx2"])
def test_every_instruction_set(limit):
    code = """
import sys, torch
from pydisent.ops import total_correlation
for batch, d in ((1, 1), (37, 3), (300, 5)):
    for dtype, bound in ((torch.float32, 2e-5), (torch.float64, 1e-11)):
        torch.manual_seed(0)
        xs = [torch.randn(batch, d, dtype=dtype, requires_grad=True) for _ in range(3)]
        found = []
        for impl in ("native", "reference"):
            value = total_correlation(*xs, 1000, "mss", impl=impl)
            found.append((value, *torch.autograd.grad(value, xs)))
        torch.testing.assert_close(*found, rtol=bound, atol=bound)
"""
    environment = {**os.environ, "PYDISENT_INSTRUCTION_SET": limit, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


PEAK = """
import sys
from pathlib import Path
import torch
from pydisent.ops import total_correlation

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

def both(impl, batch, d):
    xs = [torch.randn(batch, d, requires_grad=True) for _ in range(3)]
    torch.autograd.grad(total_correlation(*xs, 10**6, "mss", impl=impl), xs)

for impl, batch in zip(sys.argv[1::2], sys.argv[2::2]):
    both(impl, 16, 2)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    both(impl, int(batch), 8)
    print(status("VmHWM") - before)
"""


@needs_native
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_memory_is_linear_in_the_batch():
    """At B = 8192, d = 8 a (B, B, d) tensor of floats would take 2 GiB, a (B, B) one 256 MiB."""

    cases = "native 2048 native 8192 reference 1024".split()
    # Freed memory goes back at once, and is not there for the next.
    environment = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *cases],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    small, large, reference = (int(line) / 1024 for line in done.stdout.split())
    assert large < 16  # 0.25 MiB an array (B, d), of which there are about 40
    assert large < 4 * small + 8
    # What the reference holds under autograd: the measure does see a (B, B, d) tensor.
    assert reference > 1024 * 1024 * 8 * 4 / 2**20


def test_reference_without_gradients_holds_some_rows_at_a_time():
    seen = []
    inputs = tensors(posteriors(1500, 4), torch.float32)

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            seen.extend(x.numel() for x in torch.utils._pytree.tree_leaves(out))
            return out

    with Largest():
        aggregate_posterior(*inputs, 2000, impl="reference")
    assert 0 < max(seen) < 1500 * 1500 * 4 / 4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"z": torch.ones(3)}, ValueError, r"z must have shape \(B, d\), got \(3,\)"),
        ({"z": torch.ones(3, 2).long()}, TypeError, "z must .*got torch.int64"),
        ({"z": [[1.0]]}, TypeError, "z must .*got list"),
        ({"mu": torch.ones(3, 1)}, ValueError, r"mu must have shape .*got \(3, 1\)"),
        ({"logvar": torch.ones(1, 2)}, ValueError, r"logvar must have shape .*got \(1, 2\)"),
        ({"mu": torch.ones(3, 2).long()}, TypeError, "mu must .*got torch.int64"),
        ({"logvar": torch.ones(3, 2, device="meta")}, ValueError, "logvar must .*got meta"),
        ({"dataset_size": 0}, ValueError, "dataset_size must be an integer >= 1, got 0"),
        ({"dataset_size": 10.0}, TypeError, "dataset_size must .*got 10.0"),
        ({"dataset_size": True}, TypeError, "dataset_size must .*got True"),
        (
            {"estimator": "stratified"},
            ValueError,
            "estimator must .*'mws', 'mss', got 'stratified'",
        ),
        (
            {"dataset_size": 2, "estimator": "mss"},
            ValueError,
            "dataset_size must be at least the batch size 3 for .*, got 2",
        ),
    ],
)
@pytest.mark.parametrize("function", [aggregate_posterior, total_correlation])
def test_bad_arguments_are_named(function, change, error, message):
    arguments = {name: torch.ones(3, 2) for name in ("z", "mu", "logvar")}
    arguments |= {"dataset_size": 10, "estimator": "mws"}
    with pytest.raises(error, match=message):
        function(**(arguments | change))


def test_a_numpy_integer_is_an_integer():
    inputs = tensors(posteriors(4, 2))
    got = total_correlation(*inputs, np.int64(50))
    assert torch.equal(got, total_correlation(*inputs, 50))
