"""The diagonal order as a recording: compiled, captured in CUDA graphs, and played again.

A diagonal is some dozen short kernels. Started one by one from Python, they take longer to start
than to run. `torch.compile` makes few kernels of many, and a CUDA graph starts all of them at once.
A graph runs on fixed addresses and shapes. So every diagonal computes all layers here, and a layer
without a segment (at the beginning and at the end) keeps its state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice, repeat
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from armt_mini.associative_layer import associative_layer
from armt_mini.diagonal_schedule import LayerStep, read_diagonally
from armt_mini.gpu import check_gpu, compile_whole, compiled, graph_of, tensor_float_32
from armt_mini.memory_state import MemoryState

DIAGONALS = 8  # in the longer graph: to start one takes some microseconds, whatever is in it


def read_in_diagonals(
    model: Any,
    segments: Iterable[Tensor],
    states: list[MemoryState],
    use: Callable[[Tensor], Any],
    schedule: str,
) -> list[MemoryState]:
    """`read_segments` of an ARMT in the order "diagonal", or the same "compiled" or "captured".

    Raises ValueError where nothing can be compiled or recorded.
    """
    if schedule != "diagonal":
        check_gpu(schedule, states[0].normaliser.device)
    length, short = model.config.segment_length, []

    def full() -> Iterator[Tensor]:
        for tokens in segments:
            if tokens.shape[1] == length:
                yield tokens
            else:
                short.append(tokens)  # the last one: it fits into no diagonal

    def use_tokens(hidden: Tensor) -> None:
        use(hidden[:, :length])

    is_compiled = schedule == "compiled"
    step = compiled(associative_layer) if is_compiled else associative_layer
    layer: LayerStep = partial(step, config=model.config)
    if schedule == "captured":
        idle = recordings_of(model).setdefault(len(states[0].normaliser), [])
        # Taken out while it plays: a reading within this one has a recording of its own.
        recording = idle.pop() if idle else Recording(model, layer, states)
        states = recording.read(full(), states, use_tokens)
        idle.append(recording)
    else:
        entering = chain.from_iterable(
            model.with_memory_tokens(torch.stack(group)).unbind() for group in groups(full())
        )
        weights = dict(model.layers)
        states = read_diagonally(layer, weights, entering, states, use_tokens, is_compiled)
    return model.read_segments(short, states, use)


class Recording:
    """Graphs of one diagonal and of several, for so many texts. To make them takes a minute."""

    @torch.inference_mode(False)  # what is made in that mode could be changed in it only
    @torch.no_grad()
    def __init__(self, model: Any, layer: LayerStep, states: list[MemoryState]) -> None:
        weights, enter = dict(model.layers), model.with_memory_tokens
        self.state = MemoryState(*map(torch.stack, zip(*states, strict=True)))
        (n_layers, batch, _), length = self.state.normaliser.shape, model.config.segment_length
        self.tokens = self.state.normaliser.new_zeros(DIAGONALS, batch, length, dtype=torch.long)
        self.is_filled = self.tokens.new_zeros(DIAGONALS, n_layers, dtype=torch.bool)
        self.leaving = torch.zeros_like(enter(self.tokens))
        self.hidden = self.leaving.new_zeros(n_layers, *self.leaving.shape[1:])

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

        with tensor_float_32(self.hidden.dtype == torch.bfloat16):
            self.play = {n: graph_of(partial(several_diagonals, n))[0] for n in (1, DIAGONALS)}

    def read(
        self, segments: Iterable[Tensor], states: list[MemoryState], use: Callable[[Tensor], Any]
    ) -> list[MemoryState]:
        """As `read_diagonally`, from token segments. What `use` is given is overwritten later."""
        for ours, theirs in zip(self.state, zip(*states, strict=True), strict=True):
            torch.stack(theirs, out=ours)
        is_filled = [False] * len(states)  # which layers have a segment
        for diagonals in groups(chain(segments, repeat(None, len(states) - 1))):
            if tokens := [segment for segment in diagonals if segment is not None]:
                self.tokens[: len(tokens)] = torch.stack(tokens)
            filled = []
            for segment in diagonals:
                is_filled = [segment is not None, *is_filled[:-1]]
                filled.append(is_filled)
            if not any(map(any, filled)):
                break  # there was no segment at all
            # The host does not wait for the device, which has work for some diagonals more.
            self.is_filled[: len(filled)].copy_(torch.tensor(filled), non_blocking=True)
            self.play[len(diagonals)]()
            for leaving, (*_, is_last_filled) in zip(self.leaving, filled, strict=False):
                if is_last_filled:
                    use(leaving)
        return [MemoryState(*parts) for parts in zip(*(p.clone() for p in self.state), strict=True)]


def groups(diagonals: Iterator[Any]) -> Iterator[list[Any]]:
    """As many at a time as the longer graph has; one at a time where there are fewer."""
    while group := list(islice(diagonals, DIAGONALS)):
        yield from [group] if len(group) == DIAGONALS else [[diagonal] for diagonal in group]


# Of each model: its configuration, where its weights lie and how exact products are, and with these
# recordings for each number of texts.
RECORDINGS: WeakKeyDictionary[nn.Module, tuple[Any, dict[int, list[Recording]]]] = (
    WeakKeyDictionary()
)


def recordings_of(model: Any) -> dict[int, list[Recording]]:
    """The recordings of a model as it is, by number of texts.

    They take the weights from where they lie: those may change in place, not move. Raises
    ValueError where gradients are asked for.
    """
    if torch.is_grad_enabled():
        raise ValueError("schedule: 'captured' has no gradients; use torch.no_grad or 'compiled'.")
    places = [(parameter.data_ptr(), parameter.dtype) for parameter in model.parameters()]
    recorded = model.config, places, torch.get_float32_matmul_precision()
    if model not in RECORDINGS or RECORDINGS[model][0] != recorded:
        RECORDINGS[model] = recorded, {}
    return RECORDINGS[model][1]
