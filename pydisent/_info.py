"""`pydisent info`, which needs no optional packages."""

import importlib.metadata
import json

from pydisent._environment import environment

PACKAGES = ("lightning-fabric", "safetensors", "tensorboard", "scikit-learn", "matplotlib")


def info() -> None:
    """Print what is installed, which kernels are active, and why others are not."""
    found = environment()
    backends = found.pop("backends")
    for package in (*PACKAGES, "triton", "nvtx"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    for name, value in found.items():
        print(f"{name:17} {'none' if value in (None, []) else value}")
    print(json.dumps(backends, indent=2, default=str))
