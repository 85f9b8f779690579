"""Answering in training: in another order, in lower precision, and with less memory."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from armt_mini.checks import check_count, check_one_of
from armt_mini.gpu import compiled
from armt_mini.shapes import Float, Int

PRECISIONS = ("float32", "tf32", "bfloat16")
SHORT = 32  # tokens of a segment


class Answers(nn.Module):
    """A model and how it reads in training: (pairs, questions) -> logits after QUERY.

    schedule: see the model; "captured" reads as "compiled" does, where the model has that order.
    precision: "bfloat16" reads with the weights rounded to it; they are kept and updated as they
    are, and memories stay float32. "tf32" is float32 here; `train` then allows faster products.
    recompute: the activations of so many segments are held at a time, and those of the others
    computed again on the way back; None holds all. backprop: gradients flow through the last so
    many segments only; None is all of them.

    Raises ValueError for a schedule or precision that the model does not have, for numbers below
    one, and where segments are counted and a pair is not one.
    """

    def __init__(
        self,
        model: Any,
        *,
        schedule: str = "sequential",
        precision: str = "float32",
        recompute: int | None = None,
        backprop: int | None = None,
    ) -> None:
        super().__init__()
        schedules = getattr(model, "schedules", ("sequential",))
        check_one_of("schedule", schedule, tuple(dict.fromkeys((*schedules, "captured"))))
        check_one_of("precision", precision, PRECISIONS)
        check_count(recompute=recompute, backprop=backprop)
        if schedule == "captured":
            schedule = "compiled" if "compiled" in schedules else "sequential"
        self.reader, self.recompute, self.backprop = Reader(model, schedule), recompute, backprop
        self.dtype = torch.bfloat16 if precision == "bfloat16" else None

    def forward(
        self,
        pairs: Int[Tensor, "batch pairs pair_length"],
        questions: Int[Tensor, "batch questions question_length"],
    ) -> Float[Tensor, "batch questions vocab_size"]:
        weights = {
            name: weight.to(self.dtype or weight.dtype)
            for name, weight in self.reader.named_parameters()
        }

        def read(*arguments: Any) -> Any:
            return functional_call(self.reader, weights, arguments)

        n_pairs, states = pairs.shape[1], None
        length = getattr(self.reader.model.config, "segment_length", pairs.shape[2])
        if (self.recompute or self.backprop) and n_pairs > 1 and length != pairs.shape[2]:
            raise ValueError(
                f"recompute, backprop: expected pairs of one segment, {length} tokens, got "
                f"{pairs.shape[2]}; leave both out, or use a model with that segment_length."
            )
        n_before = max(0, n_pairs - self.backprop) if self.backprop else 0
        if n_before:
            with torch.no_grad():
                states = read(pairs[:, :n_before].flatten(1), None)
        for some in pairs[:, n_before:].split(self.recompute or n_pairs, dim=1):
            arguments = some.flatten(1), states
            if self.recompute:
                # No random numbers are drawn, so their state need not be kept.
                states = checkpoint(read, *arguments, use_reentrant=False, preserve_rng_state=False)
            else:
                states = read(*arguments)
        logits = read(questions, states)[:, :, -1]
        return logits if self.dtype is None else logits.float()


class Reader(nn.Module):
    """A model's two ways of reading in one `forward`, to be called with weights of one's choice."""

    def __init__(self, model: Any, schedule: str) -> None:
        super().__init__()
        self.model = model
        self.options = {"schedule": schedule} if hasattr(model, "schedules") else {}

    def forward(self, tokens: Tensor, states: list[Any] | None) -> Any:
        """Pairs (batch, length) -> states; questions (batch, questions, length) -> logits."""
        # The fused kernels of a GPU take 64 positions or more at once.
        is_short = tokens.is_cuda and getattr(self.model.config, "segment_length", 0) < SHORT
        with sdpa_kernel(SDPBackend.MATH) if is_short else nullcontext():
            if tokens.ndim == 3:
                ask = type(self.model).ask
                is_compiled = self.options.get("schedule") == "compiled"
                return (compiled(ask) if is_compiled else ask)(self.model, tokens, states)
            return self.model.memorise(tokens, states, **self.options)
