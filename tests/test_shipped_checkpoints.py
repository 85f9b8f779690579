"""What lies in data/checkpoints is what data/README.md says, and does what it says there."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

import armt_mini as am
from armt_mini.tasks.associative_retrieval import AssociativeRetrieval
from armt_mini.tasks.babi import TASKS
from armt_mini.tasks.babilong import Babilong
from armt_mini.tasks.background import background
from armt_mini.training.checkpoints import read_checkpoint, shipped_checkpoints
from armt_mini.training.evaluation import exact_match
from armt_mini.training.hidden_facts import score_hidden

README = Path(__file__).parents[1] / "data" / "README.md"
CARD = (
    r"### `(.+)`\n\n.*[Ee]xact match at (.+) (?:updates|pairs|tokens): (.+)\.\n\n"
    r"- options: `(.+)`\n(?:- since .+\n)?- sha256: `(.+)`"
)
CARDS = {name: card for name, *card in re.findall(CARD, README.read_text(encoding="utf-8"))}
# Made from changes that were committed afterwards; README says in which commits.
BEFORE_THEIR_COMMIT = ("c218927-dirty", "56c50a1-dirty")


def test_every_shipped_file_has_a_card_and_every_card_a_file():
    assert set(CARDS) == set(shipped_checkpoints())


@pytest.mark.parametrize("name", CARDS)
def test_a_file_is_the_one_that_its_card_describes(name):
    _, _, options, checksum = CARDS[name]
    file = shipped_checkpoints()[name]
    about = read_checkpoint(file).about
    assert hashlib.sha256(file.read_bytes()).hexdigest() == checksum
    assert options in about["provenance"]["command"]
    commit = about["provenance"]["commit"]
    assert commit in BEFORE_THEIR_COMMIT or not commit.endswith("dirty")


def test_all_checkpoints_together_stay_small():
    sizes = [file.stat().st_size for file in shipped_checkpoints().values()]
    assert max(sizes) <= 3.1e6
    assert sum(sizes) < 40e6
    of_babilong = [shipped_checkpoints()[f"babilong-{task}"] for task in TASKS]
    assert sum(file.stat().st_size for file in of_babilong) < 15e6


@pytest.mark.slow
@pytest.mark.parametrize("name", CARDS)
def test_a_model_answers_as_well_as_its_card_says(name):
    at, stated, *_ = (part.split(", ") for part in CARDS[name])
    model: Any = am.from_pretrained(name)
    about = read_checkpoint(shipped_checkpoints()[name]).about["task"]
    for length, expected in zip(map(int, at), map(float, stated), strict=True):
        if "split" in about:
            samples = Babilong(task=about["task"], split="test").draw_many(32, length, seed=0)
            found = score_hidden(model, samples, background("test"), length)
            assert 100 * found.is_right.double().mean() >= expected
        else:
            task = AssociativeRetrieval(**about)
            n_questions = min(32, length)
            score = exact_match(model, task, length, n_samples=32, n_questions=n_questions)
            # Sums in another order may turn a few of 512 or 1,024 answers.
            assert 100 * score.accuracy == pytest.approx(expected, abs=0.5)


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match="rewrite-pocket-armt"):
        am.from_pretrained("rewrite-pocket")
