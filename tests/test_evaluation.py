"""Scores against counting by hand, intervals and capacities against their equations."""

import pytest
import torch

from armt_mini.tasks.associative_retrieval import VOCAB_SIZE, AssociativeRetrieval
from armt_mini.training.evaluation import Score, answer_logits, exact_match, pairs_remembered


class Reader:
    """Remembers the last `span` pairs in a dictionary and says 0 for any other key."""

    def __init__(self, span: int = 10_000) -> None:
        self.span, self.largest_batch = span, 0

    def parameters(self):
        return [torch.zeros(1)]

    def memorise(self, tokens, states=None):
        self.largest_batch = max(self.largest_batch, len(tokens))
        pairs = tokens.unflatten(1, (-1, 4))[:, -self.span :].tolist()
        return [{key: value for key, _, value, _ in sample} for sample in pairs]

    def ask(self, questions, states):
        logits = torch.zeros(*questions.shape, VOCAB_SIZE)
        for sample, memory in enumerate(states):
            for number, (key, _) in enumerate(questions[sample].tolist()):
                logits[sample, number, 0, 1] = 9.0  # after the key, not after QUERY: not an answer
                logits[sample, number, 1, memory.get(key, 0)] = 1.0
        return logits


REWRITE = AssociativeRetrieval(rewrite=True)
REMEMBER = AssociativeRetrieval(rewrite=False)


def test_a_perfect_memory_scores_one():
    assert exact_match(Reader(), REWRITE, 53, n_samples=7) == Score(7, 7)
    assert exact_match(Reader(), REWRITE, 53, n_samples=7, n_questions=3) == Score(21, 21)


def test_a_memory_of_the_last_pairs_knows_as_many_pairs_as_it_keeps():
    score = exact_match(Reader(5), REMEMBER, 13, n_samples=2000, n_questions=1)
    low, high = (pairs_remembered(end, 13, 16) for end in score.interval(0.9999))
    assert low < 5 < high
    assert high - low < 2


def test_exact_match_keeps_nothing_for_gradients():
    class WithWeights(Reader):
        weight = torch.ones(1, requires_grad=True)

        def ask(self, questions, states):
            logits = super().ask(questions, states) * self.weight
            graphs.append(logits.requires_grad)
            return logits

    graphs = []
    answer_logits(WithWeights(), REWRITE.sample(2, 3, torch.Generator()))
    exact_match(WithWeights(), REWRITE, 3, n_samples=2)
    assert graphs == [True, False]


def test_samples_come_in_batches_and_the_last_one_may_be_smaller():
    reader = Reader()
    assert exact_match(reader, REWRITE, 3, n_samples=11, batch_size=4).total == 11
    assert reader.largest_batch == 4


def test_the_seed_decides_what_is_asked():
    def score(seed: int) -> Score:
        return exact_match(Reader(2), REMEMBER, 11, n_samples=200, seed=seed)

    assert score(1) == score(1)
    assert len({score(seed) for seed in range(5)}) > 1


def test_logits_are_those_after_query():
    batch = REWRITE.sample(3, 7, torch.Generator().manual_seed(0), 5)
    logits = answer_logits(Reader(), batch)
    assert logits.shape == (3, 5, VOCAB_SIZE)
    assert torch.equal(logits.argmax(dim=-1), batch.answers)


def test_the_interval_is_wilsons_and_ends_at_zero_and_one():
    # 8 of 10: (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n) with z = 1.959964
    assert Score(8, 10).interval() == pytest.approx((0.490162, 0.943318), abs=1e-6)
    assert Score(0, 7).interval()[0] == 0
    assert Score(7, 7).interval()[1] == 1


def test_a_higher_confidence_gives_a_wider_interval():
    narrow, wide = Score(3, 11).interval(0.5), Score(3, 11).interval(0.99)
    assert wide[0] < narrow[0] < 3 / 11 < narrow[1] < wide[1]


def test_pairs_remembered_at_its_ends():
    assert pairs_remembered(1.0, 50, 16) == 50
    assert pairs_remembered(1 / 16, 50, 16) == 0  # guessing
    assert pairs_remembered(0.0, 30, 16) == -2  # 30 · (−1)/15: worse than guessing


def test_pairs_remembered_undoes_guessing():
    known, n_pairs, n_values = 7, 23, 5
    accuracy = known / n_pairs + (1 - known / n_pairs) / n_values
    assert pairs_remembered(accuracy, n_pairs, n_values) == pytest.approx(known)


def test_numbers_out_of_range_are_errors():
    with pytest.raises(ValueError, match=r"accuracy: expected 0 to 1, got 1\.5"):
        pairs_remembered(1.5, 10, 16)
    with pytest.raises(ValueError, match="n_values: expected at least 2"):
        pairs_remembered(0.5, 10, 1)
    with pytest.raises(ValueError, match="n_pairs: expected at least 1"):
        pairs_remembered(0.5, 0, 16)
    with pytest.raises(ValueError, match="n_samples: expected at least 1"):
        exact_match(Reader(), REWRITE, 3, n_samples=0)
    with pytest.raises(ValueError, match="n_questions: expected at most n_pairs 3"):
        exact_match(Reader(), REWRITE, 3, n_questions=4)
