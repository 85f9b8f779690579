"""Long texts are read to their end and asked there: answers and distances against the samples."""

from dataclasses import replace
from random import Random

import pytest
import torch

import armt_mini as am
from armt_mini.tasks.babi import Question
from armt_mini.tasks.babilong import Babilong, Sample, hide
from armt_mini.tasks.background import VOCAB_SIZE, background, tokenizer, tokens_of
from armt_mini.training.hidden_facts import (
    Answered,
    answer_hidden,
    by_distance,
    gammas,
    samples_of_folder,
    score_hidden,
    stopped_readings,
)

SIZES = dict(d_model=8, n_layers=2, n_heads=2, segment_length=16, n_memory_tokens=2, d_memory=4)

SIZES_OF_RMT = {name: size for name, size in SIZES.items() if name != "d_memory"}


def texts(n=3, n_tokens=1100, name="qa1"):
    task, random = Babilong(task=name, split="test"), Random(5)
    samples = [task.draw(random, n_tokens) for _ in range(n)]
    generator = torch.Generator().manual_seed(0)
    facts = [sample.facts for sample in samples]
    return samples, hide(facts, n_tokens, background("test"), generator)


class Oracle(am.ARMT):
    """Says where the person went last, from the tokens that it has read."""

    def __init__(self, wrong=()):
        super().__init__(am.ARMTConfig(vocab_size=VOCAB_SIZE, **SIZES))
        self.seen, self.wrong = [], wrong

    def read_segments(self, segments, states, use, schedule="sequential"):
        for segment in segments:
            self.seen.append(segment)
            use(torch.zeros(*segment.shape, self.config.d_model))
        return states

    def ask(self, questions, states):
        read, logits = torch.cat(self.seen, dim=1), torch.zeros(*questions.shape, VOCAB_SIZE)
        (to,), (the,) = tokens_of("to"), tokens_of("the")
        for row, tokens in enumerate(read.tolist()):
            person = questions[row, 0, -2].item()
            places = [
                tokens[n + 4] if tokens[n + 3] == the else tokens[n + 5]
                for n in range(len(tokens) - 5)
                if tokens[n] == person and to in tokens[n + 2 : n + 4]
            ]
            logits[row, 0, -1, places[-1] + (row in self.wrong)] = 1
        return logits


def test_all_of_a_text_is_read_and_the_right_questions_are_counted():
    samples, hidden = texts(5)
    assert answer_hidden(Oracle(), samples, hidden).is_right.tolist() == [True] * 5
    wrong = answer_hidden(Oracle(wrong=(1, 4)), samples, hidden)
    assert wrong.is_right.tolist() == [True, False, True, True, False]
    oracle = Oracle()
    answer_hidden(oracle, samples, hidden)
    assert torch.equal(torch.cat(oracle.seen, dim=1), hidden.part(0, 1100))


class Parrot(am.ARMT):
    """Says to each text the tokens that it was given, one to each question."""

    def __init__(self, said=()):
        super().__init__(am.ARMTConfig(vocab_size=VOCAB_SIZE, **SIZES))
        self.said = said

    def ask(self, questions, states):
        logits = torch.zeros(*questions.shape, VOCAB_SIZE)
        for row, tokens in enumerate(self.said):
            for n, token in enumerate(tokens):
                logits[row, n, -1, token] = 1
        return logits


def test_an_answer_of_several_tokens_is_right_if_each_of_them_is():
    samples, hidden = texts(2)
    one, *others = tokens_of("Mary and John")
    (office,) = tokens_of("office")
    asked = [
        Sample(sample.facts, (Question("Who?", answer, (0,)),))
        for sample, answer in zip(samples, ("Mary and John", "office"), strict=True)
    ]
    for first, rest, second, expected in (
        (one, others, office, [True, True]),
        (one, others[::-1], office, [False, True]),
        (office, others, one, [False, False]),
    ):
        said = [[first, *rest], [second, one, one]]  # a short answer's other places do not count
        assert answer_hidden(Parrot(said), asked, hidden).is_right.tolist() == expected


@pytest.mark.parametrize("name", ["qa1", "qa2"])
def test_the_distance_is_that_of_the_last_fact_that_is_needed(name):
    samples, hidden = texts(4, name=name)
    assert {len(sample.questions[0].supports) for sample in samples} == {int(name[-1])}
    distances = answer_hidden(Parrot(), samples, hidden).distances.tolist()
    for row, (sample, distance) in enumerate(zip(samples, distances, strict=True)):
        fact, start = sample.facts[sample.questions[0].supports[-1]], hidden.n_tokens - distance
        tokens = list(tokens_of(fact))
        assert hidden.part(start, start + len(tokens))[row].tolist() == tokens


@pytest.mark.parametrize("schedule", ["sequential", "diagonal"])
def test_what_is_said_is_what_the_model_says_after_the_whole_text(schedule):
    model = am.ARMT(am.ARMTConfig(vocab_size=VOCAB_SIZE, value_std=0.5, **SIZES)).double()
    samples, hidden = texts()
    with torch.no_grad():
        states = model.memorise(hidden.part(0, 1100))
        asked = torch.tensor([[[0] * 8 + list(tokens_of(s.questions[0].text))] for s in samples])
        (said,) = model.ask(asked, states)[:, :, -1].argmax(-1).mT.tolist()
    words = [tokenizer().decode([token]).strip() for token in said]
    expected = [
        Sample(s.facts, (Question(s.questions[0].text, word, s.questions[0].supports),))
        for s, word in zip(samples, words, strict=True)
    ]
    assert answer_hidden(model, expected, hidden, schedule=schedule).is_right.all()


def test_the_sizes_of_what_is_remembered_are_told():
    model = am.ARMT(am.ARMTConfig(vocab_size=VOCAB_SIZE, value_std=0.5, **SIZES))
    samples, hidden = texts()
    with torch.no_grad():
        states = model.memorise(hidden.part(0, 1100))
    found = answer_hidden(model, samples, hidden).sizes
    assert found.shape == (3, 2, 2)
    expected = states[1].associations[2].square().sum().sqrt()
    assert found[2, 1, 0].item() == pytest.approx(expected.item(), rel=1e-5)
    rmt = am.RMT(am.RecurrentConfig(vocab_size=VOCAB_SIZE, **SIZES_OF_RMT))
    assert answer_hidden(rmt, samples, hidden).sizes.shape == (3, 1, 1)


def test_gamma_is_that_of_the_segment_that_would_come_next():
    # With one memory token, and keys of norm 1, γ is what a layer adds to z.
    kind = dict(unit_features=True, clip_gamma=False, embedding_std=1.0, attention_std=0.5)
    sizes = SIZES | dict(n_memory_tokens=1, value_std=0.5) | kind
    model = am.ARMT(am.ARMTConfig(vocab_size=VOCAB_SIZE, **sizes))
    samples, hidden = texts()
    following = hidden.part(1100, 1116)
    for row, n in enumerate((hidden.offsets + 1100 - hidden.lengths.sum(1)).tolist()):
        assert torch.equal(following[row], hidden.background.tokens.roll(-n)[:16]), "it goes on"
    with torch.no_grad():
        states = model.memorise(hidden.part(0, 1100))
        after = model.memorise(following, states)
    found = answer_hidden(model, samples, hidden).gammas
    pairs = zip(states, after, strict=True)
    added = [(new.normaliser - old.normaliser).norm(dim=1) for old, new in pairs]
    assert torch.allclose(found.abs(), torch.stack(added, dim=1), atol=1e-5)
    assert found.abs().min() > 1e-3
    empty = gammas(model, following, model.empty_states(3))
    assert torch.equal(empty, torch.ones(3, 2)), "an empty z lacks all of it"
    rmt = am.RMT(am.RecurrentConfig(vocab_size=VOCAB_SIZE, **SIZES_OF_RMT))
    assert answer_hidden(rmt, samples, hidden).gammas.shape == (3, 0)


def test_other_texts_than_samples_are_an_error():
    samples, hidden = texts()
    with pytest.raises(ValueError, match="samples: expected one for each of the 3 texts, got 2"):
        answer_hidden(Oracle(), samples[:2], hidden)


def test_texts_on_another_device_than_the_model_are_an_error_before_anything_is_read():
    samples, hidden = texts()
    oracle = Oracle()
    with pytest.raises(ValueError, match=r"^hidden: expected texts on cpu, as the model, got meta"):
        answer_hidden(oracle, samples, hidden.to("meta"))
    assert not oracle.seen


def test_the_same_seed_hides_the_same_whatever_the_batch():
    samples, _ = texts(5)
    model = am.ARMT(am.ARMTConfig(vocab_size=VOCAB_SIZE, value_std=0.5, **SIZES))
    around = background("test")
    one, other = (score_hidden(model, samples, around, 640, batch_size=n) for n in (2, 64))
    assert torch.equal(one.distances, other.distances)
    moved = score_hidden(model, samples, around, 640, seed=1)
    assert not torch.equal(one.distances, moved.distances)
    oracle = score_hidden(Oracle(), samples, around, 640)
    assert oracle.is_right.all()


@pytest.mark.parametrize("n_segments", [1, 17, 70, 120])
def test_an_interrupted_reading_goes_on_from_where_it_was(tmp_path, ctrl_c, n_segments):
    samples, _ = texts(3)
    model = am.ARMT(am.ARMTConfig(vocab_size=VOCAB_SIZE, value_std=0.5, **SIZES))
    rest = (samples, background("test"), 1100)
    expected = score_hidden(model, *rest)
    read, read_segments = [], model.read_segments

    def interrupted(segments, states, use, schedule="sequential"):
        def pressed():
            for segment in segments:
                read.append(segment)
                if len(read) == n_segments:
                    ctrl_c()
                yield segment

        return read_segments(pressed(), states, use, schedule)

    model.read_segments = interrupted
    options = dict(batch_size=2, halt=tmp_path / "found")
    with pytest.raises(KeyboardInterrupt):
        score_hidden(model, *rest, **options)
    assert list(tmp_path.iterdir())
    found = score_hidden(model, *rest, **options)
    assert torch.equal(found.is_right, expected.is_right)
    assert torch.equal(found.distances, expected.distances)
    assert len(read) == 2 * 69, "no segment was read twice"
    assert not list(tmp_path.iterdir())


def test_files_of_a_stopped_reading_are_those_whose_names_begin_so(tmp_path):
    for name in ("a[1]-x.reading", "a1-x.reading", "a[1]-x"):
        (tmp_path / name).touch()
    assert stopped_readings(tmp_path / "a[1]") == [tmp_path / "a[1]-x.reading"]


def test_texts_are_known_by_what_they_hold():
    _, hidden = texts()
    assert hidden.digest == texts()[1].digest != texts(n_tokens=1101)[1].digest
    assert hidden.digest != hidden.rows(slice(2)).digest
    other = hidden.background._replace(tokens=hidden.background.tokens + 1)
    assert hidden.digest != replace(hidden, background=other).digest
    for name in ("offsets", "facts", "lengths", "starts"):
        other = replace(hidden, **{name: getattr(hidden, name) + 1})
        assert hidden.digest != other.digest, name


def test_scores_by_distance_count_the_quarter_in_which_the_answer_stood():
    is_right = torch.tensor([True, False, True, True])
    answered = Answered(
        is_right, torch.tensor([1, 25, 26, 100]), torch.zeros(4, 1, 2), torch.zeros(4, 1)
    )
    assert by_distance(answered, 100) == [(1, 2), (1, 1), (0, 0), (1, 1)]


def test_questions_of_a_folder_are_those_of_its_one_test_file(tmp_path):
    text = "1 Mary moved to the office.\n2 Where is Mary?\toffice\t1\n"
    (tmp_path / "qa1_single_test.txt").write_text(text, encoding="utf-8")
    (tmp_path / "qa1_single_train.txt").write_text(text * 2, encoding="utf-8")
    (sample,) = samples_of_folder(tmp_path, "qa1")
    asked = (Question("Where is Mary?", "office", (0,)),)
    assert sample == Sample(("Mary moved to the office.",), asked)
    with pytest.raises(ValueError, match=r"^babi_folder: expected one file called \*qa2_\*test"):
        samples_of_folder(tmp_path, "qa2")
