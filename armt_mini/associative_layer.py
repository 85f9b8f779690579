"""The associative layer: read the memory, run the block, write the memory.

Segment s in layer l reads what segments before s wrote in layer l; then the block mixes tokens
and memory tokens; then the memory tokens that leave the block write for segment s + 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from armt_mini.configuration import ARMTConfig
from armt_mini.linear_attention import recall
from armt_mini.memory_state import MemoryState, fade
from armt_mini.shapes import Float
from armt_mini.transformer_block import Initial, linear, project, transformer_block
from armt_mini.update_rules import store


def memory_weights(config: ARMTConfig) -> dict[str, Initial]:
    """Names, shapes (input × output) and initial scales of W_Q, W_K, W_V, W_β and its bias."""
    d_model, std = config.d_model, 1 / math.sqrt(3 * config.d_model)
    return {
        "memory_query_weight": Initial((d_model, config.d_memory), std),
        "memory_key_weight": Initial((d_model, config.d_memory), std),
        "memory_value_weight": Initial((d_model, d_model), config.value_std),
        "memory_strength_weight": Initial((d_model, 1), std),
        "memory_strength_bias": Initial((1,)),
    }


def associative_layer(
    weights: Mapping[str, Tensor],
    hidden: Float[Tensor, "*layers batch tokens d_model"],
    state: MemoryState,
    config: ARMTConfig,
) -> tuple[Float[Tensor, "*layers batch tokens d_model"], MemoryState]:
    """One segment through one layer. The last n_memory_tokens positions are memory tokens.

    Or one segment each through several layers, whose weights, inputs and states are stacked.
    """
    hidden = read_memory(weights, hidden, state, config)
    hidden = transformer_block(weights, hidden, config.n_heads)
    state = write_memory(weights, hidden[..., -config.n_memory_tokens :, :], state, config)
    return hidden, state


def read_memory(
    weights: Mapping[str, Tensor], hidden: Tensor, state: MemoryState, config: ARMTConfig
) -> Float[Tensor, "*layers batch tokens d_model"]:
    """Add to every position what the memory recalls for it (ARMT eq. 4)."""
    queries = project(memory_input(hidden, config), weights["memory_query_weight"])
    features = config.features(queries.to(state.normaliser.dtype))
    recalled = recall(state, features, config.eps, config.normalise)
    return hidden + recalled.to(hidden.dtype)


def write_memory(
    weights: Mapping[str, Tensor], memory_tokens: Tensor, state: MemoryState, config: ARMTConfig
) -> MemoryState:
    """Write every memory token (ARMT eqs. 2 and 3)."""
    written = keys_values_strengths(weights, memory_tokens, config)
    options = (config.rule, config.eps, config.clip_gamma, config.detach_gamma)
    return store(fade(state, config.retention), *written, *options)


def keys_values_strengths(
    weights: Mapping[str, Tensor], memory_tokens: Tensor, config: ARMTConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """φ(k), v and β of every memory token, float32 or wider as memories are (ARMT eq. 1)."""
    m = memory_input(memory_tokens, config)
    dtype = torch.promote_types(m.dtype, torch.float32)
    keys = config.features(project(m, weights["memory_key_weight"]).to(dtype))
    values = project(m, weights["memory_value_weight"]).to(dtype)
    strengths = config.strengths(linear(weights, "memory_strength", m).squeeze(-1).to(dtype))
    return keys, values, strengths


def memory_input(x: Tensor, config: ARMTConfig) -> Tensor:
    """What the memory projections see."""
    return F.layer_norm(x, x.shape[-1:]) if config.memory_norm else x
