"""The delta rule: overwrite what a key points to instead of adding to it.

Before storing v under k, ask the memory what k recalls now, v̄, and store the difference. With
v̄ = φ(k)ᵀA / φ(k)ᵀz and a strength β the matrix moves from the old value towards the new one:
A + β φ(k) ⊗ (v − v̄). What other keys recall stays as it is as far as their features do not
overlap with φ(k) (Schlag 2021; ARMT eqs. 2 and 3).
"""

from __future__ import annotations

from torch import Tensor

from armt_mini.linear_attention import add_outer_products, recall
from armt_mini.memory_state import MemoryState


def delta_write(
    state: MemoryState,
    keys: Tensor,
    values: Tensor,
    strengths: Tensor,
    eps: float,
    counted: Tensor | float = 1.0,
) -> MemoryState:
    """Overwrite in A: A + Σᵢ βᵢ φ(kᵢ) ⊗ (vᵢ − v̄ᵢ), every v̄ᵢ read from the old state; and count in
    z: z + Σᵢ cᵢ φ(kᵢ), `counted` being (..., memory_tokens, 1) or a number. Unchecked; see `write`.

    With c = 1 this is ARMT without γ. Each write of one key adds φ(k) to z once more although A
    still holds one value for it, so after n writes the newest value is recalled with weight 1/n.
    """
    old_values = recall(state, keys, eps)
    associations = add_outer_products(state.associations, keys, values - old_values, strengths)
    return MemoryState(associations, state.normaliser + (counted * keys).sum(dim=-2))
