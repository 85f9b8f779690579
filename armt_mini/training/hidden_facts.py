"""How well a model answers about facts in long texts: streamed, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armt_mini.shapes import Bool, Int
from armt_mini.tasks.babilong import NO_ANSWER, HiddenFacts, Sample, encode_questions
from armt_mini.training.streaming import Stream

BLOCK = 64  # segments that are computed and handed over at a time


class Answered(NamedTuple):
    """Of each text: whether its question was answered, and how far from the end the answer stood.

    distances: tokens from the last fact that the answer follows from to the end of the text.
    """

    is_right: Bool[Tensor, " batch"]
    distances: Int[Tensor, " batch"]


def answer_hidden(
    model: Any,
    samples: Sequence[Sample],
    hidden: HiddenFacts,
    *,
    schedule: str = "sequential",
    progress: bool = False,
) -> Answered:
    """Read the texts side by side to their ends, then ask each its first question.

    An answer of several tokens is right if each of them is. schedule: see the model. progress: show
    a bar. Raises ValueError for texts that are on another device than the model, or not as many as
    the samples.
    """
    if len(samples) != len(hidden.offsets):
        raise ValueError(
            f"samples: expected one for each of the {len(hidden.offsets)} texts, "
            f"got {len(samples)}."
        )
    stream = Stream(model, len(samples), schedule)
    blocks = hidden.blocks(BLOCK * model.config.segment_length)
    stream.read(blocks, is_end=True, progress=progress, n_tokens=hidden.n_tokens)
    questions, answers = encode_questions([sample.questions[:1] for sample in samples])
    with torch.no_grad():
        logits = model.ask(questions.to(hidden.starts.device), stream.states)[:, :, -1]
    said = logits.argmax(dim=-1).cpu()
    is_right = ((said == answers) | (answers == NO_ANSWER)).all(dim=1)
    last = torch.tensor([sample.questions[0].supports[-1] for sample in samples])
    starts = hidden.starts.cpu().gather(1, last.unsqueeze(1)).squeeze(1)
    return Answered(is_right, hidden.n_tokens - starts)
