"""What the tests share: shapes checked at run time, devices, dtypes, tolerances, random numbers.

Shapes. Public signatures carry jaxtyping shapes. Here every module of the package is imported
under jaxtyping's hook, and beartype checks every call. Without the two (on a bare GPU machine)
calls go unchecked, and the header says so.

Numbers. A test that takes `draw`, `close`, `device` or `dtype` runs once for every device of this
machine and float64 and float32, or for the dtypes that it is marked with.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

# How far a result may be from the expected one, relative to it or to one (whichever is larger):
# some thousand roundings of float64 (1e-16), some hundred of float32 (6e-8), some ten of bfloat16
# (4e-3), since sums of a few dozen terms and divisions follow one another.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-5, torch.bfloat16: 6e-2}
# Gradients through several segments add up more of them, of terms of different size.
GRADIENT_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3}
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]

# Test processes share the cores: threads of one would only wait for those of another.
torch.set_num_threads(1)


def check_shapes_of_the_package() -> str:
    """From here on armt_mini is imported with its annotations checked; says whether it is."""
    if os.environ.get("JAXTYPING_DISABLE"):
        return "armt_mini: shapes and types are NOT checked (JAXTYPING_DISABLE is set)"
    try:
        import beartype.roar
        import jaxtyping
    except ImportError as missing:
        return f"armt_mini: shapes and types are NOT checked ({missing.name} is not installed)"
    # An int may stand for a float, as it may for static type checkers.
    checker = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))

    def checked(function: Callable) -> Callable:
        try:
            return checker(function)
        except beartype.roar.BeartypeDecorHintPep3119Exception:  # names a static-only Protocol
            return function

    beartype.checked = checked  # the hook wants the name of something importable
    jaxtyping.install_import_hook("armt_mini", "beartype.checked")
    return "armt_mini: shapes and types are checked by jaxtyping and beartype"


HEADER = check_shapes_of_the_package()


def pytest_report_header() -> list[str]:
    return [HEADER, f"torch {torch.__version__} on {' and '.join(DEVICES)}"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: left to `make test`, where nothing runs beside it")
    config.addinivalue_line("markers", "dtypes(...): the dtypes to run in, if not the usual two")
    config.addinivalue_line("markers", "no_cover: what it reaches does not count as tested")
    # In each of several processes pytest-cov starts the watcher of the first one, whose findings it
    # drops, and then the process's own. `no_cover` would stop only that.
    watching = getattr(config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    if hasattr(config, "workerinput") and watching:
        watching.cov.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fast tests must reach all code by themselves; slow ones need not be watched for it.

    Nor need those that draw many stories, and are marked: being watched doubles their time.
    """
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker("no_cover")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", DEVICES)
    if "dtype" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("dtypes")
        names = marker.args if marker else ("float64", "float32")
        metafunc.parametrize("dtype", [getattr(torch, name) for name in names], ids=names)


@pytest.fixture
def draw(device: str, dtype: torch.dtype) -> Callable[..., torch.Tensor]:
    """`draw(2, 3)`: normal numbers, the next of one fixed sequence, the same for every dtype."""
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)

    return draw


@pytest.fixture
def recordable(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes CUDA graphs and compiled code possible: without a GPU, what is in them just runs."""
    if device == "cuda":
        return
    from armt_mini import captured_schedule, gpu
    from armt_mini.training import gradients

    def graph_of(work: Callable, pool: None = None) -> tuple[Callable[[], None], Any]:
        results = work()

        def play() -> None:
            for ours, new in zip(results or (), work() or (), strict=True):
                ours.copy_(new)

        return play, results

    gpu.compiled.cache_clear()
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(captured_schedule, "graph_of", graph_of)
    monkeypatch.setattr(gradients, "graph_of", graph_of)
    monkeypatch.setattr(gpu, "GRAPHS_ON", device)


@pytest.fixture
def close(dtype: torch.dtype) -> Callable[..., None]:
    """`close(actual, expected)`: assert that tensors, or tuples or lists of them, agree."""

    def close(actual, expected, rtol: float = TOLERANCE[dtype], atol: float | None = None) -> None:
        if isinstance(actual, torch.Tensor) and not isinstance(expected, torch.Tensor):
            expected = torch.tensor(expected, dtype=torch.float64, device=actual.device)
        atol = rtol if atol is None else atol
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, check_dtype=False)

    return close


@pytest.fixture
def close_gradients(close, dtype: torch.dtype) -> Callable[..., None]:
    """`close` for gradients, which must not all be zero."""

    def close_gradients(actual, expected) -> None:
        assert any(gradient.count_nonzero() for gradient in expected)
        close(list(actual), list(expected), rtol=GRADIENT_TOLERANCE[dtype])

    return close_gradients


@pytest.fixture
def numbers(device: str, dtype: torch.dtype) -> Callable[[list], torch.Tensor]:
    """`numbers([1.0, 2.0])`: a tensor of these."""
    return lambda values: torch.tensor(values, dtype=dtype, device=device)


@pytest.fixture
def memory(draw):
    """A `MemoryState` of a batch of 2, keys of 7 features, values of 5, nowhere zero."""
    import armt_mini as am

    def memory(batch: int = 2, d_key: int = 7, d_value: int = 5) -> am.MemoryState:
        return am.MemoryState(draw(batch, d_key, d_value), draw(batch, d_key).abs() + 0.1)

    return memory


@pytest.fixture
def pairs(draw):
    """Keys (features above zero), values and strengths in 0 … 1 of 3 memory tokens."""

    def pairs(batch: int = 2, tokens: int = 3, d_key: int = 7, d_value: int = 5):
        keys, values = draw(batch, tokens, d_key).abs() + 0.05, draw(batch, tokens, d_value)
        return keys, values, draw(batch, tokens).sigmoid()

    return pairs


@pytest.fixture
def lively(device: str, dtype: torch.dtype):
    """`lively(am.ARMT)`: a small model whose weights are all away from zero, and its config.

    Every size is another prime. A fresh model would not do: its W_V is zero, its memory stays
    empty, and a wrong rule of writing would go unseen.
    """
    import armt_mini as am

    def lively(kind: type = am.ARMT, seed: int = 11, **changes):
        sizes = {"vocab_size": 23, "d_model": 14, "n_layers": 3, "n_heads": 2, "segment_length": 5}
        sizes |= {"n_memory_tokens": 2, "n_positions": 11, "d_mlp": 17}
        if kind is am.ARMT:
            model = am.ARMT(am.ARMTConfig(**(sizes | {"d_memory": 3} | changes)))
        else:
            model = kind(am.RecurrentConfig(**(sizes | changes)))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter += 0.3 * noise
        return model.to(device, dtype)

    return lively


@pytest.fixture
def draw_tokens(device: str) -> Callable[..., torch.Tensor]:
    """`draw_tokens(2, 13)`: tokens for the lively model."""
    generator = torch.Generator().manual_seed(13)
    return lambda *shape: torch.randint(0, 23, shape, generator=generator).to(device)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without jaxtyping's checks, as users run the package: they would hide its own errors."""
    try:
        from jaxtyping import config
    except ImportError:
        yield
        return
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """`ctrl_c()` presses it, and it interrupts, as in a terminal.

    A shell's background jobs, this test run maybe, begin by ignoring it.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
