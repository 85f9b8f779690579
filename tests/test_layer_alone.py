"""The layer alone against the public functions it is made of, and whether it learns."""

import pickle

import pytest
import torch

import armt_mini as am
from armt_mini.baselines.layer_alone import LayerAlone, LayerAloneConfig
from armt_mini.memory_state import fade
from armt_mini.tasks.associative_retrieval import QUERY, VOCAB_SIZE, AssociativeRetrieval
from armt_mini.training.evaluation import exact_match
from armt_mini.training.loop import Stage, TrainingConfig, train

TASK = AssociativeRetrieval(rewrite=True)


def make(dtype=torch.float64, device="cpu", seed: int = 0, **changes) -> LayerAlone:
    sizes = dict(vocab_size=19, d_model=11, d_memory=5, nu=2) | changes
    return LayerAlone(LayerAloneConfig(**sizes), seed).to(device, dtype)


def sample(n_pairs: int = 7, device="cpu", n_questions: int | None = None):
    return TASK.sample(3, n_pairs, torch.Generator().manual_seed(5), n_questions).to(device)


@pytest.mark.parametrize("rule", am.RULES)
def test_it_is_one_write_a_pair_and_one_read_a_question(rule, device, dtype, close):
    model, batch = make(dtype, device, rule=rule), sample(device=device)
    (state,) = model.memorise(batch.pairs.flatten(1))
    expected = am.MemoryState.empty(3, 20, 11, dtype=dtype, device=device)
    for pair in batch.pairs.unbind(1):
        token = model.key_embedding[pair[:, 0]] + model.value_embedding[pair[:, 2]]
        key = am.dpfp(token @ model.key_weight, 2).unsqueeze(1)
        value = (token @ model.value_weight).unsqueeze(1)
        strength = torch.sigmoid(token @ model.strength_weight + model.strength_bias)
        expected = am.write(expected, key, value, strength, rule, eps=1e-3)
    close(state, expected)

    logits = model.ask(batch.questions, [state])
    queries = am.dpfp(model.key_embedding[batch.questions[:, :, 0]] @ model.query_weight, 2)
    recalled = am.read(expected, queries, eps=1e-3, normalise=rule != "deltanet")
    close(logits[:, :, 1], recalled @ model.head)
    close(logits[:, :, 0], logits[:, :, 1])


def test_the_rules_differ():
    batch = sample(31)
    gamma, delta, additive = (
        make(rule=rule).memorise(batch.pairs.flatten(1))[0]
        for rule in ("gamma", "delta", "additive")
    )
    assert (gamma.normaliser - delta.normaliser).abs().max() > 1e-3
    assert (delta.associations - additive.associations).abs().max() > 1e-3


def test_options_reach_the_rule():
    tokens = sample(31).pairs.flatten(1)
    plain = make().memorise(tokens)[0]
    for changes in ({"clip_gamma": False}, {"eps": 0.5}, {"unit_features": True}):
        (state,) = make(**changes).memorise(tokens)
        assert (state.normaliser - plain.normaliser).abs().max() > 1e-3, changes


def test_a_memory_fades_before_every_pair(close):
    tokens = sample(3).pairs.flatten(1)
    before = make().memorise(tokens[:, :8])
    expected = make().memorise(tokens[:, 8:], [fade(before[0], 0.5)])
    close(make(retention=0.5).memorise(tokens[:, 8:], before), expected)


def test_reading_in_pieces_is_reading_at_once():
    model, tokens = make(), sample(7).pairs.flatten(1)
    first = model.memorise(tokens[:, :12])
    for a, b in zip(
        model.memorise(tokens[:, 12:], first)[0], model.memorise(tokens)[0], strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_each_sample_alone_gives_what_its_batch_gives():
    model, batch = make(), sample()
    together = model.ask(batch.questions, model.memorise(batch.pairs.flatten(1)))
    for number in range(3):
        one = slice(number, number + 1)
        alone = model.ask(batch.questions[one], model.memorise(batch.pairs[one].flatten(1)))
        torch.testing.assert_close(alone, together[one], rtol=1e-12, atol=1e-12)


def test_every_weight_gets_a_gradient():
    model, batch = make(), sample()
    model.ask(batch.questions, model.memorise(batch.pairs.flatten(1))).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_it_can_be_pickled_with_every_feature_map():
    for changes in ({}, {"unit_features": True}, {"feature_map": "relu"}):
        model, tokens = make(**changes), sample(2).pairs.flatten(1)
        copy = pickle.loads(pickle.dumps(model))
        assert torch.equal(copy.memorise(tokens)[0][0], model.memorise(tokens)[0][0])


def test_an_empty_memory_answers_nothing():
    model = make()
    questions = torch.tensor([[[3, QUERY]]])
    assert model.ask(questions, model.empty_states(1)).abs().max() == 0


def test_the_seed_fixes_the_weights():
    for a, b, other in zip(*(make(seed=s).parameters() for s in (1, 1, 2)), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, other) or a.numel() == 1  # the strength's bias starts at zero


def test_250_steps_teach_it_to_rewrite():
    """Seeds 0 to 5 answer 97.5 to 99.2 % after 7 writes, and 87.6 to 95.2 % after 50."""
    model = LayerAlone(LayerAloneConfig(vocab_size=VOCAB_SIZE))
    config = TrainingConfig(
        stages=[Stage(n_pairs=(2, 7), max_steps=250)],
        batch_size=32,
        learning_rate=1e-2,
        weight_decay=0.3,
        final_lr=0.02,
    )
    untrained = exact_match(model, TASK, 7, n_questions=3).accuracy
    history = train(model, TASK, config, progress=False)
    assert untrained < 0.2
    assert sum(history.accuracy[-50:]) / 50 > 0.95
    assert exact_match(model, TASK, 7, n_questions=3).accuracy > 0.95
    assert exact_match(model, TASK, 50, n_questions=16, n_samples=64).accuracy > 0.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 0}, "d_model: expected at least 1"),
        ({"eps": -1e-3}, "eps: expected at least 0"),
        (
            {"rule": "beta"},
            "rule: expected one of additive, delta, gamma, gamma_erase, deltanet; got 'beta'",
        ),
        ({"nu": 10}, "nu: expected 1 to 9 for inputs of size 5"),
    ],
)
def test_impossible_configurations_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.usefixtures("unchecked")
def test_tokens_and_states_that_do_not_fit_are_errors():
    model, tokens = make(), sample(2).pairs.flatten(1)
    questions = sample(2).questions
    states = model.memorise(tokens)
    with pytest.raises(ValueError, match=r"whole pairs of 4 tokens \(key size 1\), got 7"):
        model.memorise(tokens[:, :7])
    with pytest.raises(ValueError, match="tokens: expected 0 to 18"):
        model.memorise(tokens + 1)
    with pytest.raises(ValueError, match=r"questions: expected shape \(batch, questions, 2\)"):
        model.ask(questions[:, :, :1], states)
    with pytest.raises(ValueError, match="states: expected length 1, got 2"):
        model.memorise(tokens, states * 2)
    with pytest.raises(ValueError, match="states: expected length 1, got 0"):
        model.memorise(tokens, [])
    with pytest.raises(ValueError, match=r"states\[0\]\.associations: expected shape"):
        model.ask(questions[:2], states)
    with pytest.raises(TypeError, match=r"states\[0\]\.associations: expected torch\.float32"):
        make(torch.float32).ask(questions, states)
