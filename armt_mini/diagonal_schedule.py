"""The recurrence in the order that fills a GPU: all cells of one diagonal at once.

A cell (segment s, layer l) needs what leaves layer l - 1 for segment s, and the memory that layer l
has after segment s - 1. Both belong to cells with a smaller s + l. So all cells with the same s + l
can run together, each with the weights of its own layer: S segments and L layers take S + L - 1
steps instead of S · L. The numbers are those of the sequential order, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain, repeat
from typing import Any

import torch
from torch import Tensor

from armt_mini.memory_state import MemoryState

# Some layers, a segment each, all stacked: (weights, hidden, state) -> (hidden, state).
LayerStep = Callable[[Mapping[str, Tensor], Tensor, MemoryState], tuple[Tensor, MemoryState]]


def read_diagonally(
    layer: LayerStep,
    weights: Mapping[str, Tensor],
    segments: Iterable[Tensor],
    states: list[MemoryState],
    use: Callable[[Tensor], Any],
    whole: bool = False,
) -> list[MemoryState]:
    """Take segments of one length through all layers; the states after the last one.

    weights: of all layers, each stacked as (n_layers, ...). segments: what enters the first layer,
    (batch, tokens, d_model) each; taken one a step, so an endless iterator needs no more room than
    a short one. use: called with what leaves the last layer, segment by segment. whole: all layers
    compute in every step, those without a segment on zeros, in vain; compiled code likes one shape.
    """
    n_layers, stacked = len(states), stack(states)
    waiting: list[Tensor | None] = [None] * n_layers  # in front of each layer
    for segment in chain(segments, repeat(None, n_layers - 1)):
        waiting = [segment, *waiting[:-1]]
        some = [hidden for hidden in waiting if hidden is not None]
        if not some:
            continue  # there was no segment at all
        first = next(layer for layer in range(n_layers) if waiting[layer] is not None)
        last = first + len(some)  # segments follow one another: so do the layers they are in
        start, end = (0, n_layers) if whole else (first, last)
        entering = [torch.zeros_like(some[0]) if h is None else h for h in waiting[start:end]]
        of_some = {name: cut(weight, start, end) for name, weight in weights.items()}
        state = MemoryState(*(cut(part, start, end) for part in stacked))
        hidden, state = layer(of_some, torch.stack(entering), state)
        hidden, *parts = (cut(part, first - start, last - start) for part in (hidden, *state))
        stacked = put_in(stacked, first, last, MemoryState(*parts))
        waiting[first:last] = hidden.unbind()
        if last == n_layers:
            use(hidden[-1])
    return unstack(stacked)


def stack(states: list[MemoryState]) -> MemoryState:
    """The states of all layers as one, with the layers first."""
    return MemoryState(*(torch.stack(parts) for parts in zip(*states, strict=True)))


def unstack(stacked: MemoryState) -> list[MemoryState]:
    return [MemoryState(*parts) for parts in zip(*stacked, strict=True)]


def cut(stacked: Tensor, first: int, last: int) -> Tensor:
    """What belongs to layers first ≤ l < last. All of it as it is: a slice has its own gradient."""
    return stacked if last - first == len(stacked) else stacked[first:last]


def put_in(stacked: MemoryState, first: int, last: int, new: MemoryState) -> MemoryState:
    """The states of all layers, with those of layers first ≤ l < last replaced."""
    if last - first == len(stacked.normaliser):
        return new
    pairs = zip(stacked, new, strict=True)
    return MemoryState(*(torch.cat([old[:first], part, old[last:]]) for old, part in pairs))
