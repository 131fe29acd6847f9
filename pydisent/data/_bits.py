"""Black-and-white images of width 64, one 64-bit word per row: an eighth of the memory of bytes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

WIDTH = 64
ROW = np.dtype("<u8")


def pack_rows(images: np.ndarray) -> np.ndarray:
    """Pack (..., 64) zeros and ones into (...) words; column c is bit c."""
    return np.packbits(images, axis=-1, bitorder="little").view(ROW)[..., 0]


def unpack_rows(rows: np.ndarray) -> Tensor:
    """Unpack (N, H) words into images (N, 1, H, 64), float32 zeros and ones."""
    bits = np.unpackbits(np.ascontiguousarray(rows).view(np.uint8), bitorder="little")
    return torch.from_numpy(bits.reshape(len(rows), 1, rows.shape[1], WIDTH)).to(torch.float32)
