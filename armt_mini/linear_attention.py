"""Linear attention as one matrix: store by adding outer products, recall by multiplying.

Softmax attention keeps every key and value. If the similarity of a query and a key is the
overlap φ(q)ᵀφ(k), the sums over stored pairs can be taken before the query is known:

    y = Σᵢ φ(q)ᵀφ(kᵢ) vᵢ / Σᵢ φ(q)ᵀφ(kᵢ) = φ(q)ᵀA / φ(q)ᵀz,   A = Σᵢ φ(kᵢ) ⊗ vᵢ,   z = Σᵢ φ(kᵢ).

A and z have a fixed size, however many pairs were stored (Katharopoulos 2020).
"""

from __future__ import annotations

from torch import Tensor

from armt_mini.checks import check_at_least, check_shape, check_state
from armt_mini.memory_state import MemoryState
from armt_mini.shapes import Float


def read(
    state: MemoryState,
    queries: Float[Tensor, "batch tokens d_key"],
    eps: float = 1e-5,
    *,
    normalise: bool = True,
) -> Float[Tensor, "batch tokens d_value"]:
    """Recall a value for every query: y = φ(q)ᵀA / (φ(q)ᵀz + ε).

    queries: already feature-mapped. eps: at least 0; keeps the division finite, and scales what a
    single stored pair of squared length N = ‖φ(k)‖² recalls by N/(N + ε). An empty memory
    recalls zero. normalise: False leaves the division out, for what rule "deltanet" has written.

    Raises ValueError for sizes and TypeError for dtypes or devices that do not fit.
    Source: ARMT eq. 4; the released code adds the same ε.
    """
    check_shape("queries", queries, ("batch", "tokens", "d_key"))
    check_state(state, queries.shape[0], queries.shape[2], "d_value", queries.dtype, queries.device)
    check_at_least(0, eps=eps)
    return recall(state, queries, eps, normalise)


def recall(state: MemoryState, queries: Tensor, eps: float, normalise: bool = True) -> Tensor:
    """`read` without its checks, for inner loops."""
    recalled = queries @ state.associations
    if not normalise:
        return recalled
    overlap = (queries * state.normaliser.unsqueeze(-2)).sum(dim=-1, keepdim=True)
    return divide(recalled, overlap + eps)


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, and zero (with finite gradients) where the denominator is exactly zero."""
    is_zero = denominator == 0
    return (numerator / denominator.masked_fill(is_zero, 1)).masked_fill(is_zero, 0)


def additive_write(
    state: MemoryState, keys: Tensor, values: Tensor, strengths: Tensor, counted: Tensor | float = 1
) -> MemoryState:
    """Store by adding: A + Σᵢ βᵢ φ(kᵢ) ⊗ vᵢ and z + Σᵢ cᵢ φ(kᵢ). Unchecked; see `write`.

    counted: c, (..., memory_tokens, 1) or a number; 1 in linear attention, where a key that is
    stored twice recalls the mean of its two values.
    """
    associations = state.associations + keys.mT @ (strengths.unsqueeze(-1) * values)
    return MemoryState(associations, state.normaliser + (counted * keys).sum(dim=-2))
