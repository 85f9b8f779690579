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
    n_layers, stacked = len(states), MemoryState(*map(torch.stack, zip(*states, strict=True)))
    waiting: dict[int, Tensor] = {}  # what enters each layer that has a segment
    for segment in chain(segments, repeat(None, n_layers - 1)):
        if segment is not None:
            waiting[0] = segment
        if not waiting:
            break  # there was no segment at all
        first, last = min(waiting), max(waiting) + 1  # segments follow one another without a gap
        layers = range(n_layers) if whole else range(first, last)
        entering = [
            waiting[i] if i in waiting else torch.zeros_like(waiting[first]) for i in layers
        ]
        some, state = weights, stacked
        if len(layers) < n_layers:  # slices of all would add steps to the gradient
            some = {name: weight[first:last] for name, weight in weights.items()}
            state = MemoryState(*(part[first:last] for part in stacked))
        hidden, state = layer(some, torch.stack(entering), state)
        if len(waiting) < n_layers:  # layers without a segment keep their states
            new = slice(first - layers.start, last - layers.start)
            pairs = zip(stacked, state, strict=True)
            parts = (torch.cat([old[:first], part[new], old[last:]]) for old, part in pairs)
            state = MemoryState(*parts)
        stacked = state
        waiting = {i + 1: h for i, h in zip(layers, hidden.unbind(), strict=True) if i in waiting}
        if last == n_layers:
            use(waiting.pop(n_layers))
    return [MemoryState(*parts) for parts in zip(*stacked, strict=True)]
