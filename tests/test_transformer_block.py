"""The GPT-2 block against one written number by number, and what it promises."""

import math

import pytest
import torch

import armt_mini as am
from armt_mini.transformer_block import block_weights, transformer_block

N_HEADS, D_MODEL, D_MLP = 2, 14, 17


@pytest.fixture
def weights(draw):
    """All away from zero, so that no bias, scale or shift can be left out unseen."""
    config = am.RecurrentConfig(
        vocab_size=5,
        d_model=D_MODEL,
        n_layers=3,
        n_heads=N_HEADS,
        segment_length=7,
        n_memory_tokens=1,
        d_mlp=D_MLP,
    )
    names = block_weights(config)
    return {name: 0.5 * draw(*initial.shape) for name, initial in names.items()}


def naive_block(weights: dict, hidden: torch.Tensor) -> torch.Tensor:
    """One sample, (tokens, d_model), in loops over tokens, heads and positions."""
    w = weights

    def norm(x, name):
        centred = x - x.sum() / len(x)
        deviation = torch.sqrt((centred * centred).sum() / len(x) + 1e-5)
        return w[f"{name}_scale"] * centred / deviation + w[f"{name}_shift"]

    def gelu(x):
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    size = D_MODEL // N_HEADS
    mixed = [
        norm(x, "attention_norm") @ w["attention_in_weight"] + w["attention_in_bias"]
        for x in hidden
    ]
    out = []
    for t, x in enumerate(hidden):
        heads = []
        for head in range(N_HEADS):
            here = slice(head * size, (head + 1) * size)
            query = mixed[t][:D_MODEL][here]
            keys = [mixed[s][D_MODEL : 2 * D_MODEL][here] for s in range(t + 1)]
            values = [mixed[s][2 * D_MODEL :][here] for s in range(t + 1)]
            weight = [torch.exp((query * key).sum() / math.sqrt(size)) for key in keys]
            heads.append(sum(a * v for a, v in zip(weight, values, strict=True)) / sum(weight))
        x = x + torch.cat(heads) @ w["attention_out_weight"] + w["attention_out_bias"]
        inner = gelu(norm(x, "mlp_norm") @ w["mlp_in_weight"] + w["mlp_in_bias"])
        out.append(x + inner @ w["mlp_out_weight"] + w["mlp_out_bias"])
    return torch.stack(out)


def test_the_block_equals_gpt_2_written_number_by_number(weights, draw, close):
    hidden = draw(2, 5, D_MODEL)
    actual = transformer_block(weights, hidden, N_HEADS)
    for sample in range(2):
        close(actual[sample], naive_block(weights, hidden[sample]))


def test_gradients_of_the_block_equal_those_of_gpt_2_written_number_by_number(
    weights, draw, close_gradients
):
    hidden = draw(1, 5, D_MODEL).requires_grad_()
    inputs = [hidden, *(w.requires_grad_() for w in weights.values())]
    direction = draw(5, D_MODEL)
    actual, expected = (
        torch.autograd.grad((out * direction).sum(), inputs)
        for out in (
            transformer_block(weights, hidden, N_HEADS)[0],
            naive_block(weights, hidden[0]),
        )
    )
    close_gradients(actual, expected)


def test_a_token_sees_itself_and_what_stands_before_it_only(weights, draw):
    hidden = draw(2, 5, D_MODEL)
    before = transformer_block(weights, hidden, N_HEADS)
    hidden[:, 2] += draw(2, D_MODEL)
    change = (transformer_block(weights, hidden, N_HEADS) - before).abs().amax(dim=(0, 2))
    assert (change[:2] == 0).all()
    assert (change[2:] > 1e-4).all()


def test_a_fresh_model_starts_as_gpt_2_does():
    sizes = {"vocab_size": 997, "d_model": 62, "n_layers": 5, "n_heads": 2, "segment_length": 31}
    model = am.RMT(am.RecurrentConfig(**sizes, n_memory_tokens=17))
    for name, weight in model.layers.items():
        if name.endswith("scale"):
            assert (weight == 1).all()
        elif name.endswith(("bias", "shift")):
            assert (weight == 0).all()
        else:
            std = 0.02 / math.sqrt(2 * 5) if "out" in name else 0.02
            assert 0.95 * std < weight.std() < 1.05 * std
            assert abs(weight.mean()) < 0.05 * std
    assert 0.95 * 0.02 < model.token_embedding.std() < 1.05 * 0.02
    assert 0.9 * 0.02 < model.position_embedding.std() < 1.1 * 0.02
    assert 0.9 * 0.02 < model.memory_embedding.std() < 1.1 * 0.02


def test_attention_starts_at_the_scale_that_is_asked_for_and_by_default_at_that_of_gpt2():
    sizes = dict(vocab_size=5, d_model=64, n_layers=8, n_heads=4, segment_length=3)
    gpt2 = am.ARMT(am.ARMTConfig(**sizes, n_memory_tokens=1, d_memory=4)).layers
    wide = am.ARMT(
        am.ARMTConfig(**sizes, n_memory_tokens=1, d_memory=4, attention_std=0.125)
    ).layers
    for name, expected in (("attention_in_weight", 0.02), ("attention_out_weight", 0.02 / 4)):
        assert gpt2[name].std().item() == pytest.approx(expected, rel=0.05)
        assert wide[name].std().item() == pytest.approx(0.125, rel=0.05)
    assert torch.equal(gpt2["mlp_in_weight"], wide["mlp_in_weight"])
