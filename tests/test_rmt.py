"""RMT: what the last layer makes of the memory tokens begins the next segment."""

import torch

import armt_mini as am
from armt_mini.transformer_block import transformer_block


def test_a_segment_is_memory_then_tokens_then_memory_through_all_blocks(
    lively, draw_tokens, draw, close
):
    model, tokens, memory = lively(am.RMT), draw_tokens(2, 5), draw(2, 2, 14)
    assert model.position_embedding.shape == (15, 14)  # n_positions, and memory tokens twice
    rows = model.position_embedding
    columns = [memory[:, i] + rows[11 + i] for i in range(2)]
    columns += [model.token_embedding[tokens[:, i]] + rows[i] for i in range(5)]
    columns += [memory[:, i] + rows[13 + i] for i in range(2)]
    hidden = torch.stack(columns, dim=1)
    for layer in range(3):
        weights = {name: stacked[layer] for name, stacked in model.layers.items()}
        hidden = transformer_block(weights, hidden, 2)
    hidden = model.final_norm(hidden)
    out = model(tokens, [memory])
    close(out.logits, hidden[:, 2:7] @ model.token_embedding.mT)
    close(out.states, [hidden[:, 7:]])


def test_the_first_segment_begins_with_the_learned_memory_tokens(lively, draw_tokens):
    model, tokens = lively(am.RMT), draw_tokens(2, 5)
    learned = [model.memory_embedding.expand(2, 2, 14)]
    assert torch.equal(model(tokens, learned).logits, model(tokens).logits)
    assert len(model(tokens).states) == 1
    assert model(tokens).states[0].shape == (2, 2, 14)


def test_the_state_keeps_its_scale_over_many_segments(lively, draw_tokens):
    model = lively(am.RMT)
    with torch.no_grad():
        short, long = model.memorise(draw_tokens(2, 5)), model.memorise(draw_tokens(2, 500))
    assert torch.isfinite(long[0]).all()
    assert 0.3 < long[0].norm() / short[0].norm() < 3
