"""The benchmark times what it says, counts what is computed, and says what it leaves out."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from armt_mini.baselines import mamba
from armt_mini.cli import main
from armt_mini.training import benchmark as speed

CPU = torch.device("cpu")
SMALL = replace(
    speed.SIZES["pocket"], vocab_size=23, d_model=16, n_layers=2, n_heads=2, segment_length=8,
    n_positions=8, n_memory_tokens=2, d_memory=4, d_mlp=32,
)  # fmt: skip


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(speed.SIZES, "pocket", SMALL)
    monkeypatch.setattr(speed, "matrix_rate", lambda device, dtype: 1e9)
    monkeypatch.setattr(speed, "REPEATS", 3)
    monkeypatch.setattr(mamba, "import_module", missing)  # whether it is installed or not


def missing(name):
    raise ImportError(name)


def test_each_system_has_a_row_for_each_length_or_says_why_not():
    said = []
    found = speed.benchmark(
        "pocket", [40, 16], speed.SYSTEMS, CPU, lambda found: said.append(found["rows"][-1])
    )
    assert said == found["rows"]
    assert set(found["first_call_seconds"]) == {"sequential", "diagonal", "attention"}
    assert [(row["system"], row.get("tokens")) for row in said] == [
        ("sequential", 16), ("sequential", 40), ("diagonal", 16), ("diagonal", 40),
        ("compiled", None), ("captured", None),
        ("attention", 16), ("attention", 40), ("mamba", None),
    ]  # fmt: skip
    *graphs, last = (row["note"] for row in said if "tokens" not in row)
    assert graphs == ["not timed: needs an NVIDIA GPU, and this runs on cpu"] * 2
    assert last.startswith("not timed: the package transformers is not installed; pip install")
    for row in said:
        if "tokens" in row:
            assert 0 < row["fastest"] <= row["seconds"] <= row["slowest"]
            assert row["timings"] == 3
            assert row["tokens_per_s"] == row["tokens"] / row["seconds"]
            assert row["share_of_matrix_rate"] > 0
    assert found["exponents"]["captured"] is None
    assert found["exponents"]["diagonal"] == speed.exponent(said, "diagonal")


def test_where_memory_does_not_suffice_the_row_says_so_and_the_next_one_is_timed(monkeypatch):
    def measure(read, n_tokens, device, measured=speed.measure):
        if n_tokens == 16:
            raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB.")
        return measured(read, n_tokens, device)

    monkeypatch.setattr(speed, "measure", measure)
    found = speed.benchmark("pocket", [16, 40, 64], ["diagonal", "attention"], CPU)
    for system in ("diagonal", "attention"):
        too_large, *others = (row for row in found["rows"] if row["system"] == system)
        assert too_large == {"system": system, "tokens": 16, "note": "not timed: out of memory."}
        assert [row["tokens"] for row in others if row["seconds"] > 0] == [40, 64]
        assert found["exponents"][system] is not None


def test_a_long_run_is_timed_once_and_the_median_of_short_ones_counts(monkeypatch):
    times = iter([7.0, 1.0, 5.0, 3.0, 20.0])
    monkeypatch.setattr(speed, "seconds", lambda *_: (next(times), torch.zeros(1)))
    row = speed.measure(lambda n: torch.zeros(1), 16, CPU)
    assert (row["seconds"], row["timings"]) == (3.0, 3)
    row = speed.measure(lambda n: torch.zeros(1), 16, CPU)
    assert (row["seconds"], row["timings"], row["fastest"]) == (20.0, 1, 20.0)


def test_numbers_that_are_not_finite_are_not_timed():
    with pytest.raises(FloatingPointError, match="expected finite numbers after 16 tokens"):
        speed.measure(lambda n: torch.tensor([float("nan")]), 16, CPU)


@pytest.mark.parametrize("schedule", ["sequential", "diagonal"])
def test_the_last_segment_has_the_logits_of_one_call(schedule):
    read, _, _ = speed.reader(schedule, SMALL, CPU, torch.float64)
    from armt_mini import ARMT

    tokens = torch.cat(list(speed.blocks(300, SMALL)), dim=1)
    assert tokens.shape == (1, 300)
    model = ARMT(SMALL).double()
    assert torch.allclose(read(300), model(tokens).logits[:, 296:], rtol=1e-9)


def test_attention_reads_all_tokens_without_a_memory():
    read, _, _ = speed.reader("attention", SMALL, CPU, torch.float64)
    from armt_mini import ARMT

    model, tokens = ARMT(replace(SMALL, segment_length=40, n_positions=40)).double(), 40
    state = ARMT(SMALL).double().state_dict()
    rows = state["position_embedding"]
    state["position_embedding"] = torch.cat([rows[:8].repeat(5, 1), rows[8:]])
    model.load_state_dict(state)
    expected = model(speed.draw(tokens, SMALL)).logits[:, -8:]  # one segment: its memory is empty
    assert torch.allclose(read(tokens), expected, rtol=1e-9)


def test_operations_are_those_of_the_matrix_products():
    model_read, per_token, _ = speed.reader("sequential", SMALL, CPU, torch.float64)
    with FlopCounterMode(display=False) as counter:
        model_read(16)
    counted = sum(
        count for op, count in counter.get_flop_counts()["Global"].items() if "mm" in str(op)
    )
    d, heads_see, segments = 16, 8 + 2, 2
    attention = segments * SMALL.n_layers * heads_see * 2 * d * heads_see
    logits = 2 * 8 * d * 23
    # The overlap with z is no matrix product, and is left out of both.
    assert per_token(16) * 16 == counted + attention - logits


def test_the_orders_agree_in_float64():
    found = speed.agreement(CPU)
    assert set(found) == {"diagonal_values", "diagonal_gradients"}
    assert max(found.values()) < 1e-9


def test_a_line_of_the_table_says_what_a_row_holds():
    row = {"system": "captured", "tokens": 16, "note": "so"}
    row |= {"seconds": 2.0, "fastest": 1.0, "slowest": 3.0, "peak_bytes": 2**30}
    line = speed.in_words(row | {"tokens_per_s": 8.0, "share_of_matrix_rate": 0.5})
    words = " ".join(line.split())
    assert words == "captured 16 8 2.000 1.000 3.000 50.0% 1,024 so"
    assert speed.in_words({"system": "mamba", "note": "not timed"}).split()[1:] == ["not", "timed"]


def test_mamba_is_timed_up_to_a_length(monkeypatch):
    def mamba_reader(config, device, dtype):
        return lambda n: torch.zeros(1), "1M weights, without its fast kernels"

    monkeypatch.setattr(speed, "mamba_reader", mamba_reader)
    monkeypatch.setattr(speed, "MAMBA_LIMIT", 16)
    timed, not_timed = speed.benchmark("pocket", [16, 32], ["mamba"], CPU)["rows"]
    assert timed["note"] == "1M weights, without its fast kernels"
    assert "seconds" in timed
    assert "seconds" not in not_timed
    assert "not timed above 16 tokens" in not_timed["note"]
    too_long = speed.benchmark("pocket", [32], ["mamba"], CPU)
    assert (too_long["first_call_seconds"], "seconds" in too_long["rows"][0]) == ({}, False)


def test_mamba_with_its_kernels_is_timed_at_every_length(monkeypatch):
    monkeypatch.setattr(
        speed, "mamba_reader", lambda *_: (lambda n: torch.zeros(1), "1M weights, fast kernels")
    )
    monkeypatch.setattr(speed, "MAMBA_LIMIT", 16)
    (row,) = speed.benchmark("pocket", [32], ["mamba"], CPU)["rows"]
    assert (row["note"], "seconds" in row) == ("1M weights, fast kernels", True)


def test_the_command_prints_a_table_and_saves_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("armt_mini.cli.describe_device", lambda device: "A (fast) CPU")
    words = "benchmark --device cpu --tokens 16 24 --systems diagonal attention"
    assert main(words.split()) == 0
    said = capsys.readouterr().out
    assert "Saved to data/results/benchmark-a-fast-cpu.json" in said.replace("\\", "/")
    found = json.loads((tmp_path / "data/results/benchmark-a-fast-cpu.json").read_text())
    assert found["agreement"]["diagonal_values"] < 1e-9
    assert [row["tokens"] for row in found["sizes"]["pocket"]["rows"]] == [16, 24, 16, 24]
    assert found["provenance"]["commit"] is not None
    assert said.count("attention") == 2


def test_an_interrupted_run_has_saved_its_rows(tmp_path, monkeypatch):
    measure, rows = speed.measure, []

    def interrupted(*arguments):
        if len(rows) == 3:
            raise KeyboardInterrupt
        rows.append(measure(*arguments))
        return rows[-1]

    monkeypatch.setattr(speed, "measure", interrupted)
    words = "benchmark --device cpu --tokens 16 24 --systems diagonal attention --out"
    assert main([*words.split(), str(tmp_path / "b.json")]) == 130
    found = json.loads((tmp_path / "b.json").read_text())["sizes"]["pocket"]["rows"]
    assert [row["seconds"] for row in found] == [row["seconds"] for row in rows]


@pytest.mark.usefixtures("unchecked")
def test_names_that_are_not_known_and_too_few_tokens_are_errors():
    for arguments, message in (
        (("huge", [16], ["diagonal"]), "^size: expected one of pocket, gpt2; got 'huge'"),
        (("pocket", [16], ["rnn"]), "^systems: expected one of sequential.*; got 'rnn'"),
        (("pocket", [16, 7], ["diagonal"]), "^tokens: expected at least 8, got 7"),
    ):
        with pytest.raises(ValueError, match=message):
            speed.benchmark(*arguments, CPU)


def test_mamba_without_the_package_says_so():
    with pytest.raises(ImportError, match="transformers is not installed"):
        speed.mamba_reader(SMALL, CPU, torch.float32)


def test_mamba_is_as_wide_and_twice_as_deep(monkeypatch):
    asked = {}

    class Mamba(torch.nn.Linear):
        def __init__(self, config):
            super().__init__(2, 3, bias=False)

        def forward(self, tokens, **options):
            asked.update(options, n_tokens=tokens.shape[1])
            return SimpleNamespace(logits=self.weight)

    package = SimpleNamespace(
        MambaConfig=lambda **sizes: asked.update(sizes), MambaForCausalLM=Mamba
    )
    package.utils = SimpleNamespace(
        import_utils=SimpleNamespace(is_mamba_ssm_available=lambda: False)
    )
    monkeypatch.setattr(speed, "library", lambda: package)
    read, note = speed.mamba_reader(SMALL, CPU, torch.float32)
    read(100)
    assert note == "0.0M weights, without its fast kernels"
    assert asked["num_hidden_layers"] == 4
    assert (asked["hidden_size"], asked["n_tokens"], asked["logits_to_keep"]) == (16, 100, 8)
