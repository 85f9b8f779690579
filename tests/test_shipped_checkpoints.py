"""What lies in data/checkpoints is what data/README.md says, and does what it says there."""

import hashlib
import re
from pathlib import Path

import pytest

import armt_mini as am
from armt_mini.tasks.associative_retrieval import AssociativeRetrieval
from armt_mini.training.checkpoints import read_checkpoint, shipped_checkpoints
from armt_mini.training.evaluation import exact_match

README = Path(__file__).parents[1] / "data" / "README.md"
CARD = r"### `(.+)`\n\n.*: (.+)\.\n\n- options: `(.+)`\n- sha256: `(.+)`"
CARDS = {name: card for name, *card in re.findall(CARD, README.read_text(encoding="utf-8"))}


def test_every_shipped_file_has_a_card_and_every_card_a_file():
    assert set(CARDS) == set(shipped_checkpoints())


@pytest.mark.parametrize("name", CARDS)
def test_a_file_is_the_one_that_its_card_describes(name):
    _, options, checksum = CARDS[name]
    file = shipped_checkpoints()[name]
    about = read_checkpoint(file).about
    assert hashlib.sha256(file.read_bytes()).hexdigest() == checksum
    assert options in about["provenance"]["command"]
    assert not about["provenance"]["commit"].endswith("dirty")


@pytest.mark.slow
@pytest.mark.parametrize("name", CARDS)
def test_a_model_answers_as_well_as_its_card_says(name):
    model, task = am.from_pretrained(name), AssociativeRetrieval(rewrite=True)
    for n_pairs, stated in zip((16, 50, 200), CARDS[name][0].split(", "), strict=True):
        score = exact_match(model, task, n_pairs, n_samples=128, n_questions=8)
        # Sums in another order may turn a few of 1,024 answers.
        assert 100 * score.accuracy == pytest.approx(float(stated), abs=0.5)


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match="rewrite-pocket-armt"):
        am.from_pretrained("rewrite-pocket")
