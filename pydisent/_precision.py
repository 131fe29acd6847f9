"""Devices on which computing in bfloat16 pays off."""

import os
import platform

import torch

from pydisent._backends import is_strict
from pydisent._notice import warn_once

# Values of ONEDNN_MAX_CPU_ISA that keep oneDNN, which computes torch's matrix products and
# convolutions, from using bfloat16 instructions; it reads any other value as one of these, or as no
# limit.
_WITHOUT_BF16 = "sse41 avx avx2 avx2_vnni avx2_vnni_2 avx512_core avx512_core_vnni".split()


def has_native_bf16(device: torch.device | str = "cpu") -> bool:
    """Return whether a device has native instructions for products of bfloat16 matrices.

    Other devices emulate them, 7 to 100 times as slowly as in float32. On x86 the instructions are
    AVX512_BF16 and AMX; ``ONEDNN_MAX_CPU_ISA`` can disable them.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and _cpu_has_bf16()


def bf16_devices() -> list[str]:
    """Return the device types of this machine with native bfloat16, for its records."""
    return [kind for kind in ("cpu", "cuda") if has_native_bf16(kind)]


def affordable_dtype(dtype: torch.dtype | None, device: torch.device) -> torch.dtype | None:
    """Return the dtype to compute in when `dtype` is requested.

    On a CPU without native bfloat16, it is float32 instead of bfloat16, with a warning, unless
    ``PYDISENT_STRICT`` is set.
    """
    if dtype != torch.bfloat16 or device.type != "cpu" or has_native_bf16(device) or is_strict():
        return dtype
    warn_once(
        "bfloat16 is 7 to 100 times slower than float32 on this processor, which does not have it "
        "natively (AVX512_BF16, AMX): computing in float32. PYDISENT_STRICT=1 keeps bfloat16"
    )
    return torch.float32


def _cpu_has_bf16() -> bool:
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    # On x86 oneDNN also reports support with AVX512 alone, where it converts to float32.
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return has and limit.lower() not in _WITHOUT_BF16
