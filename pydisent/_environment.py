"""Versions and hardware, for the record of a run."""

import os
import platform
import sys
from typing import Any

import torch

import pydisent
from pydisent._precision import bf16_devices


def environment() -> dict[str, Any]:
    """Return versions, processor, threads, GPU and active kernels as plain values."""
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "pydisent": pydisent.__version__,
        "platform": platform.platform(),
        "cpu": f"{_processor()}, {os.cpu_count()} logical cores",
        "threads": torch.get_num_threads(),
        "native_bf16": bf16_devices(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "backends": pydisent.backends(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
