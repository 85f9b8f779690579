"""Two ways to the same thing: loop and vectorised, pieces and whole, alone and in a batch.

What is compared has weights, strengths and states away from zero: the memory of a fresh model is
empty, and there a wrong rule would go unseen (the first test sees to that).
"""

from itertools import combinations

import pytest
import torch

import armt_mini as am

MODELS = [am.ARMT, am.RMT, am.PRMT]
LENGTH = 13  # two segments of 5 and a short one of 3


def gradients(loss, leaves):
    """Gradients, zeros where none arrives."""
    grads = torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)]


def parts(states):
    """All tensors of a model's states."""
    return [part for state in states for part in (state if isinstance(state, tuple) else (state,))]


def test_all_rules_give_different_logits(lively, draw_tokens):
    tokens = draw_tokens(2, LENGTH)
    logits = {rule: lively(rule=rule)(tokens).logits for rule in am.RULES}
    for one, other in combinations(am.RULES, 2):
        difference = (logits[one] - logits[other]).abs().amax(dim=(0, 2))
        # The first segment reads nothing; the second one write, which only "deltanet" does not
        # divide by z.
        n_alike = 5 if other == "deltanet" else 10
        assert (difference[:n_alike] == 0).all(), (one, other)
        assert (difference[n_alike:] > 1e-3).all(), (one, other)


# Memory tokens


def write_one_by_one(state, keys, values, strengths, rule, eps, clip):
    """Sample by sample and token by token; every token reads the state before the call."""
    associations, normalisers = [], []
    for a, z, ks, vs, betas in zip(*state, keys, values, strengths, strict=True):
        new_a, new_z = a, z
        for k, v, beta in zip(ks, vs, betas, strict=True):
            overlap = (z * k).sum()
            old = (a * k[:, None]).sum(dim=0) / (overlap + eps)
            gamma = 1 - (overlap.detach() + eps) / ((k * k).sum().detach() + eps)
            if clip:
                gamma = gamma.clamp(0, 1)
            if "gamma" not in rule or not z.any():
                gamma = torch.ones_like(gamma)
            if rule == "additive":
                old = torch.zeros_like(old)
            if rule == "gamma_erase":
                old = (1 - gamma) * old
            if rule == "deltanet":
                old, gamma = (a * k[:, None]).sum(dim=0), torch.zeros_like(gamma)
            new_a = new_a + beta * k[:, None] * (v - old)[None, :]
            new_z = new_z + gamma * k
        associations.append(new_a)
        normalisers.append(new_z)
    return am.MemoryState(torch.stack(associations), torch.stack(normalisers))


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("is_empty", [True, False])
@pytest.mark.parametrize("rule", am.RULES)
def test_a_loop_over_memory_tokens_that_read_the_previous_state_equals_the_vectorised_write(
    memory, pairs, draw, close, close_gradients, rule, is_empty, clip
):
    leaves = [*memory(), *pairs(), *pairs()]
    if is_empty:
        leaves[:2] = [torch.zeros_like(part) for part in leaves[:2]]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    vectorised, looped = am.MemoryState(*leaves[:2]), am.MemoryState(*leaves[:2])
    for inputs in (leaves[2:5], leaves[5:]):  # two segments
        vectorised = am.write(vectorised, *inputs, rule=rule, eps=0.25, clip_gamma=clip)
        looped = write_one_by_one(looped, *inputs, rule, 0.25, clip)
    close(vectorised, looped)
    directions = draw(2, 7, 5), draw(2, 7)
    one, other = (
        gradients(sum((p * d).sum() for p, d in zip(state, directions, strict=True)), leaves)
        for state in (vectorised, looped)
    )
    close_gradients(one, other)


@pytest.mark.parametrize("rule", am.RULES[1:])
def test_memory_tokens_of_one_call_do_not_see_each_other(memory, pairs, rule):
    state, inputs = memory(), pairs()
    together, in_turn = am.write(state, *inputs, rule=rule), state
    for i in range(3):
        in_turn = am.write(in_turn, *(x[:, i : i + 1] for x in inputs), rule=rule)
    assert (together.associations - in_turn.associations).abs().max() > 1e-2


# Pieces and whole


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("cuts", [(5,), (10,), (5, 10)])
def test_cutting_at_a_segment_boundary_and_passing_states_on_changes_nothing(
    lively, draw_tokens, draw, close, close_gradients, kind, cuts
):
    model, tokens = lively(kind), draw_tokens(2, LENGTH)
    whole, pieces, states = model(tokens), [], None
    for piece in tokens.tensor_split(cuts, dim=1):
        logits, states = model(piece, states)
        pieces.append(logits)
    pieces = torch.cat(pieces, dim=1)
    close(pieces, whole.logits)
    close(parts(states), parts(whole.states))
    # Gradients flow through the states that were passed on.
    direction, leaves = draw(2, LENGTH, 23), list(model.parameters())
    last = pieces[:, 10:], whole.logits[:, 10:]
    one, other = (gradients((logits * direction[:, 10:]).sum(), leaves) for logits in last)
    close_gradients(one, other)


@pytest.mark.parametrize("kind", MODELS)
def test_cutting_elsewhere_does_change_something(lively, draw_tokens, kind):
    model, tokens = lively(kind), draw_tokens(2, LENGTH)
    first, states = model(tokens[:, :7])
    rest = model(tokens[:, 7:], states).logits
    assert (torch.cat([first, rest], dim=1) - model(tokens).logits)[:, 7:].abs().max() > 1e-2


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("length", [1, 3, 4])
def test_a_short_last_segment_gives_what_a_full_one_gives_at_its_tokens(
    lively, draw_tokens, close, kind, length
):
    model, tokens = lively(kind), draw_tokens(2, 15)
    short = model(tokens[:, : 10 + length])
    assert short.logits.shape == (2, 10 + length, 23)
    close(short.logits, model(tokens).logits[:, : 10 + length])


@pytest.mark.parametrize("kind", MODELS)
def test_memorising_gives_the_states_of_the_forward_call(lively, draw_tokens, close, kind):
    model, tokens = lively(kind), draw_tokens(2, LENGTH)
    close(parts(model.memorise(tokens)), parts(model(tokens).states))
    states = model.memorise(tokens[:, :5])
    close(parts(model.memorise(tokens[:, 5:], states)), parts(model(tokens).states))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("length", [2, 5])
def test_asking_equals_running_each_question_as_the_next_segment(
    lively, draw_tokens, draw, close, close_gradients, kind, length
):
    model, questions = lively(kind), draw_tokens(2, 3, length)
    states = model.memorise(draw_tokens(2, 10))
    answers = model.ask(questions, states)
    assert answers.shape == (2, 3, length, 23)
    one_by_one = torch.stack([model(questions[:, i], states).logits for i in range(3)], dim=1)
    close(answers, one_by_one)
    direction, leaves = draw(2, 3, length, 23), list(model.parameters())
    one, other = (gradients((x * direction).sum(), leaves) for x in (answers, one_by_one))
    close_gradients(one, other)


# Alone and in a batch


@pytest.mark.parametrize("kind", MODELS)
def test_each_sample_alone_equals_its_batch(
    lively, draw_tokens, draw, close, close_gradients, dtype, kind
):
    # A library may take the sums of another batch size in another order.
    rtol = 1e-11 if dtype == torch.float64 else 3e-4
    model, tokens, direction = lively(kind), draw_tokens(3, LENGTH), draw(3, LENGTH, 23)
    leaves = list(model.parameters())
    together = model(tokens)
    of_all = gradients((together.logits * direction).sum(), leaves)
    of_each = [torch.zeros_like(leaf) for leaf in leaves]
    for i in range(3):
        alone = model(tokens[i : i + 1])
        close(alone.logits[0], together.logits[i], rtol=rtol)
        for part, whole in zip(parts(alone.states), parts(together.states), strict=True):
            close(part[0], whole[i], rtol=rtol)
        own = gradients((alone.logits * direction[i]).sum(), leaves)
        of_each = [total + grad for total, grad in zip(of_each, own, strict=True)]
    close_gradients(of_each, of_all)
    assert (together.logits[0] - together.logits[1]).abs().max() > 1e-2


# Before and after


@pytest.mark.parametrize("kind", MODELS)
def test_a_token_changes_its_own_and_later_logits_in_its_segment_and_later_ones_only(
    lively, draw_tokens, kind
):
    model, tokens = lively(kind), draw_tokens(2, LENGTH)
    before = model(tokens).logits
    for changed in (2, 7):
        other = tokens.clone()
        other[:, changed] = (other[:, changed] + 1) % 23
        change = (model(other).logits - before).abs().amax(dim=(0, 2))
        assert (change[:changed] == 0).all()
        assert (change[changed:] > 1e-5).all()  # later segments too: the memory carries it


@pytest.mark.parametrize("kind", MODELS)
def test_what_a_segment_held_reaches_the_next_one_through_the_states_alone(
    lively, draw_tokens, kind
):
    model, first, second = lively(kind), draw_tokens(2, 5), draw_tokens(2, 5)
    together = model(torch.cat([first, second], dim=1)).logits[:, 5:]
    handed_on = model(second, model(first).states).logits
    fresh = model(second).logits
    assert torch.equal(together, handed_on)
    assert (together - fresh).abs().max() > 1e-2
    for other_states in model(draw_tokens(2, 5)).states, model.empty_states(2):
        assert (model(second, other_states).logits - together).abs().max() > 1e-2


@pytest.mark.parametrize("kind", MODELS)
def test_no_call_changes_the_states_tokens_or_weights_it_is_given(lively, draw_tokens, kind):
    model, tokens = lively(kind), draw_tokens(2, LENGTH)
    states, questions = model(tokens).states, draw_tokens(2, 3, 2)
    kept = [*parts(states), tokens, questions, *model.parameters(), *model.buffers()]
    before = [x.clone() for x in kept]
    list_before = list(states)
    model(tokens, states)
    model.memorise(tokens, states)
    model.ask(questions, states)
    assert all(torch.equal(x, y) for x, y in zip(before, kept, strict=True))
    assert all(x is y for x, y in zip(list_before, states, strict=True))
