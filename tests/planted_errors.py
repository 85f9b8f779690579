"""Errors that someone could make, planted one at a time to see whether the tests notice.

    .venv/bin/python tests/planted_errors.py          # plants all of them and prints what happens
    .venv/bin/python tests/planted_errors.py 1 3      # the second third of them

Each is planted into one temporary copy of the package, where the file of tests that should notice
is run; then it is taken out again. All runs share this process, so that torch is loaded once.
The package in this folder is not touched.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import cache_from_source
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FAST = ["-m", "not slow", "-k", "not float32 and not bfloat16", "-p", "no:unraisableexception"]
ENGINE_MODEL = "test_engine.py::test_an_armt_of_any_configuration_computes_as_in_python"
ENGINE_WRITE = "test_engine.py::test_writes_one_after_another_store_what_python_stores"
ENGINE_GAMMA = "test_engine.py::test_gamma_is_the_one_of_python"
ENGINE_16_BITS = "test_engine.py::test_every_number_of_16_bits_is_read_as_python_reads_it"


@dataclass(frozen=True)
class PlantedError:
    """`old`, which stands exactly once in `file`, becomes `new`; `tests` must fail then."""

    name: str
    file: str
    old: str
    new: str
    tests: str


PLANTED_ERRORS = [
    # Feature maps
    PlantedError(
        "dpfp rolls the other way",
        "feature_maps.py", "rectified.roll(j, dims=-1)", "rectified.roll(-j, dims=-1)",
        "test_feature_maps.py",
    ),
    PlantedError(
        "dpfp leaves out the negative half",
        "feature_maps.py", "[F.relu(x), F.relu(-x)]", "[F.relu(x), F.relu(x)]",
        "test_feature_maps.py",
    ),
    PlantedError(
        "dpfp begins with each entry's product with itself",
        "feature_maps.py", "range(1, nu + 1)", "range(nu)",
        "test_feature_maps.py",
    ),
    # Reading and adding
    PlantedError(
        "a read leaves out epsilon",
        "linear_attention.py", "overlap + eps)", "overlap)",
        "test_linear_attention.py",
    ),
    PlantedError(
        "a read does not divide by the normaliser",
        "linear_attention.py", "overlap + eps)", "0 * overlap + 1)",
        "test_linear_attention.py",
    ),
    PlantedError(
        "a write leaves out the strengths",
        "linear_attention.py", "(strengths.unsqueeze(-1) * values)", "values",
        "test_gamma_correction.py",
    ),
    PlantedError(
        "strengths scale the normaliser",
        "linear_attention.py",
        "(counted * keys).sum(dim=-2)",
        "(strengths.unsqueeze(-1) * counted * keys).sum(dim=-2)",
        "test_update_rules.py",
    ),
    PlantedError(
        "memory tokens see those before them",
        "delta_rule.py",
        "    differences = values - erased * recall(state, keys, eps, normalise)\n",
        "    if keys.shape[-2] > 1:\n"
        "        first = (x[:, :-1] for x in (keys, values, strengths))\n"
        "        state = delta_write(state, *first, eps)\n"
        "        keys, values, strengths = (x[:, -1:] for x in (keys, values, strengths))\n"
        "        erased = erased if isinstance(erased, int) else erased[:, -1:]\n"
        "    differences = values - erased * recall(state, keys, eps, normalise)\n",
        "test_equivalences.py",
    ),
    # The delta rule
    PlantedError(
        "the delta rule adds instead of replacing",
        "delta_rule.py", "values - erased * recall(state, keys, eps, normalise)", "values",
        "test_delta_rule.py",
    ),
    PlantedError(
        "the strength scales the new value but not the old one",
        "delta_rule.py",
        "values - erased * recall(state, keys, eps, normalise)",
        "values - erased * recall(state, keys, eps, normalise) / strengths.unsqueeze(-1)",
        "test_update_rules.py",
    ),
    PlantedError(
        "the old value is read without gradient",
        "delta_rule.py", "eps, normalise)\n", "eps, normalise).detach()\n",
        "test_equivalences.py",
    ),
    PlantedError(
        "the normaliser does not fade",
        "memory_state.py", "retention * state.normaliser", "state.normaliser",
        "test_memory_state.py",
    ),
    PlantedError(
        "a layer's memory does not fade",
        "associative_layer.py", "fade(state, config.retention)", "state",
        "test_associative_layer.py",
    ),
    PlantedError(
        "what writes cost is a sum over texts",
        "write_cost.py", "cost / strengths.shape[-2]", "cost", "test_write_cost.py",
    ),
    PlantedError(
        "a recording outlives the configuration it was made with",
        "captured_schedule.py", "recorded = model.config, places", "recorded = None, places",
        "test_captured_schedule.py",
    ),
    PlantedError(
        "the weakest writes are halved, not left out",
        "configuration.py",
        "strengths * (strengths >= self.min_strength)",
        "strengths * (1 + (strengths >= self.min_strength)) / 2",
        "test_associative_layer.py",
    ),
    PlantedError(
        "the delta rule without a normaliser divides by it",
        "update_rules.py", "counted=0, normalise=False)", "counted=0)",
        "test_delta_rule.py",
    ),
    # γ
    PlantedError(
        "gamma has the wrong sign",
        "gamma_correction.py", "missing = 1 - divide(", "missing = 1 + divide(",
        "test_gamma_correction.py",
    ),
    PlantedError(
        "gamma is not clipped",
        "gamma_correction.py", "missing.clamp(0, 1) if clip", "missing if clip",
        "test_gamma_correction.py",
    ),
    PlantedError(
        "what is missing is erased instead of what is there",
        "gamma_correction.py", "1 if erase_all else 1 - counted", "1 if erase_all else counted",
        "test_gamma_correction.py",
    ),
    PlantedError(
        "gamma is not detached",
        "gamma_correction.py", "missing.detach() if detach", "missing if detach",
        "test_gamma_correction.py",
    ),
    PlantedError(
        "gamma of the first write is not exactly one",
        "gamma_correction.py", "torch.where(is_empty, 1, missing)", "missing",
        "test_gamma_correction.py",
    ),
    PlantedError(
        "one empty memory in a batch makes gamma one for all of it",
        "gamma_correction.py", ".all(dim=-1, keepdim=True)", ".all(dim=-1, keepdim=True).any()",
        "test_gamma_correction.py",
    ),
    PlantedError(
        "gamma leaves epsilon out of its numerator",
        "gamma_correction.py", "divide(overlap + eps,", "divide(overlap,",
        "test_released_weights.py",
    ),
    # The block
    PlantedError(
        "attention is not causal",
        "transformer_block.py", "is_causal=True", "is_causal=False",
        "test_transformer_block.py",
    ),
    PlantedError(
        "norms stand after attention and not before it",
        "transformer_block.py",
        'hidden + attention(weights, norm(weights, "attention_norm", hidden), n_heads)',
        'norm(weights, "attention_norm", hidden + attention(weights, hidden, n_heads))',
        "test_transformer_block.py",
    ),
    PlantedError(
        "gelu in its exact form",
        "transformer_block.py", ', approximate="tanh"', "",
        "test_transformer_block.py",
    ),
    PlantedError(
        "heads and positions within a head change places",
        "transformer_block.py",
        ".unflatten(-1, (3, n_heads, -1))",
        ".unflatten(-1, (3, -1, n_heads)).mT",
        "test_transformer_block.py",
    ),
    # The layer
    PlantedError(
        "the layer writes before the block",
        "associative_layer.py",
        "    hidden = transformer_block(weights, hidden, config.n_heads)\n"
        "    state = write_memory(weights, hidden[",
        "    before, hidden = hidden, transformer_block(weights, hidden, config.n_heads)\n"
        "    state = write_memory(weights, before[",
        "test_associative_layer.py",
    ),
    PlantedError(
        "the layer reads after the block",
        "associative_layer.py",
        "    hidden = read_memory(weights, hidden, state, config)\n"
        "    hidden = transformer_block(weights, hidden, config.n_heads)\n",
        "    hidden = transformer_block(weights, hidden, config.n_heads)\n"
        "    hidden = read_memory(weights, hidden, state, config)\n",
        "test_associative_layer.py",
    ),
    PlantedError(
        "only memory tokens read",
        "associative_layer.py",
        "    return hidden + recalled",
        "    recalled[..., : -config.n_memory_tokens, :] = 0\n    return hidden + recalled",
        "test_associative_layer.py",
    ),
    PlantedError(
        "all tokens write",
        "associative_layer.py", "hidden[..., -config.n_memory_tokens :, :]", "hidden",
        "test_associative_layer.py",
    ),
    PlantedError(
        "keys are projected by the weights of queries",
        "associative_layer.py", 'weights["memory_key_weight"]', 'weights["memory_query_weight"]',
        "test_associative_layer.py",
    ),
    # Recurrence
    PlantedError(
        "states are dropped at a segment boundary",
        "segment_recurrence.py",
        "            hidden, states = self.read_segment(layers, segment, states)\n",
        "            hidden, _ = self.read_segment(layers, segment, states)\n",
        "test_equivalences.py",
    ),
    PlantedError(
        "states that are handed in are ignored",
        "checks.py",
        "model.empty_states(len(tokens)) if states is None else states",
        "model.empty_states(len(tokens))",
        "test_equivalences.py",
    ),
    PlantedError(
        "a short last segment is dropped",
        "segment_recurrence.py",
        "        segments = tokens.split(self.config.segment_length, dim=1)\n",
        "        segments = tokens.split(self.config.segment_length, dim=1)\n"
        "        if len(segments) > 1 and tokens.shape[1] % self.config.segment_length:\n"
        "            segments = segments[:-1]\n",
        "test_released_weights.py",
    ),
    PlantedError(
        "memory tokens take the rows after the segment's",
        "armt.py",
        "self.position_embedding[-self.config.n_memory_tokens :]",
        "self.position_embedding[tokens.shape[1] :][: self.config.n_memory_tokens]",
        "test_released_weights.py",
    ),
    PlantedError(
        "a diagonal hands its segments on to the wrong layers",
        "diagonal_schedule.py", "torch.stack(entering)", "torch.stack(entering[::-1])",
        "test_diagonal_schedule.py",
    ),
    PlantedError(
        "the last diagonals begin one layer too early",
        "diagonal_schedule.py",
        "old[:first], part[new], old[last:]", "part[new], old[last - first :]",
        "test_diagonal_schedule.py",
    ),
    PlantedError(
        "stacked layers share the first one's norms",
        "transformer_block.py", "[..., None, None, :] for part in", "[:1, None, None] for part in",
        "test_diagonal_schedule.py",
    ),
    PlantedError(
        "a layer without a segment writes",
        "captured_schedule.py", "torch.where(is_filled.view", "torch.where((is_filled | True).view",
        "test_captured_schedule.py",
    ),
    PlantedError(
        "a recording goes on from the states of the text before",
        "captured_schedule.py", "            torch.stack(theirs, out=ours)\n", "            pass\n",
        "test_captured_schedule.py",
    ),
    PlantedError(
        "a stream drops the tokens of an unfinished segment",
        "training/streaming.py",
        "= start, rest.clone(), last", "= start, rest[:, :0], last",
        "test_streaming.py",
    ),
    PlantedError(
        "a stream looks up positions from the start of the block",
        "training/streaming.py",
        "nonlocal start, last\n", "nonlocal last\n            start = 0\n",
        "test_streaming.py",
    ),
    PlantedError(
        "recomputed segments forget what came before",
        "training/answers.py",
        "arguments = some.flatten(1), states", "arguments = some.flatten(1), None",
        "test_answers.py",
    ),
    PlantedError(
        "gradients flow through one segment too many",
        "training/answers.py", "n_pairs - self.backprop)", "n_pairs - self.backprop - 1)",
        "test_answers.py",
    ),
    PlantedError(
        "all layers share one memory",
        "armt.py",
        "            new_states.append(new_state)\n",
        "            new_states.append(new_state if not new_states else new_states[0])\n",
        "test_released_weights.py",
    ),
    PlantedError(
        "questions about one sample attend to each other's memory",
        "armt.py",
        "hidden.unflatten(0, questions.shape[:2]).flatten(1, 2)",
        "hidden.unflatten(0, questions.shape[:2]).roll(1, 0).flatten(1, 2)",
        "test_equivalences.py",
    ),
    # Baselines
    PlantedError(
        "RMT forgets to norm the state",
        "baselines/rmt.py",
        "self.final_norm(hidden[:, -n_memory:])", "hidden[:, -n_memory:]",
        "test_rmt.py",
    ),
    PlantedError(
        "RMT hands on what stands before the tokens",
        "baselines/rmt.py",
        "self.final_norm(hidden[:, -n_memory:])", "self.final_norm(hidden[:, :n_memory])",
        "test_rmt.py",
    ),
    PlantedError(
        "PRMT hands a layer the memory of the one above",
        "baselines/prmt.py",
        "zip(layers, states, strict=True)", "zip(layers, states[1:] + states[:1], strict=True)",
        "test_prmt.py",
    ),
    # Released weights
    PlantedError(
        "released projections of values are not transposed",
        "training/released_weights.py",
        '"memory_value_weight": ("W_mv.weight", True)',
        '"memory_value_weight": ("W_mv.weight", False)',
        "test_released_weights.py",
    ),
    PlantedError(
        "released projections of queries and keys are swapped",
        "training/released_weights.py",
        '    "memory_query_weight": ("W_mq.weight", True),\n'
        '    "memory_key_weight": ("W_mk.weight", True),\n',
        '    "memory_query_weight": ("W_mk.weight", True),\n'
        '    "memory_key_weight": ("W_mq.weight", True),\n',
        "test_released_weights.py",
    ),
    # Mamba
    PlantedError(
        "Mamba forgets its state between two calls",
        "baselines/mamba.py", "h, after_each = state.scanned, []",
        "h, after_each = 0 * state.scanned, []",
        "test_mamba.py",
    ),
    PlantedError(
        "Mamba's convolution begins anew in every call",
        "baselines/mamba.py", "torch.cat([state.recent, inner.mT]",
        "torch.cat([0 * state.recent, inner.mT]",
        "test_mamba.py",
    ),
    # The widgets' engine, in JavaScript
    PlantedError(
        "engine: dpfp rolls the other way",
        "widgets/engine.js", "rectified[i - j];", "rectified[(i + j) % size];",
        "test_engine.py",
    ),
    PlantedError(
        "engine: dpfp rolls one entry too few",
        "widgets/engine.js", "rectified[i - j];", "rectified[i - j + 1];",
        "test_engine.py",
    ),
    PlantedError(
        "engine: unit length is forgotten",
        "widgets/engine.js",
        "return unit ? (x) => unitLength(maps[name](x)) : maps[name];",
        "return maps[name];",
        "test_engine.py",
    ),
    PlantedError(
        "engine: a read leaves out epsilon",
        "widgets/engine.js",
        "innerProduct(query, normaliser) + eps",
        "innerProduct(query, normaliser)",
        "test_engine.py",
    ),
    PlantedError(
        "engine: a division by zero is not zero",
        "widgets/engine.js", "denominator === 0 ? 0 : numerator", "numerator",
        "test_engine.py",
    ),
    PlantedError(
        "engine: a write changes the old state",
        "widgets/engine.js", "state.associations.slice()", "state.associations",
        "test_engine.py",
    ),
    PlantedError(
        "engine: a write leaves out the strengths",
        "widgets/engine.js", "strengths[token] * key[i]", "key[i]",
        ENGINE_WRITE,
    ),
    PlantedError(
        "engine: strengths scale the normaliser",
        "widgets/engine.js",
        "normaliser[i] += counted[token]",
        "normaliser[i] += strengths[token] * counted[token]",
        ENGINE_WRITE,
    ),
    PlantedError(
        "engine: the delta rule adds instead of replacing",
        "widgets/engine.js", "values[token][j] - erased[token] * old[j]", "values[token][j]",
        ENGINE_WRITE,
    ),
    PlantedError(
        "engine: keys see those before them",
        "widgets/engine.js",
        "    const old = read(state, key, eps, normalise);\n",
        "    const first = [keys.slice(0, token), values, strengths, eps, counted];\n"
        "    const old = read(token ? deltaWrite(state, ...first) : state, key, eps);\n",
        ENGINE_WRITE,
    ),
    PlantedError(
        "engine: gamma does not say what is erased",
        "widgets/engine.js", "(share) => 1 - share)", "() => 1)",
        ENGINE_WRITE,
    ),
    PlantedError(
        "engine: gamma is dropped",
        "widgets/engine.js",
        "strengths, eps, counted, erased);\n}", "strengths, eps, undefined, erased);\n}",
        ENGINE_WRITE,
    ),
    PlantedError(
        "engine: gamma is clipped where it should not be",
        "widgets/engine.js", "return clip ?", "return !clip ?",
        ENGINE_GAMMA,
    ),
    PlantedError(
        "engine: gamma of the first write is not exactly one",
        "widgets/engine.js", "  if (normaliser.every((entry) => entry === 0)) return 1;\n", "",
        ENGINE_GAMMA,
    ),
    PlantedError(
        "engine: gamma leaves epsilon out of its numerator",
        "widgets/engine.js", "quotientOrZero(overlap + eps,", "quotientOrZero(overlap,",
        ENGINE_GAMMA,
    ),
    PlantedError(
        "engine: half precision loses its small numbers",
        "widgets/engine.js", "fraction * 2 ** -24", "fraction * 2 ** -25",
        ENGINE_16_BITS,
    ),
    PlantedError(
        "engine: bfloat16 is taken for half precision",
        "widgets/engine.js",
        "new Float32Array(Uint32Array.from(new Uint16Array(content), (bits) => bits << 16).buffer)",
        "Float64Array.from(new Uint16Array(content), numberFromHalf)",
        ENGINE_16_BITS,
    ),
    PlantedError(
        "engine: gelu in its exact form",
        "widgets/engine.js",
        "1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))",
        # Abramowitz and Stegun 7.1.28, right to seven digits
        "1 + Math.sign(x) * (1 - [430638e-10, 2765672e-10, 1520143e-10, 92705272e-10,"
        " 422820123e-10, 705230784e-10, 1].reduce((s, c) => (s * Math.abs(x)) / Math.SQRT2 + c)"
        " ** -16)",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: attention looks one token ahead",
        "widgets/engine.js",
        "    const scores = new Float64Array(token + 1);\n",
        "    token = Math.min(token + 1, x.length - 1);\n"
        "    const scores = new Float64Array(token + 1);\n",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: attention is not scaled",
        "widgets/engine.js", " / Math.sqrt(dHead)", "",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: a norm leaves out its shift",
        "widgets/engine.js", " * scale[i] + shift[i]", " * scale[i]",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: memory tokens take the first positions",
        "widgets/engine.js", "const first = position_embedding.shape[0] - n;", "const first = 0;",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: memory tokens take the rows after the segment's",
        "widgets/engine.js",
        "const first = position_embedding.shape[0] - n;",
        "const first = this.segmentLength;",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: the layer writes before the block",
        "widgets/engine.js", "mixed.slice(-config", "informed.slice(-config",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: all layers read one memory",
        "widgets/engine.js",
        "associativeLayer(weights, hidden, states[layer], this.config)",
        "associativeLayer(weights, hidden, states[0], this.config)",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: states are dropped at a segment boundary",
        "widgets/engine.js", "      states = after.at(-1).states;\n", "",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: memory projections are not normed",
        "widgets/engine.js", "config.memory_norm ? layerNorm(x) : x", "x",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: a model divides whatever its rule is",
        "widgets/engine.js", 'rule !== "deltanet");', "true);",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: a model ignores its epsilon",
        "widgets/engine.js",
        "read(state, query, eps, rule !==", "read(state, query, 1e-5, rule !==",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: a model clips gamma always",
        "widgets/engine.js", "clipGamma: config.clip_gamma }", "clipGamma: true }",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: the memory of a model does not fade",
        "widgets/engine.js", "fade(state, config.retention)", "state",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: a model writes whatever it writes weakly",
        "widgets/engine.js", "strength < least ? 0 : strength", "strength",
        ENGINE_MODEL,
    ),
    PlantedError(
        "engine: the answer follows the first token",
        "widgets/engine.js", "hidden.at(-1)", "hidden[0]",
        ENGINE_MODEL,
    ),
]  # fmt: skip


class FirstFailure:
    """A pytest plugin that remembers the first test that failed, and how."""

    def __init__(self) -> None:
        self.test, self.by_assertion = "no test failed", False

    def pytest_exception_interact(self, node, call) -> None:
        kinds = (AssertionError, pytest.fail.Exception)
        self.test = node.nodeid
        self.by_assertion = call.when == "call" and call.excinfo.errisinstance(kinds)


def run_tests(copy: Path, *tests: str) -> tuple[int, FirstFailure]:
    """Run these tests of the copy up to the first failure, as if in a fresh process."""
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(copy)):
            del sys.modules[name]
    failure = FirstFailure()
    with redirect_stdout(StringIO()):
        code = pytest.main(["-x", "-p", "no:cacheprovider", *FAST, *tests], plugins=[failure])
    import armt_mini

    assert Path(armt_mini.__file__).is_relative_to(copy), armt_mini.__file__
    return int(code), failure


def write(file: Path, source: str) -> None:
    """And forget its bytecode: two errors can leave files of one size, in one second."""
    file.write_text(source, encoding="utf-8")
    Path(cache_from_source(str(file))).unlink(missing_ok=True)


def plant(copy: Path, error: PlantedError) -> str:
    """The test that caught it, or an empty string, and say so."""
    file = copy / "armt_mini" / error.file
    source = file.read_text(encoding="utf-8")
    if source.count(error.old) != 1:
        print(f"CANNOT PLANT {error.name}: the text is {source.count(error.old)} times in {file}")
        return ""
    write(file, source.replace(error.old, error.new))
    code, failure = run_tests(copy, f"tests/{error.tests}")
    write(file, source)
    caught = code == 1 and failure.by_assertion
    print(f"{'caught' if caught else 'MISSED'}: {error.name} ({failure.test})")
    return failure.test if caught else ""


def main(part: int = 0, parts: int = 1) -> int:
    """Plant every error of this part; 0 if each is caught by tests that pass without it."""
    # An error is to be caught by what it computes, not by its types.
    os.environ["JAXTYPING_DISABLE"] = "1"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = False  # what is not changed is compiled once
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        unwanted = shutil.ignore_patterns("__pycache__", "browser", "planted_errors.py")
        for name in ("armt_mini", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=unwanted)
        shutil.copy(ROOT / "pyproject.toml", copy)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        caught_by = [plant(copy, error) for error in PLANTED_ERRORS[part::parts]]
        code, failure = run_tests(copy, *sorted(set(filter(None, caught_by))))
        os.chdir(ROOT)
    if code != 0:
        print(f"FAILS without an error: {failure.test}")
    return int(code != 0 or not all(caught_by))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
