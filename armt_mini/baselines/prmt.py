"""PRMT: every layer hands its memory tokens to itself in the next segment (ARMT, appendix F.2).

The recurrence of ARMT without its association matrix. Comparing the two shows what the matrix is
worth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from armt_mini.baselines.rmt import RMT
from armt_mini.segment_recurrence import Layer
from armt_mini.transformer_block import transformer_block


class PRMT(RMT):
    """`model(tokens, states=None)` -> logits and one (batch, memory_tokens, d_model) a layer."""

    memory_places = 1

    def empty_states(self, batch: int) -> list[Tensor]:
        return [self.memory_embedding.expand(batch, -1, -1)] * self.config.n_layers

    def read_segment(
        self, layers: list[Layer], tokens: Tensor, states: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        n_memory = self.config.n_memory_tokens
        write_tokens = self.memory_embedding + self.position_embedding[-n_memory:]
        hidden = torch.cat([self.embed(tokens), write_tokens.expand(len(tokens), -1, -1)], dim=1)
        new_states = []
        for weights, memory in zip(layers, states, strict=True):
            # In front of the layer's input stands what the layer itself put out a segment ago.
            hidden = torch.cat([memory, hidden], dim=1)
            hidden = transformer_block(weights, hidden, self.config.n_heads)[:, n_memory:]
            new_states.append(hidden[:, -n_memory:])
        return hidden[:, :-n_memory], new_states
