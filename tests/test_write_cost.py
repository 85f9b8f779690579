"""What writes cost: a gradient that is the same as if their sum were part of the loss."""

import pytest
import torch
from test_captured_schedule import COMPILER_SAYS
from test_diagonal_schedule import BOUNDED, read_on

from armt_mini.configuration import MemoryConfig
from armt_mini.write_cost import with_cost

pytestmark = COMPILER_SAYS


def test_the_gradient_is_that_of_a_loss_with_the_cost_of_all_writes(draw, close):
    x, weights = draw(3, 5, 2).requires_grad_(), draw(3, 5, 2)
    strengths = x.sigmoid()
    loss = (weights * strengths).sum() + 0.3 * strengths.sum((0, 2)).mean()  # a mean over texts
    (expected,) = torch.autograd.grad(loss, x)
    strengths = with_cost(x.sigmoid(), 0.3)
    close(strengths, x.sigmoid())
    (found,) = torch.autograd.grad((weights * strengths).sum(), x)
    close(found, expected)


def test_a_text_of_which_nothing_is_asked_costs_nothing_beside_one_of_which_something_is(draw):
    x = draw(2, 2, 3).requires_grad_()
    with_cost(x, 0.5)[:, 0].sum().backward()
    assert (x.grad[:, 0] == 1 + 0.25).all()
    assert (x.grad[:, 1] == 0).all()


@pytest.mark.parametrize("schedule", ["sequential", "diagonal"])
def test_a_model_learns_to_write_less(lively, draw_tokens, schedule):
    """Of each β the cost asks the same, whatever else the loss asks."""
    tokens = draw_tokens(2, 15)
    biases = []
    for cost in (0.0, 0.25):
        model = lively(write_cost=cost, rule="deltanet")
        model(tokens, schedule=schedule).logits.square().mean().backward()
        biases.append(model.layers["memory_strength_bias"].grad)
        assert model.layers["memory_strength_weight"].grad.isfinite().all()
    assert (biases[1] > biases[0]).all(), "the bias of β falls faster in every layer"


@pytest.mark.usefixtures("recordable")
@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("schedule", ["diagonal", "compiled"])
@pytest.mark.parametrize("n_read", [10, 23])
def test_a_write_costs_the_same_in_every_order(
    lively, draw_tokens, close_gradients, schedule, n_read
):
    """Also where a diagonal computes cells without a segment, and with a short last segment."""
    model, before = lively(write_cost=0.5, **BOUNDED), draw_tokens(2, 10)
    tokens = draw_tokens(2, n_read)
    found, expected = (read_on(model, order, before, tokens) for order in (schedule, "sequential"))
    close_gradients(found[2], expected[2])


def test_what_no_answer_depends_on_costs_nothing(draw):
    x = draw(3, 2, 2).requires_grad_()
    strengths = with_cost(x, 0.3)
    (found,) = torch.autograd.grad(strengths[1].sum(), x)
    assert found.count_nonzero((1, 2)).tolist() == [0, 4, 0]


def test_a_cost_changes_nothing_but_gradients(lively, draw_tokens):
    tokens = draw_tokens(2, 13)
    assert torch.equal(lively(write_cost=0.5)(tokens).logits, lively()(tokens).logits)
    with pytest.raises(ValueError, match=r"^write_cost: expected at least 0, got -1"):
        MemoryConfig(d_memory=3, write_cost=-1.0)
