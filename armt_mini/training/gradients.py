"""The gradient of one batch: computed, or played again from CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from armt_mini.gpu import graph_of
from armt_mini.tasks import Batch
from armt_mini.tasks.babilong import NO_ANSWER


class Measures(NamedTuple):
    """Of a batch: mean cross entropy, norm of the gradient before it is clipped, exact match."""

    loss: Tensor
    norm: Tensor
    accuracy: Tensor


@dataclass(frozen=True, eq=False)
class Gradients:
    """From a batch to its measures, and to clipped gradients in `.grad` of the parameters."""

    answers: Any
    clip_norm: float

    def __call__(self, batch: Batch) -> Measures:
        self.answers.zero_grad(set_to_none=False)  # graphs know where gradients lie
        read, questions, answers, *_ = batch
        logits = self.answers(read, questions)
        loss = F.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=NO_ANSWER)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.answers.parameters(), self.clip_norm)
        accuracy = (logits.argmax(dim=-1) == answers).sum() / (answers != NO_ANSWER).sum()
        return Measures(loss.detach(), norm, accuracy.to(loss.dtype))


class CapturedGradients:
    """The same from graphs, one for each shape of a batch.

    A step of the diagonal order starts thousands of short kernels, forward and back; a graph starts
    all at once. The first batch of a shape takes some seconds longer, the very first a minute.
    """

    def __init__(self, gradients: Gradients) -> None:
        self.gradients = gradients
        self.graphs: dict[Any, tuple[Batch, Callable[[], None], Measures]] = {}
        self.pool = torch.cuda.graph_pool_handle()  # one batch at a time: graphs share their memory

    def __call__(self, batch: Batch) -> Measures:
        shapes = tuple(tensor.shape for tensor in batch)
        if shapes not in self.graphs:
            own = type(batch)(*(tensor.clone() for tensor in batch))
            self.graphs[shapes] = own, *graph_of(lambda: self.gradients(own), self.pool)
        own, play, measures = self.graphs[shapes]
        for ours, theirs in zip(own, batch, strict=True):
            ours.copy_(theirs)
        play()
        return measures
