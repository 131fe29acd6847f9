"""Weights of published nets from user files; reading them never executes code."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from pydisent._extras import optional

LARGEST_RATIO = 16  # unpacked bytes per byte; weights are close to noise and hardly compress


def read_weights(path: str | os.PathLike[str], name: str) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file, or of a .pth or .pt state dict, by name.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it holds anything but named tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{name} must be a file of weights, got {file}")
    found = _read_safetensors(file, name) if file.suffix == ".safetensors" else _read(file, name)
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"{name} {file} must hold a state dict, got {type(found).__name__}")
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{name} {file} must hold tensors by name, got {key!r}, a {type(value).__name__}"
            )
    return dict(found)


def _read(file: Path, name: str) -> object:
    try:
        _check_unpacked(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise anything: IndexError, struct.error, ...
        if isinstance(error, MemoryError) or getattr(error, "filename", None):
            raise
        reason = (str(error).strip() or "no data").splitlines()[0]
        raise ValueError(
            f"{name} {file} is not a state dict of tensors alone (.pth, .pt) nor a .safetensors "
            f"file: {type(error).__name__}: {reason}"
        ) from None


def _check_unpacked(file: Path) -> None:
    """Reject a zip file that unpacks to far more than its size, as torch.save does not compress."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > LARGEST_RATIO * file.stat().st_size:
        raise ValueError(f"it claims {size} bytes")


def _read_safetensors(file: Path, name: str) -> object:
    with optional():
        from safetensors import SafetensorError
        from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{name} {file} is not a .safetensors file: {error}") from None


def take_weights(
    weights: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    what: str,
    ignored: Callable[[str], bool] = lambda name: False,
) -> dict[str, Tensor]:
    """Return the tensors named in ``shapes`` as float64, all validated.

    Parameters
    ----------
    weights : mapping
        The contents of a file.
    shapes : mapping
        The shape of each required tensor.
    what : str
        Name of the file in messages.
    ignored : callable
        Whether a name that is not required may be present.

    Raises
    ------
    ValueError
        If a tensor is missing, unknown, of another shape, not floating point or not finite.
    """
    if missing := [name for name in shapes if name not in weights]:
        raise ValueError(f"{what} lacks {_some(missing)}; it has {_some(list(weights))}")
    if unknown := [name for name in weights if name not in shapes and not ignored(name)]:
        raise ValueError(f"{what} has {_some(unknown)}, which is not part of the net")
    taken = {}
    for name, shape in shapes.items():
        tensor = weights[name]
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise ValueError(
                f"{what}: {name} must be floating point {shape}, got {tensor.dtype} "
                f"{tuple(tensor.shape)}"
            )
        if not tensor.isfinite().all():
            raise ValueError(f"{what}: {name} must be finite, got NaN or infinity")
        taken[name] = tensor.double()
    return taken


def _some(names: list[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


class CastWeights:
    """Tensors by name, converted once to each requested dtype and device."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._master = dict(weights)
        self._like: dict[tuple[torch.dtype, torch.device], dict[str, Tensor]] = {}

    def like(self, images: Tensor) -> dict[str, Tensor]:
        """Return the tensors with the dtype and on the device of ``images``."""
        key = (images.dtype, images.device)
        if key not in self._like:
            self._like[key] = {name: tensor.to(images) for name, tensor in self._master.items()}
        return self._like[key]
