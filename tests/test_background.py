"""The shipped text and its tokens."""

import hashlib
import json
import re
import sys
from pathlib import Path
from random import Random

import pytest

from armt_mini.tasks.babi import DIALECTS, TASKS, draw_story, words_of_stories
from armt_mini.tasks.background import (
    PADDING,
    SPLITS,
    TEXTS,
    VOCAB_SIZE,
    background,
    novel,
    read_background,
    tokenizer,
    tokens_of,
    train_tokenizer,
)

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("split", SPLITS)
def test_the_tokens_of_the_novel_are_its_text(split):
    text = novel(split).read_text(encoding="utf-8")
    tokens = background(split).tokens
    assert tokenizer().decode(tokens.tolist()) == text
    assert tokens.min() > PADDING
    assert tokens.max() < VOCAB_SIZE


def test_what_is_trained_on_and_what_is_tested_on_share_no_paragraph():
    first, second = (
        {part for part in novel(split).read_text(encoding="utf-8").split("\n\n") if len(part) > 60}
        for split in SPLITS
    )
    assert len(first) > len(second) > 300
    assert not first & second


@pytest.mark.parametrize("split", SPLITS)
def test_sentences_begin_after_a_full_stop_and_a_space(split):
    text = background(split)
    starts = text.sentences.tolist()
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    for start in starts[1:200]:
        before = tokenizer().decode(text.tokens[max(0, start - 5) : start].tolist())
        after = tokenizer().decode(text.tokens[start : start + 3].tolist())
        assert re.search(r"[.!?][\"'”’)_]*$", before)
        assert after[0].isspace()


def test_every_word_of_the_stories_is_one_token():
    assert all(len(tokens_of(word)) == 1 for word in words_of_stories())
    stories = [draw_story(task, Random(0), dialect) for task in TASKS for dialect in DIALECTS]
    asked = [q.text for s in stories for moment in s.moments for q in moment.questions]
    for sentence in [fact for story in stories for fact in story.facts] + asked:
        assert set(sentence[:-1].split()) <= set(words_of_stories())
        assert len(tokens_of(sentence)) == len(sentence.split()) + 1
    assert len(tokens_of("Mary journeyed to the bathroom.")) == 6
    assert len(tokens_of("Who did Mary give the football to last?")) == 9


@pytest.mark.slow
def test_the_shipped_tokenizer_is_made_again_by_its_command():
    assert json.loads(train_tokenizer().to_str()) == json.loads(tokenizer().to_str())


def test_a_text_of_ones_own_is_read(tmp_path):
    (tmp_path / "a.txt").write_text('"Stop!" he said. It was late.\n', encoding="utf-8")
    text = read_background(tmp_path / "a.txt")
    parts = [
        tokenizer().decode(text.tokens[start:stop].tolist())
        for start, stop in zip(text.sentences, [*text.sentences[1:], None], strict=True)
    ]
    assert parts == ['"Stop!"', " he said.", " It was late.", "\n"]


def test_the_shipped_files_are_those_that_the_readme_of_data_names():
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for file in (*map(novel, SPLITS), TEXTS / "tokenizer.json"):
        (said,) = re.findall(rf"^\| `{file.name}` .* `(\w+)` \|$", readme, re.MULTILINE)
        assert hashlib.sha256(file.read_bytes()).hexdigest() == said
    for split in SPLITS:
        n_words = len(novel(split).read_text(encoding="utf-8").split())
        assert f"{n_words:,} | {len(background(split).tokens):,} |" in readme


def test_without_the_library_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match="tokenizers is not installed; pip install"):
        tokenizer.__wrapped__()


def test_a_text_without_a_sentence_and_an_unknown_split_are_errors(tmp_path):
    (tmp_path / "a.txt").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="path: expected a text with at least one sentence"):
        read_background(Path(tmp_path / "a.txt"))
    (tmp_path / "b.txt").write_bytes(b"\xe9t\xe9.")
    with pytest.raises(ValueError, match=r"^path: expected a text in UTF-8, got .*b\.txt"):
        read_background(Path(tmp_path / "b.txt"))
    with pytest.raises(ValueError, match="split: expected one of train, test; got 'dev'"):
        background("dev")
