"""What ARMT, RMT and PRMT share: segments, seeds, heads, and what they refuse."""

import pickle

import pytest
import torch

import armt_mini as am

pytestmark = pytest.mark.parametrize("kind", [am.ARMT, am.RMT, am.PRMT])

SIZES = {
    "vocab_size": 23,
    "d_model": 14,
    "n_layers": 3,
    "n_heads": 2,
    "segment_length": 5,
    "n_memory_tokens": 2,
}


def fresh(kind, seed=0, **changes):
    if kind is am.ARMT:
        return am.ARMT(am.ARMTConfig(**SIZES, d_memory=3, **changes), seed)
    return kind(am.RecurrentConfig(**SIZES, **changes), seed)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(kind):
    one, same, other = fresh(kind, 3), fresh(kind, 3), fresh(kind, 4)
    for a, b in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.token_embedding, other.token_embedding)
    assert not torch.equal(one.layers["mlp_in_weight"], other.layers["mlp_in_weight"])
    for layer in (0, 1):  # nor are two layers alike
        weight = one.layers["mlp_in_weight"]
        assert not torch.equal(weight[layer], weight[layer + 1])


def test_building_and_running_a_model_leaves_the_global_random_state_alone(kind, draw_tokens):
    tokens = draw_tokens(2, 13).cpu()
    before = torch.get_rng_state()
    fresh(kind)(tokens)
    assert torch.equal(torch.get_rng_state(), before)


def test_logits_have_one_row_a_token_whatever_the_length(lively, draw_tokens, kind):
    model = lively(kind)
    for length in (1, 4, 5, 6, 13):
        assert model(draw_tokens(2, length)).logits.shape == (2, length, 23)


def test_the_last_norm_begins_with_the_gain_that_the_configuration_says(lively, kind):
    config = lively(kind, final_gain=0.25).config
    assert (kind(config).final_norm.weight == 0.25).all()


def test_an_untied_head_has_weights_of_its_own(lively, draw_tokens, close, kind):
    model, tied, tokens = lively(kind, tied_head=False), lively(kind), draw_tokens(2, 13)
    assert tied.head is None
    own = model.state_dict()
    tied.load_state_dict({name: weight for name, weight in own.items() if name != "head"})
    expected = tied(tokens).logits
    with torch.no_grad():
        model.head.copy_(tied.token_embedding)
        close(model(tokens).logits, expected)
        model.head[3] *= 2
    expected = expected.clone()
    expected[..., 3] *= 2
    close(model(tokens).logits, expected)


def test_positions_start_again_in_every_segment(lively, draw_tokens, kind):
    model, tokens = lively(kind), draw_tokens(2, 13)
    before = model(tokens).logits
    with torch.no_grad():
        model.position_embedding[2] += model.position_embedding[4]
    change = (model(tokens).logits - before).abs().amax(dim=(0, 2))
    assert (change[:2] == 0).all()
    assert (change[2:] > 1e-5).all()
    with torch.no_grad():  # rows between segment_length and n_positions are spare
        before = model(tokens).logits
        model.position_embedding[5:11] += 1
        assert torch.equal(model(tokens).logits, before)


def test_every_weight_has_a_gradient(lively, draw_tokens, kind):
    """The last layer's write is read by no later segment, but by those of the call after it."""
    model = lively(kind, tied_head=False)
    model(draw_tokens(2, 13)).logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
        if name.startswith("layers."):
            assert all(layer.count_nonzero() for layer in gradient), name
        else:
            assert gradient.count_nonzero(), name


@pytest.mark.dtypes("float32")
def test_a_bfloat16_model_stays_close_to_its_float32_original(lively, draw_tokens, kind):
    model, tokens = lively(kind), draw_tokens(2, 13)
    with torch.no_grad():
        for parameter in model.parameters():  # numbers that bfloat16 holds exactly
            parameter.copy_(parameter.bfloat16())
        exact = model(tokens)
        rough = model.bfloat16()(tokens)
    assert rough.logits.dtype == torch.bfloat16
    error = (rough.logits.float() - exact.logits).square().mean().sqrt()
    assert error < 0.05 * exact.logits.square().mean().sqrt()


# What does not fit. The message begins with the argument, and the model can still be used.

WRONG_TOKENS = {
    "wrong rank": (lambda t: t[0], ValueError, r"tokens: expected shape .*got \(13,\)"),
    "an empty sequence": (lambda t: t[:, :0], ValueError, r"tokens: .*no size zero, got \(2, 0\)"),
    "an empty batch": (lambda t: t[:0], ValueError, r"tokens: .*no size zero, got \(0, 13\)"),
    "a token too large": (lambda t: 0 * t + 23, ValueError, r"tokens: expected 0 to 22, got 23"),
    "a negative token": (lambda t: 0 * t - 1, ValueError, r"tokens: expected 0 to 22, got -1"),
    "float tokens": (
        lambda t: t.float(),
        TypeError,
        r"tokens: expected int64 or int32, got torch.float32",
    ),
    "small integers": (
        lambda t: t.to(torch.uint8),
        TypeError,
        r"tokens: expected int64 or int32, got torch.uint8; use .long",
    ),
    "bool tokens": (lambda t: t > 3, TypeError, r"tokens: expected int64 or int32, got torch.bool"),
    "another device": (lambda t: t.to("meta"), TypeError, r"tokens: expected device .*got meta"),
    "a list": (lambda t: t.tolist(), TypeError, r"tokens: expected a Tensor, got list"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("spoil", "error", "message"), WRONG_TOKENS.values(), ids=WRONG_TOKENS)
def test_tokens_that_do_not_fit_are_an_error_and_nothing_is_changed(
    lively, draw_tokens, kind, spoil, error, message
):
    model, tokens = lively(kind), draw_tokens(2, 13)
    before, weights = model(tokens).logits, [p.clone() for p in model.parameters()]
    for call in (model, model.memorise):
        with pytest.raises(error, match=f"^{message}"):
            call(spoil(tokens))
    assert torch.equal(model(tokens).logits, before)
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


def change_first(states, change):
    """The states with every tensor of the first one changed."""
    first = states[0]
    changed = type(first)(*map(change, first)) if isinstance(first, tuple) else change(first)
    return [changed, *states[1:]]


WRONG_STATES = {
    "too many": (lambda s: [*s, s[0]], ValueError, r"states: expected .*got \d"),
    "none": (lambda s: [], ValueError, r"states: expected .*got 0"),
    "another batch": (lambda s: change_first(s, lambda x: x[:1]), ValueError, r"state.*\(1, "),
    "wrong rank": (lambda s: change_first(s, lambda x: x[0]), ValueError, r"state.*expected shape"),
    "another dtype": (lambda s: change_first(s, torch.Tensor.half), TypeError, r"state.*float16"),
    "another device": (
        lambda s: change_first(s, lambda x: x.to("meta")), TypeError, r"state.*on meta",
    ),
    "no state": (lambda s: [7] * len(s), TypeError, r"states\[0\]: expected .*got a?\s?int"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("spoil", "error", "message"), WRONG_STATES.values(), ids=WRONG_STATES)
def test_states_that_do_not_fit_are_an_error_and_nothing_is_changed(
    lively, draw_tokens, kind, spoil, error, message
):
    model, tokens, questions = lively(kind), draw_tokens(2, 13), draw_tokens(2, 3, 2)
    states = model(tokens).states
    before = model(tokens, states).logits
    for call in (model, model.memorise):
        with pytest.raises(error, match=f"^{message}"):
            call(tokens, spoil(states))
    with pytest.raises(error, match=f"^{message}"):
        model.ask(questions, spoil(states))
    assert torch.equal(model(tokens, states).logits, before)


WRONG_QUESTIONS = {
    "wrong rank": (lambda q: q[0], ValueError, r"questions: expected shape"),
    "another batch": (lambda q: q[:1], ValueError, r"state.*expected shape \(1, .*got \(2, "),
    "no question": (lambda q: q[:, :0], ValueError, r"questions: .*no size zero"),
    "longer than a segment": (
        lambda q: q.repeat(1, 1, 3), ValueError, r"questions: expected at most segment_length 5",
    ),
    "a token too large": (lambda q: q + 23, ValueError, r"questions: expected 0 to 22"),
    "float": (lambda q: q.float(), TypeError, r"questions: expected int64 or int32"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("spoil", "error", "message"), WRONG_QUESTIONS.values(), ids=WRONG_QUESTIONS
)
def test_questions_that_do_not_fit_are_an_error_that_names_them(
    lively, draw_tokens, kind, spoil, error, message
):
    model, questions = lively(kind), draw_tokens(2, 3, 2)
    states = model(draw_tokens(2, 13)).states
    with pytest.raises(error, match=f"^{message}"):
        model.ask(spoil(questions), states)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.dtypes("float32")
def test_a_schedule_that_does_not_exist_and_anothers_configuration_are_errors(
    lively, draw_tokens, kind
):
    model = lively(kind)
    with pytest.raises(ValueError, match=r"^schedule: expected one of sequential.*; got 'random'"):
        model(draw_tokens(2, 13), schedule="random")
    with pytest.raises(TypeError, match=r"^config: expected a .*Config, got dict"):
        kind(vars(model.config))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.dtypes("float32")
def test_a_model_can_be_traced_whole_and_pickled(lively, draw_tokens, kind):
    """In one graph: nothing in the loop over segments waits for a number."""
    model, tokens = lively(kind, n_layers=2), draw_tokens(2, 13)  # three segments
    expected = model(tokens).logits
    traced = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(traced(tokens).logits, expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(tokens).logits, expected)
