"""How well a model answers about facts in long texts: streamed, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armt_mini.armt import ARMT
from armt_mini.associative_layer import keys_values_strengths, read_memory
from armt_mini.checks import check_count
from armt_mini.gamma_correction import gamma
from armt_mini.shapes import Bool, Float, Int
from armt_mini.tasks.babi import read_stories
from armt_mini.tasks.babilong import NO_ANSWER, HiddenFacts, Sample, encode_questions, hide
from armt_mini.tasks.background import Background
from armt_mini.training.evaluation import Score
from armt_mini.training.streaming import Stream
from armt_mini.transformer_block import transformer_block

BLOCK = 64  # segments that are computed and handed over at a time


class Answered(NamedTuple):
    """Of each text: whether its question was answered, and how far from the end the answer stood.

    distances: tokens from the last fact that the answer follows from to the end of the text. sizes:
    ‖A‖ and ‖z‖ of each layer after the text, or what else is handed from segment to segment.
    gammas: of each layer of ARMT, see `gammas`; of other models, none.
    """

    is_right: Bool[Tensor, " batch"]
    distances: Int[Tensor, " batch"]
    sizes: Float[Tensor, "batch layers parts"]
    gammas: Float[Tensor, "batch layers"]


def answer_hidden(
    model: Any,
    samples: Sequence[Sample],
    hidden: HiddenFacts,
    *,
    schedule: str = "sequential",
    progress: bool = False,
    halt: str | Path | None = None,
) -> Answered:
    """Read the texts side by side to their ends, then ask each its first question.

    An answer of several tokens is right if each of them is. schedule: see the model. progress: show
    a bar. halt: a file in which the stream is kept when its reading ends, or when Ctrl-C ends it;
    if it is there, the reading goes on from it. Raises ValueError for texts that are on another
    device than the model, or not as many as the samples, and for the stream of another model.
    """
    if len(samples) != len(hidden.offsets):
        raise ValueError(
            f"samples: expected one for each of the {len(hidden.offsets)} texts, "
            f"got {len(samples)}."
        )
    device = next(model.parameters()).device
    if hidden.starts.device != device:
        raise ValueError(
            f"hidden: expected texts on {device}, as the model, got {hidden.starts.device}; use "
            f".to(device)."
        )
    if halt is not None and Path(halt).exists():
        stream = Stream.load(halt, model, schedule)
    else:
        stream = Stream(model, len(samples), schedule)
    start = stream.n_read + stream.unfinished.shape[1]
    blocks = hidden.blocks(BLOCK * model.config.segment_length, start)
    try:
        stream.read(blocks, is_end=True, progress=progress, n_tokens=hidden.n_tokens - start)
    finally:  # an interruption comes between two segments, or leaves the stream as it was
        if halt is not None:
            stream.save(halt)
    questions, answers = encode_questions([sample.questions[:1] for sample in samples])
    with torch.no_grad():
        logits = model.ask(questions.to(device), stream.states)[:, :, -1]
    said = logits.argmax(dim=-1).cpu()
    is_right = ((said == answers) | (answers == NO_ANSWER)).all(dim=1)
    last = torch.tensor([sample.questions[0].supports[-1] for sample in samples])
    starts = hidden.starts.cpu().gather(1, last.unsqueeze(1)).squeeze(1)
    following = hidden.part(hidden.n_tokens, hidden.n_tokens + model.config.segment_length)
    found = gammas(model, following, stream.states)
    return Answered(is_right, hidden.n_tokens - starts, sizes(stream.states), found)


@torch.no_grad()
def gammas(
    model: Any, segment: Int[Tensor, "batch tokens"], states: Sequence[Any]
) -> Float[Tensor, "batch layers"]:
    """γ of each layer (ARMT eq. 2), were this segment the next, whatever the rule.

    That is the part of its keys that z lacks, in the mean of the memory tokens. Nothing is written.
    """
    if not isinstance(model, ARMT):
        return torch.zeros(len(segment), 0)
    config, found = model.config, []
    hidden = model.with_memory_tokens(segment)
    for weights, state in zip(model.unstacked(), states, strict=True):
        hidden = read_memory(weights, hidden, state, config)
        hidden = transformer_block(weights, hidden, config.n_heads)
        memory_tokens = hidden[:, -config.n_memory_tokens :]
        keys, _, _ = keys_values_strengths(weights, memory_tokens, config)
        found.append(gamma(state.normaliser, keys, config.eps, config.clip_gamma).mean(dim=1))
    return torch.stack(found, dim=1).float().cpu()


def sizes(states: Sequence[Any]) -> Float[Tensor, "batch layers parts"]:
    """The norm of every tensor that is handed from segment to segment, for each text."""
    parts = [state if isinstance(state, tuple) else (state,) for state in states]
    norms = [[part.flatten(1).norm(dim=1).float().cpu() for part in some] for some in parts]
    return torch.stack([torch.stack(some, dim=-1) for some in norms], dim=1)


def score_hidden(
    model: Any,
    samples: Sequence[Sample],
    around: Background,
    n_tokens: int,
    *,
    batch_size: int = 64,
    seed: int = 0,
    schedule: str = "sequential",
    progress: bool = False,
    halt: str | Path | None = None,
) -> Answered:
    """Hide each sample in a text of n_tokens, and ask it: batch_size texts side by side.

    The same seed hides the same samples at the same places, whatever batch_size is. halt: with
    what the names begin of files that are written while this goes on, and removed when it is done;
    if it is interrupted, it goes on from them when it is called again. Raises ValueError for sizes
    below one, and for a text shorter than its facts.
    """
    check_count(n_samples=len(samples), n_tokens=n_tokens, batch_size=batch_size)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    hidden = hide([sample.facts for sample in samples], n_tokens, around, generator).to(device)
    found, files = [], []
    for start in range(0, len(samples), batch_size):
        some = slice(start, start + batch_size)
        texts, asked = hidden.rows(some), samples[some]
        files.append(None if halt is None else Path(f"{halt}-{texts.digest}.reading"))
        found.append(
            answer_hidden(model, asked, texts, schedule=schedule, progress=progress, halt=files[-1])
        )
    for file in filter(None, files):
        file.unlink()
    return Answered(*map(torch.cat, zip(*found, strict=True)))


def stopped_readings(halt: str | Path) -> list[Path]:
    """The files from which `score_hidden` would go on, of texts of any length."""
    return list(Path(halt).parent.glob(f"{escape(Path(halt).name)}-*.reading"))


def by_distance(answered: Answered, n_tokens: int, parts: int = 4) -> list[Score]:
    """Scores of the questions whose answer stood in each part of the text, the last part first."""
    part = (answered.distances - 1) * parts // n_tokens
    return [
        Score(int(answered.is_right[part == n].sum()), int((part == n).sum())) for n in range(parts)
    ]


def samples_of_folder(folder: str | Path, task: str) -> list[Sample]:
    """All questions of a folder's test file of a task, in bAbI's format: *qa1*test*.txt.

    Raises ValueError unless there is one such file.
    """
    files = sorted(Path(folder).glob(f"*{task}_*test*.txt"))
    if len(files) != 1:
        raise ValueError(
            f"babi_folder: expected one file called *{task}_*test*.txt in {folder}, "
            f"got {len(files)}."
        )
    return [
        Sample.of(story, moment) for story in read_stories(files[0]) for moment in story.moments
    ]
