"""What makes a GPU fast: compiled functions, CUDA graphs, and products in TF32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

GRAPHS_ON = "cuda"


def graph_of(work: Callable[[], Any], pool: Any = None) -> tuple[Callable[[], None], Any]:
    """A CUDA graph of the work: what plays it, and what the work returns, written anew each time.

    pool: memory that it shares with other graphs, which must not play at the same time.
    """
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        work()  # whatever happens once happens now
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool, capture_error_mode="thread_local"):
        results = work()
    return graph.replay, results


@contextmanager
def tensor_float_32(is_used: bool) -> Iterator[None]:
    """Take products of float32 matrices in TF32, if this is said: 10 bits after the leading one.

    They then take a third of the time on a GPU. A bfloat16 model multiplies with float32 memories
    in this way, since bfloat16 itself has 7 bits.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if is_used else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def compile_whole(function: Callable, **options: Any) -> Callable:
    """`torch.compile` without a break, and not only for PyTorch's 8 versions of one function."""
    torch.compiler.config.recompile_limit = max(64, torch.compiler.config.recompile_limit)
    return torch.compile(function, fullgraph=True, **options)


compiled = cache(compile_whole)  # the first call of each shape takes up to a minute


def check_gpu(schedule: str, device: torch.device) -> None:
    """Raise ValueError where nothing can be compiled, or graphs would lie on another GPU."""
    if device.type != GRAPHS_ON:
        raise ValueError(
            f"schedule: {schedule!r} needs an NVIDIA GPU, got {device.type}; use 'sequential'."
        )
    is_elsewhere = device.index is not None and device.index != torch.cuda.current_device()
    if schedule == "captured" and is_elsewhere:
        raise ValueError(
            f"schedule: {schedule!r} needs the model on the current GPU, "
            f"cuda:{torch.cuda.current_device()}, got {device}; call torch.cuda.set_device first."
        )
