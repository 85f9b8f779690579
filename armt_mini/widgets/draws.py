"""Numbers drawn by lot that a page and a kernel draw alike: `parts.js` has the same functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def uniforms(seed: int, count: int) -> NDArray[np.float64]:
    """`count` numbers in [0, 1) from a seed in 0 … 2³² − 1.

    mulberry32, a generator of one line that needs 32-bit integers only, as JavaScript has.
    """
    with np.errstate(over="ignore"):
        state = np.uint32(seed) + np.arange(1, count + 1, dtype=np.uint32) * np.uint32(0x6D2B79F5)
        t = (state ^ (state >> 15)) * (state | 1)
        t ^= t + (t ^ (t >> 7)) * (t | 61)
    return (t ^ (t >> 14)) / 2**32


def normals(seed: int, count: int) -> NDArray[np.float64]:
    """`count` (an even number of) standard normal numbers from a seed (Box and Muller)."""
    first, second = uniforms(seed, count).reshape(-1, 2).T
    radius = np.sqrt(-2 * np.log(1 - first))
    return np.stack(
        [radius * np.cos(2 * np.pi * second), radius * np.sin(2 * np.pi * second)], 1
    ).ravel()
