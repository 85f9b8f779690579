"""The released implementation's figures: layers through `read` and `write`, and a whole model.

golden/README.md says what the arrays are. The largest difference may be 1e-10, in float64.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import armt_mini as am

GOLDEN = Path(__file__).parent / "golden"
EXACT = {"rtol": 0.0, "atol": 1e-10}


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name) as arrays:
        return dict(arrays)


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize(("file", "rule"), [("on", "gamma"), ("off", "delta")])
def test_a_layer_computes_what_the_released_one_does_segment_after_segment(
    device, dtype, close, file, rule
):
    arrays = golden(f"layer_gamma_{file}.npz")
    a = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    n_memory, nu, d_memory = (int(a[name]) for name in ("n_memory_tokens", "nu", "d_memory"))
    segments, batch, _, d_model = a["hidden"].shape
    assert segments > 2
    state = am.MemoryState.empty(batch, 2 * nu * d_memory, d_model, dtype=dtype, device=device)
    for s in range(segments):
        recalled = am.read(state, am.dpfp(a["hidden"][s] @ a["W_q"].T, nu))
        close(recalled, a["read"][s], **EXACT)
        m = (a["hidden"][s] + recalled)[:, -n_memory:]
        strengths = torch.sigmoid(m @ a["W_beta"].T + a["b_beta"]).squeeze(-1)
        keys, values = am.dpfp(m @ a["W_k"].T, nu), m @ a["W_v"].T
        state = am.write(state, keys, values, strengths, rule=rule)
        close(state.associations, a["associations"][s], **EXACT)
        close(state.normaliser, a["normaliser"][s], **EXACT)
    assert a["read"][-1].abs().max() > 1e-3


@pytest.fixture
def released():
    """A tiny model's weights, tokens and logits, and its configuration here."""
    arrays = golden("model_gpt2_tiny.npz")
    theirs = json.loads(str(arrays.pop("config")))
    same = ["vocab_size", "segment_length", "n_positions", "d_mlp", "n_memory_tokens"]
    config = am.ARMTConfig(
        **{name: theirs[name] for name in [*same, "d_memory", "nu", "tied_head"]},
        d_model=theirs["n_embd"],
        n_layers=theirs["n_layer"],
        n_heads=theirs["n_head"],
        rule="gamma" if theirs["correction"] else "delta",
    )
    weights = {
        name.removeprefix("param:"): array
        for name, array in arrays.items()
        if name.startswith("param:")
    }
    return (
        weights,
        config,
        torch.from_numpy(arrays["input_ids"]),
        torch.from_numpy(arrays["logits"]),
    )


@pytest.mark.dtypes("float64")
def test_a_whole_model_computes_the_released_logits(released, device, close):
    weights, config, tokens, logits = released
    model = am.load_released_weights(weights, config).to(device)
    assert tokens.shape[1] % config.segment_length != 0  # a short last segment is among them
    close(model(tokens.to(device)).logits, logits.to(device), **EXACT)
    off = am.load_released_weights(weights, am.ARMTConfig(**(vars(config) | {"rule": "delta"})))
    difference = off(tokens).logits - logits
    assert difference.abs().max() > 1e-3


@pytest.mark.dtypes("float64")
def test_tensors_do_as_well_as_arrays_and_the_precision_is_theirs(released, close):
    weights, config, tokens, logits = released
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    close(am.load_released_weights(tensors, config)(tokens).logits, logits, **EXACT)
    single = {name: tensor.float() for name, tensor in tensors.items()}
    assert am.load_released_weights(single, config)(tokens).logits.dtype == torch.float32


def test_the_model_has_a_copy_of_its_own(released):
    weights, config, _, _ = released
    model = am.load_released_weights(weights, config)
    before = weights["memory"].copy()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert np.array_equal(weights["memory"], before)


def test_a_head_of_its_own_is_loaded_and_a_tied_one_must_be_the_embeddings(released):
    weights, config, _, _ = released
    embeddings = weights["model.transformer.wte.weight"]
    tied = weights | {"model.lm_head.weight": embeddings}
    assert am.load_released_weights(tied, config).head is None
    own = weights | {"model.lm_head.weight": 2 * embeddings}
    untied = am.ARMTConfig(**(vars(config) | {"tied_head": False}))
    head = am.load_released_weights(own, untied).head
    assert np.array_equal(head.detach().numpy(), 2 * embeddings)
    with pytest.raises(ValueError, match=r"^model\.lm_head\.weight: expected the token emb"):
        am.load_released_weights(own, config)


def test_weights_that_do_not_fit_are_an_error_that_names_them(released):
    weights, config, _, _ = released
    fewer = dict(weights)
    del fewer["memory"]
    with pytest.raises(ValueError, match=r"^arrays: expected 'memory' \(1 name"):
        am.load_released_weights(fewer, config)
    with pytest.raises(ValueError, match=r"^arrays: 'more' is not known"):
        am.load_released_weights(weights | {"more": weights["memory"]}, config)
    one_layer_less = am.ARMTConfig(**(vars(config) | {"n_layers": config.n_layers - 1}))
    with pytest.raises(ValueError, match=r"^arrays: .*is config\.n_layers = 2 right"):
        am.load_released_weights(weights, one_layer_less)
    wider = am.ARMTConfig(**(vars(config) | {"d_mlp": 101}))
    with pytest.raises(
        ValueError, match=r"^layers\.mlp_.*: expected shape \(3.* 101\).* got \(3.* 96\)"
    ):
        am.load_released_weights(weights, wider)
