"""Two processes that train one model together, on the CPU: as one process would, and ending alike.

Started by torchrun, as users start them.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from armt_mini.training.checkpoints import read_checkpoint
from armt_mini.training.workers import Workers, workers

ROOT = Path(__file__).parents[1]
SIZES = "--d-model 8 --d-memory 4 --n-layers 2 --n-heads 2 --batch-size 6 --device cpu"
TRAIN = ["train", "rewrite", "--system", "armt", *SIZES.split()]


def command(n_processes: int, *program: str) -> list[str]:
    python = [sys.executable, "-m"]
    if n_processes > 1:
        options = ["--standalone", "--nproc-per-node"]
        python += ["torch.distributed.run", *options, str(n_processes), "-m"]
    return [*python, *program]


def start(n_processes: int, *words: str, folder: Path, program: str = "armt_mini"):
    paths = os.pathsep.join([str(ROOT), str(folder)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    environment["CUDA_VISIBLE_DEVICES"] = ""  # there may be fewer GPUs than processes
    return subprocess.Popen(
        command(n_processes, program, *words), cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(process, seconds: int = 300) -> tuple[int, str, str]:
    """Status and words; a process that hangs is an error."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"no end after {seconds} s: {process.communicate()}")
    return process.returncode, out, err


def losses(file: Path) -> torch.Tensor:
    return read_checkpoint(file).tensors["history.loss"]


@pytest.mark.slow
def test_two_processes_have_the_losses_and_the_weights_of_one(tmp_path):
    words = [*TRAIN, "--pairs", "1", "2-4", "--steps", "6"]
    started = [start(n, *words, "--out", f"{n}.safetensors", folder=tmp_path) for n in (1, 2)]
    for process in started:
        status, out, err = finish(process)
        assert status == 0, err
        assert out.count("12 steps;") == 1  # the first process speaks
    one, two = (read_checkpoint(tmp_path / f"{n}.safetensors").tensors for n in (1, 2))
    assert len(one["history.loss"]) == 12
    torch.testing.assert_close(two["history.loss"], one["history.loss"], rtol=1e-4, atol=0)
    assert torch.equal(two["history.accuracy"], one["history.accuracy"])
    for name in one.keys() - {"history.seconds"}:
        # Adam makes steps of the learning rate, 1e-3, of a gradient that is all rounding.
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=3e-3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["1.safetensors", "2.safetensors"]


@pytest.mark.slow
def test_when_one_process_fails_all_end_and_what_was_saved_goes_on(tmp_path):
    words = [*TRAIN, "--pairs", "2", "--steps", "9", "--out", "run.safetensors"]
    (tmp_path / "failing.py").write_text(
        "import os, sys\n"
        "from armt_mini import cli\n"
        "from armt_mini.training import loop\n"
        "step = loop.step\n"
        "def failing(gradients, drawn, config, optimiser, history, *rest):\n"
        "    if len(history) == 5 and os.environ['RANK'] == '1':\n"
        "        raise MemoryError('this process has no memory left')\n"
        "    step(gradients, drawn, config, optimiser, history, *rest)\n"
        "loop.step = failing\n"
        "new_run = cli.new_run\n"
        "def often(*words, **settings):\n"
        "    return new_run(*words, **settings, checkpoint_every=2)\n"
        "cli.new_run = often\n"
        "sys.exit(cli.main())\n"
    )
    status, _, err = finish(start(2, *words, folder=tmp_path, program="failing"))
    assert status != 0
    assert "this process has no memory left" in err
    file = tmp_path / "run.safetensors"
    assert len(losses(file)) == 4
    status, _, err = finish(start(1, *words, folder=tmp_path))
    assert status == 0, err
    assert len(losses(file)) == 9


@pytest.mark.slow
def test_processes_that_do_not_have_the_same_checkpoint_end_before_a_step(tmp_path):
    """As on two machines of which the first one alone has the file."""
    words = [*TRAIN, "--pairs", "2", "--steps", "4", "--out", "0.safetensors"]
    status, _, err = finish(start(1, *words, folder=tmp_path))
    assert status == 0, err
    before = (tmp_path / "0.safetensors").read_bytes()
    (tmp_path / "apart.py").write_text(
        "import os, sys\n"
        "from armt_mini import cli\n"
        "sys.argv[-1] = os.environ['RANK'] + '.safetensors'\n"
        "sys.exit(cli.main())\n"
    )
    status, _, err = finish(start(2, *words, folder=tmp_path, program="apart"))
    assert status != 0
    assert "expected the same file for all processes, got one of 4 steps and one of 0" in err
    assert (tmp_path / "0.safetensors").read_bytes() == before


@pytest.mark.slow
def test_ctrl_c_ends_all_after_the_same_step(tmp_path):
    words = [*TRAIN, "--pairs", "2", "--steps", "100000", "--out", "run.safetensors"]
    process = start(2, *words, folder=tmp_path)
    file, until = tmp_path / "run.safetensors", time.monotonic() + 100
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(3)  # in the midst of it
    process.send_signal(signal.SIGINT)
    status, out, err = finish(process)
    assert status != 0
    assert out.count("The same command goes on from there.") == 1, out + err
    assert 0 < len(losses(file)) < 100000


def test_without_torchrun_there_is_one_process():
    with workers() as alone:
        assert alone == Workers(rank=0, size=1)


def test_torchrun_is_joined_and_left(monkeypatch):
    environment = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "a"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with workers() as one:
        assert one == Workers(rank=0, size=1)
        pair = Workers(rank=0, size=2)  # of which one is not there: means are halves
        assert pair.mean(torch.tensor(3.0), torch.tensor(4.0)) == [1.5, 2.0]
        assert pair.any(True, torch.device("cpu"))
        assert not pair.any(False, torch.device("cpu"))
        pair.wait()
        module = torch.nn.Linear(2, 2)
        assert pair.spread(module).module is module
        assert one.spread(module) is module
    assert not torch.distributed.is_initialized()


@pytest.mark.usefixtures("unchecked")
def test_a_batch_that_cannot_be_shared_equally_is_an_error():
    Workers(size=3).check_batch_size(6)
    with pytest.raises(ValueError, match=r"^batch_size: expected a multiple of the 4 processes"):
        Workers(size=4).check_batch_size(6)
