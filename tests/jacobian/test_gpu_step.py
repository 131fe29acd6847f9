"""A generator's update with the penalty as a GPU sees it: on meta tensors, its operations counted.

They take the ways of a GPU where these differ from a CPU's, cost nothing at full size, and cannot
be read.
"""

from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from _capturing import pretend
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pydisent import alignment_penalty, linearize
from pydisent.jacobian import _budget, linearization
from pydisent.nn import DCGANDiscriminator, DCGANGenerator

H200 = SimpleNamespace(multi_processor_count=132, total_memory=139 * 2**30)
#: Operations that wait for the device, and those that make a tensor of what the host has.
HOST = "_local_scalar_dense nonzero masked_select _linalg_eigh linalg_qr lift_fresh equal".split()


class Seen(TorchDispatchMode):
    """Counts operations, and keeps the names of those that read from the device or copy to it."""

    def __init__(self):
        super().__init__()
        self.counts, self.host, self.made = Counter(), set(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        out = func(*args, **kwargs or {})
        tensors = [x for x in pytree.tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
        self.counts[name] += 1
        if isinstance(out, Tensor):
            self.made.append((name, tuple(out.shape), out.dtype))
        if name in HOST or len({x.device for x in tensors}) > 1:
            self.host.add(name)
        return out


@pytest.fixture
def capturing(monkeypatch):
    """As while an H200 captures a graph; there is no autocast on meta tensors."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: H200)
    budget = _budget.budget_of(torch.device("cuda"))
    monkeypatch.setattr(linearization, "budget_of", lambda _: budget)
    pretend(monkeypatch)


def _setting(base=64, batch=32, m=128, size=64):
    with torch.device("meta"):
        generator = DCGANGenerator(m, 3, base, size)
        return generator, torch.randn(batch, m), torch.randn(batch, m, 8)


def _penalty(generator, z, probe, **options):
    return alignment_penalty(generator, z, k=8, iterations=8, probe=probe, **options)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("options", [{"tolerance": 0}, {"rank": 32}])
def test_an_update_stays_on_the_gpu_in_few_operations(dtype, options, capturing):
    generator, z, probe = _setting()
    with Seen() as seen:
        _penalty(generator, z, probe, compute_dtype=dtype, **options).backward()
    assert not seen.host
    assert sum(seen.counts.values()) <= 600
    with torch.device("meta"):
        judge = DCGANDiscriminator(3, 64, 64)
    with Seen() as seen:
        z = torch.randn_like(z)
        loss = F.softplus(-judge(generator(z))).mean()
        loss = loss + 0.1 * alignment_penalty(
            generator, z, k=8, iterations=8, compute_dtype=dtype, **options
        )
        loss.backward()
    assert not seen.host


def test_the_penalty_costs_what_its_documentation_says(capturing):
    """(m + 3r) / 3 of the generator's part in an update, by PyTorch's own count of products."""
    generator, z, probe = _setting()
    counts = []
    for value in (
        lambda: generator(z).sum(),
        lambda: _penalty(generator, z, probe, method="gram", rank=32),
    ):
        with FlopCounterMode(display=False) as counter:
            value().backward()
        counts.append(counter.get_total_flops())
    assert counts[1] / counts[0] == pytest.approx((128 + 3 * 32) / 3, rel=0.05)


def test_what_would_be_seen():
    with Seen() as seen:
        torch.ones(2, device="meta") * torch.ones(())
        torch.tensor(1.0)
        torch.ones(()).item()
    assert seen.host == {"mul", "lift_fresh", "_local_scalar_dense"}


def test_parameters_are_cast_once(capturing):
    """By neither each chunk nor each of the two passes; of a gradient each chunk's is widened."""
    generator, z, probe = _setting(base=8, batch=4, m=32, size=32)
    with Seen() as seen:
        _penalty(generator, z, probe, compute_dtype=torch.bfloat16, rank=8, chunk=2).backward()
    narrowed = [
        shape
        for name, shape, dtype in seen.made
        if name == "_to_copy" and dtype == torch.bfloat16 and len(shape) < 5
        if shape[-2:] in [(4, 4), (512, 32)]
    ]
    assert sorted(narrowed) == [(8, 3, 4, 4), (16, 8, 4, 4), (32, 16, 4, 4), (512, 32)]


def test_values_are_laid_out_once():
    """Images of tangents are channels-last, those of the function are not."""
    torch.manual_seed(0)
    generator, z = DCGANGenerator(5, 3, 8, 16), torch.randn(3, 5)
    laid = []
    for chunk in (5, 1):
        with Seen() as seen:
            alignment_penalty(
                generator, z, k=2, iterations=2, method="gram", tolerance=0, chunk=chunk
            ).backward()
        laid.append(sum(name == "clone" and shape == (3, 8, 8, 8) for name, shape, _ in seen.made))
    assert laid == [1, 1]


def test_bfloat16_columns_are_not_widened(capturing):
    generator, z, _ = _setting(base=8, batch=4, m=32, size=32)
    linear = linearize(generator, z, compute_dtype=torch.bfloat16)
    columns = linear.columns(linear.basis())
    assert {column.dtype for column in columns} == {torch.bfloat16}
    assert linear.gram_matrix().dtype == linear.jacobian().dtype == torch.float32


def test_chunks_grow_with_the_device(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert _budget.budget_of(cpu) == (256, 256 * 2**20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: H200)
    assert _budget.budget_of(gpu) == (4224, 139 * 2**26)
    small = SimpleNamespace(multi_processor_count=16, total_memory=8 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: small)
    assert _budget.budget_of(gpu) == (512, 2**29)
    assert _budget.budget_of(gpu).jacobian == 2**31
