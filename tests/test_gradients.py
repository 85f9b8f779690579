"""The gradient of a batch, from graphs: the same as without them, whatever was played before."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from small_runs import TASK, recipe, small
from test_captured_schedule import COMPILER_SAYS
from test_diagonal_schedule import BOUNDED, sensible

import armt_mini as am
from armt_mini.baselines.layer_alone import LayerAlone
from armt_mini.baselines.mamba import Mamba, MambaConfig
from armt_mini.tasks.babilong import NO_ANSWER, Babilong, BabilongBatch
from armt_mini.training.answers import Answers
from armt_mini.training.gradients import CapturedGradients, Gradients
from armt_mini.training.loop import train
from armt_mini.training.workers import Workers

pytestmark = COMPILER_SAYS
SIZES = {"vocab_size": 19, "segment_length": 4, **BOUNDED}
WITHOUT_MEMORY = {"vocab_size": 19, "segment_length": 4}


def batches(device):
    """Of two shapes in turn, every one another."""
    generator = torch.Generator().manual_seed(3)
    return [TASK.sample(3, n_pairs, generator).to(device) for n_pairs in (7, 2, 7, 2, 7)]


@pytest.mark.usefixtures("recordable")
@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("kind", [am.ARMT, am.RMT, am.PRMT, Mamba, LayerAlone])
def test_what_graphs_give_is_what_a_step_without_them_gives(
    lively, device, dtype, close, close_gradients, kind
):
    def made():
        if kind is Mamba:
            made = Mamba(MambaConfig(vocab_size=19, d_model=14, n_layers=2, d_state=5))
        elif kind is LayerAlone:
            made = small()
        else:
            made = lively(kind, **(SIZES if kind is am.ARMT else WITHOUT_MEMORY))
        return made.to(device, dtype)

    model, twin = made(), made()
    captured = CapturedGradients(Gradients(Answers(model, schedule="captured"), 0.5))
    plain = Gradients(Answers(twin), 0.5)
    for batch in batches(device):
        measures, expected = captured(batch), plain(batch)
        close(list(measures), list(expected), rtol=1e-9)
        close_gradients([p.grad for p in model.parameters()], [p.grad for p in twin.parameters()])
        with torch.no_grad():  # as an optimiser would, in place
            for parameter in (*model.parameters(), *twin.parameters()):
                parameter.sub_(0.1 * parameter.grad)
    assert len(captured.graphs) == 2


@pytest.mark.dtypes("float64")
def test_where_there_is_no_question_nothing_is_learned_or_counted(lively, device, close):
    task = Babilong(task="qa4", segment_length=12)
    segments, questions, answers = task.sample(2, 36, torch.Generator().manual_seed(0), 4).to(
        device
    )
    model = lively(am.ARMT, **SIZES | {"vocab_size": 4096, "segment_length": 12, "n_positions": 12})
    answers[:, 0] = Answers(model)(segments, questions)[:, 0].argmax(dim=-1)
    answers[:, 2:] = NO_ANSWER
    gradients = Gradients(Answers(model), 0.5)

    def of(n_questions):
        batch = BabilongBatch(segments, questions[:, :n_questions], answers[:, :n_questions])
        return [*gradients(batch), *(parameter.grad.clone() for parameter in model.parameters())]

    close(of(4), of(2))
    assert gradients(BabilongBatch(segments, questions, answers)).accuracy == 1 / 2


@pytest.mark.usefixtures("recordable")
@pytest.mark.parametrize("options", [{}, {"precision": "bfloat16"}, {"recompute": 2}], ids=str)
def test_a_training_from_graphs_is_the_training(device, options):
    def losses(**more):
        model = am.ARMT(replace(sensible(2), vocab_size=19, segment_length=4)).to(device).double()
        return train(model, TASK, recipe(**options, **more), progress=False).loss

    # Training magnifies differences of rounding, so those of bfloat16 are compared for a few steps.
    steps, rounding = (5, 0.05) if "precision" in options else (19, 1e-6)
    found, expected = (losses(schedule=order)[:steps] for order in ("captured", "diagonal"))
    assert found == pytest.approx(expected, rel=rounding)


@pytest.mark.dtypes("float32")
@pytest.mark.usefixtures("unchecked")
def test_where_no_graph_can_be_made_an_error_says_why(lively, device, recordable, monkeypatch):
    run = partial(train, lively(**SIZES), TASK, recipe(schedule="captured"), progress=False)
    with pytest.raises(ValueError, match=r"^schedule 'captured': works in one process, got 3"):
        run(workers=Workers(0, 3))
    if device == "cpu":
        monkeypatch.undo()
        with pytest.raises(ValueError, match=r"^schedule: 'captured' needs an NVIDIA GPU"):
            run()
