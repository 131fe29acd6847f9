"""Per-image random numbers, independent of which other images are drawn."""

from __future__ import annotations

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's step, 2^64 over the golden ratio


def draw_uniform(seed: int, numbers: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return numbers (N, C) uniform in [0, 1), determined by seed, number and column alone.

    The counter-based splitmix64 (Steele et al., 2014) has no state: any image can be drawn without
    the preceding ones.
    """
    key = np.full(1, seed % 2**64, np.uint64)
    for counter in (numbers[:, None], columns[None]):
        key = _mixed(key + (counter.astype(np.uint64) + np.uint64(1)) * GOLDEN)
    return (key >> np.uint64(11)) * 2.0**-53


def _mixed(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
