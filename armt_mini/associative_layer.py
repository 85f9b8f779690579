"""The associative layer: read the memory, run the block, write the memory.

Segment s in layer l reads what segments before s wrote in layer l; then the block mixes tokens
and memory tokens; then the memory tokens that leave the block write for segment s + 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from armt_mini.configuration import ARMTConfig
from armt_mini.feature_maps import feature_map
from armt_mini.linear_attention import recall
from armt_mini.memory_state import MemoryState
from armt_mini.transformer_block import Initial, transformer_block
from armt_mini.update_rules import writer

if TYPE_CHECKING:
    from jaxtyping import Float


def memory_weights(config: ARMTConfig) -> dict[str, Initial]:
    """Names, shapes (input × output) and initial scales of W_Q, W_K, W_V, W_β and its bias."""
    d_model, std = config.d_model, 1 / math.sqrt(3 * config.d_model)
    return {
        "memory_query_weight": Initial((d_model, config.d_memory), std=std),
        "memory_key_weight": Initial((d_model, config.d_memory), std=std),
        "memory_value_weight": Initial((d_model, d_model), std=config.value_std),
        "memory_strength_weight": Initial((d_model, 1), std=std),
        "memory_strength_bias": Initial((1,)),
    }


def associative_layer(
    weights: Mapping[str, Tensor],
    hidden: Float[Tensor, "batch tokens d_model"],
    state: MemoryState,
    config: ARMTConfig,
) -> tuple[Float[Tensor, "batch tokens d_model"], MemoryState]:
    """One segment through one layer. The last n_memory_tokens positions are memory tokens."""
    hidden = read_memory(weights, hidden, state, config)
    hidden = transformer_block(weights, hidden, config.n_heads)
    state = write_memory(weights, hidden[..., -config.n_memory_tokens :, :], state, config)
    return hidden, state


def read_memory(
    weights: Mapping[str, Tensor],
    hidden: Float[Tensor, "batch tokens d_model"],
    state: MemoryState,
    config: ARMTConfig,
) -> Float[Tensor, "batch tokens d_model"]:
    """Add to every position what the memory recalls for it (ARMT eq. 4)."""
    queries = features(weights["memory_query_weight"], hidden, state, config)
    return hidden + recall(state, queries, config.eps).to(hidden.dtype)


def write_memory(
    weights: Mapping[str, Tensor],
    memory_tokens: Float[Tensor, "batch memory_tokens d_model"],
    state: MemoryState,
    config: ARMTConfig,
) -> MemoryState:
    """Write key, value and strength of every memory token (ARMT eqs. 1 to 3)."""
    m = projection_input(memory_tokens, config)
    keys = features(weights["memory_key_weight"], memory_tokens, state, config)
    values = m @ weights["memory_value_weight"]
    strengths = torch.sigmoid(
        m @ weights["memory_strength_weight"] + weights["memory_strength_bias"]
    )
    write = writer(config.rule, config.eps, config.clip_gamma, config.detach_gamma)
    return write(state, keys, values.to(keys.dtype), strengths.squeeze(-1).to(keys.dtype))


def features(weight: Tensor, x: Tensor, state: MemoryState, config: ARMTConfig) -> Tensor:
    """φ(W x) in the state's precision: (batch, tokens, d_model) -> (batch, tokens, d_key)."""
    projected = (projection_input(x, config) @ weight).to(state.associations.dtype)
    return feature_map(config.feature_map, config.nu, config.unit_features)(projected)


def projection_input(x: Tensor, config: ARMTConfig) -> Tensor:
    return F.layer_norm(x, x.shape[-1:]) if config.memory_norm else x
