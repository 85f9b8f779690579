"""The diagonal order gives what the sequential one gives: logits, states and every gradient."""

import pytest
import torch
from test_equivalences import gradients, parts

import armt_mini as am
from armt_mini import captured_schedule
from armt_mini.associative_layer import associative_layer
from armt_mini.diagonal_schedule import read_diagonally

ORDERS = "sequential", "diagonal"

# The paper's rule overflows in some models of random weights; these options keep it bounded.
BOUNDED = {"unit_features": True, "memory_norm": True, "eps": 1e-3}
SHAPES = [  # layers, tokens (segments have 5), batch
    (1, 3, 1),  # one layer, one short segment
    (1, 20, 2),
    (3, 5, 1),  # one segment
    (3, 8, 2),  # fewer segments than layers, the last one short
    (4, 10, 1),
    (3, 15, 3),
    (2, 38, 2),  # many segments, the last one short
]


def sensible(n_layers: int) -> am.ARMTConfig:
    """A fresh model of it does not magnify roundings, as `lively` ones do."""
    scales = {"embedding_std": 0.5, "attention_std": 0.25, "value_std": 0.1}
    sizes = {"vocab_size": 23, "d_model": 16, "n_layers": n_layers, "n_heads": 2, "d_memory": 4}
    return am.ARMTConfig(**sizes, segment_length=5, n_memory_tokens=2, **scales, **BOUNDED)


def read_on(model, schedule, before, tokens):
    """Logits, states and gradients; the first call hands its states on, and gradients flow back."""
    out = model(tokens, model(before, schedule=schedule).states, schedule=schedule)
    loss = out.logits.square().mean() + sum(part.square().mean() for part in parts(out.states))
    return out.logits, parts(out.states), gradients(loss, list(model.parameters()))


@pytest.mark.parametrize(("n_layers", "length", "batch"), SHAPES)
def test_diagonal_and_sequential_agree_in_logits_states_and_gradients(
    lively, draw_tokens, close, close_gradients, device, dtype, n_layers, length, batch
):
    model = am.ARMT(sensible(n_layers)).to(device, dtype)
    if dtype == torch.float64:
        model = lively(n_layers=n_layers, **BOUNDED)
    tokens, before = draw_tokens(batch, length), draw_tokens(batch, 10)
    one, other = (read_on(model, schedule, before, tokens) for schedule in ORDERS)
    precision = {"rtol": 1e-9 if dtype == torch.float64 else 1e-3}
    close(other[0], one[0], **precision)
    close(other[1], one[1], **precision)
    close_gradients(other[2], one[2])


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("rule", am.RULES)
def test_the_diagonal_order_knows_every_rule(lively, draw_tokens, close, rule):
    model, tokens = lively(rule=rule, **BOUNDED), draw_tokens(2, 23)
    close(model(tokens, schedule="diagonal").logits, model(tokens).logits, rtol=1e-9)
    one, other = (model.memorise(tokens, schedule=schedule) for schedule in ORDERS)
    close(parts(other), parts(one), rtol=1e-9)


@pytest.mark.dtypes("float64")
def test_the_orders_can_take_turns(lively, draw_tokens, close):
    model, tokens = lively(**BOUNDED), draw_tokens(2, 25)
    states, logits = None, []
    schedules = "diagonal", "sequential", "diagonal"
    for piece, schedule in zip(tokens.split(10, dim=1), schedules, strict=True):
        out = model(piece, states, schedule=schedule)
        states = out.states
        logits.append(out.logits)
    close(torch.cat(logits, dim=1), model(tokens).logits, rtol=1e-9)


@pytest.mark.dtypes("float32")
def test_as_few_steps_as_there_are_diagonals(lively, draw_tokens, monkeypatch):
    model, sizes = lively(n_layers=3), []

    def counted(weights, hidden, state, config):
        sizes.append(len(hidden))
        return associative_layer(weights, hidden, state, config)

    monkeypatch.setattr(captured_schedule, "associative_layer", counted)
    model.memorise(draw_tokens(1, 25), schedule="diagonal")
    assert sizes == [1, 2, 3, 3, 3, 2, 1]  # five segments and three layers: 5 + 3 - 1


def test_no_segment_changes_nothing(memory):
    states = [memory(), memory()]
    after = read_diagonally(associative_layer, {}, [], states, use=pytest.fail)
    for one, other in zip(parts(after), parts(states), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_in_bfloat16_the_orders_stay_within_rounding_of_each_other_over_1_000_segments(device):
    """Closer to each other than either is to float64, at the end as at the beginning."""
    model = am.ARMT(sensible(2)).to(device, torch.bfloat16)
    exact = am.ARMT(sensible(2)).to(device).double()
    exact.load_state_dict({name: w.double() for name, w in model.state_dict().items()})
    tokens = torch.randint(0, 23, (1, 5000), generator=torch.Generator().manual_seed(13)).to(device)
    with torch.no_grad():
        one, other = (model(tokens, schedule=schedule).logits for schedule in ORDERS)
        expected = exact(tokens).logits
    rounding = (one - expected).abs().view(1000, -1).mean(dim=1)
    difference = (one - other).double().abs().view(1000, -1).mean(dim=1)
    for part in (slice(0, 100), slice(-100, None)):
        assert difference[part].mean() <= 1.5 * rounding[part].mean()
        assert 0 < rounding[part].mean() < 0.2 * expected.abs().mean()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("kind", [am.RMT, am.PRMT])
def test_a_model_without_the_diagonal_order_says_so(lively, draw_tokens, kind):
    with pytest.raises(ValueError, match=r"^schedule: expected one of sequential; got 'diagonal'"):
        lively(kind)(draw_tokens(2, 13), schedule="diagonal")
