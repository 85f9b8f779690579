"""The whole model: what a stranger's GPT-2 says of its first segment, and what its memory does."""

import math

import pytest
import torch

import armt_mini as am


def plain_gpt_2(model: am.ARMT, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of a GPT-2 with the model's weights, written with explicit softmax and mask."""
    config, n = model.config, tokens.shape[1]

    def norm(x, scale, shift):
        x = x - x.mean(-1, keepdim=True)
        return scale * x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-5) + shift

    mask = torch.ones(n, n, dtype=torch.bool, device=tokens.device).tril()
    x = model.token_embedding[tokens] + model.position_embedding[:n]
    for layer in range(config.n_layers):
        w = {name: stacked[layer] for name, stacked in model.layers.items()}
        h = norm(x, w["attention_norm_scale"], w["attention_norm_shift"])
        h = h @ w["attention_in_weight"] + w["attention_in_bias"]
        # (batch, tokens, 3·d_model) -> three of (batch, heads, tokens, size)
        q, k, v = (
            torch.stack(part.chunk(config.n_heads, dim=-1), dim=1) for part in h.chunk(3, dim=-1)
        )
        score = q @ k.mT / math.sqrt(q.shape[-1])
        h = score.masked_fill(~mask, -math.inf).softmax(-1) @ v
        h = torch.cat(h.unbind(1), dim=-1)
        x = x + h @ w["attention_out_weight"] + w["attention_out_bias"]
        h = norm(x, w["mlp_norm_scale"], w["mlp_norm_shift"])
        h = h @ w["mlp_in_weight"] + w["mlp_in_bias"]
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        x = x + h @ w["mlp_out_weight"] + w["mlp_out_bias"]
    return norm(x, model.final_norm.weight, model.final_norm.bias) @ model.token_embedding.mT


def test_a_model_whose_memory_is_empty_is_a_plain_gpt_2(lively, draw_tokens, close):
    model, tokens = lively(), draw_tokens(2, 5)
    close(model(tokens).logits, plain_gpt_2(model, tokens))
    second = model(torch.cat([tokens, tokens], dim=1)).logits[:, 5:]
    assert (second - plain_gpt_2(model, tokens)).abs().max() > 0.1  # and is none once it is written


def test_a_model_that_writes_values_of_zero_is_a_plain_gpt_2_in_every_segment(
    lively, draw_tokens, close
):
    model, tokens = lively(), draw_tokens(2, 13)
    with torch.no_grad():
        model.layers["memory_value_weight"].zero_()
    logits = model(tokens).logits
    for start in (0, 5, 10):
        segment = tokens[:, start : start + 5]
        close(logits[:, start : start + 5], plain_gpt_2(model, segment))


def test_memory_tokens_take_the_last_rows_of_the_position_table(lively, draw_tokens):
    model, tokens = lively(), draw_tokens(2, 13)
    assert model.position_embedding.shape == (13, 14)  # n_positions and n_memory_tokens
    before = model(tokens).logits
    with torch.no_grad():
        model.position_embedding[11] += model.position_embedding[3]
        after = model(tokens).logits
    assert torch.equal(after[:, :5], before[:, :5])
    assert (after[:, 5:] - before[:, 5:]).abs().amax(dim=(0, 2)).min() > 1e-4


def test_every_memory_token_counts_and_which_is_which_does_not_matter_to_the_layer_below(
    lively, draw_tokens
):
    model, tokens = lively(), draw_tokens(2, 13)
    before = model(tokens).logits
    for token in range(2):
        changed = lively()
        with torch.no_grad():
            changed.memory_embedding[token] = model.memory_embedding[token].flip(0)
        assert (changed(tokens).logits - before)[:, 5:].abs().amax(dim=(0, 2)).min() > 1e-4


def test_states_are_one_memory_a_layer(lively, draw_tokens):
    states = lively()(draw_tokens(2, 13)).states
    assert len(states) == 3
    for state in states:
        assert isinstance(state, am.MemoryState)
        assert state.associations.shape == (2, 18, 14)
        assert state.normaliser.shape == (2, 18)


def test_a_layers_memory_depends_on_the_layers_below_it_and_on_no_layer_above(lively, draw_tokens):
    tokens = draw_tokens(2, 13)
    before = lively()(tokens).states
    for changed in range(3):
        model = lively()
        with torch.no_grad():
            model.layers["mlp_out_weight"][changed] *= 2
        differs = [
            not torch.equal(new.associations, old.associations)
            for new, old in zip(model(tokens).states, before, strict=True)
        ]
        assert differs == [layer >= changed for layer in range(3)]


def test_segments_back_in_time_are_reached_by_gradients(lively, draw_tokens):
    model, tokens = lively(), draw_tokens(2, 13)
    states = [
        am.MemoryState(*(part.detach().requires_grad_() for part in state))
        for state in model(tokens).states
    ]
    model(draw_tokens(2, 13), states).logits[:, 10:].square().sum().backward()
    for state in states:
        assert all(part.grad.count_nonzero() for part in state)


@pytest.mark.dtypes("float64", "float32", "bfloat16")
def test_memories_are_float32_also_in_a_bfloat16_model_and_float64_in_a_float64_one(
    lively, draw_tokens, device, dtype
):
    model = lively()
    logits, states = model(draw_tokens(2, 13))
    assert logits.dtype == dtype
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    for part in (part for state in states for part in state):
        assert part.dtype == expected
        assert part.device.type == device
    model(draw_tokens(2, 13), states)  # and can be passed back in


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.dtypes("float32", "bfloat16")
def test_10_000_segments_stay_finite_in_values_and_gradients(lively, draw_tokens):
    """Gradients go back through the last 20 segments.

    With the options for training from scratch. The paper's own rule can make a query's recall grow
    by 1/ε (test_gamma_correction.py), and of 16 random models of three layers 2 overflowed.
    """
    options = {"unit_features": True, "memory_norm": True, "eps": 1e-3}
    model = lively(seed=13, n_layers=2, segment_length=2, **options)
    tokens = draw_tokens(1, 20_000)
    with torch.no_grad():
        states = model.memorise(tokens[:, :-40])
    logits, states = model(tokens[:, -40:], states)
    logits.float().logsumexp(-1).sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(part).all() for state in states for part in state)
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.count_nonzero() > 0, name
