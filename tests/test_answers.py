"""Reading in training: every way of it gives the gradients that it should."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from test_diagonal_schedule import BOUNDED
from torch.nn.attention import SDPBackend, sdpa_kernel

import armt_mini as am
from armt_mini.tasks.associative_retrieval import AssociativeRetrieval
from armt_mini.training.answers import Answers
from armt_mini.training.evaluation import answer_logits

SIZES = {"vocab_size": 19, "segment_length": 4, **BOUNDED}


@pytest.fixture
def batch(device):
    task = AssociativeRetrieval(rewrite=True)
    return task.sample(3, 7, torch.Generator().manual_seed(5)).to(device)


def with_gradients(model, logits, batch):
    loss = F.cross_entropy(logits.flatten(0, 1), batch.answers.flatten())
    return logits, torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"schedule": "diagonal"},
        {"recompute": 1},
        {"recompute": 3},
        {"recompute": 50, "schedule": "diagonal"},
        {"backprop": 7},
        {"backprop": 50, "recompute": 2},
    ],
    ids=str,
)
def test_nothing_changes_but_time_and_memory(lively, batch, close, close_gradients, options):
    model = lively(**SIZES)
    expected, gradients = with_gradients(model, answer_logits(model, batch), batch)
    answers = Answers(model, **options)
    logits, found = with_gradients(model, answers(batch.pairs, batch.questions), batch)
    close(logits, expected, rtol=1e-9)
    close_gradients(found, gradients)


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("recompute", [None, 1])
def test_gradients_flow_through_the_last_segments_only(
    lively, batch, close, close_gradients, recompute
):
    model = lively(**SIZES)
    with torch.no_grad():
        states = model.memorise(batch.pairs[:, :5].flatten(1))
    states = model.memorise(batch.pairs[:, 5:].flatten(1), states)
    expected = model.ask(batch.questions, states)[:, :, -1]
    expected, gradients = with_gradients(model, expected, batch)
    answers = Answers(model, backprop=2, recompute=recompute)
    logits, found = with_gradients(model, answers(batch.pairs, batch.questions), batch)
    close(logits, expected, rtol=1e-9)
    close_gradients(found, gradients)


@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("recompute", [None, 2])
def test_bfloat16_reads_with_rounded_weights_and_keeps_the_others(lively, batch, recompute):
    model, low = lively(**SIZES), lively(**SIZES).bfloat16()
    before = [weight.clone() for weight in model.parameters()]
    with sdpa_kernel(SDPBackend.MATH) if batch.pairs.is_cuda else nullcontext():
        expected = answer_logits(low, batch)
    expected, low_gradients = with_gradients(low, expected.float(), batch)
    answers = Answers(model, precision="bfloat16", recompute=recompute)
    logits, gradients = with_gradients(model, answers(batch.pairs, batch.questions), batch)
    assert torch.equal(logits, expected)
    assert logits.dtype == torch.float32
    for gradient, low_gradient in zip(gradients, low_gradients, strict=True):
        assert gradient.dtype == torch.float32
        # Sums in parts are rounded otherwise, each to 8 bits.
        away = (gradient - low_gradient.float()).abs().max()
        assert away <= 0.02 * low_gradient.float().abs().max()
    for weight, unchanged in zip(model.parameters(), before, strict=True):
        assert torch.equal(weight, unchanged)


@pytest.mark.dtypes("float32")
def test_less_is_kept_for_the_way_back(lively, batch):
    def kept(**options):
        model, sizes = lively(**SIZES), []

        def pack(tensor):
            sizes.append(tensor.untyped_storage().nbytes())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            Answers(model, **options)(batch.pairs, batch.questions)
        return sum(sizes)

    everything = kept()
    assert kept(recompute=1) < 0.3 * everything
    assert kept(backprop=2) < 0.5 * everything


@pytest.mark.usefixtures("unchecked")
@pytest.mark.dtypes("float32")
def test_what_a_model_does_not_have_is_an_error(lively):
    for kind, options, message in (
        (
            am.RMT,
            {"schedule": "diagonal"},
            "^schedule: expected one of sequential, captured; got 'diagonal'",
        ),
        (am.ARMT, {"precision": "float16"}, "^precision: expected one of float32, tf32, bfloat16"),
        (am.ARMT, {"recompute": -1}, "^recompute: expected at least 1, got -1"),
        (am.ARMT, {"recompute": 0}, "^recompute: expected at least 1, got 0"),
        (am.ARMT, {"backprop": 0}, "^backprop: expected at least 1, got 0"),
        (am.ARMT, {"backprop": -1}, "^backprop: expected at least 1, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            Answers(lively(kind), **options)


@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("options", [{"recompute": 1}, {"backprop": 1}])
def test_segments_are_counted_only_where_each_holds_a_pair(lively, batch, options):
    model = lively(**SIZES | {"segment_length": 8})
    with pytest.raises(ValueError, match=r"^recompute, backprop: expected pairs .* 8 .* got 4"):
        Answers(model, **options)(batch.pairs, batch.questions)
