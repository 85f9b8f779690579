"""What a layer remembers: one matrix of associations and one vector that counts what is in it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from armt_mini.checks import check_at_least
from armt_mini.shapes import Float


class MemoryState(NamedTuple):
    """An associative memory as a value: reading leaves it alone, writing returns a new one.

    associations: A, (batch, d_key, d_value). Row i is what feature i of a key points to.
    normaliser: z, (batch, d_key). How much of each key feature has been stored.

    An empty memory is all zeros; nothing else marks it as empty. (The paper writes A transposed:
    A φ(q) there is φ(q)ᵀA here.)
    """

    associations: Float[Tensor, "*batch d_key d_value"]
    normaliser: Float[Tensor, "*batch d_key"]

    @classmethod
    def empty(cls, batch: int, d_key: int, d_value: int, *, dtype=None, device=None) -> MemoryState:
        """A₀ = 0 and z₀ = 0 (ARMT eq. 1). Raises ValueError if a size is below one."""
        check_at_least(1, batch=batch, d_key=d_key, d_value=d_value)
        like = {"dtype": dtype, "device": device}
        return cls(torch.zeros(batch, d_key, d_value, **like), torch.zeros(batch, d_key, **like))

    def detach(self) -> MemoryState:
        """The same memory, cut off from the graph that gradients flow back through."""
        return MemoryState(self.associations.detach(), self.normaliser.detach())


def fade(state: MemoryState, retention: float) -> MemoryState:
    """A and z times a share (not in the paper); with 1 the memory as it is.

    What a normalised read recalls stays the same as long as ε is small beside φ(q)ᵀz.
    """
    if retention == 1:
        return state
    return MemoryState(retention * state.associations, retention * state.normaliser)
