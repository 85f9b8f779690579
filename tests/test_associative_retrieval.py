"""The task against its rules: which pair answers, how keys and values are distributed.

Samples are checked against a plain reading of them, pair after pair, by a Python dictionary.
"""

import pytest
import torch

from armt_mini.tasks.associative_retrieval import (
    END,
    QUERY,
    SEPARATOR,
    AssociativeRetrieval,
    distinct_numbers,
    latest_pairs,
    latest_values,
    latest_with_same_key,
)


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rewrite", [True, False])
@pytest.mark.parametrize("key_size", [1, 2, 5])
def test_the_answer_is_what_reading_pair_after_pair_leaves_under_the_key(rewrite, key_size):
    task = AssociativeRetrieval(rewrite=rewrite, key_size=key_size, n_values=7)
    batch = task.sample(5, 13, generator(), 11)
    for pairs, questions, answers, answering in zip(*(t.tolist() for t in batch), strict=True):
        value_of, written_by = {}, {}
        for number, (*key, separator, value, end) in enumerate(pairs):
            assert (separator, end) == (SEPARATOR, END)
            value_of[tuple(key)], written_by[tuple(key)] = value, number
        for (*key, query), answer, pair in zip(questions, answers, answering, strict=True):
            assert query == QUERY
            assert answer == value_of[tuple(key)]
            assert pair == written_by[tuple(key)]


def test_shapes_and_the_text_of_a_sample():
    batch = AssociativeRetrieval(rewrite=True, key_size=2).sample(3, 7, generator(), 5)
    assert batch.pairs.shape == (3, 7, 5)
    assert batch.questions.shape == (3, 5, 3)
    assert batch.answers.shape == batch.answering_pair.shape == (3, 5)
    text = batch.sequences()
    assert text.shape == (3, 7 * 5 + 3)
    assert text[1].tolist() == batch.pairs[1].flatten().tolist() + batch.questions[1, 0].tolist()
    assert all(torch.equal(a, b) for a, b in zip(batch.to("cpu"), batch, strict=True))


def test_digits_come_least_significant_first():
    digits = AssociativeRetrieval(rewrite=True, key_size=3).digits(torch.tensor([[0x1A3, 5]]))
    assert digits.tolist() == [[[3, 10, 1], [5, 0, 0]]]


def test_the_pair_length_is_that_of_a_segment():
    assert AssociativeRetrieval(rewrite=True).pair_length == 4
    assert AssociativeRetrieval(rewrite=False, key_size=3).pair_length == 6


def test_without_a_number_of_questions_the_key_of_every_pair_is_asked():
    batch = AssociativeRetrieval(rewrite=True).sample(5, 31, generator())
    asked, written = batch.questions[:, :, 0], batch.pairs[:, :, 0]
    assert torch.equal(asked.sort(dim=1).values, written.sort(dim=1).values)


def test_no_key_is_asked_twice_before_all_have_been_asked():
    batch = AssociativeRetrieval(rewrite=True).sample(31, 200, generator(), 16)
    every_key = torch.arange(16).expand(31, -1)  # 200 writes leave no key out (for this seed)
    assert torch.equal(batch.questions[:, :, 0].sort(dim=1).values, every_key)


def test_remember_can_write_every_key_there_is_once():
    batch = AssociativeRetrieval(rewrite=False, key_size=1).sample(7, 16, generator())
    assert torch.equal(batch.pairs[:, :, 0].sort(dim=1).values, torch.arange(16).expand(7, -1))
    assert not torch.equal(batch.pairs[0, :, 0], batch.pairs[1, :, 0])


def test_the_longest_keys_are_drawn_up_to_the_end_of_their_range():
    batch = AssociativeRetrieval(rewrite=False, key_size=15).sample(3, 101, generator())
    assert batch.pairs.shape == (3, 101, 18)
    assert batch.pairs[:, :, :15].amin() == 0
    assert batch.pairs[:, :, 14].amax() == 15  # the most significant digit is used up to its end


@pytest.mark.parametrize(("n", "how_many"), [(11, 3), (11, 7), (11, 11), (3, 1)])
def test_distinct_numbers_are_distinct_and_all_alike(n, how_many):
    drawn = distinct_numbers(20_000, n, how_many, generator())
    assert all(len(set(row)) == how_many for row in drawn[:500].tolist())
    for column in drawn.T:  # in each place each number: 20,000/n times, give or take 5 deviations
        counts = column.bincount(minlength=n).double()
        assert counts.shape == (n,)
        expected = 20_000 / n
        assert (counts - expected).abs().max() < 5 * (expected * (1 - 1 / n)) ** 0.5


def test_every_pair_of_distinct_numbers_is_as_frequent():
    drawn = distinct_numbers(42_000, 7, 2, generator())
    counts = (7 * drawn[:, 0] + drawn[:, 1]).bincount(minlength=49).view(7, 7)
    assert counts.diagonal().sum() == 0
    others = counts[~torch.eye(7, dtype=torch.bool)].double()  # 42 ordered pairs, 1000 of each
    assert (others - 1000).abs().max() < 5 * 1000**0.5


def test_keys_values_and_questions_are_uniform():
    task = AssociativeRetrieval(rewrite=True, n_values=5)
    batch = task.sample(4000, 11, generator(), 1)
    for tensor, kinds in ((batch.pairs[:, :, 0], 16), (batch.pairs[:, :, 2], 5)):
        counts = tensor.flatten().bincount(minlength=kinds).double()
        assert counts.shape == (kinds,)
        assert (counts - 44_000 / kinds).abs().max() < 5 * (44_000 / kinds) ** 0.5
    remember = AssociativeRetrieval(rewrite=False, key_size=3).sample(11_000, 11, generator(), 1)
    counts = remember.answering_pair.flatten().bincount(minlength=11).double()
    assert (counts - 1000).abs().max() < 5 * 1000**0.5


def test_the_latest_pair_with_the_same_key_by_hand():
    keys = torch.tensor([[4, 2, 4, 4, 9], [0, 1, 0, 1, 0]])
    assert latest_with_same_key(keys).tolist() == [[3, 1, 3, 3, 4], [4, 3, 4, 3, 4]]


def test_a_seed_fixes_the_samples_and_global_randomness_does_not_matter():
    task = AssociativeRetrieval(rewrite=True)
    first, state = task.sample(3, 5, generator(1)), torch.get_rng_state()
    torch.manual_seed(99)
    again, other = task.sample(3, 5, generator(1)), task.sample(3, 5, generator(2))
    torch.set_rng_state(state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.pairs, other.pairs)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"key_size": 0}, "key_size: expected at least 1, got 0"),
        ({"key_size": 16}, "key_size: expected at most 15, got 16"),
        ({"n_values": 0}, "n_values: expected at least 1, got 0"),
        ({"n_values": 17}, "n_values: expected at most 16, since a value is one digit, got 17"),
    ],
)
def test_sizes_out_of_range_are_errors(sizes, message):
    with pytest.raises(ValueError, match=message):
        AssociativeRetrieval(rewrite=True, **sizes)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 5, 1), "batch: expected at least 1"),
        ((2, 0, 1), "n_pairs: expected at least 1"),
        ((2, 5, 0), "n_questions: expected at least 1"),
        ((2, 5, 6), "n_questions: expected at most n_pairs 5, got 6"),
        ((2, 17, 1), "n_pairs: expected at most 16, .* got 17; use a larger key_size"),
    ],
)
def test_more_than_the_task_has_is_an_error(sizes, message):
    batch, n_pairs, n_questions = sizes
    with pytest.raises(ValueError, match=message):
        AssociativeRetrieval(rewrite=False).sample(batch, n_pairs, generator(), n_questions)


def test_the_latest_pair_and_value_of_each_key_are_those_of_a_walk_through_the_text():
    pairs = AssociativeRetrieval(rewrite=True).sample(5, 20, torch.Generator().manual_seed(0)).pairs
    for text, last, values in zip(pairs, latest_pairs(pairs), latest_values(pairs), strict=True):
        walk = {key: (n, value) for n, (key, _, value, _) in enumerate(text.tolist())}
        assert len(walk) < 16, "some keys were never written"
        expected = [walk.get(key, (-1, -1)) for key in range(16)]
        assert list(zip(last.tolist(), values.tolist(), strict=True)) == expected
