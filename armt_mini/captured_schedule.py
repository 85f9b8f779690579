"""The diagonal order as a recording: compiled, captured in CUDA graphs, and played again.

A diagonal is some dozen short kernels. Started one by one from Python, they take longer to start
than to run. `torch.compile` makes few kernels of many, and a CUDA graph starts all of them at once.
A graph runs on fixed addresses and shapes. So every diagonal computes all layers here, and a layer
without a segment (at the beginning and at the end) keeps its state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain, islice, repeat
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from armt_mini.diagonal_schedule import LayerStep, stack, unstack
from armt_mini.memory_state import MemoryState

DIAGONALS = 8  # in the longer graph: to start one takes some microseconds, whatever is in it
GRAPHS_ON = "cuda"
T = TypeVar("T")


class Recording:
    """Graphs of one diagonal and of several, for batches of token segments of one shape.

    layer, weights: as in `read_diagonally`. enter: from token segments to what enters the first
    layer. Compiling takes from 20 seconds to a minute.
    """

    def __init__(
        self,
        layer: LayerStep,
        weights: Mapping[str, Tensor],
        enter: Callable[[Tensor], Tensor],
        tokens: Tensor,
        states: list[MemoryState],
    ) -> None:
        self.state = MemoryState(*(part.clone() for part in stack(states)))
        entering, several = enter(tokens), (DIAGONALS, *tokens.shape)
        self.hidden = entering.new_zeros(len(states), *entering.shape)
        self.tokens = tokens.new_zeros(several)
        self.leaving = entering.new_zeros(DIAGONALS, *entering.shape)
        self.is_filled = tokens.new_zeros(DIAGONALS, len(states), dtype=torch.bool)

        def diagonal(tokens: Tensor, is_filled: Tensor, leaving: Tensor) -> None:
            """All layers once, in place."""
            hidden = torch.cat([enter(tokens)[None], self.hidden[:-1]])
            hidden, state = layer(weights, hidden, self.state)
            for old, new in zip(self.state, state, strict=True):
                old.copy_(torch.where(is_filled.view(-1, *[1] * (old.ndim - 1)), new, old))
            self.hidden.copy_(hidden)
            leaving.copy_(hidden[-1])

        compiled = compile_whole(diagonal, dynamic=False)

        def several_diagonals(n: int) -> None:
            for i in range(n):
                compiled(self.tokens[i], self.is_filled[i], self.leaving[i])

        with tensor_float_32(entering.dtype == torch.bfloat16):
            self.play = {n: graph_of(partial(several_diagonals, n))[0] for n in (1, DIAGONALS)}

    def read(
        self,
        segments: Iterable[Tensor],
        states: list[MemoryState],
        use: Callable[[Tensor], Any],
    ) -> list[MemoryState]:
        """As `read_diagonally`, from token segments. What `use` is given is overwritten later."""
        for ours, theirs in zip(self.state, stack(states), strict=True):
            ours.copy_(theirs)
        is_filled = [False] * len(states)  # which layers have a segment
        for diagonals in groups(chain(segments, repeat(None, len(states) - 1))):
            if tokens := [segment for segment in diagonals if segment is not None]:
                self.tokens[: len(tokens)] = torch.stack(tokens)
            filled = []
            for segment in diagonals:
                is_filled = [segment is not None, *is_filled[:-1]]
                filled.append(is_filled)
            # The host does not wait for the device, which has work for some diagonals more.
            self.is_filled[: len(filled)].copy_(torch.tensor(filled), non_blocking=True)
            self.play[len(diagonals)]()
            for leaving, (*_, is_last_filled) in zip(self.leaving, filled, strict=False):
                if is_last_filled:
                    use(leaving)
        return unstack(MemoryState(*(part.clone() for part in self.state)))


def graph_of(work: Callable[[], Any], pool: Any = None) -> tuple[Callable[[], None], Any]:
    """A CUDA graph of the work: what plays it, and what the work returns, written anew each time.

    pool: memory that it shares with other graphs, which must not play at the same time.
    """
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        work()  # whatever happens once happens now
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool):
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


@cache
def compiled(layer: Callable) -> Callable:
    """The layer, compiled: at the first call of each shape, which takes up to a minute."""
    return compile_whole(layer)


def compile_whole(function: Callable, **options: Any) -> Callable:
    """`torch.compile` without a break, and not only for PyTorch's 8 versions of one function."""
    torch.compiler.config.recompile_limit = max(64, torch.compiler.config.recompile_limit)
    return torch.compile(function, fullgraph=True, **options)


def check_gpu(schedule: str, device: torch.device) -> None:
    """Raise ValueError where nothing can be compiled or recorded."""
    if device.type != GRAPHS_ON:
        raise ValueError(
            f"schedule: {schedule!r} needs an NVIDIA GPU, and the model is on {device.type}; use "
            f"'sequential'."
        )


def groups(diagonals: Iterator[T]) -> Iterator[list[T]]:
    """As many at a time as the longer graph has; one at a time where there are fewer."""
    while group := list(islice(diagonals, DIAGONALS)):
        yield from [group] if len(group) == DIAGONALS else [[diagonal] for diagonal in group]


# Of each model: where its weights lie, and a recording for each number of texts.
RECORDINGS: WeakKeyDictionary[nn.Module, tuple[Any, dict[int, Recording]]] = WeakKeyDictionary()


def recording_of(model: Any, layer: LayerStep, states: list[MemoryState]) -> Recording:
    """The recording of a model for as many texts as the states: an earlier one, or a new one.

    It takes the weights from where they lie: they may change in place, not move. Raises ValueError
    where nothing can be recorded.
    """
    (batch, _), device = states[0].normaliser.shape, states[0].normaliser.device
    check_gpu("captured", device)
    if torch.is_grad_enabled():
        raise ValueError(
            "schedule: 'captured' has no gradients; call the model under torch.no_grad(), or use "
            "'compiled'."
        )
    places = [(parameter.data_ptr(), parameter.dtype) for parameter in model.parameters()]
    if model not in RECORDINGS or RECORDINGS[model][0] != places:
        RECORDINGS[model] = places, {}
    _, of_model = RECORDINGS[model]
    if batch not in of_model:
        # What is made in inference mode could be changed in that mode only.
        with torch.inference_mode(False), torch.no_grad():
            size = batch, model.config.segment_length
            tokens = torch.zeros(size, dtype=torch.long, device=device)
            weights, enter = dict(model.layers), model.with_memory_tokens
            of_model[batch] = Recording(layer, weights, enter, tokens, states)
    return of_model[batch]
