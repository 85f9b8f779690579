"""A run that is stopped in any way and goes on has the losses of one that was not, to the bit."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_runs import STAGES, at_step, recipe, run, small

import armt_mini as am
from armt_mini.tasks.associative_retrieval import AssociativeRetrieval
from armt_mini.tasks.babilong import Babilong
from armt_mini.tasks.background import VOCAB_SIZE
from armt_mini.training import loop
from armt_mini.training.checkpoints import read_checkpoint
from armt_mini.training.loop import Stage


def test_training_twice_gives_the_same_losses():
    assert run() == run()


CHILD = """
import os, signal, sys
import torch
from small_runs import run

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
run(checkpoint=sys.argv[1])
"""


def test_a_run_killed_while_it_writes_goes_on_to_the_same_losses(tmp_path):
    file = tmp_path / "run.safetensors"
    folders = (Path(am.__file__).parents[1], Path(__file__).parent)
    killed = subprocess.run(
        [sys.executable, "-c", CHILD, str(file)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(str(folder) for folder in folders)},
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


@pytest.mark.parametrize("stop", [4, 6, 7, 11, 17])
def test_a_run_that_is_stopped_keeps_the_same_mean_of_the_weights(
    tmp_path, monkeypatch, stop, ctrl_c
):
    config, file = recipe(average=3), tmp_path / "run.safetensors"
    with monkeypatch.context() as patch:
        at_step(patch, stop, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            run(config=config, checkpoint=file)
    model, whole = small(seed=1), small()
    run(model, config=config, checkpoint=file)
    run(whole, config=config)
    for resumed, expected in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(resumed, expected)


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
    content, model = file.read_bytes(), small(1).double()
    assert run(model, checkpoint=file) == history
    assert file.read_bytes() == content
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
        ({"model": small().double()}, r"dtype is torch\.float32, expected torch\.float64"),
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


def test_a_run_from_before_a_setting_came_goes_on_with_its_default(tmp_path):
    file = tmp_path / "run.safetensors"
    history = run(checkpoint=file)
    tensors, about = read_checkpoint(file)
    del about["config"]["unit_features"]  # as if added since
    for name in ("optimiser", "average", "warmup", "schedule", "precision"):
        del about["training"][name]
    save_file(tensors, file, {"about": json.dumps(about)})
    assert run(small(1), checkpoint=file) == history


def test_a_run_on_texts_from_before_a_setting_came_goes_on_with_its_default(tmp_path):
    sizes = dict(d_model=8, n_layers=1, n_heads=2, n_memory_tokens=1, d_memory=4)
    model = am.ARMT(am.ARMTConfig(vocab_size=VOCAB_SIZE, segment_length=16, **sizes))
    file, task = tmp_path / "run.safetensors", Babilong(segment_length=16)
    config = recipe(stages=[Stage(n_pairs=(16, 16), max_steps=2)])
    history = run(model, task, config, file)
    tensors, about = read_checkpoint(file)
    for name in ("auxiliary", "dialects", "false_starts", "cut_facts"):
        del about["task"][name]
    save_file(tensors, file, {"about": json.dumps(about)})
    assert run(model, task, config, file) == history
    with pytest.raises(ValueError, match=r"cut_facts"):
        run(model, replace(task, cut_facts=0.5), config, file)


@pytest.mark.parametrize("stop", [0, 4, 6, 11])
def test_a_setting_that_a_later_stage_changes_must_begin_the_same(
    tmp_path, monkeypatch, stop, ctrl_c
):
    file, (first, last) = tmp_path / "run.safetensors", STAGES
    config = recipe(stages=[first, replace(last, settings={"eps": 0.01})])
    with monkeypatch.context() as patch:
        at_step(patch, stop, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            run(config=config, checkpoint=file)
    if stop < first.max_steps:  # else the file does not say how it began
        with pytest.raises(ValueError, match=r"belongs to another run: its config\.eps is"):
            run(small(eps=0.1), config=config, checkpoint=file)
    assert run(small(1), config=config, checkpoint=file) == run(config=config)


def test_a_model_without_a_training_run_is_an_error_and_nothing_changes(tmp_path):
    file, model = tmp_path / "run.safetensors", small(1)
    run(checkpoint=file)
    tensors, about = read_checkpoint(file)
    only_weights = {name: t for name, t in tensors.items() if name.startswith("model.")}
    save_file(only_weights, file, {"about": json.dumps(about)})
    for another in (model, small(rule="delta")):
        with pytest.raises(ValueError, match=r"^checkpoint: .* holds a model but no training run"):
            run(another, checkpoint=file)
    for parameter, before in zip(model.parameters(), small(1).parameters(), strict=True):
        assert torch.equal(parameter, before)
