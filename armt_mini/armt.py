"""The Associative Recurrent Memory Transformer: a GPT-2 with a memory in every layer.

Nothing but the memories passes from one segment to the next: the memory tokens that enter the
first layer are the same learned embeddings in every segment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from armt_mini.associative_layer import associative_layer, memory_weights, read_memory
from armt_mini.configuration import ARMTConfig
from armt_mini.memory_state import MemoryState
from armt_mini.segment_recurrence import SegmentRecurrence
from armt_mini.transformer_block import Initial, transformer_block

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class ARMT(SegmentRecurrence[ARMTConfig]):
    """`model(tokens, states=None)` -> logits and one `MemoryState` a layer (ARMT, section 2).

    Memories are float32 also in a bfloat16 model, since z sums up many small steps; float64 in a
    float64 model.
    """

    @staticmethod
    def layer_weights(config: ARMTConfig) -> dict[str, Initial]:
        return SegmentRecurrence.layer_weights(config) | memory_weights(config)

    @property
    def state_dtype(self) -> torch.dtype:
        return torch.promote_types(self.token_embedding.dtype, torch.float32)

    def empty_states(self, batch: int) -> list[MemoryState]:
        sizes = (batch, self.config.d_key, self.config.d_model)
        like = {"dtype": self.state_dtype, "device": self.device}
        return [MemoryState.empty(*sizes, **like) for _ in range(self.config.n_layers)]

    def read_segment(
        self, layers: list[dict[str, Tensor]], tokens: Int[Tensor, "batch length"], states: list
    ) -> tuple[Float[Tensor, "batch length d_model"], list[MemoryState]]:
        memory_positions = self.position_embedding[-self.config.n_memory_tokens :]
        memory_tokens = (self.memory_embedding + memory_positions).expand(len(tokens), -1, -1)
        hidden = torch.cat([self.embed(tokens), memory_tokens], dim=1)
        new_states = []
        for weights, state in zip(layers, states, strict=True):
            hidden, new_state = associative_layer(weights, hidden, state, self.config)
            new_states.append(new_state)
        return hidden[:, : tokens.shape[1]], new_states

    def ask(
        self, questions: Int[Tensor, "batch questions length"], states: list[MemoryState]
    ) -> Float[Tensor, "batch questions length vocab_size"]:
        self.check_questions(questions, states)
        hidden = self.embed(questions.flatten(0, 1))  # (batch·questions, length, d_model)
        for weights, state in zip(self.unstacked(), states, strict=True):
            # All questions of a sample read its one memory; attention keeps them apart. No memory
            # token is needed: they come last, and nothing before them sees them.
            together = hidden.unflatten(0, questions.shape[:2]).flatten(1, 2)
            hidden = read_memory(weights, together, state, self.config).view_as(hidden)
            hidden = transformer_block(weights, hidden, self.config.n_heads)
        return self.logits(hidden).unflatten(0, questions.shape[:2])
