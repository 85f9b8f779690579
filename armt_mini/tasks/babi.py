"""Stories of the first five bAbI tasks, and questions about them (Weston 2015, arXiv 1502.05698).

qa1: where someone is. qa2: where an object is that someone carries. qa3: where it was before.
qa4: which place lies where of another. qa5: who gave what to whom.

The generator is written anew from its rules, in two dialects. "generator" draws what the original
program draws. "published" draws what the published files hold, as far as that is known: more verbs,
hidden starts anywhere (so that answers are about as frequent as each other), qa2 also about what
lies somewhere, and in qa5 other people, more forms of question, and nothing that did not happen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from random import Random
from typing import NamedTuple

from armt_mini.checks import check_one_of

PLACES = ("bedroom", "kitchen", "garden", "hallway", "bathroom", "office")
PEOPLE = {"John": "kitchen", "Mary": "bedroom", "Sandra": "garden", "Daniel": "hallway"}
OBJECTS = {"apple": "kitchen", "milk": "kitchen", "football": "garden"}
OPPOSITES = {"north": "south", "east": "west"}
SMALL_WORDS = ("The", "the", "to", "of", "Where", "What", "is", "was", "before")
N_QUESTIONS = 5  # of a story, but in qa4
GAP = 3  # facts, at least, between two questions of qa2 and qa3


class Dialect(NamedTuple):
    """How a story is told. P, O and Q stand for a person, an object, another person."""

    moves: tuple[str, ...]
    gets: tuple[str, ...]
    drops: tuple[str, ...]
    gives: tuple[str, ...]
    ending: tuple[str, ...]  # of a get or a drop
    about_a_gift: dict[str, tuple[str, int]]  # question: its answer, how often it is asked
    givers: tuple[str, ...]
    starts_are_fixed: bool  # else anyone and anything may be anywhere
    asks_what_lies: bool
    tells_what_did_not_happen: bool


MOVES = ("went to", "journeyed to", "travelled to", "moved to")
DIALECTS = {
    "generator": Dialect(
        MOVES,
        ("grabbed", "took", "got"),
        ("dropped", "put down", "let go of"),
        ("P gave Q the O.",),
        ("",),
        {
            "What did P give to Q last?": ("O", 1),
            "Who received the O last?": ("Q", 1),
            "Who did P give the O to last?": ("Q", 1),
        },
        tuple(PEOPLE),
        starts_are_fixed=True,
        asks_what_lies=False,
        tells_what_did_not_happen=True,
    ),
    "published": Dialect(
        (*MOVES, "went back to"),
        ("grabbed", "took", "got", "picked up"),
        ("dropped", "put down", "left", "discarded"),
        tuple(f"P {gave} the O to Q." for gave in ("gave", "passed", "handed")),
        ("", " there"),
        {
            "What did P give to Q?": ("O", 33),
            "Who gave the O?": ("P", 18),
            "Who did P give the O to?": ("Q", 17),
            "Who gave the O to Q?": ("P", 17),
            "Who received the O?": ("Q", 15),
        },
        ("Fred", "Jeff", "Bill", "Mary"),
        starts_are_fixed=False,
        asks_what_lies=True,
        tells_what_did_not_happen=False,
    ),
}


class Question(NamedTuple):
    """supports: the facts (0 is the first of the story) that the answer follows from."""

    text: str
    answer: str
    supports: tuple[int, ...]


class Moment(NamedTuple):
    """What can be asked after so many facts. The first question is the one that is asked.

    auxiliary: other questions about the same facts, from which a model may learn.
    """

    n_facts: int
    questions: tuple[Question, ...]
    auxiliary: tuple[Question, ...] = ()


class Story(NamedTuple):
    """Facts as sentences, in order, and the moments at which something is asked."""

    facts: tuple[str, ...]
    moments: tuple[Moment, ...]


Supports = tuple[int, int]
Action = tuple[str, ...]  # a kind (move, get, drop, give) and its arguments


@dataclass
class World:
    """Who and what is where, and what has been told of it."""

    random: Random
    dialect: Dialect
    places: dict[str, str]  # of people, and of objects: the place of who holds them follows theirs
    objects: tuple[str, ...] = tuple(OBJECTS)
    holders: dict[str, str] = field(default_factory=dict)
    facts: list[str] = field(default_factory=list)
    moved: dict[str, int] = field(default_factory=dict)  # the fact of everyone's latest move
    got: dict[str, int] = field(default_factory=dict)  # of everything's latest get
    left: dict[str, Supports] = field(default_factory=dict)  # its latest drop, the move before it
    been: dict[str, list[tuple[str, Supports]]] = field(default_factory=dict)  # where, in turn
    about_gifts: dict[str, Question] = field(default_factory=dict)  # all that can be asked of them

    @classmethod
    def of(cls, random: Random, dialect: Dialect, people: tuple[str, ...] = tuple(PEOPLE)) -> World:
        """Before the first fact."""
        places = PEOPLE | OBJECTS
        if not dialect.starts_are_fixed:
            places = {name: random.choice(PLACES) for name in (*people, *OBJECTS)}
        return cls(random, dialect, {name: places[name] for name in (*people, *OBJECTS)})

    @property
    def people(self) -> list[str]:
        return [name for name in self.places if name not in self.objects]

    def possible(self, kind: str) -> list[Action]:
        """All actions of a kind that can happen now."""
        if kind == "move":
            pairs = product(self.people, PLACES)
            return [(kind, who, to) for who, to in pairs if self.places[who] != to]
        if kind == "get":
            free = [thing for thing in self.objects if thing not in self.holders]
            pairs = product(self.people, free)
            return [
                (kind, who, thing) for who, thing in pairs if self.places[who] == self.places[thing]
            ]
        if kind == "drop":
            return [(kind, who, thing) for thing, who in self.holders.items()]
        return [
            (kind, who, thing, to)
            for thing, who in self.holders.items()
            for to in self.people
            if to != who and self.places[to] == self.places[who]
        ]

    def draw(self, kinds: list[tuple[str, ...]]) -> Action:
        """One of the kinds, and one of its actions; another kind if none is possible."""
        while True:
            if some := [a for kind in self.random.choice(kinds) for a in self.possible(kind)]:
                return self.random.choice(some)

    def tell(self, action: Action) -> None:
        """One more fact."""
        kind, who, what, *others = action
        choose, dialect = self.random.choice, self.dialect
        if kind == "move":
            self.facts.append(f"{who} {choose(dialect.moves)} the {what}.")
        elif kind == "give":
            answers = {"P": who, "O": what, "Q": others[0]}
            for form, (part, _) in dialect.about_a_gift.items():
                text = fill(form, who, what, others[0])  # of several gifts, it means the latest
                self.about_gifts[text] = Question(text, answers[part], (len(self.facts),))
            self.facts.append(fill(choose(dialect.gives), who, what, others[0]))
        else:
            verbs = dialect.gets if kind == "get" else dialect.drops
            self.facts.append(f"{who} {choose(verbs)} the {what}{choose(dialect.ending)}.")

    def perform(self, action: Action) -> None:
        """Let it happen, and tell it."""
        kind, who, what, *others = action
        fact = len(self.facts)
        if kind == "move":
            self.places[who], self.moved[who] = what, fact
        elif kind == "get":
            self.holders[what], self.got[what] = who, fact
            self.left.pop(what, None)
        elif kind == "give":
            self.holders[what] = others[0]
        else:
            del self.holders[what]
            self.places[what] = self.places[who]
            if who in self.moved:
                self.left[what] = fact, self.moved[who]
        self.tell(action)
        for thing, (place, why) in self.known().items():
            been = self.been.setdefault(thing, [])
            if not been or been[-1][0] != place:
                been.append((place, why))

    def known(self) -> dict[str, tuple[str, Supports]]:
        """Of each object that someone carries whose place has been told: the place, and why."""
        return {
            thing: (self.places[who], (self.got[thing], self.moved[who]))
            for thing, who in self.holders.items()
            if who in self.moved
        }


def fill(words: str, person: str, thing: str, other: str) -> str:
    """The words with P, O and Q replaced."""
    names = {"P": person, "O": thing, "Q": other}
    parts = words.replace("?", " ?").replace(".", " .").split()
    return " ".join(names.get(part, part) for part in parts).replace(" ?", "?").replace(" .", ".")


def shuffled(random: Random, questions: list[Question]) -> tuple[Question, ...]:
    return tuple(random.sample(questions, len(questions)))


def where_is_someone(random: Random, dialect: Dialect) -> Story:
    """qa1: five times two moves, then a question."""
    world, moments = World.of(random, dialect), []
    while len(moments) < N_QUESTIONS:
        for _ in range(2):
            world.perform(world.draw([("move",)]))
        moments.append(Moment(len(world.facts), shuffled(random, about_people(world))))
    return Story(tuple(world.facts), tuple(moments))


def where_is_something(random: Random, dialect: Dialect) -> Story:
    """qa2: moves, gets and drops; asked is where something is, held or (published) left."""

    def ask(world: World) -> list[Question]:
        return about_places(world, dialect.asks_what_lies)

    return things_carried_about(random, dialect, ask, 2, about_getters)


def where_was_something(random: Random, dialect: Dialect) -> Story:
    """qa3: the same facts; asked is where something was before the place where it was last."""
    return things_carried_about(random, dialect, about_earlier_places, 3)


def about_people(world: World) -> list[Question]:
    """Where everyone is, of whom that has been told."""
    return [
        Question(f"Where is {who}?", world.places[who], (fact,))
        for who, fact in world.moved.items()
    ]


def about_getters(world: World) -> list[Question]:
    """Who got each thing last, of which that has been told."""
    return [
        Question(f"Who got the {thing} last?", world.facts[fact].split()[0], (fact,))
        for thing, fact in world.got.items()
    ]


def about_places(world: World, with_what_lies: bool) -> list[Question]:
    """Where each thing is, of which that has been told: held, or left too."""
    found = world.known()
    if with_what_lies:
        found |= {thing: (world.places[thing], why) for thing, why in world.left.items()}
    return [
        Question(f"Where is the {thing}?", place, tuple(sorted(why)))
        for thing, (place, why) in found.items()
    ]


def about_earlier_places(world: World) -> list[Question]:
    """Where each thing was before, that has been carried from one known place to another."""
    return [
        Question(
            f"Where was the {thing} before the {places[-1][0]}?",
            places[-2][0],
            tuple(sorted({*places[-2][1], *places[-1][1]})),
        )
        for thing, places in world.been.items()
        if len(places) > 1
    ]


def things_carried_about(
    random: Random,
    dialect: Dialect,
    ask: Callable[[World], list[Question]],
    n_supports: int,
    hints: Callable[[World], list[Question]] = lambda world: [],
) -> Story:
    """Facts of qa2 and qa3. After GAP of them a coin decides, fact by fact, whether to ask.

    A story with a question of more or fewer supports is given up, and another one begun. All else
    that can be asked about places is auxiliary, and so are the hints.
    """
    while True:
        world, moments, since, fits = World.of(random, dialect), [], 0, True
        while fits and len(moments) < N_QUESTIONS:
            world.perform(world.draw([("move",), ("get", "drop"), ("get", "drop")]))
            since += 1
            if since >= GAP and random.random() < 0.5 and (possible := ask(world)):
                known = about_people(world) + about_places(world, True)
                known += about_earlier_places(world) + hints(world)
                others = tuple(question for question in known if question not in possible)
                moments.append(Moment(len(world.facts), shuffled(random, possible), others))
                fits, since = len(moments[-1].questions[0].supports) == n_supports, 0
        if fits:
            return Story(tuple(world.facts), tuple(moments))


def what_lies_where(random: Random, _: Dialect) -> Story:
    """qa4: three places in a row, two facts, one question. Both dialects agree."""
    row = random.sample(PLACES, 3)
    to, back = random.choice(tuple(OPPOSITES.items()))
    facts, questions = [], []
    for n, (one, other) in enumerate(random.sample([row[:2], row[1:]], 2)):
        told = f"The {one} is {to} of the {other}.", f"The {other} is {back} of the {one}."
        facts.append(random.choice(told))
        questions += [
            Question(f"What is {to} of the {other}?", one, (n,)),
            Question(f"What is {back} of the {one}?", other, (n,)),
            Question(f"What is the {one} {to} of?", other, (n,)),
            Question(f"What is the {other} {back} of?", one, (n,)),
        ]
    return Story(tuple(facts), (Moment(2, shuffled(random, questions)),))


def who_gave_what(random: Random, dialect: Dialect) -> Story:
    """qa5: moves, gets and gifts; asked is about the latest gift.

    Up to five facts come between. In the generator's dialect they are told but do not happen, so
    that later facts may contradict them. Questions about all other gifts that were told are
    auxiliary.
    """
    world, moments, since = World.of(random, dialect, dialect.givers), [], 0
    kinds: list[tuple[str, ...]] = [("move",), ("get",), ("give",)]
    while len(moments) < N_QUESTIONS:
        action = world.draw(kinds)
        gift, since = len(world.facts), since + 1
        world.perform(action)
        if action[0] != "give" or since < 2:
            continue
        _, who, thing, to = action
        for _ in range(random.randint(0, 5)):
            while changes_the_answer(extra := world.draw(kinds), who, thing, to):
                pass
            (world.tell if dialect.tells_what_did_not_happen else world.perform)(extra)
        forms, weights = zip(*dialect.about_a_gift.items(), strict=True)
        first = fill(random.choices(forms, [weight for _, weight in weights])[0], who, thing, to)
        asked, others = [], []
        for question in world.about_gifts.values():
            (asked if question.supports == (gift,) else others).append(question)
        asked.sort(key=lambda question, first=first: question.text != first)
        moments.append(Moment(len(world.facts), tuple(asked), shuffled(random, others)))
        since = 0
    return Story(tuple(world.facts), tuple(moments))


def changes_the_answer(action: Action, who: str, thing: str, to: str) -> bool:
    """Whether a question about the gift of a thing could mean this action instead."""
    kind, *names = action
    return kind != "move" and (names[1] == thing or (names[0], names[-1]) == (who, to))


STORIES = {
    "qa1": where_is_someone,
    "qa2": where_is_something,
    "qa3": where_was_something,
    "qa4": what_lies_where,
    "qa5": who_gave_what,
}
TASKS = tuple(STORIES)


def draw_story(task: str, random: Random, dialect: str = "generator") -> Story:
    """A story of one of TASKS in one of DIALECTS. Raises ValueError for another name."""
    check_one_of("task", task, TASKS)
    check_one_of("dialect", dialect, tuple(DIALECTS))
    return STORIES[task](random, DIALECTS[dialect])


def words_of_stories() -> list[str]:
    """Every word that occurs in the sentences and questions, in alphabetical order."""
    said = [*PLACES, *PEOPLE, *OBJECTS, *OPPOSITES, *OPPOSITES.values(), *SMALL_WORDS]
    for dialect in DIALECTS.values():
        verbs = (*dialect.moves, *dialect.gets, *dialect.drops, *dialect.ending)
        said += [*verbs, *dialect.gives, *dialect.about_a_gift, *dialect.givers]
    words = {word for phrase in said for word in phrase.strip(".?").split()}
    return sorted(words - {"P", "O", "Q"})


def read_stories(path: str | Path) -> list[Story]:
    """Stories of a file in bAbI's format: "LINE fact" or "LINE question⇥answer⇥supporting lines".

    Numbers begin again at 1 with each story; questions are counted as lines. Raises ValueError
    with the number of the first line that is not of this form, or for a file without a question.
    """
    stories: list[Story] = []
    facts: list[str] = []
    moments: list[Moment] = []
    numbers: dict[int, int] = {}  # the line of every fact of this story: which fact it is
    for n, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        number, _, text = line.strip().partition(" ")
        text, *answer = (part.strip() for part in text.split("\t"))
        lines = answer[1].split() if len(answer) == 2 else []
        are_numbers = all(each.isdecimal() for each in (number, *lines))
        if not are_numbers or not text or len(answer) not in (0, 2):
            raise ValueError(
                f"path: expected 'NUMBER fact' or 'NUMBER question⇥answer⇥supporting lines' in "
                f"line {n} of {path}, got {line!r}."
            )
        if int(number) == 1 and facts:
            stories.append(Story(tuple(facts), tuple(moments)))
            facts, moments, numbers = [], [], {}
        if answer:
            if not facts or not all(int(support) in numbers for support in lines):
                raise ValueError(
                    f"path: expected the question in line {n} of {path} to stand after the facts "
                    f"that support it, got {line!r}."
                )
            supports = tuple(sorted(numbers[int(support)] for support in lines))
            moments.append(Moment(len(facts), (Question(text, answer[0], supports),)))
        else:
            numbers[int(number)] = len(facts)
            facts.append(text)
    if facts:
        stories.append(Story(tuple(facts), tuple(moments)))
    if not any(story.moments for story in stories):
        raise ValueError(f"path: expected a file with questions about stories, got {path}.")
    return stories
