"""Memory budget for tangents pushed at once."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Budget(NamedTuple):
    """Limits on one chunk of tangents, and on the Jacobian."""

    rows: int
    """Rows (tangents times batch) past which a larger chunk only costs memory."""
    tangents: int
    """Bytes for the tangents of one chunk."""

    @property
    def jacobian(self) -> int:
        """Bytes past which the Jacobian is not kept; its Gram matrix then costs a reverse pass."""
        return 4 * self.tangents


def budget_of(device: torch.device) -> Budget:
    """256 rows and 256 MiB on a CPU; 32 rows per multiprocessor and 1/16 of the memory on a GPU.

    This counts total memory, not free memory: the size of a chunk determines how sums are rounded,
    which must not change between runs.
    """
    if device.type != "cuda":
        return Budget(256, 256 * 2**20)
    found = torch.cuda.get_device_properties(device)
    return Budget(32 * found.multi_processor_count, found.total_memory // 16)
