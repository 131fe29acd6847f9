"""Launches on a GPU: few an op, no memset or copy, and grids that CUDA takes."""

import importlib
import importlib.util

import pytest
import torch
from _accuracy import samples
from _launches import Launches

from pydisent import _backends, ops
from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import BACKWARD, Draw, tuple_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)
WITH_TRITON = [name for name, op in REGISTRY.items() if op.spec.triton]
DTYPES = [torch.float32, torch.bfloat16, torch.float64]


@pytest.fixture
def launches(monkeypatch):
    # As on a GPU, where Triton's kernels are compiled.
    monkeypatch.setattr(_backends, "triton_reason", lambda device: "")
    return Launches(monkeypatch)


def kernel_of(name):
    module = importlib.import_module(f"pydisent.triton_kernels.{REGISTRY[name].spec.family}")
    return getattr(module, name)


@pytest.mark.parametrize("name", WITH_TRITON)
def test_an_op_takes_two_launches_and_its_adjoint_three(name, launches):
    """Sums that PyTorch's own kernel takes count as well."""
    most = 3 if name.endswith(BACKWARD) else 2
    spec = REGISTRY[name].spec
    for dtype in DTYPES:
        problems = [*samples(name, dtype), spec.problem(Draw(dtype), spec.sizes.small)]
        for args in problems:
            if name == "spatial_constriction_backward":  # of a map laid out as its cotangent is
                args = (torch.empty_like(args[2]), *args[1:])
            launches.names.clear()
            with launches:
                results = tuple_of(kernel_of(name)(*args))
            assert len(launches.names) <= most, launches.names
            assert set(launches.names) <= {"triton", "sum"}, launches.names
            wanted = tuple_of(spec.fake(*args))
            assert [x.dtype for x in results] == [x.dtype for x in wanted]
            assert [x.stride() for x in results] == [x.stride() for x in wanted]


@pytest.mark.parametrize("name", [n for n in WITH_TRITON if not n.endswith(BACKWARD)])
def test_gradients_launch_the_adjoint_alone(name, launches):
    """No cotangent of an output that callers do not see is made of zeros."""
    op = REGISTRY[name]
    args = op.spec.problem(Draw(torch.float32), op.spec.sizes.tiny)
    leaves = [
        x.requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
        for x in args
    ]
    wanted = [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad]
    for _ in range(2):  # the zeros that all calls share are made in the first
        outputs = tuple_of(op(*leaves, impl="triton"))[: op.spec.outputs]
        cotangents = [torch.ones_like(y) for y in outputs]
        launches.names.clear()
        with launches:
            torch.autograd.grad(outputs, wanted, cotangents)
    assert set(launches.names) == {"triton"}, launches.names
    assert len(launches.names) <= 3, launches.names


def test_a_mask_and_a_constriction_take_six_launches(launches):
    logits = [torch.ones(6, 2, n, requires_grad=True) for n in (8, 8, 8, 8)]
    x, scales, shifts = (
        torch.ones(s, requires_grad=True) for s in ((2, 4, 8, 8), *2 * [(2, 3, 4)])
    )
    for _ in range(2):
        launches.names.clear()
        with launches:
            masks = ops.band_mask(*logits, impl="triton").view(2, 3, 8, 8)
            out = ops.spatial_constriction(x, masks, scales, shifts, impl="triton")
            torch.autograd.grad(out, [*logits, x, scales, shifts], x.detach())
    assert launches.names == ["triton"] * len(launches.names)
    assert len(launches.names) <= 6


_WIDE = 70000
#: Sizes beyond 65535 along each axis that programs share.
LONG = {
    "cumax": ((_WIDE, 2), (1, 10_000_000)),
    "band_gate": ((_WIDE, 2), (1, 10_000_000)),
    "band_mask": (
        (_WIDE, 1, 2, 2),
        (1, _WIDE, 2, 2),
        (1, 1, _WIDE * 128, 1),
        (1, 1, 1, _WIDE * 128),
    ),
    "spatial_constriction": ((_WIDE, 1, 1, 1, 1), (1, _WIDE * 64, 1, 1, 1), (1, 1, 9000, 9000, 1)),
    "covariance_penalty": ((_WIDE * 64, 2),),
    "cross_covariance_penalty": ((2, 1, _WIDE * 64), (2, _WIDE * 64, 1), (_WIDE * 64, 1, 1)),
    "third_central_moment_penalty": ((2, _WIDE * 64), (_WIDE * 64, 2)),
    "aggregate_posterior": ((2, _WIDE * 16), (_WIDE * 64, 2)),
    "gaussian_kl": ((_WIDE, _WIDE),),
    "reparameterized_sample": ((_WIDE, _WIDE),),
    "perceptual_simplicity_loss": ((1, _WIDE * 1024), (_WIDE * 1024, 2)),
}


@pytest.mark.parametrize("name", [n for n in WITH_TRITON if not n.endswith(BACKWARD)])
def test_grids_are_those_that_cuda_takes(name, launches):
    """Tensors without data, of more than 65535 blocks along each axis."""

    class Shapes(Draw):
        def __call__(self, *shape, dtype=None, **_):
            return torch.empty(shape, dtype=dtype or self.dtype, device="meta")

        def integers(self, below, *shape):
            return torch.empty(shape, dtype=torch.int64, device="meta")

    spec = REGISTRY[name].spec
    for size in LONG[name]:
        args = spec.problem(Shapes(torch.float32, "cpu"), size)
        outputs = tuple_of(spec.fake(*args))
        cotangents = {n: y for n, y in zip(spec.adjoint.inputs, outputs) if n.startswith("grad")}
        named = dict(zip(spec.inputs, args)) | dict(zip(spec.returns, outputs)) | cotangents
        with launches:
            kernel_of(name)(*args)
            kernel_of(name + BACKWARD)(*(named[n] for n in spec.adjoint.inputs))
