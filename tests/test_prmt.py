"""PRMT: every layer hands its memory tokens to itself in the next segment."""

import torch

import armt_mini as am
from armt_mini.transformer_block import transformer_block


def test_every_layer_finds_its_own_memory_in_front_of_its_input_and_keeps_the_new_one(
    lively, draw_tokens, draw, close
):
    model, tokens, memories = lively(am.PRMT), draw_tokens(2, 5), [draw(2, 2, 14) for _ in range(3)]
    assert model.position_embedding.shape == (13, 14)
    columns = [model.token_embedding[tokens[:, i]] + model.position_embedding[i] for i in range(5)]
    memory_tokens = model.memory_embedding + model.position_embedding[11:]
    hidden = torch.cat([torch.stack(columns, dim=1), memory_tokens.expand(2, 2, 14)], dim=1)
    expected = []
    for layer in range(3):
        weights = {name: stacked[layer] for name, stacked in model.layers.items()}
        hidden = torch.cat([memories[layer], hidden], dim=1)
        hidden = transformer_block(weights, hidden, 2)[:, 2:]
        expected.append(hidden[:, 5:])
    out = model(tokens, memories)
    close(out.logits, model.final_norm(hidden[:, :5]) @ model.token_embedding.mT)
    close(out.states, expected)


def test_a_layers_state_depends_on_states_of_its_own_and_lower_layers_only(
    lively, draw_tokens, draw
):
    model, tokens, memories = lively(am.PRMT), draw_tokens(2, 5), [draw(2, 2, 14) for _ in range(3)]
    before = model(tokens, memories).states
    for changed in range(3):
        other = [m + (layer == changed) * draw(2, 2, 14) for layer, m in enumerate(memories)]
        after = model(tokens, other).states
        differs = [not torch.equal(x, y) for x, y in zip(after, before, strict=True)]
        assert differs == [layer >= changed for layer in range(3)]


def test_the_first_segment_begins_with_the_learned_memory_tokens_in_every_layer(
    lively, draw_tokens
):
    model, tokens = lively(am.PRMT), draw_tokens(2, 5)
    learned = [model.memory_embedding.expand(2, 2, 14)] * 3
    assert torch.equal(model(tokens, learned).logits, model(tokens).logits)
    states = model(tokens).states
    assert [state.shape for state in states] == [(2, 2, 14)] * 3
    assert not torch.equal(states[0], states[1])
