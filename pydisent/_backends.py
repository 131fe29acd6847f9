"""Backend discovery and status."""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NotRequired, TypedDict

import torch

_FOLDER = Path(__file__).parent
#: Written by ``setup.py`` when the compiled module, or the CUDA kernels in it, could not be built.
_FAILURE_NOTE = _FOLDER / "_build_failure.txt"

#: ``pydisent._C.fits``: a quick test that arguments are valid. False only means that they need the
#: full checks. ``torch.compile`` cannot trace it.
fits: Callable[..., bool] = lambda pattern, *tensors: False  # noqa: E731
_native: ModuleType | None = None
_native_reason = "pydisent.ops has not been imported"


def load_native() -> None:
    """Import ``pydisent._C``, which registers the compiled kernels, or record why it failed."""
    global _native, _native_reason, fits
    if _native is not None:
        return
    try:
        # Only beside this file: an editable install elsewhere would supply its own module.
        if not importlib.machinery.PathFinder.find_spec("pydisent._C", [str(_FOLDER)]):
            raise ModuleNotFoundError(name="pydisent._C")
        _native = importlib.import_module("pydisent._C")
        if not hasattr(_native, "fits"):  # its kernels are registered nevertheless
            raise RuntimeError(
                "pydisent._C was built from another version's sources; build it again "
                "(`pip install --no-build-isolation -e .`)"
            )
        _native_reason, fits = "", _native.fits
    except ModuleNotFoundError:
        _native_reason = _failure_note() or _never_built()
    except ImportError as error:
        _native_reason = f"pydisent._C was built but cannot be loaded: {error}"


def _never_built() -> str:
    """Explain that there is no compiled module here, and which other installation has one."""
    for folder in sys.path:
        other = Path(folder, "pydisent")
        if importlib.machinery.PathFinder.find_spec("pydisent._C", [str(other)]):
            return (
                f"pydisent was imported from the sources in {_FOLDER.parent}, where pydisent._C "
                f"was never built; {other} has it: start Python in another folder"
            )
    return (
        "pydisent._C was never built; install pydisent with a C++ compiler present "
        "(`pip install --no-build-isolation -e .`)"
    )


@functools.cache
def _failure_note() -> str:
    return _FAILURE_NOTE.read_text().strip() if _FAILURE_NOTE.exists() else ""


def native_reason(device: str) -> str:
    """Return why there are no compiled kernels for a device type, or ``""`` if there are."""
    if _native is None:
        return _native_reason
    if device == "cpu":
        return ""
    if device != "cuda":
        return f"there are no compiled kernels for the device type {device!r}"
    info = _native.build_info()
    return "" if info["cuda"] else _failure_note() or info["cuda_reason"]


def triton_reason(device: str) -> str:
    """Return why Triton kernels cannot run on a device type, or ``""`` if they can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device == "cuda":
        return "" if torch.version.cuda else "this torch has no CUDA"
    if device == "cpu":
        interpreted = os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")
        return "" if interpreted else "on the CPU it runs in its interpreter (TRITON_INTERPRET=1)"
    return f"there are no Triton kernels for the device type {device!r}"


def is_strict() -> bool:
    """Return whether ``PYDISENT_STRICT`` turns fallbacks of ops into errors."""
    return os.environ.get("PYDISENT_STRICT", "0") not in ("", "0")


def _library_version(name: str) -> str | None:
    if importlib.util.find_spec(name) is None:
        return None
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


class Active(TypedDict):
    """Whether an implementation can run, and the reason if not ("" if it can)."""

    active: bool
    reason: str
    instruction_set: NotRequired[str]  # CPU only


class Backends(TypedDict):
    """The report of :func:`backends`."""

    reference: Active
    cpu: Active
    cuda: Active
    triton: Active
    build: dict[str, str] | None
    ops: dict[str, dict[str, str]]
    versions: dict[str, str | None]
    environment: dict[str, str | None]


def _device_report(device: str) -> Active:
    reason = native_reason(device)
    if device == "cuda" and not reason and not torch.cuda.is_available():
        reason = "the kernels are built, but torch.cuda.is_available() is false"
    report: Active = {"active": not reason, "reason": reason}
    if device == "cpu" and _native is not None:
        report["instruction_set"] = _native.instruction_set()
    return report


def backends() -> Backends:
    """Report which implementations of the ops are active, why others are not, and versions.

    Returns
    -------
    dict
        JSON-serialisable: ``reference``, ``cpu``, ``cuda`` and ``triton`` with ``active`` and
        ``reason`` (empty when active); ``build``, the compiled module's compiler and flags, or
        None; ``ops``, the implementation that ``impl="auto"`` uses for each op and device type;
        ``versions``; and ``environment``, the variables that choose an implementation.
    """
    from pydisent.ops.registry import REGISTRY

    triton = triton_reason("cuda")
    if not triton and not torch.cuda.is_available():
        triton = "torch.cuda.is_available() is false"
    return {
        "reference": {"active": True, "reason": ""},
        "cpu": _device_report("cpu"),
        "cuda": _device_report("cuda"),
        "triton": {"active": not triton, "reason": triton},
        "build": None if _native is None else dict(_native.build_info()),
        "ops": {
            name: {device: op.implementation(device) for device in ("cpu", "cuda")}
            for name, op in REGISTRY.items()
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "triton": _library_version("triton"),
            "nvtx": _library_version("nvtx"),
        },
        "environment": {
            name: os.environ.get(name) for name in ("PYDISENT_IMPL", "PYDISENT_STRICT")
        },
    }
