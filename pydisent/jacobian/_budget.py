"""How much of a device the tangents that are pushed at once may take."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Budget(NamedTuple):
    """What one chunk of tangents, and the Jacobian, may take."""

    rows: int
    """Rows (tangents times batch) past which a larger chunk only costs memory."""
    tangents: int
    """Bytes that the tangents of one chunk may take at once."""

    @property
    def jacobian(self) -> int:
        """Bytes past which the Jacobian is not kept; its Gram matrix then costs a reverse pass."""
        return 4 * self.tangents


def budget_of(device: torch.device) -> Budget:
    """256 rows and 256 MiB on a CPU; on a GPU 32 rows a multiprocessor and 1/16 of its memory.

    Of its whole memory, not of what is free: a chunk's size decides how sums are rounded, which
    must be the same at each run.
    """
    if device.type != "cuda":
        return Budget(256, 256 * 2**20)
    found = torch.cuda.get_device_properties(device)
    return Budget(32 * found.multi_processor_count, found.total_memory // 16)
