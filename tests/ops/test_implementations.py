"""Choosing an implementation, and being told which one runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from _native import needs_native

import pydisent
from pydisent import _backends
from pydisent.ops import activation_tangent, activation_tangent_, masked_power_iteration
from pydisent.ops.registry import REGISTRY


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,  # for _accuracy
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def tiny_call(**keywords):
    gram = torch.eye(2).expand(1, 2, 2)
    return masked_power_iteration(gram, torch.ones(1, 2, 1), torch.ones(2, 1), 1, **keywords)


def test_backends_is_json_and_covers_every_op():
    report = json.loads(json.dumps(pydisent.backends()))
    assert set(report["ops"]) == set(REGISTRY)
    for device in ("cpu", "cuda"):
        assert report[device]["active"] == (report[device]["reason"] == "")
        if report[device]["active"]:
            allowed = {"native", "triton"} if device == "cuda" else {"native"}
            assert {ops[device] for ops in report["ops"].values()} <= allowed
    assert report["versions"]["torch"] == torch.__version__


def test_unknown_implementation_is_refused():
    with pytest.raises(ValueError, match=r"'auto', 'reference', 'native', 'triton', got 'fastest'"):
        tiny_call(impl="fastest")


def test_environment_chooses(monkeypatch):
    monkeypatch.setenv("PYDISENT_IMPL", "nonsense")
    with pytest.raises(ValueError, match="nonsense"):
        tiny_call()
    tiny_call(impl="reference")  # the argument wins


@needs_native
def test_native_and_reference_are_different_code():
    """Equal results would prove nothing if both names ran the same kernel."""
    tangents = torch.randn(2, 64, 64)
    h = torch.randn(64, 64)
    native = activation_tangent(h, tangents, "tanh", impl="native")
    reference = activation_tangent(h, tangents, "tanh", impl="reference")
    torch.testing.assert_close(native, reference)
    assert not torch.equal(native, reference)


def test_native_that_is_not_there_says_why(monkeypatch):
    monkeypatch.setattr(_backends, "native_reason", lambda device: "no compiler was found")
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda *_: False)
    with pytest.raises(RuntimeError, match="not available on 'cpu': no compiler was found"):
        tiny_call(impl="native")


@needs_native
def test_native_is_refused_where_only_the_reference_runs():
    h = torch.randn(2, 3)
    with pytest.raises(RuntimeError, match=r"torch\.func transforms run the reference"):
        torch.func.jvp(lambda x: activation_tangent(x, x[None], "tanh", impl="native"), (h,), (h,))


WITHOUT_NATIVE = """
import sys
sys.modules["pydisent._C"] = None
import torch, pydisent
from pydisent.ops import masked_power_iteration
assert not pydisent.backends()["cpu"]["active"], pydisent.backends()["cpu"]
assert pydisent.backends()["cpu"]["reason"]
gram = torch.eye(3).double().expand(2, 3, 3) * 2
probe, mask = torch.ones(2, 3, 1).double(), torch.ones(3, 1).double()
vectors, norms = masked_power_iteration(gram.requires_grad_(), probe, mask, 2)
assert torch.allclose(norms, norms.new_full((2, 1), 2.0)), norms
norms.sum().backward()
"""


def test_works_without_the_compiled_module():
    result = run_python(WITHOUT_NATIVE, PYDISENT_STRICT="0", PYDISENT_IMPL="")
    assert result.returncode == 0, result.stderr


def test_strict_refuses_to_fall_back():
    result = run_python(WITHOUT_NATIVE, PYDISENT_STRICT="1", PYDISENT_IMPL="")
    assert result.returncode != 0
    assert "PYDISENT_STRICT=1: masked_power_iteration would fall back" in result.stderr


@pytest.mark.in_turn
@needs_native
@pytest.mark.parametrize("limit", ["baseline", "avx2"])
def test_narrower_instruction_sets_are_as_accurate(limit):
    code = """
import torch, pydisent
from _accuracy import breaches
from pydisent.ops.registry import REGISTRY
for name in REGISTRY:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        found = breaches(name, dtype, impl="native")
        assert not found, found
print(pydisent.backends()["cpu"]["instruction_set"])
"""
    result = run_python(code, PYDISENT_INSTRUCTION_SET=limit, PYDISENT_IMPL="")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in ("baseline", limit)


def test_in_place_refuses_what_it_cannot_differentiate():
    h, tangents = torch.randn(2, 3), torch.randn(1, 2, 3)
    leaf = h.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="has no derivative"):
        activation_tangent_(leaf, tangents.clone(), "tanh")
    with pytest.raises(RuntimeError, match="has no derivative"):
        torch.func.jvp(
            lambda x: torch.ops.pydisent.activation_tangent_(
                x, tangents.clone(), "tanh", None, None, 0.0, 1.0, 20.0, False
            ),
            (h,),
            (h,),
        )
    with torch.no_grad():
        result = tangents.clone()
        version = result._version
        assert activation_tangent_(leaf, result, "tanh") is result
        assert result._version > version
    torch.testing.assert_close(result, activation_tangent(h, tangents, "tanh"))
