"""Training: stages, the optimiser's step, and runs that are stopped and go on.

A run that is stopped in any way and goes on must have the losses of one that was not, to the bit.
"""

import math
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import armt_mini as am
from armt_mini.baselines.layer_alone import LayerAlone, LayerAloneConfig
from armt_mini.tasks.associative_retrieval import AssociativeRetrieval
from armt_mini.training import loop
from armt_mini.training.checkpoints import read_checkpoint
from armt_mini.training.loop import History, Stage, TrainingConfig, train

TASK = AssociativeRetrieval(rewrite=True)
STAGES = [Stage(n_pairs=(1, 3), max_steps=7), Stage(n_pairs=(2, 5), max_steps=12)]


def small(seed: int = 0, **changes) -> LayerAlone:
    config = LayerAloneConfig(**(dict(vocab_size=19, d_model=5, d_memory=3, nu=2) | changes))
    return LayerAlone(config, seed)


def recipe(**changes) -> TrainingConfig:
    plain = dict(stages=STAGES, batch_size=3, learning_rate=0.01, final_lr=0.1, checkpoint_every=5)
    return TrainingConfig(**(plain | changes))


def run(model=None, task=TASK, config=None, checkpoint=None) -> History:
    return train(
        small() if model is None else model,
        task,
        recipe() if config is None else config,
        checkpoint=checkpoint,
        progress=False,
    )


def at_step(monkeypatch, number: int, action) -> None:
    """From now on `action` happens in the middle of this step: after its update, unrecorded."""
    update = torch.optim.AdamW.step
    calls = [0]

    def step(self, *arguments):
        result = update(self, *arguments)
        calls[0] += 1
        if calls[0] == number + 1:
            action()
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step)


# Stages


def test_each_stage_draws_numbers_of_pairs_from_its_range_both_ends_included():
    history = run()
    assert history.stage == [0] * 7 + [1] * 12
    assert set(history.n_pairs[:7]) == {1, 2, 3}
    assert set(history.n_pairs[7:]) == {2, 3, 4, 5}


def test_a_stage_ends_when_the_mean_of_its_own_last_fifty_steps_is_reached():
    stage, history = Stage(n_pairs=(1, 1), max_steps=200, until=0.5), History()
    history.stage, history.accuracy = [0] * 49, [1.0] * 49
    assert not history.is_finished(0, stage)  # 49 steps are no fifty
    history.stage, history.accuracy = [0] * 60, [0.0] * 36 + [1.0] * 24
    assert not history.is_finished(0, stage)  # 24 of the last 50
    history.stage, history.accuracy = [0] * 61, [0.0] * 36 + [1.0] * 25
    assert history.is_finished(0, stage)  # 25 of the last 50
    history.stage, history.accuracy = history.stage + [1] * 49, history.accuracy + [1.0] * 49
    assert not history.is_finished(1, stage)  # steps of the stage before do not count
    history.accuracy[-49:] = [0.0] * 49
    assert history.is_finished(0, stage)  # and those of the stage after do not undo it


def test_a_stage_ends_after_its_most_steps_whatever_its_accuracy():
    history = History(stage=[0] * 3 + [1] * 7, accuracy=[0.0] * 10)
    assert history.is_finished(0, Stage(n_pairs=(1, 1), max_steps=3))
    assert not history.is_finished(0, Stage(n_pairs=(1, 1), max_steps=4))
    assert history.is_finished(1, Stage(n_pairs=(1, 1), max_steps=7))
    assert not history.is_finished(2, Stage(n_pairs=(1, 1), max_steps=1))


def test_early_stop_in_training_and_the_steps_that_are_left():
    stages = [Stage(n_pairs=(1, 2), max_steps=90, until=0.0), Stage(n_pairs=(1, 2), max_steps=3)]
    assert History().steps_left(stages) == 93
    history = run(config=recipe(stages=stages))
    assert history.stage == [0] * 50 + [1] * 3
    assert history.steps_left(stages) == 0
    assert History(stage=[0] * 50).steps_left(stages) == 43
    assert History(stage=[0] * 50 + [1]).steps_left(stages) == 2


def test_the_learning_rate_falls_in_the_last_stage_only():
    config = recipe(
        stages=[Stage(n_pairs=(1, 1), max_steps=5), Stage(n_pairs=(1, 1), max_steps=4)],
        learning_rate=0.1,
        final_lr=0.5,
    )
    assert [config.stage_learning_rate(0, steps) for steps in (0, 4)] == [0.1, 0.1]
    falling = [config.stage_learning_rate(1, steps) for steps in range(4)]
    assert falling == pytest.approx([0.1, 0.0875, 0.075, 0.0625])


# One step


def test_a_step_is_adamw_on_the_clipped_gradient_of_the_mean_cross_entropy():
    model, twin = small(), small()
    config = recipe(clip_norm=0.01, weight_decay=0.7, betas=(0.8, 0.9))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.8, 0.9), weight_decay=0.7)
    history = History()
    loop.step(model, TASK, config, optimiser, history, 0)

    batch = loop_batch(config, 0)
    logits = twin.ask(batch.questions, twin.memorise(batch.pairs.flatten(1)))[:, :, -1]
    right = logits.log_softmax(dim=-1).gather(2, batch.answers.unsqueeze(2))
    loss = -right.mean()
    loss.backward()
    assert history.loss == [pytest.approx(loss.item(), rel=1e-6)]
    assert history.accuracy == [(logits.argmax(2) == batch.answers).float().mean().item()]
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in twin.parameters()))
    assert norm > 0.01
    with torch.no_grad():
        for parameter, updated in zip(twin.parameters(), model.parameters(), strict=True):
            gradient = parameter.grad * 0.01 / norm
            # Adam's first step: both moments are those of one gradient.
            expected = parameter * (1 - 0.01 * 0.7) - 0.01 * gradient / (gradient.abs() + 1e-8)
            torch.testing.assert_close(updated, expected, rtol=1e-3, atol=1e-5)


def loop_batch(config: TrainingConfig, number: int):
    """What step `number` of stage 0 sees."""
    seen = []

    class Task(AssociativeRetrieval):
        def sample(self, *arguments):
            seen.append(super().sample(*arguments))
            return seen[-1]

    history = History(stage=[0] * number, n_pairs=[0] * number, loss=[0] * number, accuracy=[])
    model = small()
    optimiser = torch.optim.AdamW(model.parameters())
    loop.step(model, Task(rewrite=True), config, optimiser, history, 0)
    return seen[0]


def test_every_step_and_every_seed_sees_its_own_samples():
    def seen(seed: int, number: int):
        return loop_batch(recipe(seed=seed, batch_size=31), number).pairs[:, :1].tolist()

    assert seen(0, 1) == seen(0, 1)
    assert seen(0, 1) != seen(0, 2)
    assert seen(0, 1) != seen(1, 1)
    assert seen(0, 1) != seen(1, 0)


def test_as_many_questions_as_asked_for_at_most_as_many_as_pairs():
    assert loop_batch(recipe(n_questions=2, stages=[STAGES[1]]), 0).questions.shape[1] == 2
    everything = loop_batch(recipe(stages=[STAGES[1]]), 0)
    assert everything.questions.shape[1] == everything.pairs.shape[1]
    many = loop_batch(recipe(n_questions=50), 0)
    assert many.questions.shape[1] == many.pairs.shape[1]


# Stopped and resumed


def test_training_twice_gives_the_same_losses():
    assert run() == run()


CHILD = """
import os, signal, sys
import torch
from armt_mini.baselines.layer_alone import LayerAlone, LayerAloneConfig
from armt_mini.tasks.associative_retrieval import AssociativeRetrieval
from armt_mini.training.loop import Stage, TrainingConfig, train

torch.set_num_threads(1)
synced = os.fsync
def kill_in_the_third_write(descriptor):  # the start's and two more
    global writes
    writes += 1
    if writes == 3:
        os.truncate(sys.argv[1] + ".unfinished", 100)
        os.kill(os.getpid(), signal.SIGKILL)
    synced(descriptor)
writes, os.fsync = 0, kill_in_the_third_write
train(
    LayerAlone(LayerAloneConfig(vocab_size=19, d_model=5, d_memory=3, nu=2)),
    AssociativeRetrieval(rewrite=True),
    TrainingConfig(
        stages=[Stage(n_pairs=(1, 3), max_steps=7), Stage(n_pairs=(2, 5), max_steps=12)],
        batch_size=3, learning_rate=0.01, final_lr=0.1, checkpoint_every=5,
    ),
    checkpoint=sys.argv[1],
)
"""


def test_a_run_killed_while_it_writes_goes_on_to_the_same_losses(tmp_path):
    file = tmp_path / "run.safetensors"
    killed = subprocess.run(
        [sys.executable, "-c", CHILD, str(file)],
        cwd=Path(am.__file__).parents[1],
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (tmp_path / "run.safetensors.unfinished").stat().st_size == 100
    assert len(read_checkpoint(file).tensors["history.loss"]) == 5

    model, whole = small(seed=9), small()  # other weights than those of the file
    assert run(model, checkpoint=file) == run(whole)
    for resumed, expected in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(resumed, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


@pytest.mark.parametrize("stop", [0, 4, 6, 7, 11, 17])
@pytest.mark.parametrize("system", ["layer-alone", "armt"])
def test_ctrl_c_lets_the_step_end_saves_and_can_go_on(tmp_path, monkeypatch, stop, system, ctrl_c):
    def model(seed: int):
        sizes = dict(vocab_size=19, d_model=6, n_layers=2, n_heads=2, segment_length=4)
        config = am.ARMTConfig(**sizes, n_memory_tokens=1, d_memory=2, value_std=0.1)
        return small(seed) if system == "layer-alone" else am.ARMT(config, seed)

    file = tmp_path / "run.safetensors"
    with monkeypatch.context() as patch:
        at_step(patch, stop, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            run(model(0), checkpoint=file)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(read_checkpoint(file).tensors["history.loss"]) == stop + 1
    assert run(model(1), checkpoint=file) == run(model(0))


def test_a_second_ctrl_c_interrupts_at_once_and_saves_nothing_half_done(
    tmp_path, monkeypatch, ctrl_c
):
    def twice() -> None:
        ctrl_c()
        ctrl_c()

    file = tmp_path / "run.safetensors"
    with monkeypatch.context() as patch:
        at_step(patch, 8, twice)
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint=file)
    assert len(read_checkpoint(file).tensors["history.loss"]) == 5
    assert run(small(1), checkpoint=file) == run()


def test_ctrl_c_that_is_ignored_stays_ignored(monkeypatch, ctrl_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    at_step(monkeypatch, 4, ctrl_c)
    assert len(run()) == 19
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_thread_can_train_and_leaves_ctrl_c_alone():
    histories = []
    thread = threading.Thread(target=lambda: histories.append(run()))
    thread.start()
    thread.join()
    assert histories == [run()]


def test_a_finished_run_is_left_as_it_is(tmp_path):
    file = tmp_path / "run.safetensors"
    history = run(small().double(), checkpoint=file)  # whose losses need all 64 bits
    model = small(1).double()
    assert run(model, checkpoint=file) == history
    trained = read_checkpoint(file).tensors
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, trained[f"model.{name}"])


def test_how_often_a_run_is_saved_may_change(tmp_path):
    file = tmp_path / "run.safetensors"
    run(checkpoint=file)
    assert run(small(1), config=recipe(checkpoint_every=2), checkpoint=file) == run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": recipe(seed=1)}, r"training\.seed is 0, expected 1"),
        ({"config": recipe(stages=STAGES[:1])}, r"training\.stages is \[.*\], expected \[.*\]"),
        ({"task": AssociativeRetrieval(rewrite=False)}, r"task\.rewrite is True, expected False"),
        ({"model": small(rule="delta")}, r"config\.rule is gamma, expected delta"),
        ({"model": small(d_model=7)}, r"config\.d_model is 5, expected 7"),
    ],
)
def test_the_file_of_another_run_is_an_error_and_nothing_changes(tmp_path, changes, message):
    file = tmp_path / "run.safetensors"
    run(checkpoint=file)
    before, model = file.read_bytes(), changes.get("model", small(3))
    weights = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(
        ValueError, match=f"belongs to another run: its {message}; use another file"
    ):
        run(**({"model": model, "checkpoint": file} | changes))
    assert file.read_bytes() == before
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_a_broken_file_is_an_error_and_stays(tmp_path):
    file = tmp_path / "run.safetensors"
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="is broken"):
        run(checkpoint=file)
    assert file.read_bytes() == b"not a checkpoint"


def test_a_place_that_cannot_be_written_is_found_out_before_the_first_step(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(loop, "step", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(OSError, match="file"):
        run(checkpoint=tmp_path / "file" / "run.safetensors")


# What goes wrong


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_or_gradient_that_is_not_finite_is_an_error_before_the_weights_change(
    tmp_path, monkeypatch, what, value
):
    model, file = small(), tmp_path / "run.safetensors"
    answer, steps, weights = loop.answer_logits, [], []

    def spoiled(*arguments):
        steps.append(1)
        logits = answer(*arguments)
        if len(steps) == 9:
            weights.extend(parameter.detach().clone() for parameter in model.parameters())
            if what == "loss":
                return logits * value
            logits.register_hook(lambda gradient: gradient * value)
        return logits

    with monkeypatch.context() as patch:
        patch.setattr(loop, "answer_logits", spoiled)
        with pytest.raises(FloatingPointError, match=rf"{what}: .* got (nan|inf) at step 8 \("):
            run(model, checkpoint=file)
    for parameter, before in zip(model.parameters(), weights, strict=True):
        assert torch.equal(parameter, before)
    assert len(read_checkpoint(file).tensors["history.loss"]) == 8
    assert run(small(1), checkpoint=file) == run()


def test_more_pairs_than_keys_is_an_error_before_the_first_step(monkeypatch):
    monkeypatch.setattr(loop, "step", lambda *_: pytest.fail("a step was made"))
    stages = [Stage(n_pairs=(1, 2), max_steps=3), Stage(n_pairs=(2, 17), max_steps=3)]
    with pytest.raises(ValueError, match="n_pairs: expected at most 16"):
        run(task=AssociativeRetrieval(rewrite=False), config=recipe(stages=stages))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stage(n_pairs=(0, 2), max_steps=1), "fewest_pairs: expected at least 1"),
        (lambda: Stage(n_pairs=(3, 2), max_steps=1), "most_pairs: expected at least 3, got 2"),
        (lambda: Stage(n_pairs=(3, 3), max_steps=0), "max_steps: expected at least 1"),
        (lambda: Stage(n_pairs=(3, 3), max_steps=1, until=-0.1), "until: expected at least 0"),
        (lambda: recipe(stages=[]), "stages: expected at least 1, got 0"),
        (lambda: recipe(batch_size=0), "batch_size: expected at least 1"),
        (lambda: recipe(checkpoint_every=0), "checkpoint_every: expected at least 1"),
        (lambda: recipe(learning_rate=-1.0), "learning_rate: expected at least 0"),
        (lambda: recipe(final_lr=-1.0), "final_lr: expected at least 0"),
        (lambda: recipe(weight_decay=-1.0), "weight_decay: expected at least 0"),
        (lambda: recipe(clip_norm=-1.0), "clip_norm: expected at least 0"),
        (lambda: recipe(seed=-1), "seed: expected at least 0"),
        (lambda: recipe(n_questions=0), "n_questions: expected at least 1"),
    ],
)
def test_impossible_recipes_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# The progress bar


def test_the_bar_says_where_a_run_stands_on_standard_output_alone(
    capsys, tmp_path, monkeypatch, ctrl_c
):
    file = tmp_path / "run.safetensors"
    with monkeypatch.context() as patch:
        at_step(patch, 9, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train(small(), TASK, recipe(), checkpoint=file)
    assert "10/19" in capsys.readouterr().out
    train(small(), TASK, recipe(), checkpoint=file)
    said = capsys.readouterr()
    assert said.err == ""
    states = said.out.split("\r")
    assert "10/19" in states[1]  # it begins where the run was
    assert "19/19" in states[-1]
    assert "pairs=" in states[-1]
    assert len(states) < 6  # a log file keeps every state of the bar


def test_a_stage_that_ends_early_shortens_the_bar(capsys):
    stages = [Stage(n_pairs=(1, 2), max_steps=90, until=0.0), Stage(n_pairs=(1, 2), max_steps=3)]
    train(small(), TASK, recipe(stages=stages))
    assert "53/53" in capsys.readouterr().out.split("\r")[-1]


def test_without_progress_nothing_is_printed(capsys):
    run()
    assert capsys.readouterr() == ("", "")


def test_in_a_notebook_each_state_of_the_bar_takes_the_place_of_the_one_before(monkeypatch, capsys):
    shown = []

    class Line:
        def update(self, data, raw):
            shown.append(data["text/plain"])

    ipython = SimpleNamespace(
        get_ipython=lambda: SimpleNamespace(kernel=...),
        display=SimpleNamespace(display=lambda *_, **__: Line()),
    )
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    train(small(), TASK, recipe())
    assert "0/19" in shown[0]
    assert "19/19" in shown[-1]
    assert all(line and line == line.strip() for line in shown)
    assert capsys.readouterr() == ("", "")


def test_what_a_notebook_keeps_of_the_bar_is_one_line():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    source = Path(__file__).read_text().split("\n\n\ndef run(")[0]
    cell = nbformat.v4.new_code_cell(source + "\ntrain(small(), TASK, recipe());")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    assert "19/19" in output.data["text/plain"]
    assert "\n" not in output.data["text/plain"]
