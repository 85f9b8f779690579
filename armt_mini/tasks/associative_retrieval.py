"""Associative retrieval: read key-value pairs, one a segment, then answer what a key stands for.

Remember: keys are unique, any of them is asked. Rewrite: keys come again with new values, and the
latest value is asked (ARMT, section 3). Keys are digits 0 … 15, least significant first; values
are one digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from armt_mini.checks import check_at_least
from armt_mini.shapes import Int

N_DIGITS = 16
SEPARATOR, QUERY, END = 16, 17, 18
VOCAB_SIZE = 19
MOST_KEY_DIGITS = 15  # 16¹⁵ keys still fit in a 64-bit integer


class RetrievalBatch(NamedTuple):
    """Samples of the task.

    pairs: tokens of all pairs in the order they are read; question and answer follow them.
    questions: key digits, then QUERY. answers: the token that must follow QUERY.
    answering_pair: which pair (0 is the first) holds the answer.
    """

    pairs: Int[Tensor, "batch pairs pair_length"]
    questions: Int[Tensor, "batch questions question_length"]
    answers: Int[Tensor, "batch questions"]
    answering_pair: Int[Tensor, "batch questions"]

    def to(self, device: torch.device | str) -> RetrievalBatch:
        """The same samples on another device."""
        return RetrievalBatch(*(tensor.to(device) for tensor in self))

    def sequences(self) -> Int[Tensor, "batch length"]:
        """All pairs and then the first question of each sample, as one text."""
        return torch.cat([self.pairs.flatten(1), self.questions[:, 0]], dim=1)


@dataclass(frozen=True, kw_only=True)
class AssociativeRetrieval:
    """The task. rewrite: whether keys may come again. key_size: digits in a key, 1 … 15.

    n_values: values are 0 … n_values − 1, at most 16. Raises ValueError for sizes out of range.
    """

    unit: ClassVar = "pairs"  # what the length of a text is counted in

    rewrite: bool
    key_size: int = 1
    n_values: int = N_DIGITS

    def __post_init__(self) -> None:
        check_at_least(1, key_size=self.key_size, n_values=self.n_values)
        if self.key_size > MOST_KEY_DIGITS:
            raise ValueError(f"key_size: expected at most {MOST_KEY_DIGITS}, got {self.key_size}.")
        if self.n_values > N_DIGITS:
            raise ValueError(
                f"n_values: expected at most {N_DIGITS}, since a value is one digit, "
                f"got {self.n_values}."
            )

    @property
    def n_keys(self) -> int:
        """How many different keys there are: 16 to the power of key_size."""
        return N_DIGITS**self.key_size

    @property
    def pair_length(self) -> int:
        """Tokens of one pair: key digits, SEPARATOR, value, END. This is the segment length."""
        return self.key_size + 3

    def sample(
        self, batch: int, n_pairs: int, generator: torch.Generator, n_questions: int | None = None
    ) -> RetrievalBatch:
        """Draw samples of n_pairs pairs and ask n_questions of their keys (default: every pair's).

        Keys are uniform, in Remember without repetition, and values are uniform. The keys asked
        are drawn at random; none is asked twice before every key of the sample has been asked
        once (only in Rewrite can it be asked twice). The answer is the latest value of the key.

        generator: of the CPU, where the tensors are made too. Raises ValueError if there are fewer
        keys or pairs than are asked for.
        """
        n_questions = n_pairs if n_questions is None else n_questions
        check_at_least(1, batch=batch, n_pairs=n_pairs, n_questions=n_questions)
        if not self.rewrite and n_pairs > self.n_keys:
            raise ValueError(
                f"n_pairs: expected at most {self.n_keys}, the number of keys of {self.key_size} "
                f"digits, got {n_pairs}; use a larger key_size."
            )
        if n_questions > n_pairs:
            raise ValueError(f"n_questions: expected at most n_pairs {n_pairs}, got {n_questions}.")
        if self.rewrite:
            keys = torch.randint(self.n_keys, (batch, n_pairs), generator=generator)
        else:
            keys = distinct_numbers(batch, self.n_keys, n_pairs, generator)
        values = torch.randint(self.n_values, (batch, n_pairs), generator=generator)

        answering_pair = latest_with_same_key(keys)  # of every pair
        is_overwritten = answering_pair != torch.arange(n_pairs)
        # Random order, the pairs that hold the latest value of a key before all others.
        order = (torch.rand(batch, n_pairs, generator=generator) + is_overwritten).argsort(dim=1)
        chosen = order[:, :n_questions]  # (batch, questions)
        asked, answering_pair = keys.gather(1, chosen), answering_pair.gather(1, chosen)

        pairs = [self.digits(keys), like(keys, SEPARATOR), values.unsqueeze(2), like(keys, END)]
        questions = [self.digits(asked), like(asked, QUERY)]
        return RetrievalBatch(
            torch.cat(pairs, dim=2),
            torch.cat(questions, dim=2),
            values.gather(1, answering_pair),
            answering_pair,
        )

    def digits(self, keys: Int[Tensor, "batch n"]) -> Int[Tensor, "batch n key_size"]:
        """Keys as digits in base 16, least significant first."""
        return keys.unsqueeze(2) // N_DIGITS ** torch.arange(self.key_size) % N_DIGITS


def like(keys: Int[Tensor, "batch n"], token: int) -> Int[Tensor, "batch n 1"]:
    """One token for every key."""
    return torch.full_like(keys, token).unsqueeze(2)


def latest_with_same_key(keys: Int[Tensor, "batch pairs"]) -> Int[Tensor, "batch pairs"]:
    """For every pair the last pair of its sample with the same key, itself where it is the last."""
    in_order, pairs = keys.sort(dim=1, stable=True)  # equal keys side by side, the latest last
    last = torch.searchsorted(in_order, keys.contiguous(), right=True) - 1
    return pairs.gather(1, last)


def latest_pairs(pairs: Int[Tensor, "batch pairs 4"]) -> Int[Tensor, "batch 16"]:
    """For each key of one digit the pair (0 is the first) that wrote it last; −1 for none."""
    numbers = torch.arange(1, pairs.shape[1] + 1).unsqueeze(1)
    has_key = pairs[:, :, :1] == torch.arange(N_DIGITS)  # (batch, pairs, 16)
    return (numbers * has_key).amax(dim=1) - 1


def latest_values(pairs: Int[Tensor, "batch pairs 4"]) -> Int[Tensor, "batch 16"]:
    """For each key of one digit its latest value; −1 where it was never written."""
    last = latest_pairs(pairs)
    return pairs[:, :, 2].gather(1, last.clamp(min=0)).where(last >= 0, -1)


def distinct_numbers(
    batch: int, n: int, how_many: int, generator: torch.Generator
) -> Int[Tensor, "batch how_many"]:
    """For each sample so many different numbers of 0 … n − 1, every choice and order alike.

    A shuffle of all n numbers where most are wanted. Else draw, and draw repeated ones again: this
    needs no memory for n numbers, and treats no number differently from another.
    """
    if n <= 2 * how_many:
        return torch.rand(batch, n, generator=generator).argsort(dim=1)[:, :how_many]
    numbers = torch.randint(n, (batch, how_many), generator=generator)
    while (repeated := latest_with_same_key(numbers) != torch.arange(how_many)).any():
        numbers[repeated] = torch.randint(n, (int(repeated.sum()),), generator=generator)
    return numbers
