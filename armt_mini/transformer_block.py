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
    scale, shift = (weights[f"{name}_{part}"][..., None, None, :] for part in ("scale", "shift"))
    return F.layer_norm(x, x.shape[-1:]) * scale + shift


def linear(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return project(x, weights[f"{name}_weight"]) + weights[f"{name}_bias"][..., None, None, :]


def project(x: Tensor, weight: Tensor) -> Tensor:
    """x W at every position: all positions of a layer are the rows of one matrix product."""
    return (x.flatten(-3, -2) @ weight).unflatten(-2, x.shape[-3:-1])


def transformer_block(
    weights: Mapping[str, Tensor],
    hidden: Float[Tensor, "*layers batch tokens d_model"],
    n_heads: int,
) -> Float[Tensor, "*layers batch tokens d_model"]:
    """h + attention(norm(h)), then h + mlp(norm(h)). weights: as listed by `block_weights`.

    Weights and hidden vectors of several layers, stacked, are computed side by side.
    """
    hidden = hidden + attention(weights, norm(weights, "attention_norm", hidden), n_heads)
    return hidden + mlp(weights, norm(weights, "mlp_norm", hidden))


def attention(weights: Mapping[str, Tensor], x: Tensor, n_heads: int) -> Tensor:
    """Causal attention: a token looks at itself and at what stands before it in its segment."""
    # (*layers, batch, tokens, 3·d_model) -> (layers·batch, tokens, 3, heads, d_model / heads)
    mixed = linear(weights, "attention_in", x).flatten(0, -3).unflatten(-1, (3, n_heads, -1))
    q, k, v = mixed.permute(2, 0, 3, 1, 4)  # each (layers·batch, heads, tokens, d_model / heads)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return linear(weights, "attention_out", y.transpose(1, 2).reshape(x.shape))


def mlp(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Two linear maps with GELU (in its tanh form) between them, at each position alone."""
    return linear(weights, "mlp_out", F.gelu(linear(weights, "mlp_in", x), approximate="tanh"))
