"""bfloat16 only where the device has it, and what happens elsewhere."""

import itertools
import warnings

import pytest
import torch

import pydisent
from pydisent import _notice, _precision


def _has(monkeypatch, machine="x86_64", onednn=True, avx512=False, amx=False, limit=None):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    if limit is not None:
        monkeypatch.setenv(*limit)
    return _precision.has_native_bf16("cpu")


@pytest.mark.parametrize(
    ("onednn", "avx512", "amx"), list(itertools.product([True, False], repeat=3))
)
def test_x86_needs_the_instructions_and_onednn(monkeypatch, onednn, avx512, amx):
    expected = onednn and (avx512 or amx)
    assert _has(monkeypatch, onednn=onednn, avx512=avx512, amx=amx) == expected


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize(
    ("level", "expected"),
    [
        *((level, False) for level in ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")),
        *((level, False) for level in ("AVX512_CORE", "AVX512_CORE_VNNI", "avx512_core")),
        *((level, True) for level in ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX10_1_512")),
        *((level, True) for level in ("AVX512_CORE_AMX", "AVX512_CORE_AMX_FP16", "DEFAULT", "")),
    ],
)
def test_a_limit_on_instructions_counts(monkeypatch, variable, level, expected):
    assert _has(monkeypatch, avx512=True, amx=True, limit=(variable, level)) == expected


@pytest.mark.parametrize("onednn", [True, False])
def test_arm_is_as_onednn_says(monkeypatch, onednn):
    assert _has(monkeypatch, machine="aarch64", onednn=onednn) == onednn


def test_emulation_on_a_gpu_does_not_count(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert not _precision.has_native_bf16("cuda")
    assert not _precision.has_native_bf16("mps")


@pytest.fixture
def without_bf16(monkeypatch):
    monkeypatch.setattr(_precision, "_cpu_has_bf16", lambda: False)
    monkeypatch.delenv("PYDISENT_STRICT", raising=False)
    monkeypatch.setattr(_notice, "_given", set())


def _curve(z):
    return torch.stack([z.prod(-1), z.square().sum(-1), z[:, 0].sin()], -1)


def _calls(dtype):
    """Each that takes compute_dtype; the results that have a documented dtype."""
    torch.manual_seed(0)
    z, tangents, cotangents = torch.randn(2, 4), torch.randn(3, 2, 4), torch.randn(3, 2, 3)
    linear = pydisent.linearize(_curve, z, compute_dtype=dtype)
    module = pydisent.AlignmentPenalty(1, 2, method="gram", compute_dtype=dtype)
    return {
        "jvp": linear.jvp(tangents),
        "vjp": linear.vjp(cotangents),
        "gram_product": linear.gram_product(tangents),
        "jacobian": linear.jacobian(),
        "gram_matrix": linear.gram_matrix(),
        "penalty": module(_curve, z, probe=torch.ones(2, 4, 1)),
    }


@pytest.mark.usefixtures("without_bf16")
def test_float32_stands_in_and_the_results_have_the_dtype_asked_for():
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        narrow = _calls(torch.bfloat16)
    (warning,) = [one for one in given if "computing in float32" in str(one.message)]
    assert warning.filename == __file__
    for name, exact in _calls(torch.float32).items():
        assert torch.equal(narrow[name], exact.to(narrow[name].dtype)), name
        halves = name in ("jvp", "vjp", "gram_product")
        assert narrow[name].dtype == (torch.bfloat16 if halves else torch.float32), name


@pytest.mark.usefixtures("without_bf16")
def test_strict_keeps_bfloat16(monkeypatch):
    monkeypatch.setenv("PYDISENT_STRICT", "1")
    linear = pydisent.linearize(_curve, torch.randn(2, 4), compute_dtype=torch.bfloat16)
    assert linear.dtype == torch.bfloat16


@pytest.mark.usefixtures("without_bf16")
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64, torch.float16])
def test_other_dtypes_are_left_alone(dtype):
    assert _precision.affordable_dtype(dtype, torch.device("cpu")) is dtype
    assert _precision.affordable_dtype(torch.bfloat16, torch.device("cuda")) == torch.bfloat16
