"""The command line: what a newcomer types, and what it answers."""

import json
import os
import platform
import re
import runpy
import sys
from pathlib import Path

import numpy
import pytest
import torch

import armt_mini as am
from armt_mini import cli
from armt_mini.cli import main
from armt_mini.tasks import Babilong
from armt_mini.training import checkpoints, loop
from armt_mini.training.checkpoints import load_model, read_checkpoint
from armt_mini.training.loop import Stage, TrainingConfig, train
from armt_mini.training.recipes import RECIPES, new_run

QUICK = ["--pairs", "1", "2-3", "--steps", "4", "--batch-size", "3", "--device", "cpu"]
WHOLE = ["--d-model", "6", "--n-layers", "1", "--n-heads", "2", "--n-memory-tokens", "3"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trained(capsys) -> str:
    """A checkpoint of Remember with two-digit keys."""
    words = ["--system", "armt", "--key-size", "2", "--n-values", "5", "--d-memory", "3"]
    assert main(["train", "remember", *words, *WHOLE, *QUICK, "--out", "a.safetensors"]) == 0
    capsys.readouterr()
    return "a.safetensors"


def test_help_shows_commands_and_examples(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["armt_mini", "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("armt_mini", run_name="__main__")
    assert left.value.code == 0
    said = capsys.readouterr()
    for word in ("train", "evaluate", "info", "--out runs/first.safetensors", "Ctrl-C"):
        assert word in said.out
    assert said.err == ""


def test_examples_begin_with_the_python_that_runs_them(monkeypatch, capsys):
    def example() -> str:
        with pytest.raises(SystemExit):
            main(["--help"])
        return next(line for line in capsys.readouterr().out.splitlines() if " info" in line[9:])

    monkeypatch.setattr(sys, "executable", str(Path.cwd() / ".venv" / "bin" / "python"))
    assert example() == f"  {Path('.venv', 'bin', 'python')} -m armt_mini info"
    monkeypatch.setattr(sys, "executable", str(Path.cwd().parent / "bin" / "python"))
    assert example() == "  python -m armt_mini info"


@pytest.mark.parametrize("system", RECIPES)
def test_every_system_trains_and_is_saved_as_what_it_is(system, capsys):
    sizes = {"layer-alone": ["--d-memory", "3"], "mamba": WHOLE[:4]}
    sizes = sizes.get(RECIPES[system]["system"], WHOLE)
    assert main(["train", "rewrite", "--system", system, *sizes, *QUICK, "--seed", "7"]) == 0
    file = f"runs/rewrite-{system}-seed7.safetensors"
    said = capsys.readouterr().out
    assert "8 steps" in said
    assert f"python -m armt_mini evaluate {file}\n" in said
    tensors, about = read_checkpoint(file)
    assert about["system"] == RECIPES[system]["system"]
    assert about["config"].get("rule") == RECIPES[system].get("rule")
    assert about["task"] == {"rewrite": True, "key_size": 1, "n_values": 16}
    assert [stage["n_pairs"] for stage in about["training"]["stages"]] == [[1, 1], [2, 3]]
    assert about["training"]["seed"] == 7
    assert tensors["history.loss"].isfinite().all()
    load_model(file)


def test_options_reach_the_run():
    rates = ["--learning-rate", "0.5", "--weight-decay", "0.25", "--final-lr", "0.125"]
    words = [
        "--steps",
        "4",
        "5",
        "--until",
        "0",
        "--questions",
        "1",
        *rates,
        "--average",
        "2",
        "--d-model",
        "5",
        "--d-memory",
        "3",
    ]
    assert main(["train", "rewrite", *QUICK, *words, "--out", "a"]) == 0
    about = read_checkpoint("a").about
    training, config = about["training"], about["config"]
    assert training["stages"] == [
        {"n_pairs": [1, 1], "max_steps": 4, "until": 0, "settings": {}},
        {"n_pairs": [2, 3], "max_steps": 5, "until": 0, "settings": {}},
    ]
    assert (training["learning_rate"], training["weight_decay"]) == (0.5, 0.25)
    assert (training["final_lr"], training["n_questions"], training["batch_size"]) == (0.125, 1, 3)
    assert training["average"] == 2
    assert (config["d_model"], config["d_memory"]) == (5, 3)


def test_any_setting_of_a_recipe_can_be_changed(capsys):
    words = ["--system", "armt", *WHOLE, *QUICK, "--d-memory", "3"]
    changes = ["nu=1", "feature_map=relu", "clip_gamma=false", "eps=0.5", "attention_std=null"]
    some, others = ["--set", *changes[:2]], ["--set", *changes[2:]]
    assert main(["train", "rewrite", *words, *some, *others]) == 0
    named = "nu=1-feature_map=relu-clip_gamma=False-eps=0.5-attention_std=None"
    config = read_checkpoint(f"runs/rewrite-armt-{named}-seed0.safetensors").about["config"]
    assert (config["nu"], config["feature_map"], config["eps"]) == (1, "relu", 0.5)
    assert config["clip_gamma"] is False
    assert config["attention_std"] is None
    with pytest.raises(SystemExit):
        main(["train", "rewrite", "--set", "nu"])
    assert "expected NAME=VALUE, got 'nu'" in capsys.readouterr().err


def test_sizes_reach_a_whole_model(trained):
    about = read_checkpoint(trained).about
    assert about["task"] == {"rewrite": False, "key_size": 2, "n_values": 5}
    sizes = {"d_model": 6, "n_layers": 1, "n_heads": 2, "n_memory_tokens": 3, "d_memory": 3}
    assert sizes.items() <= about["config"].items()
    assert about["config"]["segment_length"] == 5  # of this task


def test_the_seed_is_that_of_the_weights_too():
    for seed in ("1", "2"):
        words = ["--learning-rate", "0", "--weight-decay", "0", "--seed", seed]
        assert main(["train", "rewrite", *QUICK, *words, "--out", seed]) == 0
    one, two = (read_checkpoint(file).tensors["model.head"] for file in ("1", "2"))
    assert not torch.equal(one, two)


def test_without_a_curriculum_remember_has_stages_for_as_many_pairs_as_there_are_keys(monkeypatch):
    most = []

    def train(model, task, config, **_):
        most.append(config.stages[-1].n_pairs)
        return loop.History(accuracy=[1.0])

    monkeypatch.setattr(loop, "train", train)
    for words in (["rewrite"], ["remember"], ["remember", "--key-size", "1"]):
        assert main(["train", *words, "--system", "armt", *WHOLE, "--device", "cpu"]) == 0
    assert most == [(50, 50), (200, 200), (16, 16)]


def test_ctrl_c_saves_and_the_same_command_goes_on(monkeypatch, capsys, ctrl_c):
    step = loop.step
    words = ["train", "rewrite", *QUICK, "--out", "b.safetensors"]

    def interrupted(*arguments):
        step(*arguments)
        if len(arguments[4]) == 6:
            ctrl_c()

    with monkeypatch.context() as patch:
        patch.setattr(loop, "step", interrupted)
        assert main(words) == 130
    assert "6 steps are saved. The same command goes on from there." in capsys.readouterr().out
    assert len(read_checkpoint("b.safetensors").tensors["history.loss"]) == 6
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "b.safetensors is there already: going on from it." in said
    assert "8 steps" in said


def test_ctrl_c_before_the_first_step_says_that_nothing_is_saved(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", interrupted)
    assert main(["train", "rewrite", *QUICK]) == 130
    assert "0 steps are saved" in capsys.readouterr().out


def test_evaluate_prints_a_row_for_each_number_of_pairs(trained, capsys):
    assert main(["evaluate", trained, "--pairs", "3", "17", "--samples", "20"]) == 0
    *_, heading, first, second = capsys.readouterr().out.splitlines()
    assert "pairs remembered" in heading
    assert first.split()[0] == "3"
    assert second.split()[0] == "17"
    assert len(heading) == len(first) == len(second)


def test_evaluate_in_json_prints_json_alone_and_intervals_hold_their_value(trained, capsys):
    assert main(["evaluate", trained, "--pairs", "3", "5", "--samples", "20", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert "Running on" in said.err
    assert found["task"] == {"rewrite": False, "key_size": 2, "n_values": 5}
    assert [row["pairs"] for row in found["results"]] == [3, 5]
    for row in found["results"]:
        assert row["exact_match"] == row["correct"] / row["total"]
        assert row["total"] == 20
        low, high = row["interval"]
        assert low <= row["exact_match"] <= high
        known = row["pairs"] * (5 * row["exact_match"] - 1) / 4
        assert row["pairs_remembered"] == pytest.approx(known)
        low, high = row["pairs_remembered_interval"]
        assert low <= known <= high


def test_rewrite_has_no_number_of_pairs_remembered(capsys):
    main(["train", "rewrite", *QUICK, "--out", "a"])
    capsys.readouterr()
    assert main(["evaluate", "a", "--pairs", "3", "--questions", "2", "--samples", "7"]) == 0
    assert "remembered" not in capsys.readouterr().out


def test_evaluate_asks_by_default_as_many_pairs_as_there_are_keys(capsys):
    words = ["--system", "rmt", "--key-size", "1", *WHOLE, *QUICK, "--out", "a"]
    main(["train", "remember", *words])
    capsys.readouterr()
    assert main(["evaluate", "a", "--samples", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [row["pairs"] for row in rows] == [2, 4, 8, 16]


def test_evaluate_leaves_out_the_default_numbers_of_pairs_with_too_few_to_ask(trained, capsys):
    assert main(["evaluate", trained, "--questions", "8", "--samples", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [(row["pairs"], row["total"]) for row in rows] == [
        (n_pairs, 24) for n_pairs in (8, 16, 50, 100, 200)
    ]


def test_the_file_of_another_run_is_named_by_its_option(trained, capsys):
    words = ["--system", "armt", "--key-size", "2", "--n-values", "5", "--d-memory", "4"]
    assert main(["train", "remember", *words, *WHOLE, *QUICK, "--out", trained]) == 2
    said = capsys.readouterr().err
    assert said.startswith("armt-mini: --out: a.safetensors belongs to another run: its config.d_m")


@pytest.mark.parametrize("words", ["info", "info rewrite-layer-alone"])  # more than a buffer, less
def test_output_that_nobody_reads_ends_quietly(monkeypatch, capsys, words):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as gone:  # closing it writes what is left in its buffer
        monkeypatch.setattr(sys, "stdout", gone)
        assert main(words.split()) == 141
    assert capsys.readouterr().err == ""


def test_shipped_models_are_known_by_name(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "shipped_checkpoints", lambda: {"pocket": tmp_path / trained})
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert "Shipped checkpoints: pocket" in said
    assert '"system": "armt"' in said
    assert main(["info", "pocket"]) == 0
    assert '"system": "armt"' in capsys.readouterr().out
    assert main(["evaluate", "pocket", "--pairs", "2", "--samples", "3"]) == 0


def test_info_says_versions_and_devices(monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "shipped_checkpoints", dict)
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert f"armt_mini {am.__version__}, Python {platform.python_version()}, " in said
    assert f"PyTorch {torch.__version__}, NumPy {numpy.__version__}" in said
    assert "cpu (CPU, " in said
    assert "Shipped checkpoints: none" in said


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "required: COMMAND"),
        ("dance", "invalid choice: 'dance'"),
        ("train", "required: TASK"),
        ("train forget", "invalid choice: 'forget'"),
        ("train rewrite --system gpt", "invalid choice: 'gpt'"),
        ("train rewrite --device tpu", "invalid choice: 'tpu'"),
        ("train rewrite --pairs two", "argument --pairs: expected a number or a range, got 'two'"),
        ("train rewrite --pairs 4-2", "--pairs: expected at least 4, got 2"),
        ("train rewrite --steps 0", "--steps: expected at least 1, got 0"),
        ("train rewrite --set colour=red", "colour: layer-alone has no such setting"),
        ("train rewrite --set seed=3", "--set: expected a setting of the recipe, got 'seed'"),
        ("train rewrite --set nu=1.5", "nu: expected int, got 1.5"),
        ("train rewrite --set batch_size=2.5", "--batch-size: expected an int, got float"),
        ("train rewrite --pairs 2.5", "argument --pairs: expected a number or a range, got '2.5'"),
        ("train rewrite --set betas=3", "betas: expected two numbers, got 3"),
        ("train rewrite --set betas=[0.9]", "betas: expected two numbers, got"),
        ("train rewrite --set betas=[0.9,2]", "betas: expected 0 to 1, got 2"),
        ("train babilong --set auxiliary=1", "auxiliary: expected a bool, got int"),
        ("train rewrite --set steps=2.5", "--steps: expected an int, got float"),
        ("train rewrite --steps 3 4", "--steps: expected one number, or 1, one for each of the"),
        ("train rewrite --system armt --pairs 2 8", "--steps: expected a number for the stages of"),
        ("train rewrite --seed -1", "--seed: expected at least 0, got -1"),
        ("train rewrite --key-size 2", "--key-size: layer-alone reads keys of 1 digit"),
        ("train remember --pairs 17", "--pairs: expected at most 16"),
        ("train rewrite --system rmt --n-heads 3", "--n-heads: expected a divisor of d_model 128"),
        ("train rewrite --device cuda", "--device: 'cuda' is not available here"),
        ("train rewrite --d-model 0", "--d-model: expected at least 1, got 0"),
        ("train rewrite --d-memory 1", "--d-memory: expected at least 2, got 1"),
        ("train rewrite --system armt --d-memory 1", "--d-memory: expected at least 2, got 1"),
        ("train rewrite --questions 0", "--questions: expected at least 1, got 0"),
        ("train rewrite --n-values 17", "--n-values: expected at most 16"),
        ("train rewrite --n-heads 2", "--n-heads: layer-alone has no such setting"),
        ("train rewrite --n-layers 2", "--n-layers: layer-alone has no such setting"),
        ("train rewrite --n-memory-tokens 2", "--n-memory-tokens: layer-alone has no such"),
        ("train rewrite --system rmt --d-memory 4", "--d-memory: rmt has no such setting"),
        ("train rewrite --system prmt --d-memory 4", "--d-memory: prmt has no such setting"),
        ("train rewrite --device cpu --out .", r"--out: expected a file, \. is a folder"),
        ("train rewrite --seed 99999999999999999999", "--seed: expected a number below 2\\^63"),
        ("train babilong --task qa6", "invalid choice: 'qa6'"),
        ("train babilong --key-size 2", "--key-size: babilong has no such option"),
        ("train babilong --n-values 2", "--n-values: babilong has no such option"),
        ("train babilong --pairs 2", "--pairs: armt has no such setting"),
        ("train babilong --set decoys=2", "decoys: expected 0 to 1, got 2"),
        ("train babilong --tokens 200 --steps 2", "--tokens: expected at most 128, or a multiple"),
        ("train babilong --system layer-alone", "--system: layer-alone reads no text"),
        ("train rewrite --task qa1", "--task: rewrite has no such option"),
        ("train babilong --tokens 2-128 --steps 2", "no story in 1000 has at most 2 tokens"),
        ("train rewrite --set decoys=0.1", "decoys: layer-alone has no such setting"),
        ("train babilong --tokens 0 --steps 2", "--tokens: expected at least 1, got 0"),
        ("train babilong --tokens 8k-4k --steps 2", "--tokens: expected at least 8000, got 4000"),
        ("train rewrite --drawers -1", "--drawers: expected at least 0, got -1"),
        ("train rewrite --tokens 8", "--tokens: layer-alone has no such setting"),
        (
            "evaluate rewrite-layer-alone --tokens 8",
            "--tokens: a model of pairs has no such option",
        ),
        ("evaluate rewrite-layer-alone --seed -1", "--seed: expected at least 0, got -1"),
        ("evaluate nothing", "no file and no shipped checkpoint is called 'nothing'"),
        ("evaluate text", "text is broken or not a safetensors file"),
        ("evaluate rewrite-layer-alone --samples 0", "--samples: expected at least 1, got 0"),
        ("evaluate rewrite-layer-alone --questions 0", "--questions: expected at least 1, got 0"),
        ("evaluate rewrite-layer-alone --questions 201", "--questions: expected at most 200"),
        ("evaluate rewrite-layer-alone --pairs 2 --questions 3", "--questions: expected at most"),
        ("benchmark --tokens 4x", "argument --tokens: expected a number as 16k or 50M, got '4x'"),
        ("info nothing", "no file and no shipped checkpoint is called 'nothing'"),
    ],
)
def test_bad_arguments_are_one_clear_line_and_status_two(words, message, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with open("text", "w") as file:
        file.write("something else")
    try:
        status = main(words.split())
    except SystemExit as left:  # argparse's own way
        status = left.code
    *_, last = capsys.readouterr().err.splitlines()
    assert status == 2
    assert re.search(message, last)


@pytest.mark.parametrize(
    "about",
    [{}, {"task": "rewrite"}, {"task": {"rewritten": True}}, {"task": {"split": "dev", "x": 1}}],
)
def test_a_model_without_a_task_cannot_be_evaluated(trained, capsys, about):
    checkpoints.save_checkpoint("b", load_model(trained), about)
    assert main(["evaluate", "b"]) == 2
    assert "b does not say which task it was trained on" in capsys.readouterr().err


def test_with_one_value_there_is_no_estimate_of_pairs_remembered(trained, capsys):
    checkpoints.save_checkpoint(
        "b", load_model(trained), {"task": {"rewrite": False, "n_values": 1}}
    )
    assert main(["evaluate", "b", "--pairs", "2", "--samples", "3"]) == 0
    assert "pairs remembered" not in capsys.readouterr().out


def test_a_training_that_fails_has_status_one(monkeypatch, capsys):
    def fail(*_):
        raise FloatingPointError("loss: expected a finite number, got nan")

    monkeypatch.setattr(loop, "step", fail)
    assert main(["train", "rewrite", *QUICK]) == 1
    assert capsys.readouterr().err == "armt-mini: loss: expected a finite number, got nan\n"


@pytest.mark.parametrize("system", ["armt", "rmt"])
def test_babilong_is_trained_and_then_asked(system, capsys):
    words = ["--system", system, *WHOLE, "--tokens", "16", "256", "--steps", "2", "3"]
    words += ["--batch-size", "2", "--questions", "2", "--set", "decoys=0.25", "--task", "qa4"]
    assert main(["train", "babilong", *words]) == 0
    file = f"runs/babilong-qa4-{system}-decoys=0.25-seed0.safetensors"
    said = capsys.readouterr().out
    assert "5 steps" in said
    assert f"python -m armt_mini evaluate {file}\n" in said
    about = read_checkpoint(file).about
    assert about["task"]["task"] == "qa4"
    stages = about["training"]["stages"]
    assert [stage["n_pairs"] for stage in stages] == [[16, 16], [256, 256]]
    assert [stage["settings"] for stage in stages] == [{"decoys": 0.25}] * 2
    assert (about["config"]["segment_length"], about["config"]["vocab_size"]) == (128, 4096)
    assert main(["evaluate", file, "--tokens", "300", "--samples", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["total"] == 3


def test_a_checkpoint_is_halved_and_nothing_is_overwritten(reader, capsys):
    assert main(["halve", reader, "half.safetensors"]) == 0
    assert " -> " in capsys.readouterr().out
    assert main(["evaluate", "half.safetensors", "--tokens", "70", "--samples", "2"]) == 0
    content = Path(reader).read_bytes()
    assert main(["halve", "half.safetensors", reader]) == 2
    assert "armt-mini: b.safetensors is there already" in capsys.readouterr().err
    assert Path(reader).read_bytes() == content


@pytest.fixture
def reader() -> str:
    """A checkpoint of a small model of BABILong, after three steps."""
    sizes = dict(d_model=8, n_layers=1, n_heads=2, n_memory_tokens=1, d_memory=4)
    model = am.ARMT(am.ARMTConfig(vocab_size=4096, segment_length=32, **sizes))
    config = TrainingConfig(stages=[Stage(n_pairs=(64, 64), max_steps=3)], batch_size=2)
    task = Babilong(segment_length=32, most_facts=4, density=0.5)
    train(model, task, config, checkpoint="b.safetensors", progress=False)
    return "b.safetensors"


def test_evaluate_asks_a_model_of_babilong_at_each_length(reader, capsys):
    words = ["--tokens", "200", "1.5k", "--samples", "5", "--batch-size", "2", "--device", "cpu"]
    assert main(["evaluate", reader, *words, "--out", "found.json"]) == 0
    lines = [line for line in re.split(r"[\r\n]", capsys.readouterr().out) if "reading" not in line]
    _, heading, *rows = filter(None, lines)
    assert heading.split()[:3] == ["tokens", "exact", "match"]
    assert [row.split()[0] for row in rows] == ["200", "1,500"]
    saved = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert main(["evaluate", reader, *words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    for row, again in zip(said["results"], saved["evaluations"][0]["results"], strict=True):
        assert row.pop("seconds") > 0 < again.pop("seconds")
        assert row == again
        assert row["total"] == 5 == sum(total for _, total in row["quarters"])
        assert row["correct"] == sum(correct for correct, _ in row["quarters"])
        asked = Babilong(split="test").draw_many(5, row["tokens"], 0)
        assert len(row["wrong"]) == 5 - row["correct"] > 0
        assert all(text == asked[n].questions[0].text for n, text in row["wrong"])
        low, high = row["interval"]
        assert 0 <= low <= row["exact_match"] <= high <= 1


@pytest.mark.parametrize(
    ("words", "expected"), [((), "highest"), (("--precision", "tf32"), "high")]
)
def test_a_text_is_read_in_the_precision_that_is_said(reader, capsys, monkeypatch, words, expected):
    seen, score = [], cli.score_hidden

    def scored(*rest, **named):
        seen.append(torch.get_float32_matmul_precision())
        return score(*rest, **named)

    monkeypatch.setattr(cli, "score_hidden", scored)
    options = ["--tokens", "70", "--samples", "2", "--device", "cpu", "--json", *words]
    assert main(["evaluate", reader, *options]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == (words or ("", "float32"))[1]
    assert seen == [expected]
    assert torch.get_float32_matmul_precision() == "highest"


def test_babilong_names_the_shipped_model_of_a_task(reader, capsys, monkeypatch):
    monkeypatch.setattr(checkpoints, "shipped_checkpoints", lambda: {"babilong-qa2": Path(reader)})
    words = ["evaluate", "babilong", "--tokens", "70", "--samples", "2", "--device", "cpu"]
    assert main([*words, "--task", "qa2"]) == 0
    assert main(words) == 2
    assert "no shipped checkpoint is called 'babilong-qa1'" in capsys.readouterr().err
    assert main(["evaluate", reader, "--task", "qa2"]) == 2
    assert "--task: a checkpoint has its own; leave it out" in capsys.readouterr().err


def test_readings_in_different_precisions_stand_side_by_side(reader):
    words = ["evaluate", reader, "--tokens", "70", "--samples", "2", "--device", "cpu"]
    for more in ((), ("--precision", "tf32"), ("--precision", "float32")):
        assert main([*words, "--out", "found.json", *more]) == 0
    found = json.loads(Path("found.json").read_text())["evaluations"]
    assert [each["precision"] for each in found] == ["tf32", "float32"]


@pytest.mark.parametrize("out", [["--out", "found.json"], []])
def test_a_stopped_evaluation_says_how_it_can_go_on(reader, capsys, monkeypatch, ctrl_c, out):
    read_segments, n_segments = am.ARMT.read_segments, []

    def interrupted(self, segments, *rest):
        def pressed():
            for segment in segments:
                n_segments.append(segment)
                if len(n_segments) == 5:
                    ctrl_c()
                yield segment

        return read_segments(self, pressed(), *rest)

    monkeypatch.setattr(am.ARMT, "read_segments", interrupted)
    words = ["evaluate", reader, "--tokens", "640", "--samples", "2", "--device", "cpu", *out]
    assert main(words) == 130
    way = "goes on from there" if out else "with --out FILE can be stopped"
    assert f"Stopped. The same command {way}" in capsys.readouterr().err
    assert main(words) == 0
    assert len(n_segments) == (20 if out else 25)
    assert not list(Path().glob("*.reading"))
    if out:
        (row,) = json.loads(Path("found.json").read_text())["evaluations"][0]["results"]
        assert row["seconds"] is None, "what came before the stop is not known"


def test_evaluate_hides_ones_own_stories_in_ones_own_text(reader, capsys):
    Path("qa1_my_test.txt").write_text(
        "1 Mary moved to the office.\n2 Where is Mary?\toffice\t1\n", encoding="utf-8"
    )
    Path("text.txt").write_text("It was late. Nobody came.\n", encoding="utf-8")
    own = ["--babi-folder", ".", "--background", "text.txt", "--tokens", "70"]
    assert main(["evaluate", reader, *own, "--json", "--device", "cpu"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["babi_folder"], said["background"]) == (".", "text.txt")
    (row,) = said["results"]
    assert (row["tokens"], row["total"]) == (70, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--tokens 5", "no story in 1000 has at most 5 tokens; allow a longer text"),
        ("--tokens 70 --babi-folder .", "--babi-folder: expected one file called"),
        ("--tokens 70 --background none.txt", "none.txt"),
        ("--tokens 70 --samples 0", "--samples: expected at least 1, got 0"),
        ("--tokens 70 --samples -1 --babi-folder .", "--samples: expected at least 1, got -1"),
        ("--pairs 2", "--pairs: a model of BABILong has no such option"),
        ("--questions 2", "--questions: a model of BABILong has no such option"),
    ],
)
def test_what_cannot_be_asked_of_a_model_of_babilong_is_an_error(reader, capsys, words, message):
    assert main(["evaluate", reader, *words.split(), "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


def test_a_model_that_reads_no_segments_cannot_be_asked_of_long_texts(capsys):
    sizes = ["--d-model", "8", "--n-layers", "1", "--tokens", "16", "--steps", "1"]
    words = ["--system", "mamba", *sizes, "--batch-size", "2", "--out", "m.safetensors"]
    assert main(["train", "babilong", *words]) == 0
    assert main(["evaluate", "m.safetensors", "--tokens", "70", "--device", "cpu"]) == 2
    assert "armt-mini: expected a model that reads segments" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["16g", "k", "many", "inf", "nan", "0.5", "1/0", "1.0001k"])
def test_a_length_that_is_no_number_is_an_error(reader, capsys, wrong):
    with pytest.raises(SystemExit):
        main(["evaluate", reader, "--tokens", wrong])
    assert "expected a number as 16k or 50M" in capsys.readouterr().err


def test_long_texts_are_read_in_the_fastest_order_that_a_model_has():
    sizes = dict(d_model=8, n_layers=1, n_heads=2, n_memory_tokens=1, d_mlp=8)
    armt = new_run("armt", Babilong(), d_memory=4, **sizes)[0]
    rmt = new_run("rmt", Babilong(), **sizes)[0]
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [cli.fastest_schedule(model, gpu) for model in (armt, rmt)] == ["captured", "sequential"]
    assert cli.fastest_schedule(armt, cpu) == "sequential"
