"""Estimate of a system's memory, before any is allocated."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch

# From PyTorch's error for tensors whose size in bytes overflows int64.
_UNCOUNTED = "overflow"


def require_memory(
    build: Callable[[Any, tuple[int, int, int]], torch.nn.Module],
    config: Any,
    image_shape: tuple[int, int, int],
) -> None:
    """Raise ValueError, naming a setting, if this machine has too little memory.

    Counts the weights and buffers of ``build(config, image_shape)``, built on the device "meta",
    and a batch of images, but not optimisers and activations.
    """
    if torch.get_default_device().type == "meta":
        return
    limit = _memory()
    needed = _needed(build, config, image_shape)
    if needed <= limit:
        return
    name, value = "image_shape", str(image_shape)
    least = needed
    for changed, lowered in _lowered(config):
        without = _needed(build, lowered, image_shape)
        if without < least:
            name, value, least = changed, str(getattr(config, changed)), without
    raise ValueError(
        f"{name} must be small enough for this machine's {_gigabytes(limit)} of memory (weights "
        f"and a batch take {_gigabytes(needed)}), got {value}"
    )


def _memory() -> float:
    """Return this machine's memory in bytes; infinity if unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _needed(
    build: Callable[[Any, tuple[int, int, int]], torch.nn.Module],
    config: Any,
    image_shape: tuple[int, int, int],
) -> float:
    channels, height, width = image_shape
    batch = 4.0 * getattr(config, "batch_size", 1) * channels * height * width
    try:
        with torch.device("meta"):
            system = build(config, image_shape)
    except RuntimeError as error:
        if _UNCOUNTED in str(error).lower():
            return float("inf")
        return batch  # a user-defined network that cannot be built on "meta"
    return batch + sum(x.nbytes for x in (*system.parameters(), *system.buffers()))


def _lowered(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield each enlarged size, and the configuration with that size at its default."""
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if type(value) is int and type(default) is int and default < value:
            try:
                yield field.name, dataclasses.replace(config, **{field.name: default})
            except ValueError:  # another setting is bounded by this one
                continue


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.3g} GB" if count < 2**63 else "more bytes than can be counted"
