"""The associative layer without its transformer: the smallest thing that learns to use a memory.

Key and value of a pair are embedded and added: that sum is the memory token. It is written by the
same rules as in `ARMT`, one write a pair, and asked for keys. What is missing is the part that is
slow to learn: to bring key and value of a text together in one memory token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from armt_mini.checks import check_type, states_to_begin
from armt_mini.configuration import MemoryConfig
from armt_mini.linear_attention import recall
from armt_mini.memory_state import MemoryState, fade
from armt_mini.shapes import Float, Int
from armt_mini.update_rules import store


@dataclass(frozen=True, kw_only=True)
class LayerAloneConfig(MemoryConfig):
    """A `MemoryConfig` with the sizes of a `LayerAlone`. Raises ValueError where they do not fit.

    d_model: size of embeddings and values. A larger eps than the paper's keeps gradients small
    while the memory holds little.
    """

    vocab_size: int
    d_model: int = 32
    d_memory: int = 8
    eps: float = 1e-3


class LayerAlone(nn.Module):
    """Reads retrieval tasks of key size 1, with `memorise` and `ask` as `ARMT` has them.

    seed: of the initial weights.
    """

    def __init__(self, config: LayerAloneConfig, seed: int = 0) -> None:
        super().__init__()
        check_type("config", config, LayerAloneConfig)
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        d_model, d_memory = config.d_model, config.d_memory

        def weight(*shape: int, std: float = d_model**-0.5) -> nn.Parameter:
            return nn.Parameter(std * torch.randn(*shape, generator=generator))

        self.key_embedding = weight(config.vocab_size, d_model, std=1.0)
        self.value_embedding = weight(config.vocab_size, d_model, std=1.0)
        self.query_weight = weight(d_model, d_memory)
        self.key_weight = weight(d_model, d_memory)
        self.value_weight = weight(d_model, d_model)
        self.strength_weight = weight(d_model, 1)
        self.strength_bias = weight(1, std=0.0)
        self.head = weight(d_model, config.vocab_size)

    def memorise(
        self, tokens: Int[Tensor, "batch length"], states: list[MemoryState] | None = None
    ) -> list[MemoryState]:
        """Write pair after pair (key, SEPARATOR, value, END) into one memory, in a list.

        tokens: whole pairs of four tokens. states: what an earlier call returned, None for an
        empty memory. Raises ValueError or TypeError for tokens or states that do not fit.
        """
        states = states_to_begin(self, "tokens", tokens, ("batch", "length"), states)
        if tokens.shape[1] % 4:
            raise ValueError(
                f"tokens: expected whole pairs of 4 tokens (key size 1), got {tokens.shape[1]} "
                f"tokens; longer keys need a whole model such as ARMT."
            )
        written = self.keys_values_strengths(tokens.unflatten(1, (-1, 4)))
        (state,), c = states, self.config
        options = (c.rule, c.eps, c.clip_gamma, c.detach_gamma)
        one_by_one = zip(*(part.split(1, 1) for part in written), strict=True)
        for key, value, strength in one_by_one:
            state = store(fade(state, c.retention), key, value, strength, *options)
        return [state]

    def keys_values_strengths(
        self, pairs: Int[Tensor, "batch pairs 4"]
    ) -> tuple[
        Float[Tensor, "batch pairs d_key"],
        Float[Tensor, "batch pairs d_model"],
        Float[Tensor, "batch pairs"],
    ]:
        """φ(k), v and β of the memory token that every pair becomes."""
        memory_tokens = self.key_embedding[pairs[:, :, 0]] + self.value_embedding[pairs[:, :, 2]]
        keys = self.config.features(memory_tokens @ self.key_weight)
        strengths = memory_tokens @ self.strength_weight + self.strength_bias
        values = memory_tokens @ self.value_weight
        return keys, values, self.config.strengths(strengths.squeeze(-1))

    def ask(
        self, questions: Int[Tensor, "batch questions 2"], states: list[MemoryState]
    ) -> Float[Tensor, "batch questions 2 vocab_size"]:
        """Logits after the key and after QUERY of every question (the same ones twice).

        Raises ValueError or TypeError for questions or states that do not fit.
        """
        states = states_to_begin(self, "questions", questions, ("batch", "questions", 2), states)
        queries = self.config.features(self.key_embedding[questions[:, :, 0]] @ self.query_weight)
        c = self.config
        logits = recall(states[0], queries, c.eps, c.normalise) @ self.head
        return logits.unsqueeze(2).expand(-1, -1, 2, -1)

    def empty_states(self, batch: int) -> list[MemoryState]:
        """What `memorise` starts from: one empty memory, in a list."""
        sizes, like = (batch, self.config.d_key, self.config.d_model), self.head
        return [MemoryState.empty(*sizes, dtype=like.dtype, device=like.device)]
