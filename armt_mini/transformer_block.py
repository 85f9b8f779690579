"""The GPT-2 block: causal attention, then an MLP, each behind a LayerNorm and a skip connection.

Nothing here knows of memory. The block is a pure function of its weights, so that one definition
serves any order in which layers and segments are visited.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from armt_mini.configuration import RecurrentConfig
from armt_mini.shapes import Float

GPT2_STD = 0.02  # GPT-2 starts its weights so, whatever its width


class Initial(NamedTuple):
    """How a weight starts: its shape, and the mean and deviation of a normal distribution."""

    shape: tuple[int, ...]
    std: float = 0.0
    mean: float = 0.0


def block_weights(config: RecurrentConfig) -> dict[str, Initial]:
    """Names, shapes and initial scales of one block's weights."""
    d_model, d_mlp = config.d_model, int(config.d_mlp or 0)
    in_std = GPT2_STD if config.attention_std is None else config.attention_std
    # GPT-2 keeps the sum over all skip connections at one scale.
    mlp_out_std = GPT2_STD / math.sqrt(2 * config.n_layers)
    out_std = mlp_out_std if config.attention_std is None else config.attention_std
    return {
        **norm_weights("attention_norm", d_model),
        **linear_weights("attention_in", d_model, 3 * d_model, in_std),
        **linear_weights("attention_out", d_model, d_model, out_std),
        **norm_weights("mlp_norm", d_model),
        **linear_weights("mlp_in", d_model, d_mlp, GPT2_STD),
        **linear_weights("mlp_out", d_mlp, d_model, mlp_out_std),
    }


def norm_weights(name: str, size: int) -> dict[str, Initial]:
    return {f"{name}_scale": Initial((size,), mean=1.0), f"{name}_shift": Initial((size,))}


def linear_weights(name: str, d_in: int, d_out: int, std: float) -> dict[str, Initial]:
    return {f"{name}_weight": Initial((d_in, d_out), std), f"{name}_bias": Initial((d_out,))}


def norm(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}_scale"], weights[f"{name}_shift"])


def linear(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}_weight"] + weights[f"{name}_bias"]


def transformer_block(
    weights: Mapping[str, Tensor], hidden: Float[Tensor, "batch tokens d_model"], n_heads: int
) -> Float[Tensor, "batch tokens d_model"]:
    """h + attention(norm(h)), then h + mlp(norm(h)). weights: as listed by `block_weights`."""
    hidden = hidden + attention(weights, norm(weights, "attention_norm", hidden), n_heads)
    return hidden + mlp(weights, norm(weights, "mlp_norm", hidden))


def attention(weights: Mapping[str, Tensor], x: Tensor, n_heads: int) -> Tensor:
    """Causal attention: a token looks at itself and at what stands before it in its segment."""
    # (batch, tokens, 3·d_model) -> (batch, 3, heads, tokens, d_model / heads), then q, k and v
    mixed = linear(weights, "attention_in", x).unflatten(-1, (3, n_heads, -1)).movedim(-4, -2)
    q, k, v = mixed.unbind(-4)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return linear(weights, "attention_out", y.transpose(-2, -3).flatten(-2))


def mlp(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Two linear maps with GELU (in its tanh form) between them, at each position alone."""
    return linear(weights, "mlp_out", F.gelu(linear(weights, "mlp_in", x), approximate="tanh"))
