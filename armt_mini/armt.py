"""The Associative Recurrent Memory Transformer: a GPT-2 with a memory in every layer.

Nothing but the memories passes from one segment to the next: the memory tokens that enter the
first layer are the same learned embeddings in every segment.
"""

from __future__ import annotations

import torch
from torch import Tensor

from armt_mini.associative_layer import associative_layer, memory_weights, read_memory
from armt_mini.configuration import ARMTConfig
from armt_mini.memory_state import MemoryState
from armt_mini.segment_recurrence import Layer, SegmentRecurrence
from armt_mini.transformer_block import Initial, transformer_block


class ARMT(SegmentRecurrence):
    """`model(tokens, states=None)` -> logits and one `MemoryState` a layer (ARMT, section 2).

    Memories are float32 also in a bfloat16 model, since z sums up many small steps; float64 in a
    float64 model. (Under torch.autocast they would be read and written in its low precision.)
    """

    config_type = ARMTConfig
    schedules = ("sequential", "diagonal", "compiled", "captured")

    @staticmethod
    def layer_weights(config: ARMTConfig) -> dict[str, Initial]:
        return SegmentRecurrence.layer_weights(config) | memory_weights(config)

    def empty_states(self, batch: int) -> list[MemoryState]:
        weight, sizes = self.token_embedding, (batch, self.config.d_key, self.config.d_model)
        dtype = torch.promote_types(weight.dtype, torch.float32)
        empty = MemoryState.empty(*sizes, dtype=dtype, device=weight.device)
        return [empty] * self.config.n_layers  # one value for all: states are never mutated

    def read_segment(
        self, layers: list[Layer], tokens: Tensor, states: list[MemoryState]
    ) -> tuple[Tensor, list[MemoryState]]:
        hidden = self.with_memory_tokens(tokens)
        new_states = []
        for weights, state in zip(layers, states, strict=True):
            hidden, new_state = associative_layer(weights, hidden, state, self.config)
            new_states.append(new_state)
        return hidden[:, : tokens.shape[1]], new_states

    def with_memory_tokens(self, tokens: Tensor) -> Tensor:
        """What enters the first layer: (..., tokens + memory tokens, d_model)."""
        memory_positions = self.position_embedding[-self.config.n_memory_tokens :]
        memory_tokens = self.memory_embedding + memory_positions
        memory_tokens = memory_tokens.expand(*tokens.shape[:-1], -1, -1)
        return torch.cat([self.embed(tokens), memory_tokens], dim=-2)

    def read_questions(
        self, layers: list[Layer], questions: Tensor, states: list[MemoryState]
    ) -> Tensor:
        hidden = self.embed(questions.flatten(0, 1))  # (batch·questions, length, d_model)
        for weights, state in zip(layers, states, strict=True):
            # All questions of a sample read its one memory; attention keeps them apart. No memory
            # token is needed: they come last, and nothing before them sees them.
            together = hidden.unflatten(0, questions.shape[:2]).flatten(1, 2)
            hidden = read_memory(weights, together, state, self.config).view_as(hidden)
            hidden = transformer_block(weights, hidden, self.config.n_heads)
        return hidden.unflatten(0, questions.shape[:2])
