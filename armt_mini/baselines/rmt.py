"""RMT: the memory tokens themselves are the memory (Bulatov 2022).

What the last layer makes of the memory tokens of one segment is what the next segment begins
with. In a causal model they stand twice in a segment: before its tokens, where the tokens can
read them, and after, where they can see the tokens and are written.
"""

from __future__ import annotations

import torch
from torch import Tensor

from armt_mini.segment_recurrence import Layer, SegmentRecurrence
from armt_mini.transformer_block import transformer_block


class RMT(SegmentRecurrence):
    """`model(tokens, states=None)` -> logits and one state, (batch, memory_tokens, d_model)."""

    memory_places = 2

    def empty_states(self, batch: int) -> list[Tensor]:
        return [self.memory_embedding.expand(batch, -1, -1)]

    def read_segment(
        self, layers: list[Layer], tokens: Tensor, states: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        n_memory, (memory,) = self.config.n_memory_tokens, states
        read_positions, write_positions = self.position_embedding[-2 * n_memory :].chunk(2)
        hidden = torch.cat(
            [memory + read_positions, self.embed(tokens), memory + write_positions], dim=1
        )
        for weights in layers:
            hidden = transformer_block(weights, hidden, self.config.n_heads)
        # The final norm keeps the memory at one scale over any number of segments.
        return hidden[:, n_memory:-n_memory], [self.final_norm(hidden[:, -n_memory:])]
