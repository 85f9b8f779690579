"""One layer: read before the block on all positions, write after it from the memory tokens."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import armt_mini as am
from armt_mini.associative_layer import (
    associative_layer,
    keys_values_strengths,
    write_memory,
)
from armt_mini.transformer_block import transformer_block


@pytest.fixture
def layer(lively, draw):
    """Weights of one layer, a segment's hidden states, a memory, and the configuration."""

    def layer(**changes):
        model = lively(**changes)
        config, hidden = model.config, draw(2, 7, 14)
        state = am.MemoryState(draw(2, config.d_key, 14), draw(2, config.d_key).abs() + 0.1)
        return model.unstacked()[1], hidden, state, config

    return layer


def as_described(weights, hidden, state, config, feature_map=am.dpfp, norm=lambda x: x, eps=1e-5):
    """The layer in the words of the paper, through the public functions."""
    queries = feature_map(norm(hidden) @ weights["memory_query_weight"])
    hidden = hidden + am.read(state, queries, eps)
    hidden = transformer_block(weights, hidden, config.n_heads)
    m = norm(hidden[:, -config.n_memory_tokens :])
    strength = m @ weights["memory_strength_weight"][:, 0] + weights["memory_strength_bias"]
    keys = feature_map(m @ weights["memory_key_weight"])
    values = m @ weights["memory_value_weight"]
    return hidden, am.write(state, keys, values, 1 / (1 + torch.exp(-strength)), eps=eps)


def test_the_layer_reads_before_the_block_and_writes_after_it_from_memory_tokens(layer, close):
    weights, hidden, state, config = layer()
    out, new = associative_layer(weights, hidden, state, config)
    expected, expected_new = as_described(weights, hidden, state, config)
    close(out, expected)
    close(new, expected_new)
    # What is compared is not nothing: memory, block and write all count.
    without_memory = transformer_block(weights, hidden, config.n_heads)
    assert (out - without_memory).abs().max() > 0.1
    assert (new.associations - state.associations).abs().max() > 0.1


def test_options_change_what_they_say_and_nothing_else(layer, close):
    def unit(x):
        features = am.dpfp(x)
        return features / features.norm(dim=-1, keepdim=True)

    def norm(x):
        return F.layer_norm(x, (14,))

    for changes, options in (
        ({"unit_features": True}, {"feature_map": unit}),
        ({"memory_norm": True}, {"norm": norm}),
        ({"feature_map": "elu_plus_one"}, {"feature_map": am.elu_plus_one}),
        ({"eps": 0.5}, {"eps": 0.5}),
        ({"nu": 2}, {"feature_map": lambda x: am.dpfp(x, 2)}),
    ):
        inputs = layer(**changes)
        close(associative_layer(*inputs), as_described(*inputs, **options))


def test_gamma_on_and_off_differ(layer):
    weights, hidden, state, config = layer()
    _, on = associative_layer(weights, hidden, state, config)
    _, off = associative_layer(*layer(rule="delta"))
    assert (on.normaliser - off.normaliser).abs().max() > 1e-3


def test_options_of_the_rule_reach_the_write(layer):
    def normaliser(**changes):
        weights, hidden, state, config = layer(**changes)
        state = state._replace(normaliser=5 * state.normaliser)  # γ below zero, unless clipped
        return associative_layer(weights, hidden, state, config)[1].normaliser

    paper = normaliser()
    for changes in ({"clip_gamma": False}, {"rule": "additive"}, {"eps": 0.5}):
        assert (normaliser(**changes) - paper).abs().max() > 1e-3


@pytest.mark.parametrize("rule", am.RULES)
def test_a_memory_fades_when_it_is_written_and_is_read_before(layer, close, rule):
    weights, hidden, state, config = layer(rule=rule, retention=0.75)
    out, new = associative_layer(weights, hidden, state, config)
    weights, _, _, config = layer(rule=rule)
    less = am.MemoryState(0.75 * state.associations, 0.75 * state.normaliser)
    expected, _ = associative_layer(weights, hidden, state, config)
    close(out, expected)
    memory_tokens = expected[:, -config.n_memory_tokens :]
    close(new, write_memory(weights, memory_tokens, less, config))


@pytest.mark.dtypes("bfloat16")
def test_strengths_near_one_are_told_apart_in_bfloat16_too(layer):
    weights, hidden, _, config = layer()
    weights["memory_strength_bias"] = torch.full_like(weights["memory_strength_bias"], 7.0)
    weights["memory_strength_weight"] = torch.zeros_like(weights["memory_strength_weight"])
    *_, strengths = keys_values_strengths(weights, hidden, config)
    expected = torch.full_like(strengths, 7.0).sigmoid()  # 0.99909, which bfloat16 rounds to 1
    torch.testing.assert_close(strengths, expected, rtol=1e-6, atol=0)


def test_what_is_written_with_less_than_the_least_strength_is_not_written(layer, close):
    weights, hidden, state, config = layer(rule="deltanet")
    memory_tokens = hidden[:, -config.n_memory_tokens :]
    keys, values, strengths = keys_values_strengths(weights, memory_tokens, config)
    least = strengths.median().item()
    assert strengths.min() < least < strengths.max()
    config = replace(config, min_strength=least)  # which is itself strong enough
    found = write_memory(weights, memory_tokens, state, config)
    strengths = strengths.where(strengths >= least, 0)
    close(found, am.write(state, keys, values, strengths, "deltanet", config.eps))
    x = torch.tensor([[-3.0, 0.0, 2.0]], dtype=strengths.dtype, requires_grad=True)
    replace(config, min_strength=0.3, write_cost=0.5).strengths(x).sum().backward()
    s = x.detach().sigmoid()
    close(x.grad, 1.5 * s * (1 - s) * (s >= 0.3))  # what is not written costs nothing


def test_a_fresh_layer_remembers_nothing_since_its_values_start_at_zero(draw_tokens):
    config = am.ARMTConfig(
        vocab_size=23, d_model=14, n_layers=3, n_heads=2, segment_length=5, n_memory_tokens=2,
        d_memory=3,
    )  # fmt: skip
    model = am.ARMT(config)
    assert (model.layers["memory_value_weight"] == 0).all()
    assert (model.layers["memory_strength_bias"] == 0).all()
    for state in model(draw_tokens(2, 13).cpu()).states:
        assert (state.associations == 0).all()
        assert (state.normaliser != 0).any()


def test_initial_scales_of_the_memory_projections():
    config = am.ARMTConfig(
        vocab_size=23, d_model=62, n_layers=11, n_heads=2, segment_length=5, n_memory_tokens=2,
        d_memory=31, value_std=0.25,
    )  # fmt: skip
    layers = am.ARMT(config).layers
    for name, std in (
        ("query", 1 / math.sqrt(3 * 62)),
        ("key", 1 / math.sqrt(3 * 62)),
        ("value", 0.25),
    ):
        assert 0.95 * std < layers[f"memory_{name}_weight"].std() < 1.05 * std


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # attention's rule for the CPU
def test_one_layer_definition_over_stacked_layers_equals_the_loop_in_values_and_gradients(
    lively, draw, close, close_gradients
):
    """`torch.func.vmap` over a leading layers dimension, as an order by diagonals needs it."""
    model = lively()
    config, hidden = model.config, draw(3, 2, 7, 14).requires_grad_()
    a, z = draw(3, 2, 18, 14).requires_grad_(), (draw(3, 2, 18).abs() + 0.1).requires_grad_()
    weights = {name: w.detach().requires_grad_() for name, w in model.layers.items()}
    leaves = [hidden, a, z, *weights.values()]

    def stacked():
        run = torch.func.vmap(associative_layer, in_dims=(0, 0, 0, None))
        out, new = run(weights, hidden, am.MemoryState(a, z), config)
        return out, *new

    def looped():
        cells = [
            associative_layer(
                {name: w[layer] for name, w in weights.items()},
                hidden[layer],
                am.MemoryState(a[layer], z[layer]),
                config,
            )
            for layer in range(3)
        ]
        return tuple(
            torch.stack(parts) for parts in zip(*((out, *new) for out, new in cells), strict=True)
        )

    results = [stacked(), looped()]
    close(*results)
    directions = [draw(*part.shape) for part in results[0]]
    loop_gradients, stack_gradients = (
        torch.autograd.grad(sum((p * d).sum() for p, d in zip(r, directions, strict=True)), leaves)
        for r in reversed(results)
    )
    assert all(gradient.count_nonzero() for gradient in loop_gradients)
    close_gradients(stack_gradients, loop_gradients)
