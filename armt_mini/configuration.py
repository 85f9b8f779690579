"""What a model looks like: sizes and choices, checked once, never changed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from armt_mini.checks import check_at_least, check_fields, check_one_of, check_share
from armt_mini.feature_maps import feature_map
from armt_mini.update_rules import RULES
from armt_mini.write_cost import with_cost


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """A GPT-2 that reads a long text in segments. Raises ValueError where sizes do not fit.

    segment_length: tokens in a segment. n_memory_tokens: learned tokens that follow them.
    n_positions: rows of the position table for tokens (at least segment_length, its default).
    d_mlp: hidden size of the MLP (default 4·d_model). embedding_std: initial scale of token,
    position and memory embeddings. attention_std: of the maps into and out of attention; None is
    GPT-2's, tuned to its width: a narrow model learns sooner with 1/√d_model. tied_head: the
    output weights are the token embeddings. final_gain: initial gain of the LayerNorm before them;
    with large embeddings and a tied head, 0.02 / embedding_std keeps the first logits small.
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    segment_length: int
    n_memory_tokens: int
    n_positions: int | None = None
    d_mlp: int | None = None
    embedding_std: float = 0.02
    attention_std: float | None = None
    tied_head: bool = True
    final_gain: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.n_positions is None:
            object.__setattr__(self, "n_positions", self.segment_length)
        if self.d_mlp is None:
            object.__setattr__(self, "d_mlp", 4 * self.d_model)
        check_at_least(self.segment_length, n_positions=self.n_positions)
        if self.d_model % self.n_heads:
            raise ValueError(
                f"n_heads: expected a divisor of d_model {self.d_model}, got {self.n_heads}."
            )


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """How a memory is addressed and written. The defaults are the paper's.

    d_memory: size of keys and queries before the feature map φ, which feature_map and nu choose;
    unit_features scales φ to length one (not in the paper). rule, clip_gamma, detach_gamma, eps:
    see `write`; "delta" is ARMT with γ off. retention: the share of a memory, 0 to 1, that is left
    when the next segment is written; the paper keeps all. min_strength: what a memory token would
    write with less strength is not written, 0 to 1; the paper writes all. write_cost: what a write
    adds to the loss in training, times its strength. Raises ValueError where they do not fit.
    """

    d_memory: int
    nu: int = 3
    feature_map: str = "dpfp"
    rule: str = "gamma"
    clip_gamma: bool = True
    detach_gamma: bool = True
    eps: float = 1e-5
    unit_features: bool = False
    retention: float = 1.0
    min_strength: float = 0.0
    write_cost: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_one_of("rule", self.rule, RULES)
        check_share(retention=self.retention, min_strength=self.min_strength)
        check_at_least(1, d_key=self.d_key)  # raises where φ does not fit

    def features(self, x: Tensor) -> Tensor:
        """φ(x): (..., d_memory) -> (..., d_key)."""
        return feature_map(self.feature_map, self.nu, self.unit_features)(x)

    def strengths(self, x: Tensor) -> Tensor:
        """β = σ(x), or 0 where that is below min_strength: (…, batch, memory_tokens)."""
        strengths = x.sigmoid()
        if self.min_strength:
            strengths = strengths * (strengths >= self.min_strength)
        return with_cost(strengths, self.write_cost)

    @property
    def normalise(self) -> bool:
        """Whether a read divides by φ(q)ᵀz."""
        return self.rule != "deltanet"

    @property
    def d_key(self) -> int:
        """Size of a key after the feature map: rows of the association matrix."""
        return self.features(torch.zeros(self.d_memory)).shape[-1]


@dataclass(frozen=True, kw_only=True)
class ARMTConfig(RecurrentConfig, MemoryConfig):
    """A `RecurrentConfig` with a memory in every layer, as its `MemoryConfig` says.

    Away from the paper, for training from scratch: memory_norm puts a LayerNorm without parameters
    before the memory projections; value_std is the initial scale of W_V, which starts at zero in
    the released code.
    """

    memory_norm: bool = False
    value_std: float = 0.0

    def __post_init__(self) -> None:
        RecurrentConfig.__post_init__(self)
        MemoryConfig.__post_init__(self)
