"""How much a model remembers: exact match, and the number of pairs that it stands for."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from armt_mini.checks import check_at_least
from armt_mini.shapes import Float
from armt_mini.tasks.associative_retrieval import AssociativeRetrieval, RetrievalBatch


class Memoriser(Protocol):
    """What training and evaluation ask of a model; every model of the package can do it."""

    def memorise(self, tokens: Tensor, states: list[Any] | None = None) -> list[Any]: ...
    def ask(self, questions: Tensor, states: list[Any]) -> Tensor: ...
    def parameters(self) -> Any: ...


class Score(NamedTuple):
    """So many of so many questions answered exactly."""

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """Exact match, 0 … 1."""
        return self.correct / self.total

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Wilson's interval of the accuracy. It takes the answers as independent of each other."""
        from scipy.stats import binomtest

        low, high = binomtest(self.correct, self.total).proportion_ci(confidence, "wilson")
        return float(low), float(high)


def answer_logits(
    model: Memoriser, batch: RetrievalBatch
) -> Float[Tensor, "batch questions vocab_size"]:
    """Read all pairs, then ask every question of the one memory: logits after QUERY."""
    states = model.memorise(batch.pairs.flatten(1))
    return model.ask(batch.questions, states)[:, :, -1]


@torch.no_grad()
def exact_match(
    model: Memoriser,
    task: AssociativeRetrieval,
    n_pairs: int,
    *,
    n_samples: int = 256,
    n_questions: int = 1,
    batch_size: int = 64,
    seed: int = 0,
) -> Score:
    """Score of n_samples samples of n_pairs pairs, n_questions each.

    One question a sample, as in the paper, makes the answers independent, which the interval of
    the score takes for granted; more questions cost little and say more about a small n_samples.
    The same seed and batch_size ask every model the same. Raises ValueError for sizes below one
    and for more questions or pairs than the task has.
    """
    check_at_least(1, n_samples=n_samples, batch_size=batch_size)
    device = next(iter(model.parameters())).device
    generator = torch.Generator().manual_seed(seed)
    correct = 0
    for start in range(0, n_samples, batch_size):
        size = min(batch_size, n_samples - start)
        batch = task.sample(size, n_pairs, generator, n_questions).to(device)
        answers = answer_logits(model, batch).argmax(dim=-1)
        correct += int((answers == batch.answers).sum())
    return Score(correct, n_samples * n_questions)


def pairs_remembered(accuracy: float, n_pairs: int, n_values: int) -> float:
    """k = n (vα − 1) / (v − 1): how many of n pairs are known, the others being guessed.

    Solves α = k/n + (1 − k/n)/v for k (ARMT, appendix C). accuracy: α in [0, 1]; n_values: v, at
    least 2. Below chance the estimate is negative. The ends of an accuracy's interval give the
    ends of the estimate's. Raises ValueError for numbers out of these ranges.
    """
    check_at_least(2, n_values=n_values)
    check_at_least(1, n_pairs=n_pairs)
    if not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy: expected 0 to 1, got {accuracy}.")
    return n_pairs * (n_values * accuracy - 1) / (n_values - 1)
