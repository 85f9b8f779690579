"""BABILong: a bAbI story hidden in natural text of any length, and a question at its end.

The facts of the story stand between sentences of the text, at random places, in their order
(Kuratov 2024, arXiv 2406.10149). Every token of such a text can be computed from its place alone,
so texts of billions of tokens need no room.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from random import Random
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from armt_mini.checks import (
    check_at_least,
    check_count,
    check_one_of,
    check_share,
    check_type,
)
from armt_mini.shapes import Bool, Int
from armt_mini.tasks.babi import (
    DIALECTS,
    TASKS,
    Moment,
    Question,
    Story,
    draw_story,
    words_of_stories,
)
from armt_mini.tasks.background import PADDING, SPLITS, Background, background, tokens_of

QUESTION_LENGTH = 12  # tokens, padded before the first; the longest question of the five tasks
NO_ANSWER = -100  # what PyTorch's cross entropy leaves out
TRIES = 1000
BEGUN = 3  # tokens at most of a false start: who, what they do, and one word more
LATEST = 4  # tokens, less than which stand between a false start and the end of its segment


class Sample(NamedTuple):
    """The facts of a story up to a moment, and what can be asked then; see `Moment`."""

    facts: tuple[str, ...]
    questions: tuple[Question, ...]
    auxiliary: tuple[Question, ...] = ()

    @classmethod
    def of(cls, story: Story, moment: Moment) -> Sample:
        return cls(story.facts[: moment.n_facts], moment.questions, moment.auxiliary)


@dataclass(frozen=True, eq=False)
class HiddenFacts:
    """Texts of n_tokens each, in which facts stand between sentences of a background.

    offsets: where in the background each text begins; after its end it begins again. facts: tokens
    of each fact, `lengths` of them. starts: the place in the text of each fact's first token,
    n_tokens for what fills up the rows of texts with fewer facts.
    """

    n_tokens: int
    background: Background
    offsets: Int[Tensor, " batch"]
    facts: Int[Tensor, "batch facts longest"]
    lengths: Int[Tensor, "batch facts"]
    starts: Int[Tensor, "batch facts"]

    def part(self, start: int, stop: int) -> Int[Tensor, "batch length"]:
        """The tokens at the places start … stop − 1."""
        return self.told(start, stop)[0]

    def told(
        self, start: int, stop: int
    ) -> tuple[Int[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
        """The tokens at the places start … stop − 1, and which of them belong to facts."""
        places = torch.arange(start, stop, device=self.starts.device).expand(len(self.starts), -1)
        after = torch.searchsorted(self.starts, places.contiguous(), right=True)
        fact = (after - 1).clamp(min=0)  # the latest that has begun
        into = places - self.starts.gather(1, fact)
        is_fact = (after > 0) & (into < self.lengths.gather(1, fact))
        said = self.facts.flatten(1).gather(
            1, fact * self.facts.shape[2] + into.clamp(0, self.facts.shape[2] - 1)
        )
        before = self.lengths.cumsum(1).gather(1, fact) * (after > 0)  # tokens of facts so far
        tokens = self.background.tokens
        around = tokens[(self.offsets.unsqueeze(1) + places - before) % len(tokens)]
        return torch.where(is_fact, said, around), is_fact

    def blocks(self, size: int, begin: int = 0) -> Iterator[Int[Tensor, "batch length"]]:
        """The tokens from the place `begin` on, so many at a time."""
        for start in range(begin, self.n_tokens, size):
            yield self.part(start, min(start + size, self.n_tokens))

    @property
    def of_texts(self) -> tuple[Tensor, ...]:
        """What has a row for each text."""
        return self.offsets, self.facts, self.lengths, self.starts

    @property
    def digest(self) -> str:
        """The same for the same texts, another for others."""
        found = hashlib.sha256(str(self.n_tokens).encode())
        for tensor in (*self.background, *self.of_texts):
            found.update(tensor.cpu().numpy().tobytes())
        return found.hexdigest()[:16]

    def rows(self, some: slice) -> HiddenFacts:
        """Some of the texts."""
        own = (tensor[some] for tensor in self.of_texts)
        return HiddenFacts(self.n_tokens, self.background, *own)

    def to(self, device: torch.device | str) -> HiddenFacts:
        """The same texts on another device."""
        around = Background(*(tensor.to(device) for tensor in self.background))
        own = (tensor.to(device) for tensor in self.of_texts)
        return HiddenFacts(self.n_tokens, around, *own)


def hide(
    stories: Sequence[Sequence[str]], n_tokens: int, around: Background, generator: torch.Generator
) -> HiddenFacts:
    """Hide the facts of each story in a text of n_tokens.

    Every text begins with a random sentence of the background. A fact stands before a random
    sentence, each as likely as another. Raises ValueError if the facts of a story are longer.
    """
    rows = [[torch.tensor(tokens_of(fact)) for fact in facts] for facts in stories]
    lengths = pad_sequence([torch.tensor([len(fact) for fact in row]) for row in rows], True)
    room = n_tokens - lengths.sum(1)
    if room.min() < 0:
        raise ValueError(
            f"n_tokens: expected at least {int(lengths.sum(1).max())}, the tokens of the facts "
            f"alone, got {n_tokens}; use a longer text or fewer facts."
        )
    period, sentences = len(around.tokens), around.sentences

    def sentences_before(place: Tensor) -> Tensor:
        """How many sentences of the endless background begin before a place."""
        return place // period * len(sentences) + torch.searchsorted(sentences, place % period)

    first = torch.randint(len(sentences), (len(rows), 1), generator=generator)
    offsets = sentences[first]
    n_gaps = sentences_before(offsets + room.unsqueeze(1) + 1) - first
    gaps = torch.rand(lengths.shape, generator=generator, dtype=torch.float64) * n_gaps
    gaps = (gaps.long() + first).where(lengths > 0, first + n_gaps).sort(1).values
    places = gaps // len(sentences) * period + sentences[gaps % len(sentences)] - offsets
    starts = places + lengths.cumsum(1) - lengths
    facts = pad_sequence([fact for row in rows for fact in row], True)
    table = facts.new_zeros(*lengths.shape, facts.shape[1])
    table[lengths > 0] = facts
    starts = starts.where(lengths > 0, n_tokens)
    return HiddenFacts(n_tokens, around, offsets.squeeze(1), table, lengths, starts)


@cache
def tokens_of_stories() -> Int[Tensor, " tokens"]:
    """The tokens that the words of stories are made of, each once."""
    return torch.tensor(
        [token for word in words_of_stories() for token in tokens_of(word)]
    ).unique()


def with_decoys(around: Background, share: float, generator: torch.Generator) -> Background:
    """The same text, but for a share of its tokens, which are drawn from those of stories."""
    size, words = around.tokens.shape, tokens_of_stories()
    is_decoy = torch.rand(size, generator=generator) < share
    drawn = words[torch.randint(len(words), size, generator=generator)]
    return around._replace(tokens=drawn.where(is_decoy, around.tokens))


def with_false_starts(
    segments: Int[Tensor, "batch segments length"],
    is_fact: Bool[Tensor, "batch segments length"],
    facts: Int[Tensor, "facts longest"],
    share: float,
    generator: torch.Generator,
) -> Int[Tensor, "batch segments length"]:
    """The same text, but for a share of the segments, near whose ends a fact begins and breaks off.

    A name at the end of a segment may be the beginning of a fact, of which the next one tells the
    rest. So a model must not forget because of a name alone. facts: one or more, whose first tokens
    are taken. share: 0 to 1. No token of a real fact is changed, and none that is followed by one
    in its segment. All tensors are on the CPU.
    """
    size, length = segments.shape[:2], segments.shape[2]
    drawn = torch.rand((4, *size), generator=generator)
    fact = (drawn[0] * len(facts)).long()
    n_begun = 1 + (drawn[1] * BEGUN).long()
    start = (length - (drawn[2] * LATEST).long() - n_begun).clamp(min=0).unsqueeze(2)
    into = torch.arange(length) - start
    is_begun = (into >= 0) & (into < n_begun.unsqueeze(2))
    is_free = ~(is_fact & (into >= 0)).any(dim=2) & (drawn[3] < share)
    begun = facts[fact].gather(2, into.clamp(0, facts.shape[1] - 1))
    return begun.where(is_begun & is_free.unsqueeze(2), segments)


def with_cut_facts(
    hidden: HiddenFacts,
    fact: Int[Tensor, " batch"],
    segment_length: int,
    share: float,
    generator: torch.Generator,
) -> HiddenFacts:
    """The same texts, one segment longer, and in a share of them a fact that a border cuts.

    Where the border of two segments cuts a fact, the first ends with what might as well be a false
    start, and the second has no name. In segments of 128 tokens few facts in a hundred are cut by
    chance. fact: the number in each text of the one to be cut, after its first token or a later one
    but the last two (a full stop alone tells nothing). segment_length: tokens, at least 1. share: 0
    to 1. Some of the new text stands before the old, so much that the border comes where it shall;
    in all other texts, any part of it. All tensors are on the CPU.
    """
    starts, lengths = (x.gather(1, fact.unsqueeze(1)) for x in (hidden.starts, hidden.lengths))
    drawn = torch.rand((3, *starts.shape), generator=generator)
    before_border = 1 + (drawn[0] * (lengths - 2).clamp(min=1)).long()
    anywhere = (drawn[1] * segment_length).long()
    shift = (-starts - before_border).where(drawn[2] < share, anywhere) % segment_length
    n_tokens = hidden.n_tokens + segment_length
    return replace(
        hidden,
        n_tokens=n_tokens,
        offsets=(hidden.offsets - shift.squeeze(1)) % len(hidden.background.tokens),
        starts=(hidden.starts + shift).where(hidden.lengths > 0, n_tokens),
    )


class BabilongBatch(NamedTuple):
    """Samples of the task, with texts in full.

    segments: tokens of the text, or of its only segment, which may be short; question and answer
    follow them. questions: padded before their first token. answers: the token that must follow
    each, NO_ANSWER where there is no question.
    """

    segments: Int[Tensor, "batch segments segment_length"]
    questions: Int[Tensor, "batch questions question_length"]
    answers: Int[Tensor, "batch questions"]

    def to(self, device: torch.device | str) -> BabilongBatch:
        """The same samples on another device."""
        return BabilongBatch(*(tensor.to(device) for tensor in self))


def encode_questions(
    samples: Sequence[Sequence[Question]], n_questions: int = 1
) -> tuple[Int[Tensor, "batch questions question_length"], Int[Tensor, "batch questions"]]:
    """Questions and answers as tokens, with room for n_questions of each sample, or more if needed.

    Of an answer of several tokens, a question for each of them, which holds those before.
    """
    asked, answers = [], []
    for questions in samples:
        pairs = []
        for question in questions:
            begin, answer = tokens_of(question.text), tokens_of(question.answer)
            pairs += [([*begin, *answer[:n]], token) for n, token in enumerate(answer)]
        asked.append([torch.tensor(tokens).flip(0) for tokens, _ in pairs])
        answers.append([token for _, token in pairs])
    longest = max(QUESTION_LENGTH, *(len(tokens) for row in asked for tokens in row))
    most = max(n_questions, *map(len, asked))
    table = torch.full((len(asked), most, longest), PADDING)
    following = table.new_full((len(asked), most), NO_ANSWER)
    for n, (tokens, answer) in enumerate(zip(asked, answers, strict=True)):
        some = pad_sequence(tokens, True, PADDING)
        table[n, : len(some), : some.shape[1]] = some
        following[n, : len(answer)] = torch.tensor(answer)
    return table.flip(2), following


@dataclass(frozen=True, kw_only=True)
class Babilong:
    """The task. task: qa1 … qa5. segment_length: tokens. split: of the background.

    most_facts: only the moments of a story with at most so many are asked; None: all. dialects:
    each story is in one of them. decoys: a share, 0 to 1, of the background's tokens that become
    words of stories, so that a name alone is no sign of a fact. false_starts: a share, 0 to 1, of
    the segments near whose ends a fact begins and breaks off. cut_facts: a share, 0 to 1, of the
    texts of several segments, in which a border cuts a fact that is asked for. density: the share
    of a text, 0 to 1, that its facts take at most. auxiliary: ask other questions about the same
    facts as well.
    Raises ValueError for a name that is not known and for numbers out of range.
    """

    unit: ClassVar = "tokens"  # what the length of a text is counted in

    task: str = "qa1"
    segment_length: int = 128
    split: str = "train"
    most_facts: int | None = None
    dialects: Sequence[str] = tuple(DIALECTS)
    decoys: float = 0.0
    false_starts: float = 0.0
    cut_facts: float = 0.0
    density: float = 1.0
    auxiliary: bool = False

    def __post_init__(self) -> None:
        check_one_of("task", self.task, TASKS)
        check_one_of("split", self.split, SPLITS)
        check_count(segment_length=self.segment_length, most_facts=self.most_facts)
        check_at_least(1, dialects=len(self.dialects))
        for dialect in self.dialects:
            check_one_of("dialects", dialect, tuple(DIALECTS))
        check_share(decoys=self.decoys, false_starts=self.false_starts)
        check_share(cut_facts=self.cut_facts, density=self.density)
        check_type("auxiliary", self.auxiliary, bool)

    def draw(self, random: Random, n_tokens: int) -> Sample:
        """Facts that fit into so many tokens, and what can be asked about them.

        Raises ValueError if no such story is found.
        """
        room = round(n_tokens * self.density)
        for _ in range(TRIES):
            story = draw_story(self.task, random, random.choice(self.dialects))
            lengths = list(accumulate(len(tokens_of(fact)) for fact in story.facts))
            fitting = [
                moment
                for moment in story.moments
                if lengths[moment.n_facts - 1] <= room
                and (self.most_facts is None or moment.n_facts <= self.most_facts)
            ]
            if fitting:
                return Sample.of(story, random.choice(fitting))
        raise ValueError(
            f"n_tokens: of {self.task} no story in {TRIES} has at most {room} tokens"
            + (f" and {self.most_facts} facts" if self.most_facts else "")
            + "; allow a longer text, or more facts."
        )

    def draw_many(self, n_samples: int, n_tokens: int, seed: int) -> list[Sample]:
        """So many samples that fit into n_tokens, the same for the same seed."""
        random = Random(seed)
        return [self.draw(random, n_tokens) for _ in range(n_samples)]

    def sample(
        self, batch: int, n_tokens: int, generator: torch.Generator, n_questions: int | None = 1
    ) -> BabilongBatch:
        """Draw texts of n_tokens, and ask each up to n_questions (None: all there are).

        n_tokens: at most one segment, or whole segments. generator: of the CPU, where the tensors
        are made too. Raises ValueError for sizes that do not fit, or are too short for a story.
        """
        check_count(batch=batch, n_tokens=n_tokens, n_questions=n_questions)
        if n_tokens > self.segment_length and n_tokens % self.segment_length:
            raise ValueError(
                f"n_tokens: expected at most {self.segment_length}, or a multiple of it, got "
                f"{n_tokens}; use another length, or another segment_length."
            )
        is_cut = self.cut_facts > 0 and n_tokens > self.segment_length
        room = n_tokens - self.segment_length if is_cut else n_tokens
        seed = int(torch.randint(2**62, (), generator=generator))
        samples = self.draw_many(batch, room, seed)
        around = background(self.split)
        if self.decoys:
            around = with_decoys(around, self.decoys, generator)
        hidden = hide([sample.facts for sample in samples], room, around, generator)
        if is_cut:
            supports = [sample.questions[0].supports for sample in samples]
            drawn = torch.rand(batch, generator=generator).tolist()
            needed = [some[int(x * len(some))] for some, x in zip(supports, drawn, strict=True)]
            hidden = with_cut_facts(
                hidden, torch.tensor(needed), self.segment_length, self.cut_facts, generator
            )
        length = min(n_tokens, self.segment_length)
        segments, is_fact = (x.unflatten(1, (-1, length)) for x in hidden.told(0, n_tokens))
        if self.false_starts:
            facts = hidden.facts[hidden.lengths > 0]
            segments = with_false_starts(segments, is_fact, facts, self.false_starts, generator)
        asked = [s.questions + s.auxiliary if self.auxiliary else s.questions for s in samples]
        asked = [questions[:n_questions] for questions in asked]
        return BabilongBatch(segments, *encode_questions(asked, n_questions or 1))
