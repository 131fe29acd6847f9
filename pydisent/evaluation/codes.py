"""Codes drawn from the prior, decoded images and reconstructions."""

from typing import Any

import torch
from torch import Tensor

_BATCH = 256
_POOL = 64


def prior_codes(system: Any, n: int, seed: int) -> Tensor:
    """Return n codes (n, d) drawn from the prior with this seed."""
    return system.sample_code(n, torch.Generator().manual_seed(seed))


def base_codes(system: Any, n: int, seed: int) -> Tensor:
    """Return n codes (n, d) from the prior; the first ones do not depend on n.

    Raises
    ------
    ValueError
        If n, the argument `bases` of the callers, is below 1.
    """
    if n < 1:
        raise ValueError(f"bases must be an integer >= 1, got {n}")
    return prior_codes(system, max(n, _POOL), seed)[:n]


@torch.no_grad()
def decode(system: Any, codes: Tensor) -> Tensor:
    """Return images (*N, C, H, W) on the CPU of codes (*N, d)."""
    flat = codes.reshape(-1, codes.shape[-1])
    images = torch.cat([system.decode(part).float().cpu() for part in flat.split(_BATCH)])
    return images.unflatten(0, codes.shape[:-1])


@torch.no_grad()
def reconstruct(system: Any, images: Tensor) -> Tensor:
    """Return decode(encode(x)) on the CPU of images (N, C, H, W)."""
    parts = images.split(_BATCH)
    return torch.cat([decode(system, system.encode(x.to(system.device))) for x in parts])


def dataset_images(dataset: Any, n: int, seed: int) -> Tensor:
    """Return n images (n, C, H, W) drawn without replacement, or all if there are fewer."""
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
    return dataset.images(order[:n])
