"""The GPT-2 block: causal attention, then an MLP, each behind a LayerNorm and a skip connection.

Nothing here knows of memory. The block is a pure function of its weights, so that one definition
serves any order in which layers and segments are visited.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from armt_mini.configuration import RecurrentConfig

if TYPE_CHECKING:
    from jaxtyping import Float

GPT2_STD = 0.02  # GPT-2 starts its weights so, whatever its width


class Initial(NamedTuple):
    """How a weight starts: its shape, and the mean and deviation of a normal distribution."""

    shape: tuple[int, ...]
    std: float = 0.0
    mean: float = 0.0


def block_weights(config: RecurrentConfig) -> dict[str, Initial]:
    """Names, shapes (input × output) and initial scales of one block's weights."""
    d_model, d_mlp = config.d_model, config.d_mlp or 0  # the configuration has set it
    in_std = GPT2_STD if config.attention_std is None else config.attention_std
    # GPT-2 keeps the sum over all skip connections at one scale.
    mlp_out_std = GPT2_STD / math.sqrt(2 * config.n_layers)
    out_std = mlp_out_std if config.attention_std is None else config.attention_std
    return {
        "attention_norm_scale": Initial((d_model,), mean=1.0),
        "attention_norm_shift": Initial((d_model,)),
        "attention_in_weight": Initial((d_model, 3 * d_model), std=in_std),
        "attention_in_bias": Initial((3 * d_model,)),
        "attention_out_weight": Initial((d_model, d_model), std=out_std),
        "attention_out_bias": Initial((d_model,)),
        "mlp_norm_scale": Initial((d_model,), mean=1.0),
        "mlp_norm_shift": Initial((d_model,)),
        "mlp_in_weight": Initial((d_model, d_mlp), std=GPT2_STD),
        "mlp_in_bias": Initial((d_mlp,)),
        "mlp_out_weight": Initial((d_mlp, d_model), std=mlp_out_std),
        "mlp_out_bias": Initial((d_model,)),
    }


def transformer_block(
    weights: Mapping[str, Tensor], hidden: Float[Tensor, "batch tokens d_model"], n_heads: int
) -> Float[Tensor, "batch tokens d_model"]:
    """h + attention(norm(h)), then h + mlp(norm(h)). weights: as listed by `block_weights`."""
    hidden = hidden + attention(weights, normed(weights, "attention_norm", hidden), n_heads)
    return hidden + mlp(weights, normed(weights, "mlp_norm", hidden))


def attention(
    weights: Mapping[str, Tensor], x: Float[Tensor, "batch tokens d_model"], n_heads: int
) -> Float[Tensor, "batch tokens d_model"]:
    """Causal attention: a token looks at itself and at what stands before it in its segment."""
    mixed = x @ weights["attention_in_weight"] + weights["attention_in_bias"]
    # (batch, tokens, 3·d_model) -> three of (batch, heads, tokens, d_model / heads)
    q, k, v = (
        part.unflatten(-1, (n_heads, -1)).transpose(-2, -3) for part in mixed.chunk(3, dim=-1)
    )
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(-2, -3).flatten(-2)
    return y @ weights["attention_out_weight"] + weights["attention_out_bias"]


def mlp(
    weights: Mapping[str, Tensor], x: Float[Tensor, "batch tokens d_model"]
) -> Float[Tensor, "batch tokens d_model"]:
    """Two linear maps with GELU (in its tanh form) between them, at each position alone."""
    x = F.gelu(x @ weights["mlp_in_weight"] + weights["mlp_in_bias"], approximate="tanh")
    return x @ weights["mlp_out_weight"] + weights["mlp_out_bias"]


def normed(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}_scale"], weights[f"{name}_shift"])
