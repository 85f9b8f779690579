"""Results files: what they say is what the checkpoint and the evaluation said."""

import json

import pytest
import torch
from small_runs import run, small

import armt_mini as am
from armt_mini.cli import main
from armt_mini.training import results
from armt_mini.training.checkpoints import save_checkpoint
from armt_mini.training.results import (
    curve,
    describe_run,
    exact_matches,
    load_results,
    short,
    stages_of,
)


@pytest.fixture
def checkpoint(tmp_path):
    run(checkpoint=tmp_path / "run.safetensors")
    return tmp_path / "run.safetensors"


def evaluate(checkpoint, out, *words):
    words = ["--samples", "3", "--device", "cpu", *words]
    assert main(["evaluate", str(checkpoint), "--out", str(out), *words]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def test_a_curve_has_the_mean_of_so_many_steps_and_of_those_that_are_left():
    numbers = torch.arange(7.0)
    found = curve({"n_pairs": numbers + 2, "loss": 3 * numbers, "accuracy": numbers / 7}, every=3)
    assert found["step"] == [3, 6, 7]
    assert found["n_pairs"] == [3, 6, 8]
    assert found["loss"] == [3, 12, 18]
    assert found["accuracy"] == pytest.approx([1 / 7, 4 / 7, 6 / 7], abs=1e-4)


def test_a_run_is_described_by_its_sizes_time_and_configuration(checkpoint):
    found = describe_run(checkpoint)
    model = small()
    assert found["weights"] == sum(weight.numel() for weight in model.parameters())
    assert found["state_floats"] == model.config.d_key * (model.config.d_model + 1)
    assert found["config"] == vars(model.config)
    assert 0 < found["seconds"] < 60
    assert found["curve"]["step"] == [19]
    assert found["task"]["rewrite"] is True


def test_the_state_of_every_system_is_counted(lively, tmp_path):
    sizes = {am.ARMT: 3 * 18 * (14 + 1), am.RMT: 2 * 14, am.PRMT: 3 * 2 * 14}
    for kind, size in sizes.items():
        model = lively(kind)
        history = {f"history.{name}": torch.ones(1) for name in ("n_pairs", "loss", "accuracy")}
        save_checkpoint(tmp_path / "file", model.cpu(), {}, history)
        found = describe_run(tmp_path / "file")
        assert found["state_floats"] == size
        assert found["seconds"] is None


def test_evaluations_add_up_and_a_repetition_takes_the_place_of_what_it_repeats(
    checkpoint, tmp_path
):
    out = tmp_path / "new" / "results.json"
    first = evaluate(checkpoint, out, "--pairs", "2", "3")
    assert len(first["evaluations"]) == 1
    assert len(evaluate(checkpoint, out, "--pairs", "2", "3")["evaluations"]) == 1
    found = evaluate(checkpoint, out, "--pairs", "3", "5", "--samples", "4")
    assert found["run"] == first["run"] == json.loads(json.dumps(describe_run(checkpoint)))
    rows = exact_matches(found)
    assert {pairs: row["total"] for pairs, row in rows.items()} == {2: 3, 3: 4, 5: 4}


def test_rows_of_long_texts_are_found_by_tokens_without_those_of_a_readers_own_stories():
    def evaluation(correct, **about):
        return about | {"results": [{"tokens": 4000, "correct": correct, "total": 9}]}

    own = evaluation(8, babi_folder="", background="")
    others = [
        evaluation(n, **about)
        for n, about in enumerate(({"babi_folder": "a"}, {"background": "b"}))
    ]
    assert exact_matches({"evaluations": [own, *others]}) == {4000: own["results"][0]}


def test_results_of_another_run_are_left_as_they_are(checkpoint, tmp_path, capsys):
    out = tmp_path / "results.json"
    evaluate(checkpoint, out, "--pairs", "2")
    content = out.read_text(encoding="utf-8").replace('"date": "2', '"date": "1')
    out.write_text(content, encoding="utf-8")
    assert main(["evaluate", str(checkpoint), "--out", str(out), "--pairs", "2"]) == 2
    assert "is about another run" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == content


def test_results_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    for name in ("rewrite-a-seed0", "rewrite-a-seed1", "remember-a-seed0"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": name}), encoding="utf-8")
    found = load_results("rewrite-*")
    assert found == {name: {"name": name} for name in ("rewrite-a-seed0", "rewrite-a-seed1")}
    with pytest.raises(ValueError, match=r"^pattern: expected .*, got 'nothing'"):
        load_results("nothing")


@pytest.mark.parametrize("content", ["{", "[]", '{"sizes": {}}'])
def test_what_cannot_be_added_to_is_found_out_before_anything_is_asked(
    checkpoint, tmp_path, capsys, monkeypatch, content
):
    monkeypatch.setattr("armt_mini.cli.exact_match", lambda *_, **__: pytest.fail("asked"))
    out = tmp_path / "other.json"
    out.write_text(content, encoding="utf-8")
    words = ["evaluate", str(checkpoint), "--pairs", "2", "--device", "cpu", "--out"]
    assert main([*words, str(out)]) == 2
    assert "--out: expected a results file" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == content
    assert main([*words, str(tmp_path)]) == 2
    assert "is a folder; name a file in it" in capsys.readouterr().err


def test_a_model_that_no_run_has_made_has_no_results(tmp_path):
    save_checkpoint(tmp_path / "file", small())
    with pytest.raises(ValueError, match=r"^checkpoint: expected one of a training run"):
        describe_run(tmp_path / "file")


def test_evaluations_that_ask_in_another_way_stand_side_by_side(checkpoint, tmp_path):
    out = tmp_path / "results.json"
    for words in (["4", "--questions", "1"], ["2", "--questions", "2"], ["4", "--batch-size", "2"]):
        found = evaluate(checkpoint, out, "--pairs", "3", "--samples", *words)
    assert len(found["evaluations"]) == 3


def test_a_run_without_the_times_of_all_its_steps_has_none(tmp_path):
    columns = {name: torch.ones(5) for name in ("n_pairs", "loss", "accuracy")}
    for seconds, expected in ((torch.ones(5), 5.0), (torch.ones(3), None)):
        history = {f"history.{name}": column for name, column in columns.items()}
        save_checkpoint(tmp_path / "file", small(), {}, history | {"history.seconds": seconds})
        assert describe_run(tmp_path / "file")["seconds"] == expected


def test_lengths_are_written_short():
    assert [short(n) for n in (4000, 500_000, 1_000_000, 50_000_000)] == ["4k", "500k", "1M", "50M"]


def test_stages_of_texts_are_a_table():
    stages = [
        {"n_pairs": [16, 16], "max_steps": 4000, "settings": {}},
        {"n_pairs": [4096, 4096], "max_steps": 600, "settings": {"decoys": 0.05, "density": 1}},
        {"n_pairs": [2**18, 2**18], "max_steps": 1, "settings": {}},
    ]
    training = {"batch_size": 256, "most_read": 2**17, "stages": stages}
    assert stages_of(training).splitlines() == [
        "tokens texts steps  what changes",
        "    16   256 4,000",
        " 4,096    32   600  decoys=0.05",
        "                    density=1",
        "262,144     1     1",
    ]
    del training["most_read"]
    assert stages_of(training).splitlines()[-1] == "262,144   256     1", "an older run"
