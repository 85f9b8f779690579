"""The associative layer without its transformer: the smallest thing that learns to use a memory.

Key and value of a pair are embedded and added: that sum is the memory token. It is written by the
same rules as in `ARMT`, one write a pair, and asked for keys. What is missing is the part that is
slow to learn: to bring key and value of a text together in one memory token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from armt_mini.checks import check_at_least, check_like, check_one_of, check_tokens
from armt_mini.feature_maps import feature_map, feature_size
from armt_mini.linear_attention import recall
from armt_mini.memory_state import MemoryState
from armt_mini.update_rules import RULES, writer

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True, kw_only=True)
class LayerAloneConfig:
    """Sizes and choices. Raises ValueError where they do not fit.

    d_model: size of embeddings and values. The others as in `ARMTConfig`; only the default of eps
    is not the paper's: a larger one keeps gradients small while the memory holds little.
    """

    vocab_size: int
    d_model: int = 32
    d_memory: int = 8
    nu: int = 3
    rule: str = "gamma"
    clip_gamma: bool = True
    detach_gamma: bool = True
    unit_features: bool = False
    eps: float = 1e-3

    def __post_init__(self) -> None:
        check_at_least(
            1, vocab_size=self.vocab_size, d_model=self.d_model, d_memory=self.d_memory, nu=self.nu
        )
        check_at_least(0, eps=self.eps)
        check_one_of("rule", self.rule, RULES)
        if self.nu >= 2 * self.d_memory:
            raise ValueError(
                f"nu: expected less than 2·d_memory = {2 * self.d_memory}, got {self.nu}."
            )


class LayerAlone(nn.Module):
    """Reads retrieval tasks of key size 1, with `memorise` and `ask` as `ARMT` has them.

    seed: of the initial weights.
    """

    def __init__(self, config: LayerAloneConfig, seed: int = 0) -> None:
        super().__init__()
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
        self.features = feature_map("dpfp", config.nu, config.unit_features)

    def memorise(
        self, tokens: Int[Tensor, "batch length"], states: list[MemoryState] | None = None
    ) -> list[MemoryState]:
        """Write pair after pair (key, SEPARATOR, value, END) into one memory, in a list.

        tokens: whole pairs of four tokens. states: what an earlier call returned, None for an
        empty memory. Raises ValueError or TypeError for tokens or states that do not fit.
        """
        check_tokens(tokens, self.config.vocab_size, self.device, ("batch", "length"))
        if tokens.shape[1] % 4:
            raise ValueError(
                f"tokens: expected whole pairs of 4 tokens (key size 1), got {tokens.shape[1]} "
                f"tokens; longer keys need a whole model such as ARMT."
            )
        states = self.empty_states(len(tokens)) if states is None else states
        check_like("states", states, self.empty_states(1), len(tokens))
        pairs = tokens.unflatten(1, (-1, 4))  # (batch, length) -> (batch, pairs, 4)
        memory_tokens = self.key_embedding[pairs[:, :, 0]] + self.value_embedding[pairs[:, :, 2]]
        keys = self.features(memory_tokens @ self.key_weight)  # (batch, pairs, d_key)
        values = memory_tokens @ self.value_weight  # (batch, pairs, d_model)
        strengths = torch.sigmoid(memory_tokens @ self.strength_weight + self.strength_bias)
        (state,), c = states, self.config
        write = writer(c.rule, c.eps, c.clip_gamma, c.detach_gamma)
        for key, value, strength in zip(
            keys.split(1, 1), values.split(1, 1), strengths.squeeze(-1).split(1, 1), strict=True
        ):
            state = write(state, key, value, strength)
        return [state]

    def ask(
        self, questions: Int[Tensor, "batch questions 2"], states: list[MemoryState]
    ) -> Float[Tensor, "batch questions 2 vocab_size"]:
        """Logits after the key and after QUERY of every question (the same ones twice).

        Raises ValueError or TypeError for questions or states that do not fit.
        """
        check_tokens(questions, self.config.vocab_size, self.device, ("batch", "questions", 2))
        check_like("states", states, self.empty_states(1), len(questions))
        queries = self.features(self.key_embedding[questions[:, :, 0]] @ self.query_weight)
        logits = recall(states[0], queries, self.config.eps) @ self.head
        return logits.unsqueeze(2).expand(-1, -1, 2, -1)

    def empty_states(self, batch: int) -> list[MemoryState]:
        """What `memorise` starts from: one empty memory, in a list."""
        sizes = (batch, self.d_key, self.config.d_model)
        return [MemoryState.empty(*sizes, dtype=self.head.dtype, device=self.device)]

    @property
    def d_key(self) -> int:
        """Size of a key after the feature map: rows of the association matrix."""
        return feature_size("dpfp", self.config.d_memory, self.config.nu)

    @property
    def device(self) -> torch.device:
        return self.head.device
