"""The delta rule: overwrite what a key points to instead of adding to it.

Before storing v under k, ask the memory what k recalls now, v̄, and store the difference. With
v̄ = φ(k)ᵀA / φ(k)ᵀz and a strength β the matrix moves from the old value towards the new one:
A + β φ(k) ⊗ (v − v̄). What other keys recall stays as it is as far as their features do not
overlap with φ(k) (Schlag 2021; ARMT eqs. 2 and 3).
"""

from __future__ import annotations

from torch import Tensor

from armt_mini.linear_attention import additive_write, recall
from armt_mini.memory_state import MemoryState


def delta_write(
    state: MemoryState,
    keys: Tensor,
    values: Tensor,
    strengths: Tensor,
    eps: float,
    counted: Tensor | float = 1,
    erased: Tensor | float = 1,
    normalise: bool = True,
) -> MemoryState:
    """Add, not the values, but what they differ by from the old ones. Unchecked; see `write`.

    Every v̄ is read from the old state. counted: as in `additive_write`; with 1 this is ARMT
    without γ. Each write of one key then adds φ(k) to z once more although A still holds one
    value for it, so after n writes the newest value is recalled with weight 1/n. erased: the share
    of each old value that is taken out, (..., memory_tokens, 1) or a number. normalise: as in
    `read`; False, with keys of length one and none of them counted, is DeltaNet (Schlag 2021): with
    β = 1 a key then recalls exactly what was written last.
    """
    differences = values - erased * recall(state, keys, eps, normalise)
    return additive_write(state, keys, differences, strengths, counted)
