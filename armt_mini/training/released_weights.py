"""Weights under the names of the paper's released implementation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike

from armt_mini.armt import ARMT
from armt_mini.configuration import ARMTConfig

# Our name -> theirs, and whether theirs is stored output × input (nn.Linear), to be transposed.
# GPT-2's own maps are stored input × output, as ours.
LAYER_NAMES = {
    "attention_norm_scale": ("layer.ln_1.weight", False),
    "attention_norm_shift": ("layer.ln_1.bias", False),
    "attention_in_weight": ("layer.attn.c_attn.weight", False),
    "attention_in_bias": ("layer.attn.c_attn.bias", False),
    "attention_out_weight": ("layer.attn.c_proj.weight", False),
    "attention_out_bias": ("layer.attn.c_proj.bias", False),
    "mlp_norm_scale": ("layer.ln_2.weight", False),
    "mlp_norm_shift": ("layer.ln_2.bias", False),
    "mlp_in_weight": ("layer.mlp.c_fc.weight", False),
    "mlp_in_bias": ("layer.mlp.c_fc.bias", False),
    "mlp_out_weight": ("layer.mlp.c_proj.weight", False),
    "mlp_out_bias": ("layer.mlp.c_proj.bias", False),
    "memory_query_weight": ("W_mq.weight", True),
    "memory_key_weight": ("W_mk.weight", True),
    "memory_value_weight": ("W_mv.weight", True),
    "memory_strength_weight": ("W_mb.weight", True),
    "memory_strength_bias": ("W_mb.bias", False),
}
MODEL_NAMES = {
    "token_embedding": "model.transformer.wte.weight",
    "position_embedding": "model.transformer.wpe.weight",
    "memory_embedding": "memory",
    "final_norm.weight": "model.transformer.ln_f.weight",
    "final_norm.bias": "model.transformer.ln_f.bias",
    "head": "model.lm_head.weight",
}


def load_released_weights(arrays: Mapping[str, ArrayLike], config: ARMTConfig) -> ARMT:
    """An `ARMT` with the weights of a released GPT-2 ARMT, in the arrays' precision.

    arrays: its state dict, as tensors or NumPy arrays. Raises ValueError when a weight is missing,
    is not known, or has another shape than the configuration says.
    """
    tensors = {
        name: array if isinstance(array, torch.Tensor) else torch.tensor(np.asarray(array))
        for name, array in arrays.items()
    }
    names = dict(MODEL_NAMES)
    if config.tied_head:
        names.pop("head")
        head, tokens = tensors.pop(MODEL_NAMES["head"], None), tensors.get(names["token_embedding"])
        if head is not None and tokens is not None and not torch.equal(head, tokens):
            raise ValueError(
                "model.lm_head.weight: expected the token embeddings, since config.tied_head is "
                "True, got other weights; set tied_head=False."
            )
    per_layer = {
        ours: [f"model.transformer.h.{layer}.{theirs}" for layer in range(config.n_layers)]
        for ours, (theirs, _) in LAYER_NAMES.items()
    }
    expected = set(names.values()).union(*per_layer.values())
    if missing := sorted(expected - set(tensors)):
        raise ValueError(f"arrays: expected {missing[0]!r} ({len(missing)} names are missing).")
    if unknown := sorted(set(tensors) - expected):
        raise ValueError(
            f"arrays: {unknown[0]!r} is not known ({len(unknown)} such names); "
            f"is config.n_layers = {config.n_layers} right?"
        )
    state = {ours: tensors[theirs] for ours, theirs in names.items()}
    for ours, theirs in per_layer.items():
        is_transposed = LAYER_NAMES[ours][1]
        state[f"layers.{ours}"] = torch.stack(
            [tensors[name].T if is_transposed else tensors[name] for name in theirs]
        )
    model = ARMT(config).to(state["token_embedding"].dtype)
    for name, parameter in model.state_dict().items():
        if parameter.shape != state[name].shape:
            raise ValueError(
                f"{name}: expected shape {tuple(parameter.shape)} by the configuration, "
                f"got {tuple(state[name].shape)}."
            )
    model.load_state_dict(state)
    return model
