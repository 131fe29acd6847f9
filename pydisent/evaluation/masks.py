"""Masks of codes, and their overlap."""

from typing import Any

import torch
from torch import Tensor

from pydisent.evaluation.codes import prior_codes
from pydisent.metrics import MetricResult, mask_overlap
from pydisent.training.run import Run

_BATCH = 64
SAMPLES = 64


@torch.no_grad()
def code_masks(system: Any, codes: Tensor) -> Tensor | None:
    """Return the masks (N, d, H, W) of codes (N, d), on the CPU; None if the system has none."""
    parts = []
    for part in codes.split(_BATCH):
        masks = system.code_masks(part)
        if masks is None:
            return None
        parts.append(masks.float().cpu())
    return torch.cat(parts)


def has_masks(run: Run) -> bool:
    """Return whether the run's system has a mask for each code."""
    system = run.system
    code = torch.zeros(1, len(system.code_names), device=system.device)
    return code_masks(system, code) is not None


def masks_of(run: Run, codes: Tensor) -> Tensor:
    """Return the masks (N, d, H, W) of codes (N, d), on the CPU.

    Raises
    ------
    ValueError
        If the system has none.
    """
    masks = code_masks(run.system, codes)
    if masks is None:
        raise ValueError(f"{run.system.name} has no masks: its codes act on the whole image")
    return masks


def mask_summary(run: Run, *, seed: int = 0) -> MetricResult:
    """Return the overlap of the run's masks at codes drawn from the prior.

    Raises
    ------
    ValueError
        If the system has no masks.
    """
    return mask_overlap(masks_of(run, prior_codes(run.system, SAMPLES, seed)))
