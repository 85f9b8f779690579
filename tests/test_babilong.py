"""Hidden stories: every token against a text that is put together by hand; samples; errors."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from armt_mini.tasks.babi import TASKS, Question
from armt_mini.tasks.babilong import (
    NO_ANSWER,
    QUESTION_LENGTH,
    Babilong,
    encode_questions,
    hide,
    tokens_of_stories,
    with_cut_facts,
    with_decoys,
    with_false_starts,
)
from armt_mini.tasks.background import PADDING, Background, background, tokenizer, tokens_of

FACTS = [["Mary went to the office."], ["John got the milk.", "John moved to the garden."], []]
# Ten "words" in three sentences, with numbers that no fact has.
SMALL = Background(torch.arange(4000, 4010), torch.tensor([0, 4, 9]))


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(hidden, row):
    """Background from the offset on, and each fact where it starts, token by token."""
    text, around = [], hidden.offsets[row].item()
    starts = {
        start: tokens[:length].tolist()
        for start, tokens, length in zip(
            hidden.starts[row].tolist(), hidden.facts[row], hidden.lengths[row], strict=True
        )
        if length
    }
    while len(text) < hidden.n_tokens:
        if fact := starts.pop(len(text), None):
            text += fact
        else:
            text.append(hidden.background.tokens[around % len(hidden.background.tokens)].item())
            around += 1
    assert not starts
    return text


@pytest.mark.parametrize("around", [SMALL, background("test")], ids=["small", "novel"])
@pytest.mark.parametrize("n_tokens", [11, 12, 40, 300])
def test_a_text_is_its_background_with_the_facts_put_in(around, n_tokens):
    for seed in range(20):
        hidden = hide(FACTS, n_tokens, around, generator(seed))
        whole = hidden.part(0, n_tokens)
        assert whole.tolist() == [by_hand(hidden, row) for row in range(3)]
        assert torch.equal(torch.cat(list(hidden.blocks(7)), 1), whole)


def test_facts_stand_before_sentences_in_their_order_each_sentence_alike():
    n_tokens = 5 * 10 + 17
    stories = [FACTS[1]] * 3000
    hidden = hide(stories, n_tokens, SMALL, generator())
    lengths = torch.tensor([len(tokens_of(fact)) for fact in FACTS[1]])
    assert torch.equal(hidden.lengths, lengths.expand(3000, 2))
    before = hidden.starts - (lengths.cumsum(0) - lengths)  # places in the background
    assert (before[:, 0] <= before[:, 1]).all()
    places = (before + hidden.offsets.unsqueeze(1)) % 10
    assert set(places.flatten().tolist()) == {0, 4, 9}
    # 56 tokens of background hold 16 or 17 sentence starts, the first among them.
    first = hidden.offsets == 0
    numbers = before[first] // 10 * 3 + torch.searchsorted(SMALL.sentences, before[first] % 10)
    counts = torch.bincount(numbers.flatten()).double()
    assert counts.max() / counts.sum() < 1.4 / len(counts)
    assert counts.min() / counts.sum() > 0.6 / len(counts)


def test_a_short_story_beside_a_long_one_is_spread_over_its_text_too():
    long, n_tokens = [FACTS[1][0]] * 12, 3000
    hidden = hide([FACTS[1], long] * 2000, n_tokens, SMALL, generator())
    places = hidden.starts[::2, :2] / n_tokens
    assert places.mean(0).tolist() == pytest.approx([1 / 3, 2 / 3], abs=0.02)  # of two in order
    assert (hidden.starts[::2, 2:] == n_tokens).all()
    assert hidden.starts[1::2].double().mean() / n_tokens == pytest.approx(0.5, abs=0.02)


def test_a_place_a_billion_tokens_away_costs_nothing():
    hidden = hide(FACTS, 10**12, background("test"), generator())
    far = hidden.part(10**12 - 20, 10**12)
    period = len(hidden.background.tokens)
    last = hidden.offsets + 10**12 - 1 - hidden.lengths.sum(1)
    assert far.shape == (3, 20)
    assert torch.equal(far[:, -1], hidden.background.tokens[last % period])
    start = hidden.starts[1, 1].item()
    assert tokenizer().decode(hidden.part(start, start + 6)[1].tolist()) == f" {FACTS[1][1]}"


def test_on_another_device_it_is_the_same_text(device):
    hidden = hide(FACTS, 100, background("train"), generator())
    assert torch.equal(hidden.to(device).part(3, 90).cpu(), hidden.part(3, 90))


def test_a_text_shorter_than_its_facts_is_an_error():
    with pytest.raises(ValueError, match="n_tokens: expected at least 11, the tokens of the facts"):
        hide(FACTS, 10, SMALL, generator())


@pytest.mark.parametrize("task", TASKS)
def test_a_sample_holds_its_facts_and_its_answers(task):
    babilong = Babilong(task=task, segment_length=64)
    batch = babilong.sample(4, 640, generator(), 3)
    assert batch.segments.shape == (4, 10, 64)
    assert batch.questions.shape == (4, 3, QUESTION_LENGTH)
    assert batch.answers.shape == (4, 3)
    assert (batch.answers[:, 0] >= 0).all()
    for question, answer in zip(batch.questions[:, 0], batch.answers[:, 0], strict=True):
        words = tokenizer().decode(question[question > PADDING].tolist())
        assert words.startswith((" Where", " What", " Who"))
        assert words.endswith("?")
        assert question[-1] == tokens_of("Where is Mary?")[-1]
        assert len(tokenizer().decode([answer.item()]).split()) == 1
    again = babilong.sample(4, 640, generator(), 3)
    assert all(torch.equal(one, other) for one, other in zip(batch, again, strict=True))
    other = babilong.sample(4, 640, generator(4), 3)
    assert not torch.equal(batch.segments, other.segments)
    assert all(torch.equal(a, b) for a, b in zip(batch.to("cpu"), batch, strict=True))


def test_a_text_is_whole_segments_or_one_short_one():
    babilong = Babilong(segment_length=32)
    for n_tokens, shape in {20: (2, 1, 20), 32: (2, 1, 32), 96: (2, 3, 32)}.items():
        assert babilong.sample(2, n_tokens, generator()).segments.shape == shape
    with pytest.raises(ValueError, match="n_tokens: expected at most 32, or a multiple of it, got"):
        babilong.sample(2, 33, generator())


@pytest.mark.no_cover
def test_short_texts_hold_short_stories():
    babilong = Babilong(task="qa2", segment_length=32, most_facts=4)
    for seed in range(8):
        sample = babilong.draw(Random(seed), 32)
        assert len(sample.facts) <= 4
        assert sum(len(tokens_of(fact)) for fact in sample.facts) <= 32
    with pytest.raises(
        ValueError, match=r"^n_tokens: of qa2 no story in 1000 has at most 32 tokens and 2 facts"
    ):
        Babilong(task="qa2", segment_length=32, most_facts=2).draw(Random(0), 32)


def test_questions_end_at_one_place_and_a_long_answer_is_asked_token_by_token():
    one, other = (
        Question("Where is Mary?", "office", (0,)),
        Question("Who, what?", "Mary and John", (0,)),
    )
    questions, answers = encode_questions([[one], [other, one]], n_questions=5)
    parts = tokens_of("Mary and John")
    assert questions.shape == (2, 5, QUESTION_LENGTH)
    assert answers[0].tolist() == [*tokens_of("office"), *[NO_ANSWER] * 4]
    assert answers[1].tolist()[: len(parts)] == list(parts)
    asked = [row[row > PADDING].tolist() for row in questions[1]]
    assert asked[0] == list(tokens_of("Who, what?"))
    for shorter, longer, token in zip(asked, asked[1:], parts[:-1], strict=False):
        assert longer == [*shorter, token]
    assert asked[len(parts)] == list(tokens_of("Where is Mary?"))
    for row in questions.flatten(0, 1).tolist():
        assert [after for now, after in pairwise(row) if now > PADDING and after == PADDING] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "qa9"}, "task: expected one of qa1, qa2, qa3, qa4, qa5; got 'qa9'"),
        ({"split": "dev"}, "split: expected one of train, test; got 'dev'"),
        ({"segment_length": 0}, "segment_length: expected at least 1, got 0"),
        ({"most_facts": 0}, "most_facts: expected at least 1, got 0"),
        ({"dialects": ()}, "dialects: expected at least 1, got 0"),
        ({"dialects": ("spoken",)}, "dialects: expected one of generator, published; got 'spoken'"),
    ],
)
def test_settings_that_do_not_fit_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        Babilong(**settings)


@pytest.mark.parametrize("numbers", [(0, 128, 1), (2, 0, 1), (2, 128, 0)])
def test_sizes_below_one_are_errors(numbers):
    batch, n_tokens, n_questions = numbers
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        Babilong().sample(batch, n_tokens, generator(), n_questions)


def test_decoys_are_words_of_stories_between_the_words_of_the_background():
    around = background("train")
    salted = with_decoys(around, 0.25, generator())
    is_new = salted.tokens != around.tokens
    assert is_new.float().mean() == pytest.approx(0.25, abs=0.02)
    assert set(salted.tokens[is_new].tolist()) == set(tokens_of_stories().tolist())
    assert torch.equal(salted.sentences, around.sentences)


@pytest.mark.no_cover
def test_density_leaves_room_for_the_background():
    sparse, full = Babilong(density=0.25), Babilong()
    lengths = [
        [sum(map(len, map(tokens_of, sample.facts))) for sample in task.draw_many(40, 128, 0)]
        for task in (sparse, full)
    ]
    assert max(lengths[0]) <= 32 < max(lengths[1]) <= 128


def test_a_density_that_leaves_no_room_or_is_none_is_an_error():
    with pytest.raises(ValueError, match=r"^density: expected 0 to 1, got 1.5"):
        Babilong(density=1.5)
    with pytest.raises(
        ValueError, match=r"^n_tokens: of qa1 no story in 1000 has at most 3 tokens"
    ):
        Babilong(density=0.1).sample(1, 32, generator())


def test_auxiliary_questions_follow_those_of_the_task():
    plain, more = (
        Babilong(task="qa3", auxiliary=asked).sample(16, 128, generator(), 10)
        for asked in (False, True)
    )
    assert torch.equal(more.segments, plain.segments)
    is_asked = plain.answers >= 0
    assert torch.equal(more.answers[is_asked], plain.answers[is_asked])
    assert torch.equal(more.questions[is_asked], plain.questions[is_asked])
    assert ((more.answers >= 0).sum(1) > is_asked.sum(1)).all()
    two = Babilong(task="qa2", auxiliary=True).sample(16, 128, generator(), 2)
    assert two.answers.shape == (16, 2)
    every, many = (Babilong(task="qa3").sample(16, 128, generator(), n) for n in (None, 50))
    assert torch.equal((every.answers >= 0).sum(1), (many.answers >= 0).sum(1))
    assert every.answers.shape[1] > 1


def test_decoys_change_a_sample_but_not_its_facts():
    task, salted = Babilong(segment_length=64), Babilong(segment_length=64, decoys=1.0)
    plain, found = (t.sample(2, 640, generator(), None) for t in (task, salted))
    assert torch.equal(found.answers, plain.answers)
    known = torch.cat([tokens_of_stories(), torch.tensor(tokens_of("."))])
    assert torch.isin(found.segments, known).all(), "nothing is left but facts and decoys"
    assert not torch.isin(plain.segments, known).all()
    with pytest.raises(ValueError, match=r"^decoys: expected 0 to 1, got -0.1"):
        Babilong(decoys=-0.1)


@pytest.mark.parametrize("length", [2, 16])
def test_a_false_start_is_the_beginning_of_a_fact_and_changes_no_real_one(length):
    rows = [tokens_of(fact) for facts in FACTS for fact in facts]
    facts, seen = pad_sequence([torch.tensor(row) for row in rows], True), set()
    n_changed = dict.fromkeys((0.3, 1.0), 0)
    for seed in range(40):
        hidden = hide(FACTS, 80, SMALL, generator(seed))
        text, is_fact = (x.unflatten(1, (-1, length)) for x in hidden.told(0, 80))
        assert torch.equal(is_fact, text < 4000)
        for share in n_changed:
            found = with_false_starts(text, is_fact, facts, share, generator(seed))
            assert torch.equal(found[is_fact], text[is_fact])
            n_changed[share] += (found != text).any(2).sum().item()
        for before, after, fixed in zip(
            *map(torch.Tensor.tolist, map(rows_of, (text, found, is_fact))), strict=True
        ):
            changed = [n for n in range(length) if after[n] != before[n]]
            if not changed:
                continue
            first, last = changed[0], changed[-1]
            assert changed == list(range(first, last + 1))
            assert not any(fixed[first:]), "no fact after it, which would be its rest"
            assert tuple(after[first : last + 1]) in {row[: len(changed)] for row in rows}
            seen.add((len(changed), length - last))
    assert {n for n, _ in seen} == set(range(1, min(3, length) + 1)), "never a whole fact"
    assert {away for _, away in seen} == set(range(1, min(4, length) + 1))
    assert 0.2 < n_changed[0.3] / n_changed[1.0] < 0.4


def rows_of(tensor):
    return tensor.flatten(0, 1)


def test_false_starts_leave_questions_and_answers_alone():
    plain, startled = (
        Babilong(segment_length=64, false_starts=share).sample(2, 640, generator(), None)
        for share in (0.0, 1.0)
    )
    assert torch.equal(startled.answers, plain.answers)
    assert torch.equal(startled.questions, plain.questions)
    assert (startled.segments != plain.segments).any(2).sum() > 10
    with pytest.raises(ValueError, match=r"^false_starts: expected 0 to 1, got 2"):
        Babilong(false_starts=2.0)


def test_a_cut_fact_stands_in_two_segments_of_a_text_that_is_else_the_same():
    length, seen = 16, set()
    for seed in range(60):
        plain = hide(FACTS, 80, SMALL, generator(seed))
        fact = torch.tensor([0, seed % 2, 0])
        hidden = with_cut_facts(plain, fact, length, 1.0, generator(seed))
        text, is_fact = hidden.told(0, 96)
        assert text.tolist() == [by_hand(hidden, row) for row in range(3)]
        assert is_fact.sum() == plain.lengths.sum()
        assert (hidden.starts[hidden.lengths == 0] == 96).all()
        for row in range(2):
            start, size = (x[row, fact[row]].item() for x in (hidden.starts, hidden.lengths))
            shift = start - plain.starts[row, fact[row]].item()
            assert torch.equal(text[row, shift : shift + 80], plain.part(0, 80)[row])
            border = (start + size - 1) // length * length
            seen.add((size, border - start))
    assert seen == {(size, n) for size, _ in seen for n in range(1, size - 1)}, "no full stop alone"


def test_a_share_of_the_texts_is_cut_at_all_places_alike_and_the_others_are_shifted_by_any():
    plain = hide([["Mary went to the office."]] * 4000, 80, SMALL, generator())
    hidden = with_cut_facts(plain, torch.zeros(4000, dtype=torch.long), 64, 0.5, generator())
    starts = hidden.starts[:, 0]
    size, shifts = plain.lengths[0, 0].item(), (starts - plain.starts[:, 0]).bincount(minlength=64)
    border = (64 - starts % 64).bincount(minlength=65)
    chance = 2000 / 64
    for n in range(1, size - 1):
        assert abs(border[n] - 2000 / (size - 2) - chance) < 100, "at all places alike"
    assert border[size:].sum() > 2000 * 0.8, "half of them are not cut on purpose"
    assert shifts[:32].sum() > 1500, "shifted by anything from 0 to 63"
    assert shifts.max() < 200


@pytest.mark.no_cover
@pytest.mark.parametrize("task", ["qa1", "qa2"])
@pytest.mark.parametrize(("share", "fewest", "most"), [(0, 0, 0.2), (0.5, 0.45, 0.7), (1, 1, 1)])
def test_in_a_share_of_the_texts_a_border_cuts_what_is_asked_for(task, share, fewest, most):
    babilong, n_cut, which = Babilong(task=task, segment_length=64, cut_facts=share), 0, Counter()
    batch = babilong.sample(200, 320, generator())
    seed = int(torch.randint(2**62, (), generator=generator()))  # with which it drew its stories
    samples = babilong.draw_many(200, 256 if share else 320, seed)
    for text, sample in zip(batch.segments, samples, strict=True):
        tokens = text.flatten().tolist()
        places, begin = [], 0
        for fact in sample.facts:  # in their order
            row = list(tokens_of(fact))
            begin = next(n for n in range(begin, 320) if tokens[n : n + len(row)] == row)
            places.append(begin // 64 < (begin + len(row) - 1) // 64)
        cut = [n for n, fact in enumerate(sample.questions[0].supports) if places[fact]]
        n_cut += bool(cut)
        which.update(cut)
    assert fewest * 200 <= n_cut <= most * 200
    n_supports = len(samples[0].questions[0].supports)
    assert all(which[n] >= share * 200 / n_supports * 0.7 for n in range(n_supports)), "each alike"


def test_no_fact_is_cut_in_a_text_of_one_segment():
    plain, cut = (Babilong(cut_facts=share).sample(4, 128, generator()) for share in (0.0, 1.0))
    assert all(torch.equal(one, other) for one, other in zip(plain, cut, strict=True))
    with pytest.raises(ValueError, match=r"^cut_facts: expected 0 to 1, got 2"):
        Babilong(cut_facts=2.0)
