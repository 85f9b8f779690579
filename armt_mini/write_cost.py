"""What a write costs in training, so that a model learns to leave a memory alone.

A text that holds nothing new should change nothing. The loss of a short text hardly asks for that:
a write of strength 0.01 in every segment costs no answer in a hundred segments, and all of them in
ten thousand. With a cost the loss is

    cross entropy + cost · Σ β,

the sum over all that one text writes, as a mean over the texts. β is known deep inside, where a
memory is written, and the loss is far from there. But the sum need not be carried to it. All that
training sees of a loss is its gradient, and the gradient of cost · Σ β at each β is the cost.

A memory on which no answer depends costs nothing: the last one of a text after which nothing is
asked, say, or what the diagonal order computes in vain where a layer has no segment.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class WithCost(torch.autograd.Function):
    """Strengths as they are, whose gradient is larger by a number where it is not all zero."""

    @staticmethod
    def forward(x: Tensor, cost: float) -> Tensor:
        """The same numbers."""
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        """Keep the cost."""
        ctx.cost = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        """Add it where the text's memory is read: a diagonal may compute cells in vain."""
        is_read = gradient.any(dim=-1, keepdim=True)
        return torch.where(is_read, gradient + ctx.cost, gradient), None


def with_cost(strengths: Tensor, cost: float) -> Tensor:
    """Strengths β (…, batch, memory_tokens), the same; in training each costs so much.

    The loss that is shown does not hold it.
    """
    return WithCost.apply(strengths, cost / strengths.shape[-2]) if cost else strengths
