"""Stories against a plain reading of their sentences, and against files of the original program.

The files are not part of this project; where they are missing, what needs them is skipped.
"""

import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch

from armt_mini.tasks.babi import (
    DIALECTS,
    PLACES,
    TASKS,
    Question,
    draw_story,
    fill,
    read_stories,
)

FILES = Path(__file__).parents[2] / "shared" / "babi"
MOVE = r"(\w+) (?:went|journeyed|travelled|moved|went back) to the (\w+)\."
GET = r"(\w+) (?:grabbed|took|got|picked up) the (\w+)(?: there)?\."
DROP = r"(\w+) (?:dropped|put down|let go of|left|discarded) the (\w+)(?: there)?\."
GIVE = r"(\w+) gave (?!the )(\w+) the (\w+)\."
GIVE_TO = r"(\w+) (?:gave|passed|handed) the (\w+) to (\w+)\."
LIES = r"The (\w+) is (north|south|east|west) of the (\w+)\."
BACK = {"north": "south", "south": "north", "east": "west", "west": "east"}

each_task = pytest.mark.parametrize("task", TASKS)
each_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def draw(task, dialect, n=40, seed=0):
    random = Random(seed)
    return [draw_story(task, random, dialect) for _ in range(n)]


def read(facts):
    """What follows from the sentences: where people are, who has what, where things have been."""
    place, holder, been, gifts = {}, {}, {}, []
    for fact in facts:
        if found := re.fullmatch(MOVE, fact):
            place[found[1]] = found[2]
        elif found := re.fullmatch(GET, fact):
            holder[found[2]] = found[1]
        elif found := re.fullmatch(DROP, fact):
            assert holder.pop(found[2]) == found[1]
        elif found := re.fullmatch(GIVE_TO, fact):
            gifts.append({"P": found[1], "O": found[2], "Q": found[3]})
        elif found := re.fullmatch(GIVE, fact):
            gifts.append({"P": found[1], "Q": found[2], "O": found[3]})
        else:
            raise AssertionError(f"not a sentence of the tasks: {fact}")
        for thing, who in holder.items():
            if who in place and been.setdefault(thing, [""])[-1] != place[who]:
                been[thing].append(place[who])
    return place, been, gifts


def answer(task, facts, question):
    """The answer, from the sentences alone."""
    words = question.rstrip("?").split()
    if task == "qa4":
        found = [re.fullmatch(LIES, fact).groups() for fact in facts]
        known = {(one, to, other) for one, to, other in found}
        known |= {(other, BACK[to], one) for one, to, other in found}
        if words[2] in BACK:  # What is north of the X
            return next(one for one, to, other in known if (to, other) == (words[2], words[-1]))
        return next(other for one, to, other in known if (one, to) == (words[3], words[4]))
    if task == "got":
        return next(
            get[1]
            for fact in reversed(facts)
            if (get := re.fullmatch(GET, fact)) and get[2] == words[3]
        )
    place, been, gifts = read(facts)
    if task == "qa1":
        return place[words[2]]
    if task == "qa2":
        return been[words[3]][-1]
    if task == "qa3":
        assert been[words[3]][-1] == words[-1]
        return been[words[3]][-2]
    # Who and what is named narrows the gifts down; the latest that is left answers.
    form = next(form for form in GIFT_QUESTIONS if re.fullmatch(form, question))
    for role, name in re.fullmatch(form, question).groupdict().items():
        gifts = [gift for gift in gifts if gift[role] == name]
    return gifts[-1][GIFT_QUESTIONS[form]]


GIFT_QUESTIONS = {
    r"What did (?P<P>\w+) give to (?P<Q>\w+)( last)?\?": "O",
    r"Who received the (?P<O>\w+)( last)?\?": "Q",
    r"Who did (?P<P>\w+) give the (?P<O>\w+) to( last)?\?": "Q",
    r"Who gave the (?P<O>\w+)\?": "P",
    r"Who gave the (?P<O>\w+) to (?P<Q>\w+)\?": "P",
}


@each_dialect
@each_task
@pytest.mark.no_cover
def test_every_answer_follows_from_the_sentences(task, dialect):
    for story in draw(task, dialect):
        assert len(story.moments) == (1 if task == "qa4" else 5)
        for moment in story.moments:
            for question in moment.questions:
                facts = story.facts[: moment.n_facts]
                assert answer(task, facts, question.text) == question.answer


def all_questions(task, facts):
    """About all who have moved, what such a person holds, and where it was; for qa2 who took it."""
    place, been, _ = read(facts)
    held, taken = {}, set()
    for fact in facts:
        if found := re.fullmatch(GET, fact):
            held[found[2]] = found[1]
            taken.add(found[2])
        elif found := re.fullmatch(DROP, fact):
            del held[found[2]]
    before = {thing: places for thing, places in been.items() if len(places) > 2}
    return (
        {f"Where is {who}?" for who in place}
        | {f"Who got the {thing} last?" for thing in taken if task == "qa2"}
        | {f"Where is the {thing}?" for thing, who in held.items() if who in place}
        | {f"Where was the {thing} before the {places[-1]}?" for thing, places in before.items()}
    )


@each_dialect
@pytest.mark.no_cover
def test_auxiliary_questions_are_about_all_other_gifts(dialect):
    forms, earlier = DIALECTS[dialect].about_a_gift, 0
    for story in draw("qa5", dialect):
        for moment in story.moments:
            facts = story.facts[: moment.n_facts]
            known = {question.text: question for question in moment.questions + moment.auxiliary}
            assert len(known) == len(moment.questions) + len(moment.auxiliary)
            gifts = [(gift["P"], gift["O"], gift["Q"]) for gift in read(facts)[2]]
            assert {*known} == {fill(form, *gift) for form in forms for gift in gifts}
            for text, question in known.items():
                assert answer("qa5", facts, text) == question.answer
            assert len(moment.questions) == len(forms)
            assert len({question.supports for question in moment.questions}) == 1
            earlier += any(q.supports < moment.questions[0].supports for q in moment.auxiliary)
    assert earlier > 0


@each_dialect
@pytest.mark.no_cover
@pytest.mark.parametrize("task", ["qa1", "qa2", "qa3", "qa4"])
def test_auxiliary_questions_are_all_others_about_the_same_facts(task, dialect):
    begin = {
        "Where was the": "qa3", "Where is the": "qa2", "Where is": "qa1", "Who got the": "got"
    }  # fmt: skip
    asked, lying = set(), 0
    for story in draw(task, dialect):
        for moment in story.moments:
            if task in ("qa2", "qa3"):
                texts = {question.text for question in moment.questions + moment.auxiliary}
                assert all_questions(task, story.facts[: moment.n_facts]) <= texts
                assert len(texts) <= 4 + 3 + 3 + (3 if task == "qa2" else 0)
            for question in moment.auxiliary:
                assert question not in moment.questions
                kind = next(
                    kind for start, kind in begin.items() if question.text.startswith(start)
                )
                facts = story.facts[: moment.n_facts]
                assert answer(kind, facts, question.text) == question.answer
                asked.add(kind)
                if kind == "qa2":
                    lying += bool(re.fullmatch(DROP, facts[question.supports[-1]]))
    if task not in ("qa2", "qa3"):
        assert not asked
        return
    also = {"got"} if task == "qa2" else set()
    assert asked - {task} == {"qa1", "qa2", "qa3"} - {task} | also
    assert (lying > 0) == (task == "qa3" or dialect == "generator"), (
        "what lies is asked in any case"
    )


@each_dialect
@pytest.mark.no_cover
@pytest.mark.parametrize("task", ["qa1", "qa2", "qa4", "qa5"])
def test_the_supporting_facts_alone_give_the_answer(task, dialect):
    for story in draw(task, dialect):
        for moment in story.moments:
            question = moment.questions[0]
            assert question.supports == tuple(sorted(set(question.supports)))
            facts = [story.facts[n] for n in question.supports]
            assert len(facts) == (2 if task == "qa2" else 1)
            if task == "qa2" and re.fullmatch(DROP, facts[-1]):
                continue  # where it lies is where its holder had gone
            assert answer(task, facts, question.text) == question.answer


@each_dialect
def test_a_question_about_an_earlier_place_has_three_supports(dialect):
    for story in draw("qa3", dialect, 10):
        for moment in story.moments:
            assert len(moment.questions[0].supports) == 3
            assert max(moment.questions[0].supports) < moment.n_facts


@each_task
def test_one_seed_is_one_story_and_another_seed_another(task):
    assert draw(task, "published", 3) == draw(task, "published", 3)
    assert draw(task, "published", 3) != draw(task, "published", 3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["qa1", "qa2", "qa3", "qa4"])
def test_in_the_published_dialect_every_place_is_as_often_the_answer(task):
    answers = Counter(
        moment.questions[0].answer
        for story in draw(task, "published", 400)
        for moment in story.moments
    )
    assert set(answers) == set(PLACES)
    assert max(answers.values()) < 1.6 * min(answers.values())


@pytest.mark.no_cover
def test_the_published_dialect_speaks_of_other_people_and_in_more_ways():
    stories = draw("qa5", "published", 300)
    asked = Counter(
        " ".join(moment.questions[0].text.split()[:2]) + str(len(moment.questions[0].text.split()))
        for story in stories
        for moment in story.moments
    )
    shares = {form: 100 * n / sum(asked.values()) for form, n in asked.items()}
    expected = {
        "What did6": 33,
        "Who gave4": 18,
        "Who did7": 17,
        "Who gave6": 17,
        "Who received4": 15,
    }
    assert shares == pytest.approx(expected, abs=4)
    people = {fact.split()[0] for story in stories for fact in story.facts}
    assert people == {"Fred", "Jeff", "Bill", "Mary"}


def counts(story):
    """What is found in one story; how many questions and how many facts it has."""
    found = Counter()
    for fact in story.facts:
        verb = re.sub(r" (the|[A-Z]\w+)\b.*", "", fact.split(maxsplit=1)[1])
        found[f"verb {verb}"] += 1
    for moment in story.moments:
        question = moment.questions[0]
        found[f"answer {question.answer}"] += 1
        found[f"form {' '.join(question.text.split()[:2])}"] += 1
        found["facts"] += moment.n_facts
        found["back to the last support"] += moment.n_facts - max(question.supports)
        found["back to the first support"] += moment.n_facts - min(question.supports)
    return found, len(story.moments), len(story.facts)


def mean_and_error(name, counted):
    """Of all stories together, and its standard error. Questions of one story are not independent,
    stories are."""
    is_verb = name.startswith("verb")
    out_of = torch.tensor([number[is_verb] for _, *number in counted], dtype=torch.float64)
    number = torch.tensor([found[name] for found, *_ in counted], dtype=torch.float64)
    mean = number.sum() / out_of.sum()
    away = number - mean * out_of
    return mean, away.square().sum().sqrt() / out_of.sum()


@pytest.mark.slow
@pytest.mark.skipif(not FILES.is_dir(), reason="the original program's files are not here")
@each_task
def test_the_dialect_of_the_generator_has_the_statistics_of_the_original_program(task):
    files = sorted(FILES.glob(f"{task}_*.txt"))
    theirs = [counts(story) for file in files for story in read_stories(file)]
    ours = [counts(story) for story in draw(task, "generator", len(theirs))]
    names = set().union(*(found for found, *_ in theirs))
    assert names == set().union(*(found for found, *_ in ours))
    for name in names:
        (one, error), (other, other_error) = (mean_and_error(name, s) for s in (theirs, ours))
        assert abs(one - other) <= 4 * (error.square() + other_error.square()).sqrt(), name


FILE = "1 Mary moved to the office.\n2 Where is Mary? \toffice\t1\n3 John got the milk.\n"
FILE += "4 Who, and what?\tMary,milk\t3 1\n1 John went to the garden.\n"


def test_a_file_in_the_format_of_babi_is_read(tmp_path):
    (tmp_path / "a.txt").write_text(FILE, encoding="utf-8")
    first, second = read_stories(tmp_path / "a.txt")
    assert first.facts == ("Mary moved to the office.", "John got the milk.")
    assert [moment.n_facts for moment in first.moments] == [1, 2]
    assert first.moments[0].questions == (Question("Where is Mary?", "office", (0,)),)
    assert first.moments[1].questions == (Question("Who, and what?", "Mary,milk", (0, 1)),)
    assert second == (("John went to the garden.",), ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Mary moved.\n", "expected 'NUMBER fact' .* in line 1 of"),
        ("² Mary moved.\n", "expected 'NUMBER fact' .* in line 1 of"),
        ("1 Mary moved.\n2 Where is Mary?\toffice\tx\n", "expected 'NUMBER fact' .* in line 2 of"),
        ("1 Mary moved.\n2 Where is Mary?\toffice\n", "expected 'NUMBER fact' .* in line 2 of"),
        (
            "1 Mary moved.\n2 Where is Mary?\toffice\t7\n",
            "in line 2 of .* to stand after the facts",
        ),
        ("1 Where is Mary?\toffice\t1\n", "in line 1 of .* to stand after the facts"),
        ("1 Mary moved to the office.\n", "expected a file with questions"),
    ],
)
def test_a_file_of_another_form_is_an_error_that_names_the_line(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_stories(tmp_path / "a.txt")


def test_unknown_names_are_errors():
    with pytest.raises(
        ValueError, match="task: expected one of qa1, qa2, qa3, qa4, qa5; got 'qa6'"
    ):
        draw_story("qa6", Random(0))
    with pytest.raises(ValueError, match="dialect: expected one of generator, published"):
        draw_story("qa1", Random(0), "spoken")
